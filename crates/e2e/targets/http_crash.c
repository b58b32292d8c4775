/* A small HTTP server, one connection after the other, with planted faults.
 *
 *   GET /N          the splitmix64 of N, in hexadecimal
 *   GET /crash      a write to nowhere, at once
 *   GET /late       the same after 60 ms
 *   GET /abort      abort()
 *   GET /hang       an endless loop
 *
 * With `Connection: keep-alive` a connection is used for as many requests as come. It keeps what it
 * has answered in memory and checks that. */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static uint64_t answered, sum, history[4096];

static void answer(int fd, const char *status, const char *body, int keep) {
    char out[512];
    int n = snprintf(out, sizeof out, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s",
                     status, strlen(body), keep ? "keep-alive" : "close", body);
    (void)!send(fd, out, (size_t)n, MSG_NOSIGNAL);
}

/* Serves one connection to its end. */
static void serve(int fd) {
    char in[2048];
    size_t have = 0;
    for (;;) {
        ssize_t n = recv(fd, in + have, sizeof in - 1 - have, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* closed, or broken */
        have += (size_t)n;
        in[have] = 0;
        if (!strstr(in, "\r\n\r\n")) {
            if (have == sizeof in - 1) return;
            continue;
        }
        int keep = strstr(in, "keep-alive") != NULL;
        char path[64] = "";
        sscanf(in, "GET /%60s", path);
        if (strcmp(path, "late") == 0) {
            struct timespec t = {0, 60000000};
            nanosleep(&t, NULL);
        }
        if (strcmp(path, "crash") == 0 || strcmp(path, "late") == 0) {
            int *volatile nowhere = NULL;
            *nowhere = 1;
        }
        if (strcmp(path, "abort") == 0) abort();
        if (strcmp(path, "hang") == 0) for (;;) __asm__ volatile("pause");
        uint64_t number = strtoull(path, NULL, 10), value = mix(number);
        sum -= history[answered % 4096];
        history[answered % 4096] = value;
        sum += value;
        answered++;
        uint64_t all = 0;
        for (int i = 0; i < 4096; i++) all += history[i];
        if (all != sum) WRONG("the history does not add up");
        char body[64];
        snprintf(body, sizeof body, "%016llx", (unsigned long long)value);
        answer(fd, "200 OK", body, keep);
        if (!keep) return;
        have = 0;
    }
}

int main(int argc, char **argv) {
    int port = (int)option(argc, argv, "--port", 0);
    on_sigterm_stop();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    NEED(listener >= 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    NEED(bind(listener, (struct sockaddr *)&a, sizeof a) == 0);
    NEED(listen(listener, 128) == 0);
    ready();
    while (!stopping()) {
        struct pollfd p = {.fd = listener, .events = POLLIN};
        if (poll(&p, 1, 200) <= 0) continue;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        serve(fd);
        close(fd);
    }
    printf("ok\n");
    return 0;
}
