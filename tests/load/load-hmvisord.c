/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon, all of it but its libvirt: what main.c makes, over the scripted host of load-host.c, and what
 * it takes: memory, CPU, how long it holds its loop. Says so, one object of JSON a line, whenever it is
 * asked by a line on standard input, ends when that does; or lives through so many minutes of its own time.
 *
 *     load-hmvisord ROOT VMS [MINUTES [AGENT]]   AGENT: what one guest has for an agent, as load-vm.c names
 * them
 */
#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"
#include "load-clock.h"
#include "load-host.h"
#include "manager.h"

#define SAMPLES_MAX 100000
#define YEAR_SEC (INT64_C(365) * 86400)

typedef struct Samples {
        uint32_t usec[SAMPLES_MAX];
        size_t n;
} Samples;

static Samples ticks, steps;   /* CPU time of the manager's epochs, and of core_step() alone */
static usec_t longest;         /* time that the loop was held for one thing */
static bool in_tick;
static bool clock_is_set;      /* to another time of day, each minute */

static usec_t usec_of(clockid_t clock) {
        struct timespec t;

        clock_gettime(clock, &t);
        return (usec_t) t.tv_sec * USEC_PER_SEC + (usec_t) t.tv_nsec / 1000;
}

static void sample_add(Samples *s, usec_t usec) {
        s->usec[s->n++ % SAMPLES_MAX] = (uint32_t) usec;
}

static int compare(const void *a, const void *b) {
        return *(const uint32_t *) a < *(const uint32_t *) b ? -1
                                                             : *(const uint32_t *) a > *(const uint32_t *) b;
}

static void samples_print(const char *name, Samples *s) {
        size_t n = MIN(s->n, (size_t) SAMPLES_MAX);

        qsort(s->usec, n, sizeof(*s->usec), compare);
        if (n > 0)
                printf(",\"%s_usec\":{\"n\":%zu,\"p50\":%u,\"p99\":%u,\"max\":%u}", name, s->n,
                       s->usec[n / 2], s->usec[n * 99 / 100], s->usec[n - 1]);
        s->n = 0;
}

/* The linker puts this in between. */
int __real_core_step(Core *c, const Inputs *in, usec_t now, OrderList *ret);
int __wrap_core_step(Core *c, const Inputs *in, usec_t now, OrderList *ret);

int __wrap_core_step(Core *c, const Inputs *in, usec_t now, OrderList *ret) {
        usec_t began = usec_of(CLOCK_THREAD_CPUTIME_ID);
        int r = __real_core_step(c, in, now, ret);

        sample_add(&steps, usec_of(CLOCK_THREAD_CPUTIME_ID) - began);
        in_tick = true;
        return r;
}

static uint64_t status_bytes(const char *key) {
        _cleanup_fclose_ FILE *f = fopen("/proc/self/status", "re");
        unsigned long long kib = 0;
        char line[128];

        while (f && fgets(line, sizeof(line), f))
                if (strncmp(line, key, strlen(key)) == 0)
                        (void) sscanf(line + strlen(key), ": %llu", &kib);
        return kib * 1024;
}

static unsigned count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        while (d && readdir(d))
                n++;
        if (d)
                closedir(d);
        return n;
}

static void phases_print(Manager *m) {
        _cleanup_free_ char (*uuids)[37] = NULL;
        size_t n = manager_list_domains(m, &uuids), counts[_PHASE_MAX] = {};
        uint64_t promoted = 0, orders = 0;

        for (size_t i = 0; i < n; i++) {
                DomainView v;

                if (manager_get_domain(m, uuids[i], &v, NULL) < 0)
                        continue;
                counts[v.phase]++;
                promoted += v.totals.promoted_pages;
                orders += v.totals.orders;
        }
        printf(",\"domains\":%zu,\"core_orders\":%" PRIu64 ",\"promoted_pages\":%" PRIu64, n, orders,
               promoted);
        for (Phase p = 0; p < PHASE_GONE; p++)
                printf(",\"%s\":%zu", phase_to_string(p), counts[p]);
}

static void report(Manager *m) {
        const LoadCounters *c = load_host_counters();
        struct mallinfo2 heap = mallinfo2();
        _cleanup_free_ MarketTrade *trades = NULL;
        MarketView market;
        size_t domains, running;

        load_host_count(&domains, &running);
        manager_market_get(m, &market);
        printf("{\"usec\":%" PRIu64 ",\"cpu_usec\":%" PRIu64 ",\"peers_usec\":%" PRIu64,
               usec_of(CLOCK_MONOTONIC), usec_of(CLOCK_PROCESS_CPUTIME_ID), c->peers_usec);
        printf(",\"rss_bytes\":%" PRIu64 ",\"anon_bytes\":%" PRIu64 ",\"tables_bytes\":%" PRIu64
               ",\"peak_bytes\":%" PRIu64 ",\"heap_bytes\":%zu,\"fds\":%u",
               status_bytes("VmRSS"), status_bytes("RssAnon"), status_bytes("RssShmem"),
               status_bytes("VmHWM"), heap.uordblks + heap.hblkhd, count_fds());
        printf(",\"longest_usec\":%" PRIu64, longest);
        samples_print("tick", &ticks);
        samples_print("core_step", &steps);
        longest = 0;
        printf(",\"host_domains\":%zu,\"host_running\":%zu", domains, running);
        phases_print(m);
        printf(",\"calls_control\":%" PRIu64 ",\"calls_agent\":%" PRIu64 ",\"refused\":%" PRIu64
               ",\"timed_out\":%" PRIu64 ",\"orders\":%" PRIu64 ",\"resizes\":%" PRIu64
               ",\"starts\":%" PRIu64 ",\"lapses\":%" PRIu64 ",\"hostile\":%" PRIu64,
               c->calls[0], c->calls[1], c->refused, c->timed_out, c->vms.orders, c->vms.resizes, c->starts,
               c->vms.lapses, c->vms.hostile);
        printf(",\"wait_control_usec\":%" PRIu64 ",\"wait_agent_usec\":%" PRIu64
               ",\"wait_doubtful_usec\":%" PRIu64,
               c->wait_max[LANE_CONTROL], c->wait_max[LANE_AGENT], c->wait_doubtful_max);
        printf(",\"market\":\"%s\",\"market_epoch\":%" PRIu64 ",\"trades\":%zu}\n",
               *market.reason ? market.reason : "on", market.epoch,
               manager_market_history(m, TRADE_HISTORY, &trades));
        fflush(stdout);
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char line[64];

        if (!fgets(line, sizeof(line), stdin))
                return sd_event_exit(sd_event_source_get_event(s), 0);
        report(userdata);
        return 0;
}

