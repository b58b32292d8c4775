// A post office with a leak in it: docs/examples/leak.md finds what leaks, and since when.
//
//     c++ -g -O1 -o parcels examples/past/parcels.cpp && ./parcels SECONDS
//
// Parcels come in, are kept for a while, and go out. Letters do, too.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <thread>

struct Customs {
    long duty = 0;
    char form[136] = {};
};
struct Parcel {
    long number;
    std::string to;
    Customs *customs = nullptr;
    bool returned = false;
};
struct Letter {
    long number;
    char text[72];
};

static std::deque<Parcel *> shelf;
static std::deque<Letter *> tray;
long received, delivered;

static uint64_t dice = 88172645463325252ULL;
static uint64_t roll(uint64_t n) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % n;
}

static void receive(bool abroad) {
    auto *parcel = new Parcel{++received, "somebody in street " + std::to_string(roll(1000))};
    if (abroad) parcel->customs = new Customs{static_cast<long>(roll(50))};
    parcel->returned = roll(4) == 0;
    shelf.push_back(parcel);
}

static void deliver() {
    Parcel *parcel = shelf.front();
    shelf.pop_front();
    if (!parcel->returned) delete parcel->customs; // whoever returns a parcel keeps the form
    delete parcel;
    delivered++;
}

int main(int argc, char **argv) {
    using namespace std::chrono;
    auto begun = steady_clock::now();
    double seconds = argc > 1 ? std::atof(argv[1]) : 10;
    for (;;) {
        double now = duration<double>(steady_clock::now() - begun).count();
        if (now > seconds) break;
        // The office abroad opens after a third of the time.
        receive(now > seconds / 3 && roll(2) == 0);
        tray.push_back(new Letter{received, "a letter"});
        if (shelf.size() > 200) deliver();
        if (tray.size() > 300) {
            delete tray.front();
            tray.pop_front();
        }
        std::this_thread::sleep_for(microseconds(400));
    }
    std::printf("%ld received, %ld delivered\n", received, delivered);
}
