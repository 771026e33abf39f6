/* Load at a constant rate over HTTP/1.1: requests are due at set times, whether or not earlier ones are done.
 *
 *   openloop HOST PORT RATE SECONDS CONNECTIONS
 *
 * Latency counts from the time at which a request was due, so waiting for a free connection is part of it. The gaps
 * vary by half (the same in every run), so that the load does not march in step with any timer. The first second is
 * sent but not recorded. Prints one JSON object; latencies in microseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* After the last request was due, for so long answers are waited for. */
#define PATIENCE 5e6
#define WARM_UP 1e6

struct connection {
    int descriptor, busy;
    double due;
    long body_left; /* -1: the head is not complete */
    int head_length;
    char head[2048];
};

struct figures {
    double *latency;
    size_t recorded, sent, bad;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int compare(const void *one, const void *two) {
    double x = *(const double *)one, y = *(const double *)two;
    return (x > y) - (x < y);
}

static int dial(const char *host, const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int one = 1, descriptor = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, host, &address.sin_addr);
    if (connect(descriptor, (void *)&address, sizeof address)) {
        perror("connect");
        exit(1);
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return descriptor;
}

/* Takes bytes of an answer; returns whether it is complete now. */
static int take(struct connection *connection, const char *bytes, long length, struct figures *figures) {
    if (connection->body_left >= 0) {
        connection->body_left -= length;
        return connection->body_left <= 0;
    }
    long room = (long)sizeof connection->head - 1 - connection->head_length;
    long copied = length < room ? length : room;
    memcpy(connection->head + connection->head_length, bytes, copied);
    connection->head_length += copied;
    connection->head[connection->head_length] = 0;
    char *end = strstr(connection->head, "\r\n\r\n");
    if (!end) return 0;
    char *declared = strcasestr(connection->head, "content-length:");
    if (strncmp(connection->head + 9, "200", 3)) figures->bad++;
    long body_here = connection->head_length - (end + 4 - connection->head) + (length - copied);
    connection->body_left = (declared ? atol(declared + 15) : 0) - body_here;
    return connection->body_left <= 0;
}

static double percentile(const struct figures *figures, double share) {
    return figures->recorded ? figures->latency[(size_t)((figures->recorded - 1) * share)] : -1;
}

static void print(struct figures *figures) {
    double sum = 0;
    qsort(figures->latency, figures->recorded, sizeof *figures->latency, compare);
    for (size_t i = 0; i < figures->recorded; i++) sum += figures->latency[i];
    printf("{\"sent\": %zu, \"recorded\": %zu, \"bad\": %zu, \"p50\": %.0f, \"p90\": %.0f, \"p99\": %.0f, "
           "\"p999\": %.0f, \"max\": %.0f, \"mean\": %.1f}\n",
           figures->sent, figures->recorded, figures->bad, percentile(figures, .5), percentile(figures, .9),
           percentile(figures, .99), percentile(figures, .999), percentile(figures, 1),
           figures->recorded ? sum / figures->recorded : -1);
}

int main(int count, char **word) {
    if (count != 6) {
        fprintf(stderr, "usage: openloop HOST PORT RATE SECONDS CONNECTIONS\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    double rate = atof(word[3]), length = atof(word[4]) * 1e6 + WARM_UP;
    int open = atoi(word[5]), events = epoll_create1(0), idle_count = 0;
    char request[512];
    int request_length =
        snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s:%s\r\n\r\n", word[1], word[2]);
    struct connection *connections = calloc(open, sizeof *connections);
    int *idle = calloc(open, sizeof *idle);
    for (int i = 0; i < open; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        connections[i].descriptor = dial(word[1], word[2]);
        epoll_ctl(events, EPOLL_CTL_ADD, connections[i].descriptor, &event);
        idle[idle_count++] = i;
    }
    size_t room = (size_t)(rate * length / 1e6 * 1.2) + 1000, first = 0, last = 0;
    double *queue = calloc(room, sizeof *queue); /* when each was due; first..last wait for a connection */
    struct figures figures = {.latency = calloc(room, sizeof *queue)};
    double began = now(), due = began + 1000, end = began + length, gap = 1e6 / rate;
    static char bytes[1 << 16];
    srand(1);
    for (;;) {
        double time = now();
        for (; due <= time && due < end && last < room; due += gap * (0.5 + rand() / (double)RAND_MAX))
            queue[last++] = due;
        while (first < last && idle_count) {
            struct connection *connection = &connections[idle[--idle_count]];
            connection->due = queue[first++];
            connection->busy = 1;
            connection->head_length = 0;
            connection->body_left = -1;
            figures.sent++;
            if (send(connection->descriptor, request, request_length, MSG_NOSIGNAL) != request_length) figures.bad++;
        }
        if (time >= end && first == last && idle_count == open) break;
        if (time > end + PATIENCE || !open) {
            figures.bad += last - first + (open - idle_count);
            break;
        }
        double wait = due < end ? due - now() : 10000;
        struct timespec timeout = {0, wait > 0 ? (long)(wait * 1000) % 1000000000 : 0};
        struct epoll_event ready[64];
        int ready_count = epoll_pwait2(events, ready, 64, &timeout, NULL);
        for (int i = 0; i < ready_count; i++) {
            struct connection *connection = &connections[ready[i].data.u32];
            long received = recv(connection->descriptor, bytes, sizeof bytes, 0);
            if (received < 0 && errno == EINTR) continue;
            if (received <= 0) {
                /* Lost, with the request that it had. An idle one stays listed: sending on it fails, and counts. */
                figures.bad += connection->busy;
                epoll_ctl(events, EPOLL_CTL_DEL, connection->descriptor, 0);
                if (connection->busy) open--;
                continue;
            }
            if (!connection->busy || !take(connection, bytes, received, &figures)) continue;
            if (connection->due > began + WARM_UP && figures.recorded < room)
                figures.latency[figures.recorded++] = now() - connection->due;
            connection->busy = 0;
            idle[idle_count++] = ready[i].data.u32;
        }
    }
    print(&figures);
}
