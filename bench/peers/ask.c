// SPDX-License-Identifier: MPL-2.0
// Asks a server for one path as fast as it answers, over some connections at once, and the same way for every server.
//     ask WHERE CONNECTIONS SECONDS KEEP PATH     WHERE: a port, or the path of a Unix socket
//                                                 KEEP: 1, or 0 for a connection for each request
// Prints: answers, seconds, and of the time that an answer took the median, the 99th percentile and the most, in
// microseconds. One thread, epoll; of an answer it reads the status and Content-Length, and skips the body.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 8192, PIECE = 1 << 20 };

struct asking {
    int fd;
    double began;
    size_t had;       // bytes of the head
    long long left;   // bytes of the answer that are still to come; -1: the head is not all there
    char head[HEAD];
};

static int keep;
static const char *where;
static char request[4096], sink[PIECE];
static size_t request_length;
static float *took;
static size_t answers, room;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void connected(struct asking *one) {
    if (*where == '/') {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", where);
        one->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
        return;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(where))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static void ask(struct asking *one) {
    one->had = 0;
    one->left = -1;
    if (send(one->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) fail("send");
}

static void read_head(struct asking *one) {
    char *end = memmem(one->head, one->had, "\r\n\r\n", 4);
    if (end == NULL) {
        if (one->had == HEAD - 1) exit((fprintf(stderr, "a head without an end\n"), 1));
        return;
    }
    one->head[one->had] = 0;
    char *length = strcasestr(one->head, "\ncontent-length:");
    if (strncmp(one->head + 8, " 200 ", 5) != 0 || length == NULL || length > end)
        exit((fprintf(stderr, "not a good answer: %.100s\n", one->head), 1));
    one->left = atoll(length + 16) - (long long)(one->had - (size_t)(end + 4 - one->head));
}

static int whole(struct asking *one) {
    ssize_t got;
    if (one->left < 0) {
        got = recv(one->fd, one->head + one->had, HEAD - 1 - one->had, 0);
        if (got > 0) one->had += (size_t)got, read_head(one);
    } else {
        got = recv(one->fd, sink, PIECE, 0);
        if (got > 0) one->left -= got;
    }
    if (got <= 0) fail("the server ended the connection within an answer");
    return one->left == 0;
}

static int order(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int count, char **words) {
    if (count != 6) return 2;
    int connections = atoi(words[2]);
    double seconds = atof(words[3]);
    where = words[1];
    keep = atoi(words[4]);
    request_length = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", words[5],
                                      keep ? "" : "Connection: close\r\n");
    struct asking *all = calloc((size_t)connections, sizeof *all);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    double began = now(), at = began;
    for (int n = 0; n < connections; n++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[n]};
        connected(&all[n]);
        epoll_ctl(poller, EPOLL_CTL_ADD, all[n].fd, &event);
        all[n].began = now();
        ask(&all[n]);
    }
    while (at < began + seconds) {
        struct epoll_event events[64];
        int ready = epoll_wait(poller, events, 64, 1000);
        for (int n = 0; n < ready; n++) {
            struct asking *one = events[n].data.ptr;
            if (!whole(one)) continue;
            at = now();
            if (answers == room) {
                room = room ? 2 * room : 1 << 16;
                took = realloc(took, room * sizeof *took);
                if (took == NULL) fail("realloc");
            }
            took[answers++] = (float)((at - one->began) * 1e6);
            one->began = at;
            if (!keep) {
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
                close(one->fd);
                connected(one);
                epoll_ctl(poller, EPOLL_CTL_ADD, one->fd, &event);
            }
            ask(one);
        }
        if (ready == 0) at = now();
    }
    if (answers == 0) exit((fprintf(stderr, "no answer at all\n"), 1));
    qsort(took, answers, sizeof *took, order);
    printf("%zu %.6f %.1f %.1f %.1f\n", answers, at - began, took[answers / 2], took[answers * 99 / 100], took[answers - 1]);
    return 0;
}
