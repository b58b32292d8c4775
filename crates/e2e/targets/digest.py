"""A python3 program with a deterministic result: digest.py ROUNDS.

Lists, dictionaries, strings, big integers, a generator, garbage collection of cycles, bytearrays.
"""
import gc
import hashlib
import os
import sys


class Node:
    def __init__(self, value, other):
        self.value, self.other = value, other


def values(seed):
    x = seed
    while True:
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        yield x


def main(rounds):
    print("ready", os.getpid(), flush=True)
    digest = hashlib.sha256()
    source = values(2024)
    table, buffer, big = {}, bytearray(1 << 20), 1
    for turn in range(rounds):
        for _ in range(300):
            v = next(source)
            table[v % 5000] = table.get(v % 5000, "")[-40:] + hex(v)
            buffer[v % len(buffer)] = v >> 56
        big = (big * 3 + turn) % (1 << 4096)
        a = Node(turn, None)
        a.other = Node(turn + 1, a)
        if turn % 50 == 0:
            gc.collect()
            digest.update(repr(sorted(table.items())[:100]).encode())
            digest.update(bytes(buffer[::97]))
            digest.update(str(big).encode())
    print("ok", digest.hexdigest(), flush=True)


sys.set_int_max_str_digits(0) if hasattr(sys, "set_int_max_str_digits") else None
main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
