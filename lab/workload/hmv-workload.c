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
 *     hmv-workload --query [--reset-gap]
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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

#include "pattern.h"
#include "ticker.h"

#define DEFAULT_SOCKET "/run/hmv-workload.sock"
#define LINE           64       /* bytes that one write rewrites: a cache line */
#define LINE_WORDS     (LINE / sizeof(uint64_t))
#define LINES_A_PAGE   (PAGE / LINE)
#define WRITES_A_ROUND 256      /* between two looks at the stop flag, and of the count of writes */
#define MOVES_KEPT     32       /* of whose arrivals a report tells */
#define FAST_NODE      0        /* where an arrival is looked for */
#define ARRIVED        9000     /* permyriad of the hot set's pages that make one */
#define LOOK_USEC      1000000  /* between two looks for it ... */
#define LOOK_PAGES     512      /* ... at some so many pages */
#define SKEW_MAX       10

typedef struct Options {
        uint64_t hot_size, within, cold_size, read_size, seed;
        bool cold_fill, thp, query, reset_gap;
        int hot_node, cold_node;        /* -1 = wherever the kernel likes */
        unsigned seconds;               /* 0 = for ever */
        unsigned move_every;            /* seconds, 0 = never */
        unsigned rate;                  /* writes per second at most, 0 = no limit */
        double skew;
        const char *socket_path, *report_path;
} Options;

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

/* One line of JSON with a newline. */
static int workload_report(Workload *w, FILE *f) {
        PageSet hot = pattern_hot(&w->pattern);
        int r;

        fprintf(f, "{\"state\":\"running\",");
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
        fprintf(f,
                "\"writes\":%" PRIu64 ",\"reads\":%" PRIu64
                ",\"longest_gap_ms\":%.1f,\"p99_gap_ms\":%" PRIu32 ",\"elapsed_ms\":%" PRIu64 "}\n",
                atomic_load(&w->writes), atomic_load(&w->reads),
                (double) atomic_load(&w->ticker.longest_usec) / 1000, ticker_quantile_ms(&w->ticker, 9900),
                (now_usec() - w->started_usec) / 1000);
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
        r = workload_report(w, f);
        if (fclose(f) != 0 && r >= 0)
                r = -errno;
        if (r >= 0 && rename(tmp, path) < 0)
                r = -errno;
        return r;
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

/* A client sends one byte, 'q' or 'r' (reset the gap after answering), and gets one line. */
static void serve_client(Workload *w, int listener) {
        struct timeval limit = { .tv_sec = 2 };
        char request = 0;
        FILE *f;
        int fd;

        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
                return;
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (read(fd, &request, 1) != 1 || !(f = fdopen(fd, "w"))) {
                close(fd);
                return;
        }
        (void) workload_report(w, f);
        if (request == 'r')
                atomic_store(&w->ticker.restart, true);
        fclose(f);
}

static int query(const Options *o) {
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
        f = write(fd, o->reset_gap ? "r" : "q", 1) == 1 ? fdopen(fd, "r") : NULL;
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
        uint64_t next_report;
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

        w.started_usec = now_usec();
        next_report = w.started_usec;
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
                if (o->seconds > 0 && now_usec() - w.started_usec >= o->seconds * UINT64_C(1000000))
                        atomic_store(&stopping, true);
        }
        pthread_join(writer, NULL);
        pthread_join(ticker, NULL);
        pattern_free(&w.pattern);
        (void) unlink(o->socket_path);
        if (o->report_path)
                r = workload_report_file(&w, o->report_path);
        return r < 0;
}

static int parse_size(const char *text, uint64_t *ret) {
        static const char units[] = "KMGT";
        const char *unit;
        uint64_t n;
        char *end;

        errno = 0;
        n = strtoull(text, &end, 10);
        if (end == text || errno != 0 || *text == '-')
                return -EINVAL;
        if (*end != '\0') {
                unit = strchr(units, *end);
                if (!unit || end[1] != '\0' ||
                    __builtin_mul_overflow(n, UINT64_C(1) << (10 * (unit - units + 1)), &n))
                        return -EINVAL;
        }
        *ret = n;
        return 0;
}

static int parse_number(const char *text, unsigned *ret) {
        uint64_t n;

        if (parse_size(text, &n) < 0 || n > UINT32_MAX)
                return -EINVAL;
        *ret = (unsigned) n;
        return 0;
}

static int parse_skew(const char *text, double *ret) {
        double d;
        char *end;

        d = strtod(text, &end);
        if (end == text || *end != '\0' || !(d >= 0 && d <= SKEW_MAX))
                return -EINVAL;
        *ret = d;
        return 0;
}

static int parse_node(const char *text) {
        uint64_t n;

        return parse_size(text, &n) < 0 || n >= NODES_MAX ? -EINVAL : (int) n;
}

