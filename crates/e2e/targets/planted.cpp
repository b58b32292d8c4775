/* A planted history in C++ (see planted.h): namespaces, static members, members of a base, a
 * template, references, a thread-local, a scoped enumeration, a string and a vector. */
#include "planted.h"
#include <memory>
#include <string>
#include <vector>


namespace plant {
volatile int level;
enum class Phase : unsigned char { Idle, Running = 7, Failed = 200 };
volatile Phase phase = Phase::Idle;
struct Machine {
    volatile int id = 0;
    char rest[2 * PAGE] = {};
    virtual ~Machine() = default;
};
struct Pump : Machine {
    volatile double speed = 0;
    static volatile long made;
    volatile bool open = false;
};
volatile long Pump::made;
template <class T> struct Counter { static inline volatile T value = 0; };
} // namespace plant

static plant::Pump *pumps[3];
plant::Pump *volatile pump;
thread_local volatile int depth;
std::string title = "the title of all of this, too long to be held in place";
std::vector<int> sizes(2000);
static int behind;
int &alias = behind;
int *volatile cell;
int **cells = const_cast<int **>(&cell);
std::unique_ptr<plant::Pump> owned;

template <class T> static void put(T &place, T value) { *const_cast<volatile T *>(&place) = value; }

static void show_pump(const plant::Pump *p) {
    says(" pump->id=%d pump->speed=%.17g pump->open=%s", p->id, p->speed, p->open ? "true" : "false");
}

static void change() {
    uint64_t what = below(1000), other = below(1000);
    plant::Pump *p = pumps[other % 3];
    if (what < 300) {
        CHANGE(plant::level = plant::level + 1, " plant::level=%d", plant::level + 1);
    } else if (what < 400) {
        int id = p->id + (other % 2 ? 3 : -2);
        if (p == pump) says(" pump->id=%d", id);
        CHANGE(p->id = id, "%s", "");
    } else if (what < 460) {
        double speed = p->speed * 0.5 + (double)(other % 8);
        if (p == pump) says(" pump->speed=%.17g", speed);
        CHANGE(p->speed = speed, "%s", "");
    } else if (what < 480) {
        if (p == pump) says(" pump->open=%s", p->open ? "false" : "true");
        CHANGE(p->open = !p->open, "%s", "");
    } else if (what < 500) {
        if (p == pump) return;
        show_pump(p);
        CHANGE(pump = p, "%s", "");
    } else if (what < 540) {
        CHANGE(plant::Pump::made = plant::Pump::made + 1, " plant::Pump::made=%ld", plant::Pump::made + 1);
    } else if (what < 580) {
        CHANGE(plant::Counter<long>::value = plant::Counter<long>::value - 5, " plant::Counter<long>::value=%ld",
               plant::Counter<long>::value - 5);
    } else if (what < 640) {
        CHANGE(depth = depth + 2, " depth=%d", depth + 2);
    } else if (what < 680) {
        static const plant::Phase PHASES[] = {plant::Phase::Idle, plant::Phase::Running, plant::Phase::Failed};
        static const char *const NAMES[] = {"Idle", "Running", "Failed"};
        CHANGE(plant::phase = PHASES[other % 3], " plant::phase=%s", NAMES[other % 3]);
    } else if (what < 720) {
        char letter = (char)('a' + other % 26);
        std::string text = title;
        text[4] = letter;
        CHANGE(put(title[4], letter), " title=\"%s\"", text.c_str());
    } else if (what < 740) {
        int size = (int)other * 1000;
        CHANGE(put(sizes[1500], size), " sizes[1500]=%d", size);
    } else if (what < 800) {
        CHANGE(put(sizes[1501 + other % 400], (int)other), "%s", "");
    } else if (what < 830) {
        CHANGE(put(behind, behind + 1), " alias=%d", behind + 1);
    } else if (what < 850) {
        int *to = &sizes[(other % 2) * 1500];
        CHANGE(cell = to, " cell-at=%lu", (unsigned long)(other % 2));
    } else if (what < 870) {
        CHANGE(owned->id = owned->id - 1, " owned.id=%d", owned->id - 1);
    } else {
        CHANGE(p->rest[other] = (char)(p->rest[other] + 1), "%s", "");
    }
}

int main(int argc, char **argv) {
    planted_open(argc, argv);
    for (auto &p : pumps) p = new plant::Pump;
    owned = std::make_unique<plant::Pump>();
    pump = pumps[0];
    cell = &sizes[0];
    show_pump(pump);
    CHANGE((void)0, " plant::level=0 plant::Pump::made=0 plant::Counter<long>::value=0 depth=0 plant::phase=Idle"
           " title=\"%s\" sizes[1500]=0 alias=0 cell-at=0 owned.id=0", title.c_str());
    ready();
    while (!stopping()) {
        change();
        pace();
    }
    planted_close();
    return 0;
}
