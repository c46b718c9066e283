/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A workload with a known hot set, for the lab. It fills one node with pages that it touches once (the cold
 * set), puts a second set of pages wholly on another node (the hot set), releases both to the kernel's
 * default policy so that anything may move them, and then rewrites random cache lines of the hot set until
 * it is told to stop. It reports where its pages are now, how much it wrote, and the longest time for which
 * it stood still. It never moves a page itself.
 *
 *     hmv-workload --hot 96M --hot-node 1 --cold fill --cold-node 0
 *     hmv-workload --query [--reset-gap]
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/hmv-workload.sock"
#define PAGE           UINT64_C(4096)
#define CHUNK          (UINT64_C(1) << 20)
#define NODES_MAX      64
#define TICK_USEC      10000
#define LINE           64       /* bytes that one write rewrites: a cache line */
#define LINE_WORDS     (LINE / sizeof(uint64_t))
#define WRITES_A_ROUND 256      /* between two looks at the stop flag, and of the count of writes */
#define QUERY_PAGES    4096     /* pages asked for by one move_pages(2) */
#define FILL_MISSES    4        /* chunks in a row that land elsewhere before a node counts as full */

typedef struct PageSet {
        void *base;
        uint64_t size;          /* bytes in use */
        uint64_t reserved;      /* bytes mapped */
} PageSet;

typedef struct Options {
        uint64_t hot_size, cold_size, seed;
        bool cold_fill, thp, query, reset_gap;
        int hot_node, cold_node;        /* -1 = wherever the kernel likes */
        unsigned seconds;               /* 0 = for ever */
        const char *socket_path, *report_path;
} Options;

typedef struct Workload {
        PageSet hot, cold;
        uint64_t seed, started_usec;
        _Atomic uint64_t writes, longest_gap_usec;
        _Atomic bool gap_restart;       /* a reader asks the ticker to begin a new record */
} Workload;

static atomic_bool stopping;

static void on_signal(int number) {
        atomic_store(&stopping, true);
}

static uint64_t now_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static long set_policy(void *base, uint64_t size, int mode, int node) {
        unsigned long mask = node >= 0 ? 1UL << node : 0;

        return syscall(SYS_mbind, base, size, mode, node >= 0 ? &mask : NULL,
                       node >= 0 ? NODES_MAX + 1UL : 0UL, 0U);
}

/* Adds to ret_by_node the number of pages of the set on each node; ret_elsewhere: not present or unknown. */
static int pages_locate(const PageSet *set, uint64_t by_node[NODES_MAX], uint64_t *ret_elsewhere) {
        static void *pages[QUERY_PAGES];
        static int status[QUERY_PAGES];
        uint64_t elsewhere = 0;

        for (uint64_t at = 0; at < set->size;) {
                unsigned long n = 0;

                for (; n < QUERY_PAGES && at < set->size; n++, at += PAGE)
                        pages[n] = set->base + at;
                if (syscall(SYS_move_pages, 0, n, pages, NULL, status, 0) < 0)
                        return -errno;
                for (unsigned long i = 0; i < n; i++)
                        if (status[i] >= 0 && status[i] < NODES_MAX)
                                by_node[status[i]]++;
                        else
                                elsewhere++;
        }
        *ret_elsewhere = elsewhere;
        return 0;
}

static int set_reserve(PageSet *set, uint64_t size, bool thp) {
        void *p;

        size = (size + PAGE - 1) / PAGE * PAGE;
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
                return -errno;
        if (madvise(p, size, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) < 0 && thp)
                return -errno;
        set->base = p;
        set->reserved = size;
        return 0;
}

static void set_touch(PageSet *set, uint64_t from, uint64_t to) {
        for (uint64_t at = from; at < to; at += PAGE)
                *(volatile uint64_t*) (set->base + at) = at + 1;
        set->size = to;
}

