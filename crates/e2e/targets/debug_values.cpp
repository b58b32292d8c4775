// Values of every kind that C++ has, for questions about them: see scenarios/expressions.rs.
#include <array>
#include <atomic>
#include <cstdio>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace shapes {
enum class Colour : unsigned char { Red, Green = 5, Blue };
enum Size { Small = 1, Large = 10 };
struct Point { int x, y; static int made; static const int limit = 100; };
int Point::made = 3;
class Shape {
  public:
    virtual ~Shape() = default;
    virtual double area() const = 0;
    Colour colour = Colour::Green;
  protected:
    int id = 7;
  private:
    std::string label = "shape";
    static inline int count = 12;
};
class Named { public: const char *title = "named"; int rank = 4; virtual void rename() {} };
template <typename T> class Box : public Shape, public Named {
  public:
    Box(T w, T h) : width(w), height(h) {}
    double area() const override { return static_cast<double>(width * height); }
    T width, height;
    static inline T largest = 99;
};
struct Base { int base_value = 21; };
struct Left : virtual Base { int left = 22; };
struct Right : virtual Base { int right = 23; };
struct Diamond : Left, Right { int bottom = 24; };
Box<long> box{6, 7};
Diamond diamond;
Shape *shape = &box;
Named &named = box;
Point corners[2] = {{1, 2}, {3, 4}};
namespace deep { int value = 1234; namespace { int secret = 4321; } }
inline namespace v2 { int version = 2; }
Colour colour = Colour::Blue;
Size size = Large;
}
namespace { int unnamed_value = 77; }
using Table = std::map<std::string, int>;

bool truth = true, lie = false;
char letter = 'c';
char16_t letter16 = u'x';
char32_t letter32 = U'y';
wchar_t wide = L'w';
int number = -5;
unsigned long big = 1ul << 40;
double real = 3.25;
int &reference = number;
const std::string &text_reference = *new std::string("referred");
std::string text = "short", long_text = "a string long enough to live on the heap, not inside", empty_text;
std::string_view seen = "a view of characters";
std::u16string wide_text = u"sixteen";
std::vector<int> numbers = {1, 2, 3, 5, 8};
std::vector<std::string> words = {"alpha", "beta", "gamma"};
std::vector<bool> bits = {true, false, true, true};
std::vector<shapes::Point> points = {{10, 20}, {30, 40}};
std::vector<std::vector<int>> nested = {{1}, {2, 3}, {}};
std::vector<int> nothing;
std::array<int, 4> fixed = {9, 8, 7, 6};
Table ages = {{"ada", 36}, {"alan", 41}, {"grace", 85}};
std::map<int, shapes::Point> places = {{1, {1, 1}}, {2, {4, 8}}};
std::set<int> chosen = {3, 1, 2};
std::unordered_map<int, std::string> by_number = {{42, "answer"}};
std::unordered_map<std::string, int> counts = {{"one", 1}};
std::unordered_set<int> *no_set = nullptr;
std::list<int> chain = {4, 5, 6};
std::deque<int> queue = {7, 8, 9};
std::unique_ptr<shapes::Point> owner = std::make_unique<shapes::Point>(shapes::Point{5, 6});
std::unique_ptr<int> nobody;
std::shared_ptr<int> shared = std::make_shared<int>(64), also = shared;
std::weak_ptr<int> weak = shared;
std::optional<int> some = 11, none;
std::pair<int, std::string> couple = {1, "two"};
std::atomic<int> atomic{15};
int (*function)(int) = [](int x) { return x + 1; };
int shapes::Point::*member = &shapes::Point::y;
int plain[5] = {5, 4, 3, 2, 1};
struct { int a; union { int b; float c; }; } mixed = {1, {2}};
struct Recursive { int value; Recursive *next; } last = {2, nullptr}, first = {1, &last};

template <typename T> struct Counter { static T total; T own; };
template <typename T> T Counter<T>::total = 55;
Counter<int> counter{56};

static int calls() { static int number_of_calls = 8; return ++number_of_calls; }

struct Worker {
    int factor = 3;
    std::vector<int> results = {100, 200};
    int __attribute__((noinline)) run(const std::vector<int> &input, int depth, shapes::Shape &thing, std::string name) {
        int total = depth;
        auto it = input.begin();
        int &alias = total;
        const Worker *self = this;
        for (int value : input) total += value * factor;
        if (depth > 0) { int total = -depth; return run(input, depth - 1, thing, name) + total; }
        std::printf("ready %d\n", static_cast<int>(getpid()));
        std::fflush(stdout);
        for (;;) pause();
        return alias + *it + self->factor + static_cast<int>(name.size());
    }
};

int main() {
    Worker worker;
    Counter<int>::total += calls() - 9;
    shapes::deep::secret += unnamed_value - 77;
    return worker.run(numbers, 2, shapes::box, "argument") + no_set->size();
}
