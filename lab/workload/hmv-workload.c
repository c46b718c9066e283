/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A workload with a known hot set, for the lab. It fills one node with pages that it touches once (the cold
 * set), puts a second set of pages wholly on another node (the hot set), releases both to the kernel's
 * default policy so that anything may move them, and then rewrites random cache lines of the hot set until
 * it is told to stop; on demand skewed, from time to time elsewhere, and reading other pages as often. It
 * reports where its pages are now, how much it wrote, the longest time for which it stood still, and how
 * long the hot set took to get to node 0 after each move. It never moves a page itself.
 *
 *     hmv-workload --hot 96M --hot-node 1 --cold fill --cold-node 0
 *     hmv-workload --hot 64M --within 448M --move-every 60 --skew 0.99 --read 64M
 *     hmv-workload --query [--reset-gap] [--brief]
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "pattern.h"
#include "ticker.h"

#define LINE           64       /* bytes that one write rewrites: a cache line */
#define LINE_WORDS     (LINE / sizeof(uint64_t))
#define LINES_A_PAGE   (PAGE / LINE)
#define WRITES_A_ROUND 256      /* between two looks at the stop flag, and of the count of writes */
#define MOVES_KEPT     32       /* of whose arrivals a report tells */
#define FAST_NODE      0        /* where an arrival is looked for */
#define ARRIVED        9000     /* permyriad of the hot set's pages that make one */
#define LOOK_USEC      1000000  /* between two looks for it ... */
#define LOOK_PAGES     512      /* ... at some so many pages */
#define DRAWN_PAGES    128      /* for each line of the log */

/* A move of the hot set; arrived_ms: how long after it 90% of its pages were on DRAM, 0 = not yet. */
typedef struct Move {
        uint64_t at_usec, arrived_ms;
} Move;

typedef struct Workload {
        Pattern pattern;                /* of what is written, in the hot set */
        PageSet cold, read;
        uint64_t seed, started_usec, looked_usec;
        unsigned rate;
        _Atomic uint64_t writes, reads;
        Ticker ticker;
        Move moves[MOVES_KEPT];         /* a ring; touched by the main thread only */
        uint64_t n_moves;
} Workload;

static atomic_bool stopping;

static void on_signal(int number) {
        atomic_store(&stopping, true);
}

/* Rests when it is ahead of the rate that is asked for. */
static void writer_pace(const Workload *w, uint64_t written) {
        uint64_t due = w->started_usec + written * 1000000 / w->rate, now = now_usec();

        if (due > now)
                nanosleep(&(struct timespec) { .tv_sec = (time_t) ((due - now) / 1000000),
                                               .tv_nsec = (long) ((due - now) % 1000000 * 1000) }, NULL);
}

static void write_line(const Pattern *p, void *hot, uint64_t *state) {
        uint64_t page = pattern_next_page(p, state), r = random_next(state);
        volatile uint64_t *line = hot + page * PAGE + r % LINES_A_PAGE * LINE;

        for (unsigned k = 0; k < LINE_WORDS; k++)
                line[k] = r;
}

static void read_line(const PageSet *set, uint64_t *state) {
        const volatile uint64_t *line =
                (const uint64_t *) set->base + random_next(state) % (set->size / LINE) * LINE_WORDS;

        for (unsigned k = 0; k < LINE_WORDS; k++)
                (void) line[k];
}

static void *writer_run(void *userdata) {
        Workload *w = userdata;
        uint64_t state = w->seed, written = 0;
        unsigned round = w->rate > 0 ? 1 : WRITES_A_ROUND;

        while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
                void *hot = pattern_hot(&w->pattern).base;

                for (unsigned i = 0; i < round; i++) {
                        write_line(&w->pattern, hot, &state);
                        if (w->read.size > 0)
                                read_line(&w->read, &state);
                }
                atomic_fetch_add_explicit(&w->writes, round, memory_order_relaxed);
                if (w->read.size > 0)
                        atomic_fetch_add_explicit(&w->reads, round, memory_order_relaxed);
                written += round;
                if (w->rate > 0)
                        writer_pace(w, written);
        }
        return NULL;
}

