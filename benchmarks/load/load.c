/* Load for a registry: asks over many connections and checks every answer. Linux, one thread, epoll.
 *
 * The questions and the answers that are right come in a file (see plan.py for its form), so that nothing has to be
 * encoded or decoded here. Every request id takes 4 bytes and is another on its connection; an answer must be one of
 * those that are right for its question, byte for byte, but for the id, which must be that of an open question.
 *
 * Closed loop: so many questions are open on each connection at any time. Open loop (--rate): a question is due at
 * each tick of a fixed clock, on the connections in turn, whether or not earlier ones are answered; its latency counts
 * from when it was due, so that a server that stalls can't hide what waited meanwhile.
 *
 * Prints one JSON object. The Python program beside this one takes the same options and prints the same.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FIRST_ID 0x01000000u /* the ids from here on take 4 bytes */
#define IDS 0x70000000u
#define HEADER_BYTES 4
#define EVENTS 512
#define CONNECTING_AT_ONCE 256
#define SCRATCH_BYTES (1 << 22)
#define MAX_LOST 100000

typedef int64_t ns_t;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void *allocate(size_t size) {
    void *found = calloc(1, size);
    if (!found)
        fail("no memory");
    return found;
}

static ns_t clock_ns(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time))
        return 0;
    return (ns_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static ns_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* ------------------------------------------------------------------------------------------------ histogram */

#define SUB_BITS 7 /* 128 steps for each power of two: within 0.8 % */
#define BUCKETS ((64 - SUB_BITS) << SUB_BITS)

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t count;
    ns_t max;
};

static void record(struct histogram *histogram, ns_t value) {
    if (value < 0)
        value = 0;
    unsigned at = (unsigned)value;
    if (value >= 1 << SUB_BITS) {
        int shift = 63 - __builtin_clzll((uint64_t)value) - SUB_BITS;
        at = ((unsigned)(shift + 1) << SUB_BITS) + (unsigned)(value >> shift) - (1u << SUB_BITS);
    }
    histogram->counts[at]++;
    histogram->count++;
    if (value > histogram->max)
        histogram->max = value;
}

static void print_histogram(const char *name, const struct histogram *histogram) {
    printf("\"%s\": {\"count\": %llu, \"max_ns\": %lld, \"buckets\": [", name, (unsigned long long)histogram->count,
           (long long)histogram->max);
    const char *comma = "";
    for (unsigned at = 0; at < BUCKETS; at++)
        if (histogram->counts[at]) {
            printf("%s[%u, %llu]", comma, at, (unsigned long long)histogram->counts[at]);
            comma = ", ";
        }
    printf("]}");
}

/* ------------------------------------------------------------------------------------------------ the plan */

struct answer {
    const uint8_t *bytes;
    uint32_t size, id_at;
};

struct question {
    const uint8_t *bytes;
    uint32_t size, id_at, vary_at, first_answer, answers;
};

static struct answer *answers;
static struct question *questions;
static uint32_t question_count, answer_count;

static uint32_t read32(const uint8_t **at, const uint8_t *end) {
    if (end - *at < 4)
        fail("the plan ends too early");
    uint32_t value;
    memcpy(&value, *at, 4);
    *at += 4;
    return le32toh(value);
}

static const uint8_t *read_bytes(const uint8_t **at, const uint8_t *end, uint32_t size) {
    if ((size_t)(end - *at) < size)
        fail("the plan ends too early");
    const uint8_t *found = *at;
    *at += size;
    return found;
}

