/* sqlite in memory, a checkpoint per statement.
 *   sqlite bench UNITS           as the other programs of the bench: name, units, seconds, sum, ...
 *   sqlite answers SEED UNITS    prints an answer per statement; about one in a hundred fails in its
 *                                middle and is rolled back (without checkpoints: is not run at all) */
#include "common.h"
#include "sqlite3.h"

static uint64_t draw(uint64_t *s) {
    uint64_t x = *s;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *s = x;
}
static void must(int rc, sqlite3 *db) {
    if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE) return;
    fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(db));
    exit(3);
}
static sqlite3 *opened(void) {
    sqlite3 *db;
    must(sqlite3_open(":memory:", &db), NULL);
    must(sqlite3_exec(db, "create table t(k integer primary key, v text, n int);"
                          "create index t_n on t(n); create table log(what text, k int);", 0, 0, 0), db);
    return db;
}
enum { KINDS = 6 };
static sqlite3_stmt *ready[KINDS];
static void prepare(sqlite3 *db) {
    static const char *const text[KINDS] = {
        "insert or replace into t values(?1, 'value ' || ?2, ?2 % 1000)", "select v, n from t where k = ?1",
        "update t set n = n + 1, v = v || 'x' where k between ?1 and ?1 + 5", "delete from t where k = ?1 and ?2 > 0",
        "select count(*), sum(n), max(v) from t where n = ?2 % 1000",
        "insert into log select v, k from t where k > ?1 order by n limit 3"};
    for (int i = 0; i < KINDS; i++) must(sqlite3_prepare_v2(db, text[i], -1, &ready[i], 0), db);
}
static uint64_t hash(uint64_t h, const char *s) {
    for (; s && *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211ull;
    return h;
}
static uint64_t statement(sqlite3 *db, uint64_t r) {
    sqlite3_stmt *s = ready[(r >> 50) % KINDS];
    uint64_t h = 14695981039346656037ull;
    must(sqlite3_bind_int64(s, 1, (sqlite3_int64)(r % 20000)), db);
    if (sqlite3_bind_parameter_count(s) > 1) must(sqlite3_bind_int64(s, 2, (sqlite3_int64)(r >> 20 & 0xffffff)), db);
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        for (int i = 0; i < sqlite3_column_count(s); i++) h = hash(h, (const char *)sqlite3_column_text(s, i));
    must(rc, db);
    must(sqlite3_reset(s), db);
    return h;
}
static int countdown;
static int tick(void *unused) {
    (void)unused;
#if defined(STILL)
    if (countdown && --countdown == 0) still_rollback(1);
#endif
    return 0;
}
static uint64_t answered;
static int skipped;
__attribute__((noinline)) static void one(sqlite3 *db, uint64_t r, int fails) {
#if defined(STILL)
    int taken = still_checkpoint();
    if (taken == STILL_REFUSED) exit(4);
    if (taken == STILL_ROLLED_BACK) {
        skipped++;
        return;
    }
    /* In the middle of the statement, or, if it is too short for that, at its end. */
    countdown = fails ? 1 + (int)(r >> 60) : 0;
    answered = statement(db, r);
    if (fails) still_rollback(2);
    still_commit();
#else
    if (fails) {
        skipped++;
        return;
    }
    answered = statement(db, r);
#endif
    printf("%016llx\n", (unsigned long long)answered);
}
int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (!strcmp(argv[1], "bench")) {
        uint64_t units = strtoull(argv[2], NULL, 10), seed = 7, sum = 0;
        sqlite3 *db = opened();
        prepare(db);
        for (int i = 0; i < 20000; i++) sum += statement(db, draw(&seed) & ~(7ull << 50));
        double t = now();
        for (uint64_t i = 0; i < units; i++) {
            uint64_t r = draw(&seed);
            /* Point queries and changes; no scans, which would hide what a checkpoint costs. */
            r = (r & ~(0x3fffull << 50)) | ((uint64_t)((r >> 40) % 4 == 2 ? 1 : (r >> 40) % 4) << 50);
            CHECKPOINT();
            sum += statement(db, r);
            COMMIT();
        }
        result("sqlite", units, now() - t, sum);
        return 0;
    }
    uint64_t seed = strtoull(argv[2], NULL, 10) * 2 + 1, units = strtoull(argv[3], NULL, 10);
    sqlite3 *db = opened();
    prepare(db);
    sqlite3_progress_handler(db, 7, tick, NULL);
    for (uint64_t i = 0; i < units; i++) {
        uint64_t r = draw(&seed);
        one(db, r, (r >> 32) % 100 == 0);
    }
    countdown = 0;
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db, "pragma integrity_check", -1, &s, 0), db);
    must(sqlite3_step(s), db);
    printf("%s, %d rolled back or not run, memory %lld\n", (const char *)sqlite3_column_text(s, 0), skipped,
           (long long)sqlite3_memory_used());
    return 0;
}