/* Moves the hot set when it is time to, and looks whether it has arrived since. */
static void moves_tend(Workload *w, unsigned every) {
        uint64_t now = now_usec(), by_node[NODES_MAX] = {}, elsewhere, seen = 0;
        Move *last = w->n_moves > 0 ? w->moves + (w->n_moves - 1) % MOVES_KEPT : NULL;
        uint64_t pages = w->pattern.hot_size / PAGE;
        PageSet hot;

        if (now - w->started_usec >= (w->n_moves + 1) * every * UINT64_C(1000000)) {
                pattern_move(&w->pattern);
                w->moves[w->n_moves++ % MOVES_KEPT] = (Move) { .at_usec = now };
                return;
        }
        if (!last || last->arrived_ms > 0 || now - w->looked_usec < LOOK_USEC)
                return;
        w->looked_usec = now;
        hot = pattern_hot(&w->pattern);
        if (pages_locate(&hot, pages > LOOK_PAGES ? (unsigned) (pages / LOOK_PAGES) : 1, by_node,
                         &elsewhere) < 0)
                return;
        for (unsigned n = 0; n < NODES_MAX; n++)
                seen += by_node[n];
        if (seen > 0 && by_node[FAST_NODE] * 10000 >= (seen + elsewhere) * ARRIVED)
                last->arrived_ms = (now - last->at_usec) / 1000 + 1;
}

static int json_set(FILE *f, const char *name, const PageSet *set) {
        uint64_t by_node[NODES_MAX] = {}, elsewhere = 0;
        const char *comma = "";
        int r;

        r = pages_locate(set, 1, by_node, &elsewhere);
        if (r < 0)
                return r;
        fprintf(f, "\"%s_pages\":%" PRIu64 ",\"%s_by_node\":{", name, set->size / PAGE, name);
        for (unsigned n = 0; n < NODES_MAX; n++)
                if (by_node[n] > 0) {
                        fprintf(f, "%s\"%u\":%" PRIu64, comma, n, by_node[n]);
                        comma = ",";
                }
        fprintf(f, "},\"%s_elsewhere\":%" PRIu64 ",", name, elsewhere);
        return 0;
}

/* Of a skewed hot set: which share of its writes goes to each node as its pages lie now, by the law they
 * follow. */
static int json_shares(FILE *f, const Workload *w, const PageSet *hot) {
        double by_node[NODES_MAX] = {};
        const char *comma = "";
        int r;

        if (!w->pattern.share)
                return 0;
        r = pages_weigh(hot, w->pattern.share, by_node);
        if (r < 0)
                return r;
        fprintf(f, "\"writes_by_node\":{");
        for (unsigned n = 0; n < NODES_MAX; n++)
                if (by_node[n] > 0) {
                        fprintf(f, "%s\"%u\":%.4f", comma, n, by_node[n]);
                        comma = ",";
                }
        fprintf(f, "},");
        return 0;
}

/* [ms after the start, ms until it had arrived or null], oldest first. */
static void json_moves(FILE *f, const Workload *w) {
        uint64_t from = w->n_moves > MOVES_KEPT ? w->n_moves - MOVES_KEPT : 0;

        fprintf(f, "\"moves\":[");
        for (uint64_t i = from; i < w->n_moves; i++) {
                const Move *m = w->moves + i % MOVES_KEPT;

                fprintf(f, "%s[%" PRIu64 ",", i > from ? "," : "", (m->at_usec - w->started_usec) / 1000);
                if (m->arrived_ms > 0)
                        fprintf(f, "%" PRIu64 "]", m->arrived_ms);
                else
                        fprintf(f, "null]");
        }
        fprintf(f, "],");
}

static void json_counts(FILE *f, Workload *w) {
        fprintf(f,
                "\"writes\":%" PRIu64 ",\"reads\":%" PRIu64
                ",\"longest_gap_ms\":%.1f,\"p99_gap_ms\":%" PRIu32 ",\"elapsed_ms\":%" PRIu64 "}\n",
                atomic_load(&w->writes), atomic_load(&w->reads),
                (double) atomic_load(&w->ticker.longest_usec) / 1000, ticker_quantile_ms(&w->ticker, 9900),
                (now_usec() - w->started_usec) / 1000);
}

/* One line of JSON with a newline. Without brief it tells where the pages are, which takes a look at each.
 */