/* Wholly on the node, or an error: the policy is strict while the pages are touched, and gone afterwards. */
static int set_place(PageSet *set, uint64_t size, int node, bool thp) {
        uint64_t by_node[NODES_MAX] = {}, elsewhere;
        int r;

        r = set_reserve(set, size, thp);
        if (r < 0)
                return r;
        if (node >= 0 && set_policy(set->base, set->reserved, MPOL_BIND, node) < 0)
                return -errno;
        set_touch(set, 0, set->reserved);
        if (node >= 0) {
                if (set_policy(set->base, set->reserved, MPOL_DEFAULT, -1) < 0)
                        return -errno;
                r = pages_locate(set, by_node, &elsewhere);
                if (r < 0)
                        return r;
                if (by_node[node] != set->size / PAGE)
                        return -ENOMEM;
        }
        return 0;
}

/* Bytes of RAM on the node, 0 when there is no such node. */
static uint64_t node_size(int node) {
        uint64_t kib = 0;
        char path[64];
        FILE *f;

        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", node);
        f = fopen(path, "re");
        if (!f)
                return 0;
        if (fscanf(f, "Node %*d MemTotal: %" SCNu64, &kib) != 1)
                kib = 0;
        fclose(f);
        return kib * 1024;
}

/* Touches pages that prefer the node until they land elsewhere: then the node is full. */
static int set_fill(PageSet *set, int node, bool thp) {
        uint64_t limit = node_size(node);
        unsigned misses = 0;
        int r;

        if (limit < CHUNK)
                return -ENODEV;
        r = set_reserve(set, limit, thp);
        if (r < 0)
                return r;
        if (set_policy(set->base, set->reserved, MPOL_PREFERRED, node) < 0)
                return -errno;
        while (misses < FILL_MISSES && set->size + CHUNK <= limit) {
                PageSet chunk = { .base = (uint8_t*) set->base + set->size, .size = CHUNK };
                uint64_t by_node[NODES_MAX] = {}, elsewhere;

                set_touch(set, set->size, set->size + CHUNK);
                r = pages_locate(&chunk, by_node, &elsewhere);
                if (r < 0)
                        return r;
                /* Not "none at all": reclaim keeps freeing a page now and then on a full node. */
                if (by_node[node] < CHUNK / PAGE / 2)
                        misses++;
                else
                        misses = 0;
        }
        /* The chunks that landed elsewhere are given back. */
        set->size -= misses * CHUNK;
        (void) madvise(set->base + set->size, misses * CHUNK, MADV_DONTNEED);
        return set_policy(set->base, set->reserved, MPOL_DEFAULT, -1) < 0 ? -errno : 0;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016. */
static uint64_t random_next(uint64_t *state) {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static void *writer_run(void *userdata) {
        Workload *w = userdata;
        uint64_t state = w->seed, lines = w->hot.size / LINE;

        while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
                for (unsigned i = 0; i < WRITES_A_ROUND; i++) {
                        uint64_t r = random_next(&state);
                        volatile uint64_t *line = (uint64_t*) w->hot.base + r % lines * LINE_WORDS;

                        for (unsigned k = 0; k < LINE_WORDS; k++)
                                line[k] = r;
                }
                atomic_fetch_add_explicit(&w->writes, WRITES_A_ROUND, memory_order_relaxed);
        }
        return NULL;
}

static void *ticker_run(void *userdata) {
        Workload *w = userdata;
        uint64_t last = now_usec();

        while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
                uint64_t now;

                nanosleep(&(struct timespec) { .tv_nsec = TICK_USEC * 1000L }, NULL);
                now = now_usec();
                if (atomic_exchange(&w->gap_restart, false))
                        atomic_store(&w->longest_gap_usec, 0);
                if (now - last > atomic_load(&w->longest_gap_usec))
                        atomic_store(&w->longest_gap_usec, now - last);
                last = now;
        }
        return NULL;
}