static void read_plan(const char *path) {
    int file = open(path, O_RDONLY);
    struct stat info;
    if (file < 0 || fstat(file, &info))
        fail("%s: %s", path, strerror(errno));
    const uint8_t *at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (at == MAP_FAILED)
        fail("%s: %s", path, strerror(errno));
    close(file);
    const uint8_t *end = at + info.st_size;
    if (info.st_size < 16 || memcmp(at, "TARSPLAN", 8))
        fail("%s is no plan", path);
    at += 8;
    answer_count = read32(&at, end);
    question_count = read32(&at, end);
    if (!answer_count || !question_count)
        fail("%s: no questions", path);
    answers = allocate(answer_count * sizeof *answers);
    questions = allocate(question_count * sizeof *questions);
    for (uint32_t n = 0; n < answer_count; n++) {
        struct answer *answer = &answers[n];
        answer->size = read32(&at, end);
        answer->id_at = read32(&at, end);
        answer->bytes = read_bytes(&at, end, answer->size);
        if (answer->id_at + 4 > answer->size)
            fail("%s: answer %u has no id", path, n);
    }
    for (uint32_t n = 0; n < question_count; n++) {
        struct question *question = &questions[n];
        question->size = read32(&at, end);
        question->id_at = read32(&at, end);
        question->vary_at = read32(&at, end);
        question->first_answer = read32(&at, end);
        question->answers = read32(&at, end);
        question->bytes = read_bytes(&at, end, question->size);
        if (question->id_at + 4 > question->size || question->first_answer + question->answers > answer_count)
            fail("%s: question %u is wrong", path, n);
        if (question->vary_at && question->vary_at + 8 > question->size)
            fail("%s: question %u has no place to vary", path, n);
        if (question->size * 2 > SCRATCH_BYTES)
            fail("%s: question %u is too long", path, n);
    }
}

/* ------------------------------------------------------------------------------------------------ options */

static const char *host = "127.0.0.1", *plan = NULL;
static int port = 0, connection_count = 1, outstanding = 1;
static double rate = 0, warm_up = 0.2, seconds = 1, grace = 2;
static long server_pid = 0, reconnect_after = 0, stop_after_ask = 0;
static unsigned long vary_from = 0;

static void read_options(int count, char **words) {
    for (int n = 1; n < count; n++) {
        char *word = words[n], *value = strchr(word, '=');
        if (strncmp(word, "--", 2))
            fail("%s: expected --OPTION=VALUE", word);
        if (value)
            *value++ = 0;
        else if (n + 1 < count)
            value = words[++n];
        else
            fail("%s needs a value", word);
        if (!strcmp(word, "--host"))
            host = value;
        else if (!strcmp(word, "--port"))
            port = atoi(value);
        else if (!strcmp(word, "--plan"))
            plan = value;
        else if (!strcmp(word, "--connections"))
            connection_count = atoi(value);
        else if (!strcmp(word, "--outstanding"))
            outstanding = atoi(value);
        else if (!strcmp(word, "--rate"))
            rate = atof(value);
        else if (!strcmp(word, "--warm-up"))
            warm_up = atof(value);
        else if (!strcmp(word, "--seconds"))
            seconds = atof(value);
        else if (!strcmp(word, "--grace"))
            grace = atof(value);
        else if (!strcmp(word, "--pid"))
            server_pid = atol(value);
        else if (!strcmp(word, "--reconnect-after"))
            reconnect_after = atol(value);
        else if (!strcmp(word, "--vary-from"))
            vary_from = strtoul(value, NULL, 10);
        else if (!strcmp(word, "--questions"))
            stop_after_ask = atol(value);
        else
            fail("%s: no such option", word);
    }
    if (!plan || !port || connection_count < 1 || outstanding < 1)
        fail("--plan, --port, --connections and --outstanding are needed");
    if (rate > 0 && reconnect_after)
        fail("--reconnect-after is for a closed loop");
}

/* ------------------------------------------------------------------------------------------------ connections */

struct pending {
    uint32_t sequence, question;
    ns_t due;
    bool open;
};

enum state { CLOSED, CONNECTING, OPEN };

struct connection {
    int fd;
    enum state state;
    bool writing; /* EPOLLOUT is on */
    uint8_t *in, *out;
    size_t in_size, in_room, out_at, out_size, out_room;
    struct pending *ring;
    uint32_t mask, sequence, open, asked;
    ns_t connect_began;
};

static struct connection *connections;
static int epoll, timer;
static uint8_t *incoming, *scratch;
static struct sockaddr_storage address;
static socklen_t address_size;