/* One turn of the loop; what it does there is timed. Returns 0 when there was nothing to do. */
static int turn(sd_event *event, uint64_t timeout) {
        usec_t began, cpu, peers = load_host_counters()->peers_usec, held;
        int r;

        r = sd_event_prepare(event);
        if (r == 0)
                r = sd_event_wait(event, timeout);
        if (r <= 0)
                return r;
        began = usec_of(CLOCK_MONOTONIC_RAW);
        cpu = usec_of(CLOCK_THREAD_CPUTIME_ID);
        r = sd_event_dispatch(event);
        held = usec_of(CLOCK_MONOTONIC_RAW) - began;
        cpu = usec_of(CLOCK_THREAD_CPUTIME_ID) - cpu;
        peers = load_host_counters()->peers_usec - peers;
        held -= MIN(held, peers);
        cpu -= MIN(cpu, peers);
        longest = MAX(longest, held);
        if (in_tick)
                sample_add(&ticks, cpu);
        in_tick = false;
        return r < 0 ? r : 1;
}

/* A report each minute of its time, on nothing but the numbers: what is done in between is not printed. */
static int live_through(sd_event *event, Manager *m, unsigned minutes) {
        usec_t end = usec_of(CLOCK_MONOTONIC) + minutes * 60 * USEC_PER_SEC, next = 0;
        int n = 0, r = 0;

        while (r >= 0 && usec_of(CLOCK_MONOTONIC) < end) {
                r = turn(event, 0);
                if (r == 0 && !load_clock_jump())
                        return -EDEADLK;
                if (usec_of(CLOCK_MONOTONIC) < next)
                        continue;
                report(m);
                if (clock_is_set)
                        load_clock_set(++n % 2 ? 3 * YEAR_SEC : -4 * YEAR_SEC);
                next = usec_of(CLOCK_MONOTONIC) + 60 * USEC_PER_SEC;
        }
        return r;
}

static int run(const char *root, size_t n_vms, unsigned minutes, Agent hostile) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(manager_freep) Manager *m = NULL;
        _cleanup_(bus_freep) Bus *bus = NULL;
        _cleanup_(conf_done) Conf conf = {};
        Outcome o = {};
        int r;

        r = conf_load(root, &conf, &o);
        if (r < 0) {
                fprintf(stderr, "load-hmvisord: %s\n", o.text);
                return r;
        }
        load_host_make(n_vms);
        load_host_make_hostile(hostile);
        if (minutes > 0)
                load_clock_take_over();
        r = sd_event_new(&event);
        if (r >= 0)
                r = manager_new(event, &conf, &m);
        if (r >= 0)
                r = manager_set_config_root(m, root);
        if (r >= 0)
                r = bus_new(event, m, &bus);
        if (r >= 0 && minutes == 0)
                r = sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_input, m);
        if (r < 0)
                return r;
        report(m);   /* before it knows of any domain */
        load_host_connect();
        if (minutes > 0)
                return live_through(event, m, minutes);
        while ((r = turn(event, UINT64_MAX)) >= 0 && sd_event_get_state(event) != SD_EVENT_FINISHED)
                ;
        return r == -ESTALE ? 0 : r;
}

int main(int argc, char *argv[]) {
        unsigned minutes = argc > 3 ? (unsigned) atoi(argv[3]) : 0;
        Agent hostile = argc > 4 ? agent_from_word(argv[4]) : AGENT_OURS;
        int r;

        clock_is_set = argc > 4 && streq(argv[4], "clock");
        if (clock_is_set)
                hostile = AGENT_NONE;

        if (argc < 3 || hostile == _AGENT_MAX) {
                fprintf(stderr, "usage: load-hmvisord ROOT VMS [MINUTES [AGENT]]\n");
                return 2;
        }
        setvbuf(stdin, NULL, _IONBF, 0);   /* what is read is what the loop was told of */
        r = run(argv[1], (size_t) atoi(argv[2]), minutes, hostile);
        if (r < 0)
                fprintf(stderr, "load-hmvisord: %s\n", strerror(-r));
        return r < 0;
}
