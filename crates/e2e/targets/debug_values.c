/* Values of every kind that C has, for questions about them: see scenarios/expressions.rs. */
#include "common.h"
#include <complex.h>
#include <wchar.h>

enum colour { RED, GREEN = 5, BLUE };
enum flags { READ = 1, WRITE = 2, EXECUTE = 4 };
typedef enum { LOW = -2, MIDDLE = 0, HIGH = 2 } level;
struct point { int x, y; double weight; const char *name; };
struct bits { unsigned a : 3; int b : 5; unsigned c : 24; unsigned long d : 40; _Bool e : 1; enum colour f : 4; };
union word { uint32_t whole; uint8_t bytes[4]; float real; };
struct node { int value; struct node *next; };
struct inner { union { int number; float real; }; struct { short low, high; }; };
struct holder { struct point points[3]; struct point *best; int (*compute)(int, int); struct node list; char tag[8]; };
struct opaque;
typedef struct point *point_pointer;
typedef int (*operation)(int, int);

static int add(int a, int b) { return a + b; }
int subtract(int a, int b) { return a - b; }

signed char tiny = -7;
unsigned char byte = 200;
short small = -1234;
unsigned short port = 65000;
int number = -42;
unsigned count = 4000000000u;
long big = -123456789012345L;
unsigned long huge = 18000000000000000000ul;
long long longer = 9007199254740993LL;
__int128 widest = (__int128)1 << 100;
char letter = 'q', newline = '\n', quote = '\'';
_Bool yes = 1, no = 0;
float single_real = 1.1f;
double real = 0.1, large = 1e20, negative = -2.5;
long double extended = 2.25L;
double complex turned = 1.0 + 2.0 * I;
float infinite, undefined;
wchar_t wide[6] = L"wide!";
const char *greeting = "hello, world";
char buffer[16] = "abc";
char full[4] = {'f', 'u', 'l', 'l'};
char zeros[32];
unsigned char raw[5] = {1, 2, 3, 250, 255};
const char *names[4] = {"zero", "one", "two", NULL};
int row[8] = {1, 1, 2, 3, 5, 8, 13, 21};
int same[40];
int grid[2][3] = {{1, 2, 3}, {4, 5, 6}};
struct point origin = {3, -4, 2.5, "origin"};
struct point triangle[3] = {{0, 0, 1, "a"}, {1, 0, 1, "b"}, {0, 1, 1, "c"}};
point_pointer best = &triangle[1];
struct bits packed = {5, -9, 0xabcdef, 0x1234567890, 1, BLUE};
union word mixed = {0x40490fdb};
struct inner unnamed = {{7}, {8, 9}};
struct node third = {30, NULL}, second = {20, &third}, first = {10, &second};
struct holder everything = {{{1, 2, 3, "p"}, {4, 5, 6, "q"}, {7, 8, 9, NULL}}, &origin, add, {1, &first}, "tagged"};
enum colour colour = GREEN, odd_colour = 77;
enum flags mode = READ | EXECUTE, no_mode = 0, odd_mode = 9;
level lowest = LOW;
operation operations[2] = {add, subtract};
int (*chosen)(int, int) = subtract;
void *nowhere, *somewhere = &number;
int **indirect;
int *pointer_to_number = &number;
struct opaque *unknown;
volatile int watched = 99;
const int fixed = 1001;
struct { int a; struct { int b; } c; } nameless = {1, {2}};
static struct point hidden = {-1, -2, 0.25, "hidden"};
static __thread int per_thread = 17;
__thread struct point thread_point = {5, 6, 7.5, "thread"};
uint8_t u8_value = 65; int8_t i8_value = -65; uint16_t u16_value = 513; uint64_t u64_value = 1ul << 63;
size_t size = 4096;

static int counter(void) {
    static int calls = 3;
    static struct point last = {11, 12, 13.5, "last"};
    calls++;
    return calls + last.x;
}

static int __attribute__((noinline)) work(int depth, const struct point *where, char *text, const double *values) {
    int local = depth * 10;
    struct point copy = *where;
    unsigned char flags[4] = {1, 2, 3, (unsigned char)depth};
    const char *label = "working";
    double sum = values[0] + values[1];
    char letters[8] = "xyz";
    copy.x += depth;
    if (depth > 0) {
        int local = -depth;
        struct node here = {local, &first};
        return work(depth - 1, &copy, text, values) + here.value;
    }
    int sized = 3 + depth;
    int variable[sized];
    for (int i = 0; i < sized; i++) variable[i] = i * i;
    ready();
    while (!stopping()) { struct timespec t = {600, 0}; nanosleep(&t, NULL); }
    return local + copy.x + flags[3] + label[0] + (int)sum + letters[0] + variable[1];
}

int main(void) {
    static int *kept = &number;
    double values[2] = {1.5, 2.5};
    char text[] = "argument";
    infinite = (float)(1.0 / 0.0);
    undefined = infinite - infinite;
    indirect = &pointer_to_number;
    on_sigterm_stop();
    per_thread += counter();
    hidden.x -= *kept != number;
    return (work(3, &origin, text, values) + thread_point.x) & 0;
}
