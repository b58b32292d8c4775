// Every kind of store that C++ adds to C's.
#include "kinds.h"
#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

struct Base {
    long n = 1;
    virtual ~Base() {}
    virtual void set(long v) { n = v; }
};
struct Derived : Base {
    long more = 2;
    void set(long v) override { more = v; n = -v; }
};
struct Virtual : virtual Base {
    long own = 3;
};
struct Tracked {
    static long alive;
    long id;
    explicit Tracked(long id) : id(id) { alive++; }
    Tracked(const Tracked &o) : id(o.id) { alive++; }
    ~Tracked() { alive--; }
};
long Tracked::alive = 0;
static std::vector<int> *numbers;
static std::string *text;
static std::map<int, std::string> *tree;
static std::unordered_map<std::string, int> *table;
static std::shared_ptr<int> *shared;
static std::unique_ptr<int> *unique;
static std::deque<int> *line;
static std::optional<std::string> *maybe;
static std::variant<int, std::string> *either;
static std::function<int(int)> *callable;
static std::list<int> *chain;
static thread_local long in_thread;

// What the containers hold, as bytes in the arena, so that content is compared and not only heads.
static void summary(unsigned char *to) {
    std::ostringstream o;
    for (int n : *numbers) o << n << ' ';
    o << *text;
    for (auto &e : *tree) o << e.first << e.second;
    o << table->size() << (table->count("seven") ? (*table)["seven"] : -1);
    o << **shared << shared->use_count() << **unique << line->size() << line->back();
    for (int n : *chain) o << n << ',';
    o << maybe->value_or("none") << either->index() << (*callable)(3) << Tracked::alive << in_thread;
    std::string s = o.str();
    memset(to, 0, 2048);
    memcpy(to, s.data(), std::min<size_t>(s.size(), 2048));
}
static unsigned char before_text[2048], after_text[2048];
static int call(void *f) {
    (*(kind_function **)f)(arena + 1024);
    return 1;
}
static void content(const char *name, kind_function *f) {
    int child = alone();
    if (child <= 0) {
        if (child < 0) printf("%s\tmissed\n", name);
        return;
    }
    summary(before_text);
    kind_function *g = f;
    int ended = still_try(call, &g);
    summary(after_text);
    bool same = memcmp(before_text, after_text, 2048) == 0 && ended == STILL_ROLLED_BACK;
    printf("%s\t%s\n", name, same ? "seen" : "missed");
    fflush(stdout);
    _exit(0);
}

K(placement_new, new (p) Derived;)
K(virtual_base, new (p) Virtual;)
K(virtual_call, Derived *d = new (p) Derived; d->set(p[2000]);)
K(member, struct S { int a; double b; void go() { b = a + 1.5; a++; } }; ((S *)p)->go();)
K(reference, int &r = *(int *)p; r += 5;)
K(member_pointer, struct S { int a, b; }; int S::*m = &S::b; ((S *)p)->*m = 70;)
K(lambda_by_reference, int &r = *(int *)p; auto f = [&r](int n) { r += n; }; f(9);)
K(atomic_class, ((std::atomic<int> *)p)->fetch_add(4);)
K(atomic_store_class, ((std::atomic<long> *)p)->store(77);)
K(std_copy, std::copy(p + 2000, p + 2300, p);)
K(std_fill, std::fill((int *)p, (int *)p + 50, 7);)
K(std_sort, std::sort(p, p + 300);)
K(std_swap, std::swap(*(long *)p, *(long *)(p + 64));)
K(std_reverse, std::reverse(p, p + 111);)
K(tuple, *(std::tuple<int, long, double> *)p = std::make_tuple(1, 2L, 3.0);)
K(array, *(std::array<long, 20> *)p = std::array<long, 20>{1, 2, 3};)
K(exception_caught, try { throw std::runtime_error("x"); } catch (std::exception &e) { p[0] = (unsigned char)(e.what()[0] + p[0]); })
K(exception_class, struct E { long v[8]; }; try { throw E{{1, 2, 3}}; } catch (E &e) { *(E *)p = e; })