static enum { CONNECT, WARM, MEASURE, DRAIN, DONE } phase = CONNECT;
static ns_t measure_began, measure_ended;
static int open_connections, connecting;
static uint32_t next_question, variation;
static uint64_t asked, answered, answered_all, wrong, unanswered, lost, connects, bytes_in, asked_all;
static struct histogram latency, late;
static char first_wrong[256];
static bool reconnecting;

static void connect_one(struct connection *connection);
static void ask(struct connection *connection, int count, ns_t due);

static void watch(struct connection *connection, bool writing, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(epoll, operation, connection->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
    connection->writing = writing;
}

static void disconnect(struct connection *connection) {
    if (connection->state == CONNECTING)
        connecting--;
    if (connection->state == OPEN)
        open_connections--;
    /* Reset, so that no address stays taken for a minute. */
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(connection->fd);
    connection->state = CLOSED;
    connection->in_size = connection->out_at = connection->out_size = 0;
    for (uint32_t at = 0; at <= connection->mask; at++)
        connection->ring[at].open = false;
    connection->open = 0;
}

static void lose(struct connection *connection, const char *why) {
    if (phase >= DRAIN && !connection->open)
        return disconnect(connection);
    lost++;
    for (uint32_t at = 0; at <= connection->mask; at++)
        if (connection->ring[at].open && connection->ring[at].due >= measure_began && phase >= MEASURE)
            unanswered++;
    if (lost > MAX_LOST || phase == CONNECT)
        fail("%s:%d: %s after %llu connections", host, port, why, (unsigned long long)connects);
    disconnect(connection);
    connect_one(connection);
}

static void connect_one(struct connection *connection) {
    connection->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail("socket: %s (%d connections are open)", strerror(errno), open_connections);
    int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->connect_began = now_ns();
    if (connect(connection->fd, (struct sockaddr *)&address, address_size) && errno != EINPROGRESS)
        fail("connect to %s:%d: %s (%d connections are open)", host, port, strerror(errno), open_connections);
    connection->state = CONNECTING;
    connecting++;
    watch(connection, true, EPOLL_CTL_ADD);
}

static void connected(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        return lose(connection, strerror(error));
    connecting--;
    connection->state = OPEN;
    connection->asked = 0;
    open_connections++;
    connects++;
    watch(connection, false, EPOLL_CTL_MOD);
    if (rate == 0 && (phase == WARM || phase == MEASURE))
        ask(connection, outstanding, reconnecting ? connection->connect_began : now_ns());
}

static void flush(struct connection *connection) {
    while (connection->out_at < connection->out_size) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_at,
                            connection->out_size - connection->out_at, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EINTR)
                break;
            return lose(connection, strerror(errno));
        }
        connection->out_at += (size_t)sent;
    }
    bool more = connection->out_at < connection->out_size;
    if (!more)
        connection->out_at = connection->out_size = 0;
    if (more != connection->writing)
        watch(connection, more, EPOLL_CTL_MOD);
}

static void keep_for_later(struct connection *connection, const uint8_t *bytes, size_t size) {
    size_t needed = connection->out_size + size;
    if (needed > connection->out_room) {
        connection->out_room = needed * 2;
        connection->out = realloc(connection->out, connection->out_room);
        if (!connection->out)
            fail("no memory");
    }
    memcpy(connection->out + connection->out_size, bytes, size);
    connection->out_size += size;
}

