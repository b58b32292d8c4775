/* A list that its owner damages once: from step 40 of 60 on a node's check does not fit. The list is
 * checked at each step, and what was found stands in `damaged`. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct node {
    struct node *next;
    unsigned long value, check;
};

volatile unsigned long step;
volatile int damaged;
static struct node *list;

static int whole(void) {
    for (struct node *n = list; n; n = n->next)
        if (n->check != (n->value ^ 0x5a5a5a5a))
            return 0;
    return 1;
}

int main(void) {
    for (step = 0; step < 60; step++) {
        struct node *n = malloc(sizeof *n);
        if (!n)
            return 1;
        n->value = step * 7;
        n->check = n->value ^ 0x5a5a5a5a;
        n->next = list;
        list = n;
        if (step == 40)
            list->next->next->value ^= 0x100; /* a stray write */
        damaged = !whole();
        usleep(10000);
    }
    printf("%lu %d\n", step, damaged);
    return 0;
}
