// Something to debug in C++: classes, templates, references, lambdas, containers, threads.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

std::map<std::string, int> ages = {{"ada", 36}, {"alan", 41}, {"grace", 85}};
thread_local int level = 0;
static std::atomic<int> arrived{0};

struct Shape {
    virtual ~Shape() = default;
    virtual double area(int depth) const = 0;
};
template <typename T> struct Box : Shape {
    T width, height;
    Box(T w, T h) : width(w), height(h) {}
    double area(int depth) const override {
        std::vector<T> sides{width, height};
        level = depth;
        auto visit = [&](T extra) __attribute__((noinline)) {
            volatile double sum = 0;
            arrived++;
            if (depth % 2) for (;;) sum = sum + 1.5;
            for (;;) pause();
            return sum + extra;
        };
        if (depth > 0) return Box<T>(width + 1, height * 2).area(depth - 2);
        return visit(sides[0]);
    }
};

int main() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; i++)
        threads.emplace_back([i] {
            std::unique_ptr<Shape> shape = std::make_unique<Box<long>>(i + 1, i + 2);
            std::printf("%f\n", shape->area(4 + i - 1));
        });
    while (arrived < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    usleep(50000);
    std::string words = "a string long enough to live on the heap, not inside";
    std::printf("ready %d\n", static_cast<int>(getpid()));
    std::fflush(stdout);
    for (auto &thread : threads) thread.join();
    return static_cast<int>(words.size());
}