static void send_bytes(struct connection *connection, const uint8_t *bytes, size_t size) {
    if (connection->out_size) {
        keep_for_later(connection, bytes, size);
        return flush(connection);
    }
    ssize_t sent = send(connection->fd, bytes, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return;
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return lose(connection, strerror(errno));
    if (sent < 0)
        sent = 0;
    keep_for_later(connection, bytes + sent, size - (size_t)sent);
    flush(connection);
}

static void grow_ring(struct connection *connection) {
    uint32_t mask = connection->mask * 2 + 1;
    struct pending *ring = allocate((mask + 1) * sizeof *ring);
    for (uint32_t at = 0; at <= connection->mask; at++)
        if (connection->ring[at].open)
            ring[connection->ring[at].sequence & mask] = connection->ring[at];
    free(connection->ring);
    connection->ring = ring;
    connection->mask = mask;
}

/* Ask the next so many questions of the plan in one write. */
static void ask(struct connection *connection, int count, ns_t due) {
    size_t size = 0;
    while (count--) {
        if (stop_after_ask && asked_all >= (uint64_t)stop_after_ask)
            break;
        const struct question *question = &questions[next_question];
        if (size + question->size > SCRATCH_BYTES) {
            send_bytes(connection, scratch, size);
            size = 0;
        }
        uint8_t *place = scratch + size;
        memcpy(place, question->bytes, question->size);
        uint32_t sequence = connection->sequence++ % IDS, id = htonl(FIRST_ID + sequence);
        memcpy(place + question->id_at, &id, 4);
        if (question->vary_at) {
            uint32_t rest = (uint32_t)vary_from + variation++;
            for (int digit = 7; digit >= 0; digit--, rest /= 10)
                place[question->vary_at + (uint32_t)digit] = (uint8_t)('0' + rest % 10);
        }
        size += question->size;
        while (connection->ring[sequence & connection->mask].open)
            grow_ring(connection);
        connection->ring[sequence & connection->mask] = (struct pending){sequence, next_question, due, true};
        connection->open++;
        connection->asked++;
        asked_all++;
        if (phase == MEASURE && rate <= 0)
            asked++;
        if (++next_question == question_count)
            next_question = 0;
    }
    if (size)
        send_bytes(connection, scratch, size);
}

static void note_wrong(const char *why, const uint8_t *bytes, size_t size) {
    if (wrong++)
        return;
    int at = snprintf(first_wrong, sizeof first_wrong, "%s: ", why);
    for (size_t n = 0; n < size && n < 64; n++)
        at += snprintf(first_wrong + at, sizeof first_wrong - (size_t)at, "%02x", bytes[n]);
}

static bool is_right(const struct answer *answer, const uint8_t *frame, uint32_t size) {
    uint32_t after = answer->id_at + 4;
    return size == answer->size && !memcmp(frame, answer->bytes, answer->id_at) &&
           !memcmp(frame + after, answer->bytes + after, size - after);
}

/* One answer. Whatever is found wrong is counted; the question stays open where it is not known which it was. */
static void check(struct connection *connection, const uint8_t *frame, uint32_t size, ns_t came) {
    answered_all++;
    /* All answers of a plan have their id at one place: the version and the type before it are the same. */
    uint32_t id_at = answers[0].id_at, id;
    if (size < id_at + 4)
        return note_wrong("too short", frame, size);
    memcpy(&id, frame + id_at, 4);
    uint32_t sequence = ntohl(id) - FIRST_ID;
    struct pending *pending = &connection->ring[sequence & connection->mask];
    if (!pending->open || pending->sequence != sequence)
        return note_wrong("an id that was not asked with", frame, size);
    pending->open = false;
    connection->open--;
    const struct question *question = &questions[pending->question];
    bool right = false;
    for (uint32_t n = 0; n < question->answers && !right; n++)
        right = is_right(&answers[question->first_answer + n], frame, size);
    if (!right)
        note_wrong("another answer than was expected", frame, size);
    if (rate > 0) {
        if (pending->due >= measure_began && pending->due < measure_ended) {
            answered++;
            record(&latency, came - pending->due);
        }
    } else if (phase == MEASURE) {
        answered++;
        record(&latency, came - pending->due);
    }
}

static void receive(struct connection *connection) {
    ssize_t got = recv(connection->fd, incoming + connection->in_size, SCRATCH_BYTES - connection->in_size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        return lose(connection, got ? strerror(errno) : "the peer closed");
    bytes_in += (uint64_t)got;
    ns_t came = now_ns();
    uint8_t *start = incoming;
    if (connection->in_size)
        memcpy(start, connection->in, connection->in_size);
    size_t at = 0, size = (size_t)got + connection->in_size;
    int count = 0;
    while (size - at >= HEADER_BYTES) {
        uint32_t length;
        memcpy(&length, start + at, 4);
        length = ntohl(length);
        if (length < HEADER_BYTES + 1 || length > SCRATCH_BYTES / 2) {
            note_wrong("no frame", start + at, size - at);
            return lose(connection, "not a frame");
        }
        if (length > size - at)
            break;
        check(connection, start + at, length, came);
        at += length;
        count++;
    }
    size_t left = size - at;
    if (left > connection->in_room) {
        connection->in_room = left * 2;
        connection->in = realloc(connection->in, connection->in_room);
        if (!connection->in)
            fail("no memory");
    }
    memcpy(connection->in, start + at, left);
    connection->in_size = left;
    if (rate > 0 || !count || phase >= DRAIN)
        return;
    if (reconnect_after && connection->asked >= reconnect_after) {
        if (!connection->open) {
            disconnect(connection);
            connect_one(connection);
        }
        return;
    }
    ask(connection, count, came);
}

/* ------------------------------------------------------------------------------------------------ the run */

static ns_t ticks_ns(long pid, ns_t *system) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "r");
    unsigned long user = 0, kernel = 0;
    if (file) {
        size_t size = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[size] = 0;
        char *after = strrchr(text, ')');
        if (after)
            sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
    }
    ns_t tick = 1000000000 / sysconf(_SC_CLK_TCK);
    *system = (ns_t)kernel * tick;
    return (ns_t)user * tick;
}