K(vector_push, for (int i = 0; i < 100; i++) numbers->push_back(i);)
K(vector_clear, numbers->clear();)
K(vector_swap, std::vector<int>(5, 9).swap(*numbers);)
K(string_append, *text += " and much more than fits a short string";)
K(string_assign, *text = "short";)
K(map_insert, for (int i = 0; i < 30; i++)(*tree)[i * 7] = "new";)
K(map_erase, tree->erase(tree->begin());)
K(unordered_insert, for (int i = 0; i < 100; i++)(*table)[std::to_string(i)] = i;)
K(unordered_change, (*table)["seven"] = 8;)
K(shared_copy, static std::shared_ptr<int> *kept; kept = new std::shared_ptr<int>(*shared); **shared = 100;)
K(shared_reset, shared->reset(new int(4));)
K(unique_reset, unique->reset(new int(40));)
K(list_push, for (int i = 0; i < 9; i++) chain->push_front(i);)
K(list_erase, chain->erase(chain->begin());)
K(list_sort, chain->push_back(0); chain->sort(); chain->reverse();)
K(map_erase_many, while (tree->size() > 3) tree->erase(std::next(tree->begin(), 2));)
K(deque_push, for (int i = 0; i < 300; i++) line->push_back(i);)
K(optional_reset, maybe->reset();)
K(variant_assign, *either = std::string("a longer text than fits inside");)
K(function_assign, long a = 1, b = 2, c = 3; *callable = [a, b, c](int n) { return int(n + a + b + c); };)
K(constructors, std::vector<Tracked> v; for (long i = 0; i < 20; i++) v.emplace_back(i); new Tracked(5);)
K(stream, std::ostringstream o; o << 12 << "text" << 3.5; *text = o.str();)
K(thread_local_variable, in_thread += 3;)
K(exception_through, try { std::vector<int> v(3); v.at(10) = 1; } catch (std::out_of_range &) { numbers->push_back(1); })

static void template_form() {
    int local = 1;
    int ended = still::checkpoint([&] {
        local = 2;
        numbers->push_back(77);
        throw std::runtime_error("away");
    });
    bool good = ended == STILL_ROLLED_BACK && still_reason() == STILL_EXCEPTION && local == 1;
    ended = still::checkpoint([&] { local = 3; });
    good = good && ended == STILL_TAKEN && local == 3;
    printf("exception_out_of_checkpoint\t%s\n", good ? "seen" : "missed");
}

int main() {
    begin();
    numbers = new std::vector<int>{1, 2, 3};
    text = new std::string("a text that is longer than any short one");
    tree = new std::map<int, std::string>{{1, "one"}, {2, "two"}};
    table = new std::unordered_map<std::string, int>{{"seven", 7}};
    shared = new std::shared_ptr<int>(new int(5));
    unique = new std::unique_ptr<int>(new int(6));
    line = new std::deque<int>{1};
    for (int i = 0; i < 60; i++) (*tree)[i * 37 % 101] = std::to_string(i);
    chain = new std::list<int>{3, 1, 2};
    maybe = new std::optional<std::string>("something that is there");
    either = new std::variant<int, std::string>(3);
    callable = new std::function<int(int)>([](int n) { return n; });
    try { throw 1; } catch (int) {} // what the C++ library makes once
    RUN(placement_new); RUN(virtual_base); RUN(virtual_call); RUN(member); RUN(reference);
    RUN(member_pointer); RUN(lambda_by_reference); RUN(atomic_class); RUN(atomic_store_class);
    RUN(std_copy); RUN(std_fill); RUN(std_sort); RUN(std_swap); RUN(std_reverse); RUN(tuple);
    RUN(array); RUN(exception_caught); RUN(exception_class);
#define C(name) content(#name, k_##name)
    C(vector_push); C(vector_clear); C(vector_swap); C(string_append); C(string_assign);
    C(map_insert); C(map_erase); C(unordered_insert); C(unordered_change); C(shared_copy);
    C(shared_reset); C(unique_reset); C(deque_push); C(list_push); C(list_erase); C(list_sort); C(map_erase_many); C(optional_reset); C(variant_assign);
    C(function_assign); C(constructors); C(stream); C(thread_local_variable); C(exception_through);
    template_form();
    return 0;
}
