// Stands still where C++ is hard to unwind: in a destructor that an exception runs, in a catch block,
// under templates, lambdas and virtual calls that were inlined. Optimised.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static std::atomic<int> arrived;

__attribute__((noinline)) static void rest() {
    arrived++;
    for (;;) pause();
}

namespace deep {
template <typename T> struct Holder {
    T held;
    explicit Holder(T t) : held(std::move(t)) {}
    ~Holder() { if (held.size() > 3) rest(); }
};
__attribute__((noinline)) void fail(int depth) {
    if (depth == 0) throw std::runtime_error("deep");
    Holder<std::string> holder(std::string(static_cast<size_t>(depth), 'x'));
    fail(depth - 1);
}
} // namespace deep

struct Shape {
    virtual ~Shape() = default;
    virtual int area(int scale) = 0;
};
template <int N> struct Square final : Shape {
    __attribute__((noinline)) int area(int scale) override {
        if (scale > N) rest();
        return scale * N;
    }
};

static inline __attribute__((always_inline)) int through(const std::function<int(int)> &f, int x) {
    return f(x) + 1;
}

int main() {
    std::thread a([] {
        try {
            deep::fail(6);
        } catch (const std::exception &) {
        }
    });
    std::thread b([] {
        try {
            deep::fail(2);
        } catch (const std::exception &) {
            rest();
        }
    });
    std::thread c([] {
        Square<3> square;
        Shape &shape = square;
        std::vector<int> all{1, 2, 9};
        std::for_each(all.begin(), all.end(), [&shape](int n) {
            through([&shape](int m) { return shape.area(m); }, n);
        });
    });
    while (arrived < 3) usleep(1000);
    usleep(50000);
    std::printf("ready %d\n", getpid());
    std::fflush(stdout);
    for (;;) pause();
}