struct usage {
    ns_t wall, own, server, user, system;
};

static struct usage use(void) {
    struct usage usage = {.wall = now_ns(), .own = clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
    clockid_t clock;
    if (server_pid && !clock_getcpuclockid((pid_t)server_pid, &clock)) {
        usage.server = clock_ns(clock);
        usage.user = ticks_ns(server_pid, &usage.system);
    }
    return usage;
}

static void set_timer(ns_t when) {
    struct itimerspec spec = {.it_value = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL))
        fail("timerfd: %s", strerror(errno));
}

static void resolve(void) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    int error = getaddrinfo(host, service, &hints, &found);
    if (error)
        fail("%s: %s", host, gai_strerror(error));
    memcpy(&address, found->ai_addr, found->ai_addrlen);
    address_size = found->ai_addrlen;
    freeaddrinfo(found);
}

static void raise_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)connection_count + 16)
        fail("%d connections need as many file descriptors; ulimit -Hn is %llu", connection_count,
             (unsigned long long)limit.rlim_cur);
}

static void take_events(void) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    for (int n = 0; n < count; n++) {
        struct connection *connection = events[n].data.ptr;
        if (!connection) {
            uint64_t times;
            if (read(timer, &times, sizeof times) < 0)
                continue;
        } else if (connection->state == CONNECTING) {
            connected(connection);
        } else if (connection->state == OPEN) {
            if (events[n].events & EPOLLOUT)
                flush(connection);
            if (connection->state == OPEN && events[n].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(connection);
        }
    }
}

static uint64_t still_open(void) {
    uint64_t count = 0;
    for (int n = 0; n < connection_count; n++)
        for (uint32_t at = 0; at <= connections[n].mask; at++) {
            struct pending *pending = &connections[n].ring[at];
            count += pending->open && (rate == 0 || (pending->due >= measure_began && pending->due < measure_ended));
        }
    return count;
}

