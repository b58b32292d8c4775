"""Orders come in, are matched, counted and reported: objects made, changed and dropped all the time."""
import json, os, random, sys, time

rng = random.Random(5)
accounts = {f"account-{i:06d}": {"balance": 1000.0, "trades": 0, "recent": []} for i in range(40000)}
names = list(accounts)
book = {}
totals = {}


def work(units):
    for n in range(units):
        for _ in range(200):
            buyer, seller = accounts[rng.choice(names)], accounts[rng.choice(names)]
            amount = rng.randrange(1, 100)
            price = round(rng.gauss(50, 5), 2)
            buyer["balance"] -= amount * price / 100
            seller["balance"] += amount * price / 100
            for side in (buyer, seller):
                side["trades"] += 1
                side["recent"] = side["recent"][-7:] + [(amount, price)]
            book.setdefault(int(price), []).append(amount)
        for level in sorted(book):
            if len(book[level]) > 500:
                totals[level] = totals.get(level, 0) + sum(book.pop(level))
        "".join(f"{k}:{v};" for k, v in totals.items()).upper().split(";")


print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    units = int(line.split()[1])
    begun = time.perf_counter()
    work(units)
    print(json.dumps({"seconds": time.perf_counter() - begun, "units": units}), flush=True)