static int workload_report(Workload *w, FILE *f, bool brief) {
        PageSet hot = pattern_hot(&w->pattern);
        int r;

        fprintf(f, "{\"state\":\"running\",");
        if (brief) {
                json_counts(f, w);
                return 0;
        }
        r = json_set(f, "hot", &hot);
        if (r >= 0)
                r = json_shares(f, w, &hot);
        if (r >= 0)
                r = json_set(f, "cold", &w->cold);
        if (r >= 0 && w->read.size > 0)
                r = json_set(f, "read", &w->read);
        if (r < 0)
                return r;
        json_moves(f, w);
        json_counts(f, w);
        return 0;
}

static int workload_report_file(Workload *w, const char *path) {
        char tmp[4096];
        FILE *f;
        int r;

        if ((size_t) snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
                return -ENAMETOOLONG;
        f = fopen(tmp, "we");
        if (!f)
                return -errno;
        r = workload_report(w, f, false);
        if (fclose(f) != 0 && r >= 0)
                r = -errno;
        if (r >= 0 && rename(tmp, path) < 0)
                r = -errno;
        return r;
}

/* Which part of the writes goes to pages that are not on the fast node, by some pages drawn as the writer
 * draws them; in permyriad, or -errno. */
static int writes_not_fast(const Workload *w, uint64_t *state) {
        void *pages[DRAWN_PAGES], *hot = pattern_hot(&w->pattern).base;
        unsigned on, known;
        int r;

        for (unsigned i = 0; i < DRAWN_PAGES; i++)
                pages[i] = hot + pattern_next_page(&w->pattern, state) * PAGE;
        r = pages_count_on(pages, DRAWN_PAGES, FAST_NODE, &on, &known);
        if (r < 0)
                return r;
        return known > 0 ? (int) ((known - on) * 10000 / known) : -ENODATA;
}

/* "MS WRITES PERMYRIAD", the time in ms since 1970: a rate over any part of the run can be told from it
 * afterwards, and how much went to memory that is not fast. */
static void log_counts(const Workload *w, FILE *log, uint64_t *state) {
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        fprintf(log, "%" PRIu64 " %" PRIu64 " %d\n",
                (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000, atomic_load(&w->writes),
                writes_not_fast(w, state));
        fflush(log);
}

static int socket_make(const char *path, struct sockaddr_un *ret) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd;

        if (strlen(path) >= sizeof sa.sun_path)
                return -ENAMETOOLONG;
        memcpy(sa.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        *ret = sa;
        return fd;
}

static int socket_listen(const char *path) {
        struct sockaddr_un sa;
        int fd, r;

        fd = socket_make(path, &sa);
        if (fd < 0)
                return fd;
        (void) unlink(path);
        if (bind(fd, (struct sockaddr*) &sa, sizeof sa) < 0 || listen(fd, 4) < 0) {
                r = -errno;
                close(fd);
                return r;
        }
        return fd;
}

/* A client sends two letters and gets one line: 'r' for a new record of the gap after the answer (else 'q'),
 * and 'b' for a brief one (else 'f'). */
static void serve_client(Workload *w, int listener) {
        struct timeval limit = { .tv_sec = 2 };
        char request[2];
        FILE *f;
        int fd;

        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
                return;
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (read(fd, request, 2) != 2 || !(f = fdopen(fd, "w"))) {
                close(fd);
                return;
        }
        (void) workload_report(w, f, request[1] == 'b');
        if (request[0] == 'r')
                atomic_store(&w->ticker.restart, true);
        fclose(f);
}

static int query(const Options *o) {
        const char request[] = { o->reset_gap ? 'r' : 'q', o->brief ? 'b' : 'f' };
        struct sockaddr_un sa;
        char line[4096];
        FILE *f;
        int fd;

        fd = socket_make(o->socket_path, &sa);
        if (fd < 0 || connect(fd, (struct sockaddr*) &sa, sizeof sa) < 0) {
                fprintf(stderr,
                        "hmv-workload: no workload answers at '%s' (%m): start one with --hot SIZE\n",
                        o->socket_path);
                return 1;
        }
        f = write(fd, request, sizeof request) == sizeof request ? fdopen(fd, "r") : NULL;
        if (!f || !fgets(line, sizeof line, f)) {
                fprintf(stderr, "hmv-workload: the workload at '%s' gave no answer\n", o->socket_path);
                return 1;
        }
        fputs(line, stdout);
        fclose(f);
        return 0;
}

static int cannot_place(const char *what, int node, int error) {
        fprintf(stderr, "hmv-workload: cannot place the %s set on node %d: %s\n", what, node,
                strerror(-error));
        return error;
}

static int sets_place(Workload *w, const Options *o) {
        int r;

        r = pattern_init(&w->pattern, (o->hot_size + PAGE - 1) / PAGE * PAGE, o->skew, w->seed);
        if (r < 0) {
                fprintf(stderr, "hmv-workload: cannot make the table of random pages: %s\n", strerror(-r));
                return r;
        }
        r = o->cold_fill ? set_fill(&w->cold, o->cold_node, o->thp) :
                o->cold_size > 0 ? set_place(&w->cold, o->cold_size, o->cold_node, o->thp) : 0;
        if (r < 0)
                return cannot_place("cold", o->cold_node, r);
        if (o->read_size > 0)
                r = set_place(&w->read, o->read_size, o->hot_node, o->thp);
        if (r < 0)
                return cannot_place("read", o->hot_node, r);
        r = set_place(&w->pattern.range, o->within > o->hot_size ? o->within : o->hot_size, o->hot_node,
                      o->thp);
        return r < 0 ? cannot_place("hot", o->hot_node, r) : 0;
}

static int run(const Options *o) {
        static Workload w;
        uint64_t next_report, next_log, drawn = o->seed + 1;
        FILE *log = NULL;
        pthread_t writer, ticker;
        int listener, r = 0;

        w.seed = o->seed ? o->seed : 1;
        w.rate = o->rate;
        w.ticker.stopping = &stopping;
        if (sets_place(&w, o) < 0)
                return 1;
        listener = socket_listen(o->socket_path);
        if (listener < 0) {
                fprintf(stderr, "hmv-workload: cannot listen at '%s': %s\n", o->socket_path,
                        strerror(-listener));
                return 1;
        }

        if (o->log_path && !(log = fopen(o->log_path, "we"))) {
                fprintf(stderr, "hmv-workload: cannot write '%s': %m\n", o->log_path);
                return 1;
        }

        w.started_usec = now_usec();
        next_report = next_log = w.started_usec;
        if (pthread_create(&writer, NULL, writer_run, &w) != 0 ||
            pthread_create(&ticker, NULL, ticker_run, &w.ticker) != 0) {
                fprintf(stderr, "hmv-workload: cannot start a thread\n");
                return 1;
        }
        while (!atomic_load(&stopping)) {
                struct pollfd p = { .fd = listener, .events = POLLIN };

                if (poll(&p, 1, 200) > 0)
                        serve_client(&w, listener);
                if (o->move_every > 0)
                        moves_tend(&w, o->move_every);
                if (o->report_path && now_usec() >= next_report) {
                        r = workload_report_file(&w, o->report_path);
                        if (r < 0)
                                fprintf(stderr, "hmv-workload: cannot write '%s': %s\n", o->report_path,
                                        strerror(-r));
                        next_report = now_usec() + 1000000;
                }
                if (log && now_usec() >= next_log) {
                        log_counts(&w, log, &drawn);
                        next_log = now_usec() + 1000000;
                }
                if (o->seconds > 0 && now_usec() - w.started_usec >= o->seconds * UINT64_C(1000000))
                        atomic_store(&stopping, true);
        }
        pthread_join(writer, NULL);
        pthread_join(ticker, NULL);
        pattern_free(&w.pattern);
        (void) unlink(o->socket_path);
        if (log)
                fclose(log);
        if (o->report_path)
                r = workload_report_file(&w, o->report_path);
        return r < 0;
}

int main(int argc, char **argv) {
        Options o = OPTIONS_DEFAULT;
        struct sigaction sa = { .sa_handler = on_signal };
        int r;

        r = options_parse(&o, argc, argv);
        if (r != 0)
                return r < 0 ? 2 : 0;
        sigaction(SIGINT, &sa, NULL);
        sigaction(SIGTERM, &sa, NULL);
        signal(SIGPIPE, SIG_IGN);
        return o.query ? query(&o) : run(&o);
}