int main(int count, char **words) {
    read_options(count, words);
    read_plan(plan);
    resolve();
    raise_descriptors();
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    incoming = allocate(SCRATCH_BYTES);
    scratch = allocate(SCRATCH_BYTES);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);

    connections = allocate((size_t)connection_count * sizeof *connections);
    uint32_t mask = 1;
    while (mask < (uint32_t)outstanding)
        mask = mask * 2 + 1;
    ns_t connect_began = now_ns();
    for (int n = 0; n < connection_count || connecting;) {
        while (n < connection_count && connecting < CONNECTING_AT_ONCE) {
            connections[n].ring = allocate((mask + 1) * sizeof(struct pending));
            connections[n].mask = mask;
            connect_one(&connections[n++]);
        }
        take_events();
    }
    ns_t connect_seconds = now_ns() - connect_began;

    /* In an open loop question n is due at began + n / rate, on the connections in turn. */
    ns_t began = now_ns();
    ns_t measure_at = began + (ns_t)(warm_up * 1e9), end_at = measure_at + (ns_t)(seconds * 1e9);
    uint64_t sent = 0;
    struct usage before = {0}, after = {0};
    phase = WARM;
    if (warm_up <= 0) {
        before = use();
        phase = MEASURE;
    }
    measure_began = measure_at;
    measure_ended = end_at;
    reconnecting = reconnect_after > 0;
    if (rate == 0)
        for (int n = 0; n < connection_count; n++)
            if (connections[n].state == OPEN)
                ask(&connections[n], outstanding, now_ns());
    while (phase < DRAIN) {
        ns_t now = now_ns();
        if (phase == WARM && now >= measure_at) {
            before = use();
            phase = MEASURE;
        }
        ns_t next = phase == WARM ? measure_at : end_at;
        if (rate > 0) {
            ns_t due;
            while ((due = began + (ns_t)((double)sent * 1e9 / rate)) <= now && due < end_at) {
                struct connection *connection = &connections[sent % (uint64_t)connection_count];
                /* Counted by when it was due, as its answer is: it may go out in another phase. */
                bool counts = due >= measure_began && due < measure_ended;
                if (counts) {
                    asked++;
                    record(&late, now_ns() - due);
                }
                if (connection->state == OPEN)
                    ask(connection, 1, due);
                else if (counts)
                    unanswered++;
                sent++;
            }
            if (due < next)
                next = due;
        }
        if (now >= end_at || (stop_after_ask && answered_all >= (uint64_t)stop_after_ask)) {
            after = use();
            phase = DRAIN;
            measure_ended = rate > 0 ? end_at : now;
            break;
        }
        set_timer(next);
        take_events();
    }

    if (!after.wall)
        after = use();
    ns_t give_up = now_ns() + (ns_t)(grace * 1e9);
    set_timer(give_up);
    while (still_open() && now_ns() < give_up)
        take_events();
    for (int n = 0; n < connection_count; n++)
        for (uint32_t at = 0; at <= connections[n].mask; at++) {
            struct pending *pending = &connections[n].ring[at];
            if (!pending->open)
                continue;
            if (rate > 0 && (pending->due < measure_began || pending->due >= measure_ended))
                continue;
            unanswered++;
            record(&latency, now_ns() - pending->due);
        }
    double wall = (double)(after.wall - before.wall) / 1e9;
    double own = (double)(after.own - before.own) / 1e9;
    ns_t ticks = after.user - before.user + after.system - before.system;
    double server = (double)(after.server - before.server) / 1e9;
    double share = ticks > 0 ? (double)(after.system - before.system) / (double)ticks : 0;
    printf("{\"program\": \"c\", \"seconds\": %.6f, \"asked\": %llu, \"answered\": %llu, \"answered_in_all\": %llu, ", wall,
           (unsigned long long)asked, (unsigned long long)answered, (unsigned long long)answered_all);
    printf("\"wrong\": %llu, \"first_wrong\": \"%s\", \"unanswered\": %llu, \"lost\": %llu, \"connects\": %llu, ",
           (unsigned long long)wrong, first_wrong, (unsigned long long)unanswered, (unsigned long long)lost,
           (unsigned long long)connects);
    printf("\"connect_seconds\": %.6f, \"bytes_in\": %llu, \"load_cpu_seconds\": %.6f, ", (double)connect_seconds / 1e9,
           (unsigned long long)bytes_in, own);
    printf("\"server_cpu_seconds\": %.6f, \"server_system_share\": %.4f, ", server, share);
    print_histogram("latency", &latency);
    printf(", ");
    print_histogram("late", &late);
    printf("}\n");
    return 0;
}