static void help(void) {
        printf("usage: hmv-workload --hot SIZE [options]    write to a hot set until told to stop\n"
               "       hmv-workload --query [--reset-gap]   print the running workload's state as JSON\n\n"
               "  --hot SIZE         size of the set that is written (96M, 1G)\n"
               "  --hot-node N       put it wholly on this node first; nothing holds it there afterwards\n"
               "  --within SIZE      a larger range in which it lies, at its beginning first\n"
               "  --move-every S     every S seconds it is another part of that range\n"
               "  --skew S           write its pages by Zipf's law with this exponent (0: all alike)\n"
               "  --read SIZE        a second set, of which a random line is read for each write\n"
               "  --rate N           at most so many writes a second (0: no limit)\n"
               "  --cold SIZE|fill   size of the set that is touched once; fill: until its node is full\n"
               "  --cold-node N      the node of the cold set\n"
               "  --thp never|always use of huge pages (never)\n"
               "  --seconds S        stop after S seconds (0: never)\n"
               "  --seed N           of the random places (1)\n"
               "  --report FILE      write the state there each second\n"
               "  --socket PATH      where --query is answered (" DEFAULT_SOCKET ")\n"
               "  --query            ask the workload that runs\n"
               "  --reset-gap        begin a new record of the longest gap after this answer\n");
}

static int wrong(const char *option, const char *value) {
        fprintf(stderr, "hmv-workload: '%s' is no value for --%s; see --help\n", value, option);
        return -EINVAL;
}

/* 0 to go on, 1 when all is done (help), or -EINVAL after a message. */
static int options_parse(Options *o, int argc, char **argv) {
        enum {
                HOT = 256,
                COLD,
                HOT_NODE,
                COLD_NODE,
                THP,
                WITHIN,
                MOVE_EVERY,
                SKEW,
                READ,
                RATE,
                SECONDS,
                SEED,
                REPORT,
                SOCKET,
                QUERY,
                RESET,
                HELP
        };
        static const struct option table[] = {
                { "hot", required_argument, NULL, HOT },
                { "cold", required_argument, NULL, COLD },
                { "hot-node", required_argument, NULL, HOT_NODE },
                { "cold-node", required_argument, NULL, COLD_NODE },
                { "thp", required_argument, NULL, THP },
                { "within", required_argument, NULL, WITHIN },
                { "move-every", required_argument, NULL, MOVE_EVERY },
                { "skew", required_argument, NULL, SKEW },
                { "read", required_argument, NULL, READ },
                { "rate", required_argument, NULL, RATE },
                { "seconds", required_argument, NULL, SECONDS },
                { "seed", required_argument, NULL, SEED },
                { "report", required_argument, NULL, REPORT },
                { "socket", required_argument, NULL, SOCKET },
                { "query", no_argument, NULL, QUERY },
                { "reset-gap", no_argument, NULL, RESET },
                { "help", no_argument, NULL, HELP },
                {},
        };
        int c, i = 0;

        while ((c = getopt_long(argc, argv, "", table, &i)) >= 0)
                switch (c) {
                case HOT:
                        if (parse_size(optarg, &o->hot_size) < 0)
                                return wrong("hot", optarg);
                        break;
                case COLD:
                        o->cold_fill = strcmp(optarg, "fill") == 0;
                        if (!o->cold_fill && parse_size(optarg, &o->cold_size) < 0)
                                return wrong("cold", optarg);
                        break;
                case HOT_NODE:
                        o->hot_node = parse_node(optarg);
                        if (o->hot_node < 0)
                                return wrong("hot-node", optarg);
                        break;
                case COLD_NODE:
                        o->cold_node = parse_node(optarg);
                        if (o->cold_node < 0)
                                return wrong("cold-node", optarg);
                        break;
                case THP:
                        o->thp = strcmp(optarg, "always") == 0;
                        if (!o->thp && strcmp(optarg, "never") != 0)
                                return wrong("thp", optarg);
                        break;
                case WITHIN:
                        if (parse_size(optarg, &o->within) < 0)
                                return wrong("within", optarg);
                        break;
                case READ:
                        if (parse_size(optarg, &o->read_size) < 0)
                                return wrong("read", optarg);
                        break;
                case SKEW:
                        if (parse_skew(optarg, &o->skew) < 0)
                                return wrong("skew", optarg);
                        break;
                case MOVE_EVERY:
                        if (parse_number(optarg, &o->move_every) < 0)
                                return wrong("move-every", optarg);
                        break;
                case RATE:
                        if (parse_number(optarg, &o->rate) < 0)
                                return wrong("rate", optarg);
                        break;
                case SECONDS:
                        if (parse_number(optarg, &o->seconds) < 0)
                                return wrong("seconds", optarg);
                        break;
                case SEED:
                        if (parse_size(optarg, &o->seed) < 0)
                                return wrong("seed", optarg);
                        break;
                case REPORT: o->report_path = optarg; break;
                case SOCKET: o->socket_path = optarg; break;
                case QUERY:  o->query = true; break;
                case RESET:  o->reset_gap = true; break;
                case HELP:   help(); return 1;
                default:     return -EINVAL;
                }

        if (optind < argc || (o->query ? o->hot_size > 0 : o->hot_size < PAGE) ||
            (o->cold_fill && o->cold_node < 0) || (o->move_every > 0 && o->within < 2 * o->hot_size) ||
            (o->read_size > 0 && o->read_size < PAGE)) {
                fprintf(stderr,
                        "hmv-workload: needs --hot SIZE (and --cold-node with --cold fill, and --within "
                        "twice as much with --move-every), or --query; see --help\n");
                return -EINVAL;
        }
        return 0;
}

int main(int argc, char **argv) {
        Options o = { .hot_node = -1, .cold_node = -1, .seed = 1, .socket_path = DEFAULT_SOCKET };
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