static int json_set(FILE *f, const char *name, const PageSet *set) {
        uint64_t by_node[NODES_MAX] = {}, elsewhere = 0;
        const char *comma = "";
        int r;

        r = pages_locate(set, by_node, &elsewhere);
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

/* One line of JSON with a newline. */
static int workload_report(Workload *w, FILE *f) {
        int r;

        fprintf(f, "{\"state\":\"running\",");
        r = json_set(f, "hot", &w->hot);
        if (r >= 0)
                r = json_set(f, "cold", &w->cold);
        if (r < 0)
                return r;
        fprintf(f, "\"writes\":%" PRIu64 ",\"longest_gap_ms\":%.1f,\"elapsed_ms\":%" PRIu64 "}\n",
                atomic_load(&w->writes), (double) atomic_load(&w->longest_gap_usec) / 1000,
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
                atomic_store(&w->gap_restart, true);
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

static int run(const Options *o) {
        Workload w = { .seed = o->seed ? o->seed : 1 };
        uint64_t next_report;
        pthread_t writer, ticker;
        int listener, r;

        r = o->cold_fill ? set_fill(&w.cold, o->cold_node, o->thp) :
                o->cold_size > 0 ? set_place(&w.cold, o->cold_size, o->cold_node, o->thp) : 0;
        if (r < 0) {
                fprintf(stderr, "hmv-workload: cannot place the cold set on node %d: %s\n", o->cold_node,
                        strerror(-r));
                return 1;
        }
        r = set_place(&w.hot, o->hot_size, o->hot_node, o->thp);
        if (r < 0) {
                fprintf(stderr, "hmv-workload: cannot place %" PRIu64 " bytes of hot pages on node %d: %s\n",
                        o->hot_size, o->hot_node, strerror(-r));
                return 1;
        }
        listener = socket_listen(o->socket_path);
        if (listener < 0) {
                fprintf(stderr, "hmv-workload: cannot listen at '%s': %s\n", o->socket_path,
                        strerror(-listener));
                return 1;
        }

        w.started_usec = now_usec();
        next_report = w.started_usec;
        if (pthread_create(&writer, NULL, writer_run, &w) != 0 ||
            pthread_create(&ticker, NULL, ticker_run, &w) != 0) {
                fprintf(stderr, "hmv-workload: cannot start a thread\n");
                return 1;
        }
        while (!atomic_load(&stopping)) {
                struct pollfd p = { .fd = listener, .events = POLLIN };

                if (poll(&p, 1, 200) > 0)
                        serve_client(&w, listener);
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

static int parse_node(const char *text) {
        uint64_t n;

        return parse_size(text, &n) < 0 || n >= NODES_MAX ? -EINVAL : (int) n;
}

static void help(void) {
        printf("usage: hmv-workload --hot SIZE [options]    write to a hot set until told to stop\n"
               "       hmv-workload --query [--reset-gap]   print the running workload's state as JSON\n\n"
               "  --hot SIZE         size of the set that is written (96M, 1G)\n"
               "  --hot-node N       put it wholly on this node first; nothing holds it there afterwards\n"
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
                { "seconds", required_argument, NULL, SECONDS },
                { "seed", required_argument, NULL, SEED },
                { "report", required_argument, NULL, REPORT },
                { "socket", required_argument, NULL, SOCKET },
                { "query", no_argument, NULL, QUERY },
                { "reset-gap", no_argument, NULL, RESET },
                { "help", no_argument, NULL, HELP },
                {},
        };
        uint64_t n;
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
                case SECONDS:
                        if (parse_size(optarg, &n) < 0 || n > UINT32_MAX)
                                return wrong("seconds", optarg);
                        o->seconds = (unsigned) n;
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
            (o->cold_fill && o->cold_node < 0)) {
                fprintf(stderr, "hmv-workload: needs --hot SIZE (and --cold-node with --cold fill), or "
                                "--query; see --help\n");
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
