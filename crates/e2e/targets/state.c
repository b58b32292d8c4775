/* Every kind of state that a checkpoint holds, one at a time, checking itself.
 *
 *   KIND --dir D [--steps N] [--pause MS] [--tree 1]     or: --list
 *
 * A kind is set up once and then used in steps. What a step leaves in the kernel is checked by the
 * next one against what memory says it must be, so that memory and kernel must be of one instant. A
 * step waits for nothing that a checkpoint between two of its calls would lose. With --tree the
 * steps are made by a child that inherited everything, while the parent waits for it.
 *
 * It ends with `ok KIND steps N` and status 0; a connection that it finds closed is said so:
 * `ok KIND steps N closed`. */
#include "common.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <ucontext.h>

static const char *dir = ".";
static int a, b, c, d; /* descriptors */
static volatile uint64_t sum;
static volatile int closed;
static char path[600];

static const char *in_dir(const char *name) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}
static void all_write(int fd, const void *p, size_t n) { NEED(write(fd, p, n) == (ssize_t)n); }
static void all_read(int fd, void *p, size_t n) { NEED(read(fd, p, n) == (ssize_t)n); }

/* Files: record n stands at 16 * n, whichever life wrote it. */
static void file_setup(void) { NEED((a = open(in_dir("file"), O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0); }
static void file_step(uint64_t i) {
    if (lseek(a, 0, SEEK_CUR) != (off_t)(16 * i)) WRONG("the offset is %ld at step %lu", (long)lseek(a, 0, SEEK_CUR), (unsigned long)i);
    uint64_t record[2] = {i, mix(i)}, got[2];
    all_write(a, record, 16);
    NEED(pread(a, got, 16, (off_t)(16 * i)) == 16 && got[0] == i && got[1] == mix(i));
}
static void dup_setup(void) { file_setup(); NEED((b = dup(a)) >= 0); NEED((c = open(in_dir("file"), O_RDONLY | O_CLOEXEC)) >= 0); }
static void dup_step(uint64_t i) {
    file_step(i);
    if (lseek(b, 0, SEEK_CUR) != (off_t)(16 * i + 16)) WRONG("the copy has an offset of its own");
    uint64_t got[2];
    all_read(c, got, 16);
    if (got[0] != i) WRONG("the other opening is at %lu instead of %lu", (unsigned long)got[0], (unsigned long)i);
}
static void flags_setup(void) { file_setup(); NEED((b = open("/dev/null", O_WRONLY)) >= 0); }
static void flags_step(uint64_t i) {
    if (i > 0) {
        NEED(!!(fcntl(a, F_GETFL) & O_APPEND) == (int)((i - 1) & 1));
        NEED(!!(fcntl(a, F_GETFD) & FD_CLOEXEC) == (int)((i - 1) >> 1 & 1));
        NEED(!!(fcntl(b, F_GETFL) & O_NONBLOCK) == (int)((i - 1) & 1));
    }
    NEED(fcntl(a, F_SETFL, i & 1 ? O_APPEND : 0) == 0);
    NEED(fcntl(a, F_SETFD, i >> 1 & 1 ? FD_CLOEXEC : 0) == 0);
    NEED(fcntl(b, F_SETFL, i & 1 ? O_NONBLOCK : 0) == 0);
}
/* Opened and closed again, at numbers that go up and down. */
static int churned[16];
static void churn_setup(void) { file_setup(); memset(churned, -1, sizeof churned); }
static void churn_step(uint64_t i) {
    for (int n = 0; n < 16; n++) {
        struct stat s;
        if (churned[n] < 0) continue;
        NEED(fstat(churned[n], &s) == 0);
        if (lseek(churned[n], 0, SEEK_CUR) != n) WRONG("descriptor %d is at the wrong offset", churned[n]);
    }
    int n = (int)(mix(i) % 16);
    if (churned[n] >= 0) { NEED(close(churned[n]) == 0); churned[n] = -1; }
    else {
        int fd = open(in_dir("file"), O_RDONLY);
        NEED(fd >= 0 && lseek(fd, n, SEEK_SET) == n);
        churned[n] = fd;
    }
}
static void directory_setup(void) {
    NEED(mkdir(in_dir("many"), 0700) == 0 || errno == EEXIST);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/%d", i);
        int fd = open(in_dir(name), O_WRONLY | O_CREAT, 0600);
        NEED(fd >= 0);
        close(fd);
    }
    NEED((a = open(in_dir("many"), O_RDONLY | O_DIRECTORY)) >= 0);
}
static uint64_t entries_seen;
static void directory_step(uint64_t i) {
    (void)i;
    char buffer[64] __attribute__((aligned(8)));
    long n = syscall(SYS_getdents64, a, buffer, sizeof buffer);
    NEED(n >= 0);
    if (n == 0) {
        if (entries_seen != 42) WRONG("%lu entries instead of 42", (unsigned long)entries_seen);
        entries_seen = 0;
        NEED(lseek(a, 0, SEEK_SET) == 0);
    }
    for (long at = 0; at < n; at += *(unsigned short *)(buffer + at + 16)) entries_seen++;
}
static void path_setup(void) { NEED((a = open(dir, O_PATH | O_DIRECTORY)) >= 0); file_setup(); NEED((b = open(dir, O_PATH | O_DIRECTORY)) >= 0); }
static void path_step(uint64_t i) {
    struct stat s;
    (void)i;
    NEED(fstatat(b, "file", &s, 0) == 0);
    NEED(fcntl(b, F_GETFL) & O_PATH);
}
static void devices_setup(void) {
    NEED((a = open("/dev/null", O_RDWR)) >= 0 && (b = open("/dev/zero", O_RDONLY)) >= 0 && (c = open("/dev/urandom", O_RDONLY)) >= 0);
}
static void devices_step(uint64_t i) {
    uint64_t word = 1;
    all_write(a, &i, 8);
    all_read(b, &word, 8);
    NEED(word == 0);
    all_read(c, &word, 8);
}

/* Queues of bytes: `ahead` words stay in them from step to step. */
static uint64_t ahead = 7;
static void queue_step(uint64_t i, int in, int out) {
    while (sum < i + ahead) { uint64_t w = mix(sum); all_write(in, &w, 8); sum++; }
    uint64_t got;
    all_read(out, &got, 8);
    if (got != mix(i)) WRONG("word %lu is not what was put in", (unsigned long)i);
}
static void pipe_setup(void) { int p[2]; NEED(pipe(p) == 0); a = p[0]; b = p[1]; }
static void pipe_step(uint64_t i) { queue_step(i, b, a); }
static void pipe_big_setup(void) { pipe_setup(); NEED(fcntl(a, F_SETPIPE_SZ, 1 << 20) == 1 << 20); ahead = 40000; }
static void pipe_big_step(uint64_t i) {
    queue_step(i, b, a);
    NEED(fcntl(b, F_GETPIPE_SZ) == 1 << 20);
}
static void pipe_packets_setup(void) { int p[2]; NEED(pipe2(p, O_DIRECT) == 0); a = p[0]; b = p[1]; }
static void packet_step(uint64_t i, int in, int out) {
    char buffer[512] = {0};
    while (sum < i + 5) { size_t n = 1 + sum % 200; memset(buffer, (int)sum, n); all_write(in, buffer, n); sum++; }
    ssize_t n = read(out, buffer, sizeof buffer);
    if (n != (ssize_t)(1 + i % 200)) WRONG("packet %lu has %ld bytes", (unsigned long)i, (long)n);
    NEED((unsigned char)buffer[n - 1] == (unsigned char)i);
}
static void pipe_packets_step(uint64_t i) { packet_step(i, b, a); }
static void fifo_setup(void) {
    NEED(mkfifo(in_dir("fifo"), 0600) == 0 || errno == EEXIST);
    NEED((a = open(in_dir("fifo"), O_RDWR)) >= 0);
}
static void fifo_step(uint64_t i) { queue_step(i, a, a); }
static void pair_setup(int type) { int p[2]; NEED(socketpair(AF_UNIX, type, 0, p) == 0); a = p[0]; b = p[1]; }
static void stream_setup(void) { pair_setup(SOCK_STREAM); }
static void dgram_setup(void) { pair_setup(SOCK_DGRAM); }
static void seqpacket_setup(void) { pair_setup(SOCK_SEQPACKET); }
static void stream_step(uint64_t i) { queue_step(i, a, b); }
static void datagram_step(uint64_t i) { packet_step(i, a, b); }

static void eventfd_setup(void) { NEED((a = eventfd(0, EFD_NONBLOCK)) >= 0); }
static void eventfd_step(uint64_t i) {
    uint64_t got = 0;
    if (i % 5 == 4) {
        all_read(a, &got, 8);
        if (got != sum) WRONG("the count is %lu instead of %lu", (unsigned long)got, (unsigned long)sum);
        sum = 0;
    }
    got = i % 100 + 1;
    all_write(a, &got, 8);
    sum += got;
}
static void semaphore_setup(void) { NEED((a = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK)) >= 0); sum = 3; }
static void semaphore_step(uint64_t i) {
    uint64_t got;
    if (i & 1) { got = 2; all_write(a, &got, 8); sum += 2; }
    else { all_read(a, &got, 8); NEED(got == 1); sum--; }
    if (i % 50 == 49) { while (sum > 3) { all_read(a, &got, 8); NEED(got == 1); sum--; } }
}
static void timerfd_setup(void) {
    struct itimerspec t = {{0, 3000000}, {0, 3000000}}, long_one = {{0, 0}, {100000, 0}};
    NEED((a = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) >= 0 && timerfd_settime(a, 0, &t, NULL) == 0);
    NEED((b = timerfd_create(CLOCK_REALTIME, 0)) >= 0 && timerfd_settime(b, 0, &long_one, NULL) == 0);
}
static void timerfd_step(uint64_t i) {
    struct itimerspec now;
    uint64_t n;
    (void)i;
    struct pollfd p = {a, POLLIN, 0};
    NEED(poll(&p, 1, 20000) == 1);
    if (read(a, &n, 8) < 0) NEED(errno == EAGAIN);
    NEED(timerfd_gettime(a, &now) == 0 && now.it_interval.tv_nsec == 3000000);
    NEED(timerfd_gettime(b, &now) == 0);
    if (now.it_value.tv_sec < 99000 || now.it_value.tv_sec > 100000) WRONG("%ld s are left", (long)now.it_value.tv_sec);
}
static void signalfd_setup(void) {
    sigset_t s;
    sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGUSR2);
    NEED(sigprocmask(SIG_BLOCK, &s, NULL) == 0);
    sigemptyset(&s); sigaddset(&s, SIGUSR1);
    NEED((a = signalfd(-1, &s, SFD_NONBLOCK)) >= 0);
}
static void signalfd_step(uint64_t i) {
    int wanted = i & 1 ? SIGUSR2 : SIGUSR1;
    sigset_t s;
    sigemptyset(&s); sigaddset(&s, wanted);
    struct signalfd_siginfo info;
    if (i > 0) {
        NEED(read(a, &info, sizeof info) == sizeof info);
        int before = i & 1 ? SIGUSR1 : SIGUSR2;
        if ((int)info.ssi_signo != before || info.ssi_int != (int)i - 1) WRONG("signal %u with %d", info.ssi_signo, info.ssi_int);
    }
    NEED(signalfd(a, &s, 0) == a);
    union sigval v = {.sival_int = (int)i};
    NEED(sigqueue(getpid(), wanted, v) == 0);
}
static int pipes[3][2];
static void epoll_setup(void) {
    NEED((a = epoll_create1(0)) >= 0);
    for (int n = 0; n < 3; n++) {
        NEED(pipe(pipes[n]) == 0);
        struct epoll_event e = {EPOLLIN, {.u64 = 1000 + (uint64_t)n}};
        NEED(epoll_ctl(a, EPOLL_CTL_ADD, pipes[n][0], &e) == 0);
    }
    all_write(pipes[0][1], "x", 1);
    sum = 1000;
}
static void epoll_step(uint64_t i) {
    struct epoll_event got[4];
    char byte;
    int n = epoll_wait(a, got, 4, 20000);
    if (n != 1 || got[0].data.u64 != sum) WRONG("%d ready, the first with %lu instead of %lu", n, (unsigned long)got[0].data.u64, (unsigned long)sum);
    int from = (int)(i % 3), to = (int)((i + 1) % 3);
    all_read(pipes[from][0], &byte, 1);
    struct epoll_event e = {EPOLLIN, {.u64 = 5000 + i}};
    NEED(epoll_ctl(a, EPOLL_CTL_MOD, pipes[to][0], &e) == 0);
    NEED(epoll_ctl(a, EPOLL_CTL_DEL, pipes[from][0], NULL) == 0);
    NEED(epoll_ctl(a, EPOLL_CTL_ADD, pipes[from][0], &e) == 0);
    sum = 5000 + i;
    all_write(pipes[to][1], "x", 1);
}
static void inotify_setup(void) {
    NEED(mkdir(in_dir("watched"), 0700) == 0 || errno == EEXIST);
    NEED((a = inotify_init1(IN_NONBLOCK)) >= 0);
    NEED(inotify_add_watch(a, dir, IN_DELETE_SELF) == 1);
    NEED(inotify_add_watch(a, in_dir("watched"), IN_CLOSE_WRITE) == 2);
    NEED(inotify_rm_watch(a, 1) == 0);
    char drop[256];
    NEED(read(a, drop, sizeof drop) > 0);
}
static void inotify_step(uint64_t i) {
    char buffer[1024] __attribute__((aligned(8)));
    (void)i;
    /* What the last step left may come, or have been lost with a checkpoint in between. */
    while (read(a, buffer, sizeof buffer) > 0) {}
    int fd = open(in_dir("watched/file"), O_WRONLY | O_CREAT, 0600);
    NEED(fd >= 0);
    close(fd);
    struct pollfd p = {a, POLLIN, 0};
    for (int tries = 0; poll(&p, 1, 100) != 1; tries++) {
        if (tries > 50) WRONG("nothing is watched any more");
        NEED((fd = open(in_dir("watched/file"), O_WRONLY | O_CREAT, 0600)) >= 0);
        close(fd);
    }
    NEED(read(a, buffer, sizeof buffer) > 0);
    struct inotify_event *e = (struct inotify_event *)buffer;
    if (e->wd != 2 || !(e->mask & IN_CLOSE_WRITE)) WRONG("an event of watch %d, mask %#x", e->wd, e->mask);
}
static void memfd_setup(void) {
    NEED((a = memfd_create("state", MFD_ALLOW_SEALING)) >= 0 && ftruncate(a, 20000) == 0);
    NEED(fcntl(a, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
}
static void memfd_step(uint64_t i) {
    uint64_t got;
    if (i > 0) { NEED(pread(a, &got, 8, (off_t)((i - 1) % 2000 * 8)) == 8); if (got != mix(i - 1)) WRONG("the file's content is of another time"); }
    got = mix(i);
    NEED(pwrite(a, &got, 8, (off_t)(i % 2000 * 8)) == 8);
    NEED(fcntl(a, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW));
    struct stat s;
    NEED(fstat(a, &s) == 0 && s.st_size == 20000);
}
static uint64_t *shared;
static void memfd_mapped_setup(void) {
    NEED((a = memfd_create("mapped", 0)) >= 0 && ftruncate(a, 65536) == 0);
    shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
    NEED(shared != MAP_FAILED);
}
static void memfd_mapped_step(uint64_t i) {
    uint64_t got;
    if (i > 0 && shared[(i - 1) % 8192] != mix(i - 1)) WRONG("shared memory is of another time");
    shared[i % 8192] = mix(i);
    NEED(pread(a, &got, 8, (off_t)(i % 8192 * 8)) == 8);
    if (got != mix(i)) WRONG("the mapping is not the file's");
}

/* Listeners: a connection is made, used and closed within a step. If a checkpoint falls into it, it is
 * broken or lost afterwards, and one made after the checkpoint that nobody accepted still waits at the
 * listener, with what was written to it. So errors of a connection are no errors here, and what is
 * accepted is asked for the word of the step; errors of the listener are. */
static struct sockaddr_storage address;
static socklen_t address_length;
static void listener_step(uint64_t i) {
    int came = 0;
    for (int tries = 0; tries < 50 && !came; tries++) {
        int client = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
        NEED(client >= 0);
        int done = connect(client, (struct sockaddr *)&address, address_length);
        if (done < 0 && errno != EINPROGRESS) WRONG("nobody listens: %s", strerror(errno));
        int sent = send(client, &i, 8, MSG_NOSIGNAL) == 8;
        for (int waits = 0; sent && !came; waits++) {
            struct pollfd p = {a, POLLIN, 0};
            if (waits > 50 || poll(&p, 1, 200) != 1) break;
            int got = accept4(a, NULL, NULL, SOCK_NONBLOCK);
            if (got < 0) break;
            uint64_t word = 0;
            struct pollfd q = {got, POLLIN, 0};
            came = poll(&q, 1, 200) == 1 && read(got, &word, 8) == 8 && word == i;
            close(got);
        }
        close(client);
    }
    if (!came) WRONG("no connection is accepted");
}
static void unix_listener_setup(void) {
    struct sockaddr_un *u = (struct sockaddr_un *)&address;
    u->sun_family = AF_UNIX;
    snprintf(u->sun_path, sizeof u->sun_path, "%s/socket", dir);
    unlink(u->sun_path);
    address_length = sizeof *u;
    NEED((a = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0 && bind(a, (struct sockaddr *)u, sizeof *u) == 0 && listen(a, 10) == 0);
    NEED(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
}
static void abstract_setup(void) {
    struct sockaddr_un *u = (struct sockaddr_un *)&address;
    u->sun_family = AF_UNIX;
    address_length = (socklen_t)(sizeof u->sun_family + 1 + (size_t)snprintf(u->sun_path + 1, sizeof u->sun_path - 1, "still-%d", (int)getpid()));
    NEED((a = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0 && bind(a, (struct sockaddr *)u, address_length) == 0 && listen(a, 10) == 0);
    NEED(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
}
static void tcp_setup(void) {
    struct sockaddr_in *in = (struct sockaddr_in *)&address;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_length = sizeof *in;
    int one = 1;
    NEED((a = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    NEED(bind(a, (struct sockaddr *)in, sizeof *in) == 0 && listen(a, 33) == 0);
    NEED(getsockname(a, (struct sockaddr *)in, &address_length) == 0);
    NEED(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
}
static void tcp6_setup(void) {
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&address;
    in->sin6_family = AF_INET6;
    in->sin6_addr = in6addr_loopback;
    address_length = sizeof *in;
    int one = 1;
    NEED((a = socket(AF_INET6, SOCK_STREAM, 0)) >= 0 && setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    NEED(setsockopt(a, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0);
    NEED(bind(a, (struct sockaddr *)in, sizeof *in) == 0 && listen(a, 33) == 0);
    NEED(getsockname(a, (struct sockaddr *)in, &address_length) == 0);
    NEED(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
}
static void tcp_step(uint64_t i) {
    listener_step(i);
    struct tcp_info info;
    socklen_t n = sizeof info;
    NEED(getsockopt(a, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_sacked == 33);
}
/* A connection with nothing under way: it is there, or closed by the other end. */
static void connection_setup(void) {
    tcp_setup();
    NEED(fcntl(a, F_SETFL, 0) == 0);
    NEED((b = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && connect(b, (struct sockaddr *)&address, address_length) == 0);
    NEED((c = accept(a, NULL, NULL)) >= 0);
    close(a);
}
static void connection_step(uint64_t i) {
    char byte;
    (void)i;
    for (int n = 0; n < 2; n++) {
        ssize_t got = recv(n ? b : c, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
        if (got == 0) closed = 1;
        else NEED(got < 0 && errno == EAGAIN && !closed);
    }
    if (closed) {
        signal(SIGPIPE, SIG_IGN);
        NEED(write(b, "x", 1) < 0 && errno == EPIPE);
    }
}
static void udp_setup(void) {
    struct sockaddr_in *in = (struct sockaddr_in *)&address;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_length = sizeof *in;
    NEED((a = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && bind(a, (struct sockaddr *)in, sizeof *in) == 0);
    NEED(getsockname(a, (struct sockaddr *)in, &address_length) == 0);
    NEED((b = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && connect(b, (struct sockaddr *)in, sizeof *in) == 0);
}
static void udp_step(uint64_t i) {
    uint64_t got = ~i;
    for (int tries = 0; tries < 50 && got != i; tries++) {
        NEED(send(b, &i, 8, 0) == 8);
        struct pollfd p = {a, POLLIN, 0};
        while (poll(&p, 1, got == i ? 0 : 200) == 1) NEED(recv(a, &got, 8, 0) == 8);
    }
    if (got != i) WRONG("no datagram arrives");
}
static void netlink_setup(void) {
    struct sockaddr_nl n = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    NEED((a = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)) >= 0 && bind(a, (struct sockaddr *)&n, sizeof n) == 0);
}
static void netlink_step(uint64_t i) {
    struct sockaddr_nl n;
    socklen_t length = sizeof n;
    (void)i;
    NEED(getsockname(a, (struct sockaddr *)&n, &length) == 0 && n.nl_groups == RTMGRP_LINK);
}
static void pty_setup(void) {
    NEED((a = open("/dev/ptmx", O_RDWR | O_NOCTTY)) >= 0 && grantpt(a) == 0 && unlockpt(a) == 0);
    char name[64];
    NEED(ptsname_r(a, name, sizeof name) == 0 && (b = open(name, O_RDWR | O_NOCTTY)) >= 0);
}
static void pty_step(uint64_t i) {
    struct winsize w;
    struct termios t;
    NEED(ioctl(a, TIOCGWINSZ, &w) == 0 && tcgetattr(b, &t) == 0);
    if (i > 0 && (w.ws_row != (i - 1) % 1000 || !!(t.c_lflag & ECHO) != (int)((i - 1) & 1))) WRONG("the terminal is of another time");
    w.ws_row = (unsigned short)(i % 1000);
    t.c_lflag = (t.c_lflag & ~(tcflag_t)ECHO) | (i & 1 ? ECHO : 0);
    NEED(ioctl(a, TIOCSWINSZ, &w) == 0 && tcsetattr(b, TCSANOW, &t) == 0);
}
static int holds(int fd, const char *what) {
    char name[64], line[256];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    FILE *f = fopen(name, "r");
    NEED(f);
    int found = 0;
    while (fgets(line, sizeof line, f)) found |= !strncmp(line, "lock:", 5) && strstr(line, what);
    fclose(f);
    return found;
}
static void flock_setup(void) { file_setup(); }
static void flock_step(uint64_t i) {
    if (i > 0) NEED(holds(a, "FLOCK") == (int)((i - 1) & 1));
    NEED(flock(a, i & 1 ? LOCK_EX : LOCK_UN) == 0);
}
static struct flock range(short type, off_t at) { return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 4}; }
static void posix_lock_setup(void) { NEED((a = open(in_dir("file"), O_RDWR | O_CREAT, 0600)) >= 0); }
static void posix_lock_step(uint64_t i) {
    if (i > 0) NEED(holds(a, "POSIX") == (int)((i - 1) & 1));
    struct flock l = range(i & 1 ? F_WRLCK : F_UNLCK, 8);
    NEED(fcntl(a, F_SETLK, &l) == 0);
}
static void ofd_lock_setup(void) { file_setup(); struct flock l = range(F_WRLCK, 100); NEED(fcntl(a, F_OFD_SETLK, &l) == 0); }
static void ofd_lock_step(uint64_t i) { (void)i; NEED(holds(a, "OFDLCK")); }
static void owner_setup(void) {
    sigset_t s;
    sigemptyset(&s); sigaddset(&s, SIGUSR1);
    NEED(sigprocmask(SIG_BLOCK, &s, NULL) == 0);
    pair_setup(SOCK_STREAM);
    NEED(fcntl(a, F_SETSIG, SIGUSR1) == 0);
}
static void owner_step(uint64_t i) {
    if (i == 0) NEED(fcntl(a, F_SETOWN, getpid()) == 0 && fcntl(a, F_SETFL, O_ASYNC) == 0);
    sigset_t s;
    sigemptyset(&s); sigaddset(&s, SIGUSR1);
    struct timespec none = {0, 0}, patience = {20, 0};
    char buffer[64];
    while (sigtimedwait(&s, NULL, &none) > 0) {}
    while (recv(a, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {}
    all_write(b, "x", 1);
    NEED(sigtimedwait(&s, NULL, &patience) == SIGUSR1 || errno == EINTR);
}
static void pidfd_setup(void) { a = (int)syscall(SYS_pidfd_open, getpid(), 0); NEED(a >= 0); }
static void pidfd_step(uint64_t i) { (void)i; NEED(syscall(SYS_pidfd_send_signal, a, 0, NULL, 0) == 0); }
static void deleted_setup(void) { file_setup(); NEED(unlink(in_dir("file")) == 0); }
static void uring_setup(void) {
    struct io_uring_params p;
    memset(&p, 0, sizeof p);
    a = (int)syscall(SYS_io_uring_setup, 4, &p);
    if (a < 0) { printf("unavailable\n"); exit(77); }
}
static void uring_step(uint64_t i) { struct stat s; (void)i; NEED(fstat(a, &s) == 0); }

/* Memory. */
static uint64_t *area;
static void memory_setup(void) { area = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); NEED(area != MAP_FAILED); }
static void memory_step(uint64_t i) {
    if (i > 0) for (uint64_t p = 0; p < 64; p++) if (area[p * 512 + (i - 1) % 512] != mix(i - 1) + p) WRONG("page %lu is of another time", (unsigned long)p);
    for (uint64_t p = 0; p < 64; p++) area[p * 512 + i % 512] = mix(i) + p;
}
static void *maps[32];
static void mappings_step(uint64_t i) {
    for (int n = 0; n < 32; n++) if (maps[n] && *(uint64_t *)maps[n] != (uint64_t)n + 1) WRONG("mapping %d", n);
    int n = (int)(mix(i) % 32);
    if (maps[n]) { NEED(munmap(maps[n], 3 * PAGE) == 0); maps[n] = NULL; }
    else {
        maps[n] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        NEED(maps[n] != MAP_FAILED);
        *(uint64_t *)maps[n] = (uint64_t)n + 1;
        NEED(mprotect((char *)maps[n] + PAGE, PAGE, PROT_NONE) == 0);
    }
}
static char *heap;
static void heap_step(uint64_t i) {
    if (i == 0) heap = sbrk(0);
    if ((char *)sbrk(0) != heap + sum) WRONG("the heap ends elsewhere");
    for (uint64_t at = 0; at < sum; at += PAGE) if (heap[at] != (char)(at / PAGE)) WRONG("heap page %lu", (unsigned long)(at / PAGE));
    if (i % 20 == 19) { NEED(brk(heap) == 0); sum = 0; return; }
    NEED(sbrk((intptr_t)PAGE) != (void *)-1);
    heap[sum] = (char)(sum / PAGE);
    sum += PAGE;
}
static uint64_t deep(uint64_t n) { volatile uint64_t here[64]; here[0] = n; uint64_t r = n ? deep(n - 1) : 0; return r + here[0]; }
static void stack_step(uint64_t i) { uint64_t n = 100 + i * 10 % 5000; if (deep(n) != n * (n + 1) / 2) WRONG("the stack"); }
static void file_mapping_setup(void) {
    file_setup();
    NEED(ftruncate(a, 32 * (off_t)PAGE) == 0);
    area = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, a, 0);
    NEED(area != MAP_FAILED);
}
static void file_mapping_step(uint64_t i) {
    if (i > 0 && area[(i - 1) % 16384] != mix(i - 1)) WRONG("the private mapping is of another time");
    area[i % 16384] = mix(i);
}

/* Process and threads. */
static void cwd_setup(void) { NEED(mkdir(in_dir("a"), 0700) == 0 || errno == EEXIST); NEED(mkdir(in_dir("b"), 0700) == 0 || errno == EEXIST); }
static void cwd_step(uint64_t i) {
    char now[600];
    NEED(getcwd(now, sizeof now));
    if (i > 0 && now[strlen(now) - 1] != (i & 1 ? 'a' : 'b')) WRONG("the working directory is %s", now);
    NEED(chdir(in_dir(i & 1 ? "b" : "a")) == 0);
}
static void umask_step(uint64_t i) {
    mode_t was = umask((mode_t)(i & 077));
    if (i > 0 && was != ((i - 1) & 077)) WRONG("umask %o", was);
}
static void limits_step(uint64_t i) {
    struct rlimit l;
    NEED(getrlimit(RLIMIT_CORE, &l) == 0);
    if (i > 0 && l.rlim_cur != (i - 1) % 100) WRONG("the limit is %lu", (unsigned long)l.rlim_cur);
    l.rlim_cur = i % 100;
    if (l.rlim_max != RLIM_INFINITY && l.rlim_max < l.rlim_cur) l.rlim_cur = 0;
    NEED(setrlimit(RLIMIT_CORE, &l) == 0);
}
static void name_step(uint64_t i) {
    char name[16], got[17] = {0};
    NEED(prctl(PR_GET_NAME, got) == 0);
    snprintf(name, sizeof name, "state-%lu", (unsigned long)(i - 1));
    if (i > 0 && strcmp(name, got)) WRONG("the name is %s", got);
    snprintf(name, sizeof name, "state-%lu", (unsigned long)i);
    NEED(prctl(PR_SET_NAME, name) == 0);
}
static void mask_step(uint64_t i) {
    sigset_t s, was;
    sigemptyset(&s);
    if (i & 1) sigaddset(&s, SIGUSR2);
    NEED(sigprocmask(SIG_SETMASK, &s, &was) == 0);
    if (i > 0 && sigismember(&was, SIGUSR2) != (int)((i - 1) & 1)) WRONG("the signal mask");
}
static volatile uint64_t handled;
static void on_usr1(int sig) { (void)sig; handled += 1; }
static void on_usr1_other(int sig) { (void)sig; handled += 1000; }
static void action_step(uint64_t i) {
    struct sigaction s, was;
    memset(&s, 0, sizeof s);
    s.sa_handler = i & 1 ? on_usr1 : on_usr1_other;
    NEED(sigaction(SIGUSR1, &s, &was) == 0);
    if (i > 0 && was.sa_handler != (i & 1 ? on_usr1_other : on_usr1)) WRONG("the handler");
    uint64_t before = handled;
    raise(SIGUSR1);
    NEED(handled == before + (i & 1 ? 1 : 1000));
}
static void pending_setup(void) {
    sigset_t s;
    sigemptyset(&s); sigaddset(&s, SIGRTMIN);
    NEED(sigprocmask(SIG_BLOCK, &s, NULL) == 0);
}
static void pending_step(uint64_t i) {
    sigset_t s;
    sigemptyset(&s); sigaddset(&s, SIGRTMIN);
    while (sum < i + 4) { union sigval v = {.sival_int = (int)sum}; NEED(sigqueue(getpid(), SIGRTMIN, v) == 0); sum++; }
    siginfo_t info;
    struct timespec none = {0, 0};
    NEED(sigtimedwait(&s, &info, &none) == SIGRTMIN);
    if (info.si_value.sival_int != (int)i) WRONG("queued signal %d instead of %lu", info.si_value.sival_int, (unsigned long)i);
}
static char other_stack[65536];
static volatile int on_other;
static void on_stack(int sig) { char here; (void)sig; on_other = &here >= other_stack && &here < other_stack + sizeof other_stack; }
static void altstack_setup(void) {
    stack_t s = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_stack;
    act.sa_flags = SA_ONSTACK;
    NEED(sigaltstack(&s, NULL) == 0 && sigaction(SIGUSR1, &act, NULL) == 0);
}
static void altstack_step(uint64_t i) { (void)i; on_other = 0; raise(SIGUSR1); if (!on_other) WRONG("the handler ran on the ordinary stack"); }
static void itimer_setup(void) {
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_usr1;
    act.sa_flags = SA_RESTART;
    struct itimerval t = {{0, 3000}, {0, 3000}};
    NEED(sigaction(SIGALRM, &act, NULL) == 0);
    NEED(setitimer(ITIMER_REAL, &t, NULL) == 0);
}
static void await_handled(void) {
    uint64_t before = handled, end = now_ns() + 20000000000ULL;
    while (handled == before) { struct timespec t = {0, 1000000}; nanosleep(&t, NULL); if (now_ns() > end) WRONG("the timer does not run"); }
}
static void itimer_step(uint64_t i) { (void)i; await_handled(); }
static timer_t timer;
static void timer_setup(void) {
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_usr1;
    act.sa_flags = SA_RESTART;
    NEED(sigaction(SIGUSR2, &act, NULL) == 0);
    struct sigevent e;
    memset(&e, 0, sizeof e);
    e.sigev_notify = SIGEV_SIGNAL;
    e.sigev_signo = SIGUSR2;
    struct itimerspec t = {{0, 3000000}, {0, 3000000}};
    NEED(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0 && timer_settime(timer, 0, &t, NULL) == 0);
}
static void timer_step(uint64_t i) {
    struct itimerspec t;
    (void)i;
    await_handled();
    NEED(timer_gettime(timer, &t) == 0 && t.it_interval.tv_nsec == 3000000);
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile uint64_t ticks[4], under;
static volatile int threads_stop;
static void *work(void *p) {
    uint64_t n = (uint64_t)p;
    char name[16];
    snprintf(name, sizeof name, "worker %lu", (unsigned long)n);
    NEED(pthread_setname_np(pthread_self(), name) == 0);
    while (!threads_stop) {
        NEED(pthread_mutex_lock(&mutex) == 0);
        ticks[n]++;
        under++;
        NEED(pthread_mutex_unlock(&mutex) == 0);
        struct timespec t = {0, 200000};
        nanosleep(&t, NULL);
    }
    return NULL;
}
static void threads_step(uint64_t i) {
    if (i == 0) for (uint64_t n = 0; n < 4; n++) { pthread_t t; NEED(pthread_create(&t, NULL, work, (void *)n) == 0); }
    NEED(pthread_mutex_lock(&mutex) == 0);
    if (under != ticks[0] + ticks[1] + ticks[2] + ticks[3]) WRONG("the mutex did not hold");
    uint64_t before = under;
    NEED(pthread_mutex_unlock(&mutex) == 0);
    uint64_t end = now_ns() + 20000000000ULL;
    while (under == before) { usleep(500); if (now_ns() > end) WRONG("no thread works"); }
}
static void *once(void *p) { return (void *)(mix((uint64_t)p)); }
static void short_threads_step(uint64_t i) {
    pthread_t t;
    void *result;
    NEED(pthread_create(&t, NULL, once, (void *)i) == 0);
    NEED(pthread_join(t, &result) == 0 && (uint64_t)result == mix(i));
}
static double vector[64];
static void vector_step(uint64_t i) {
    double total = 0;
    for (int n = 0; n < 64; n++) { vector[n] = vector[n] * 0.5 + (double)((i + (uint64_t)n) % 97); total += vector[n]; }
    static double before;
    double again = 0;
    for (int n = 0; n < 64; n++) again += vector[n];
    before = total;
    if (again != before) WRONG("arithmetic");
}
static void clock_step(uint64_t i) { (void)i; uint64_t n = now_ns(); struct timeval t; NEED(gettimeofday(&t, NULL) == 0 && n > 0); }

struct kind { const char *name; void (*setup)(void); void (*step)(uint64_t); };
static void nothing(void) {}
static const struct kind kinds[] = {
    {"file", file_setup, file_step}, {"dup", dup_setup, dup_step}, {"flags", flags_setup, flags_step},
    {"churn", churn_setup, churn_step}, {"directory", directory_setup, directory_step}, {"path", path_setup, path_step},
    {"devices", devices_setup, devices_step}, {"pipe", pipe_setup, pipe_step}, {"pipe_big", pipe_big_setup, pipe_big_step},
    {"pipe_packets", pipe_packets_setup, pipe_packets_step}, {"fifo", fifo_setup, fifo_step},
    {"unix_stream", stream_setup, stream_step}, {"unix_datagram", dgram_setup, datagram_step}, {"unix_packet", seqpacket_setup, datagram_step},
    {"unix_listener", unix_listener_setup, listener_step}, {"unix_abstract", abstract_setup, listener_step},
    {"tcp_listener", tcp_setup, tcp_step}, {"tcp6_listener", tcp6_setup, tcp_step}, {"tcp_connection", connection_setup, connection_step},
    {"udp", udp_setup, udp_step}, {"netlink", netlink_setup, netlink_step},
    {"eventfd", eventfd_setup, eventfd_step}, {"semaphore", semaphore_setup, semaphore_step}, {"timerfd", timerfd_setup, timerfd_step},
    {"signalfd", signalfd_setup, signalfd_step}, {"epoll", epoll_setup, epoll_step}, {"inotify", inotify_setup, inotify_step},
    {"memfd", memfd_setup, memfd_step}, {"memfd_mapped", memfd_mapped_setup, memfd_mapped_step}, {"pty", pty_setup, pty_step},
    {"flock", flock_setup, flock_step}, {"posix_lock", posix_lock_setup, posix_lock_step}, {"ofd_lock", ofd_lock_setup, ofd_lock_step},
    {"signal_owner", owner_setup, owner_step}, {"pidfd", pidfd_setup, pidfd_step},
    {"deleted_file", deleted_setup, file_step}, {"io_uring", uring_setup, uring_step},
    {"memory", memory_setup, memory_step}, {"mappings", nothing, mappings_step}, {"heap", nothing, heap_step}, {"stack", nothing, stack_step},
    {"file_mapping", file_mapping_setup, file_mapping_step}, {"vector", nothing, vector_step}, {"clocks", nothing, clock_step},
    {"cwd", cwd_setup, cwd_step}, {"umask", nothing, umask_step}, {"limits", nothing, limits_step}, {"name", nothing, name_step},
    {"signal_mask", nothing, mask_step}, {"signal_action", nothing, action_step}, {"signal_queue", pending_setup, pending_step},
    {"signal_stack", altstack_setup, altstack_step}, {"interval_timer", itimer_setup, itimer_step}, {"posix_timer", timer_setup, timer_step},
    {"threads", nothing, threads_step}, {"short_threads", nothing, short_threads_step},
};

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) puts(kinds[n].name);
        return 0;
    }
    const struct kind *kind = NULL;
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) if (argc > 1 && !strcmp(kinds[n].name, argv[1])) kind = &kinds[n];
    if (!kind) { fprintf(stderr, "no such kind; see --list\n"); return 2; }
    for (int i = 1; i + 1 < argc; i++) if (!strcmp(argv[i], "--dir")) dir = argv[i + 1];
    uint64_t steps = (uint64_t)option(argc, argv, "--steps", 200);
    long pause = (long)(option(argc, argv, "--pause", 5) * 1e6);
    int tree = option(argc, argv, "--tree", 0) != 0;
    (void)d;
    kind->setup();
    fflush(stdout);
    if (tree) {
        /* Signals and timers are the child's own: it sets them up itself. */
        pid_t child = fork();
        NEED(child >= 0);
        if (child > 0) {
            int status;
            ready();
            while (waitpid(child, &status, 0) < 0) NEED(errno == EINTR);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        if (kind->setup == itimer_setup || kind->setup == timer_setup || kind->setup == pidfd_setup || kind->setup == posix_lock_setup) kind->setup();
    } else ready();
    for (uint64_t i = 0; i < steps; i++) {
        kind->step(i);
        struct timespec t = {0, pause};
        while (nanosleep(&t, &t) < 0 && errno == EINTR) {}
    }
    threads_stop = 1;
    printf("ok %s steps %lu%s\n", kind->name, (unsigned long)steps, closed ? " closed" : "");
    fflush(stdout);
    return 0;
}
