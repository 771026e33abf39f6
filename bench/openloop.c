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

/* Everything of a run. Times are microseconds. */
struct load {
    double began, end, due, gap; /* due: when the next request is */
    struct connection *connections;
    int *idle; /* numbers of connections */
    int open, idle_count, events, request_length;
    char request[512];
    double *queue; /* when each request was due; first..last wait for a connection */
    size_t first, last, room;
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
static int take(struct connection *connection, const char *bytes, long length, struct load *load) {
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
    if (strncmp(connection->head + 9, "200", 3)) load->bad++;
    long body_here = connection->head_length - (end + 4 - connection->head) + (length - copied);
    connection->body_left = (declared ? atol(declared + 15) : 0) - body_here;
    return connection->body_left <= 0;
}

static double percentile(const struct load *load, double share) {
    return load->recorded ? load->latency[(size_t)((load->recorded - 1) * share)] : -1;
}

static void print(struct load *load) {
    double sum = 0;
    qsort(load->latency, load->recorded, sizeof *load->latency, compare);
    for (size_t i = 0; i < load->recorded; i++) sum += load->latency[i];
    printf("{\"sent\": %zu, \"recorded\": %zu, \"bad\": %zu, \"p50\": %.0f, \"p90\": %.0f, \"p99\": %.0f, "
           "\"p999\": %.0f, \"max\": %.0f, \"mean\": %.1f}\n",
           load->sent, load->recorded, load->bad, percentile(load, .5), percentile(load, .9),
           percentile(load, .99), percentile(load, .999), percentile(load, 1),
           load->recorded ? sum / load->recorded : -1);
}

static void dial_all(struct load *load, const char *host, const char *port) {
    load->connections = calloc(load->open, sizeof *load->connections);
    load->idle = calloc(load->open, sizeof *load->idle);
    load->events = epoll_create1(0);
    for (int i = 0; i < load->open; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        load->connections[i].descriptor = dial(host, port);
        epoll_ctl(load->events, EPOLL_CTL_ADD, load->connections[i].descriptor, &event);
        load->idle[load->idle_count++] = i;
    }
}

/* Sends what is due by now, as far as there are connections. */
static void send_due(struct load *load, double time) {
    for (; load->due <= time && load->due < load->end && load->last < load->room;
         load->due += load->gap * (0.5 + rand() / (double)RAND_MAX))
        load->queue[load->last++] = load->due;
    while (load->first < load->last && load->idle_count) {
        struct connection *connection = &load->connections[load->idle[--load->idle_count]];
        connection->due = load->queue[load->first++];
        connection->busy = 1;
        connection->head_length = 0;
        connection->body_left = -1;
        load->sent++;
        if (send(connection->descriptor, load->request, load->request_length, MSG_NOSIGNAL) != load->request_length)
            load->bad++;
    }
}

/* Reads from a connection that is readable. */
static void receive(struct load *load, int number) {
    static char bytes[1 << 16];
    struct connection *connection = &load->connections[number];
    long received = recv(connection->descriptor, bytes, sizeof bytes, 0);
    if (received < 0 && errno == EINTR) return;
    if (received <= 0) {
        /* Lost, with the request that it had. An idle one stays listed: sending on it fails, and counts. */
        load->bad += connection->busy;
        load->open -= connection->busy;
        epoll_ctl(load->events, EPOLL_CTL_DEL, connection->descriptor, 0);
        return;
    }
    if (!connection->busy || !take(connection, bytes, received, load)) return;
    if (connection->due > load->began + WARM_UP && load->recorded < load->room)
        load->latency[load->recorded++] = now() - connection->due;
    connection->busy = 0;
    load->idle[load->idle_count++] = number;
}

/* Until every request is answered, or patience ends. */
static void run(struct load *load) {
    for (;;) {
        double time = now();
        send_due(load, time);
        if (time >= load->end && load->first == load->last && load->idle_count == load->open) return;
        if (time > load->end + PATIENCE || !load->open) {
            load->bad += load->last - load->first + (load->open - load->idle_count);
            return;
        }
        double wait = load->due < load->end ? load->due - now() : 10000;
        struct timespec timeout = {0, wait > 0 ? (long)(wait * 1000) % 1000000000 : 0};
        struct epoll_event ready[64];
        int count = epoll_pwait2(load->events, ready, 64, &timeout, NULL);
        for (int i = 0; i < count; i++) receive(load, ready[i].data.u32);
    }
}

int main(int count, char **word) {
    if (count != 6) {
        fprintf(stderr, "usage: openloop HOST PORT RATE SECONDS CONNECTIONS\n");
        return 2;
    }
    double rate = atof(word[3]), length = atof(word[4]) * 1e6 + WARM_UP;
    struct load load = {.gap = 1e6 / rate, .open = atoi(word[5]), .room = (size_t)(rate * length / 1e6 * 1.2) + 1000};
    load.request_length = snprintf(load.request, sizeof load.request, "GET / HTTP/1.1\r\nHost: %s:%s\r\n\r\n",
                                   word[1], word[2]);
    load.queue = calloc(load.room, sizeof *load.queue);
    load.latency = calloc(load.room, sizeof *load.latency);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    srand(1);
    dial_all(&load, word[1], word[2]);
    load.began = now();
    load.due = load.began + 1000;
    load.end = load.began + length;
    run(&load);
    print(&load);
}
