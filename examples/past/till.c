/* A till with a stray write in it: docs/examples/stray-write.md finds it.
 *
 *     cc -g -O1 -o till examples/past/till.c && ./till
 *
 * Customers pay and are paid; now and then one of them is renamed; once in a while the books are
 * audited: the balances must add up to what is in the till. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CUSTOMERS 64
struct customer {
    char name[20];
    int visits;
    long balance;
};
struct customer customers[CUSTOMERS];
long till;
long receipts;

static const char *const NAMES[] = {"Ada", "Grace", "Edsger", "Barbara", "Donald", "Frances", "Tony",
                                    "Maximiliana von Habsburg-Lothringen"};

static uint64_t dice = 88172645463325252ULL;
static uint64_t roll(uint64_t n) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % n;
}

static void rest(long us) {
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}

static void pay(struct customer *customer, long amount) {
    customer->balance += amount;
    customer->visits++;
    till += amount;
    receipts++;
}

static void rename_customer(struct customer *customer, const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i <= length; i++) customer->name[i] = name[i];
}

static void audit(void) {
    long sum = 0;
    for (int i = 0; i < CUSTOMERS; i++) sum += customers[i].balance;
    if (sum != till) {
        fprintf(stderr, "the books are wrong: %ld in the till, %ld in the books, after %ld receipts\n", till, sum, receipts);
        abort();
    }
}

int main(void) {
    for (int i = 0; i < CUSTOMERS; i++) strcpy(customers[i].name, NAMES[i % 7]);
    for (long day = 0;; day++) {
        pay(&customers[roll(CUSTOMERS)], (long)roll(200) - 80);
        if (roll(400) == 0) rename_customer(&customers[roll(CUSTOMERS)], NAMES[roll(day < 6000 ? 7 : 8)]);
        if (day % 5000 == 4999) audit();
        rest(150);
    }
}
