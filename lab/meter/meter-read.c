/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Reads the meter plugin's page: prints the counts since the last reset, moves the baseline, asks for
 * counting to go on or off. It never changes a counter.
 *
 *     meter-read PAGE [--json] [--reset] [--want WHAT] [--wait] [--frames FILE] [--delays NS:NS,NS:NS]
 *
 * --want asks for 'none', or for 'instructions', 'accesses' (and instructions), 'all' (and frames and the
 * cache model), 'delayed' (accesses and the cache model, and --delays hold). --delays says what a line costs
 * that is filled from a node's memory, and one that is written back to it, in ns, node after node. --wait
 * waits until the plugin has followed (30 s at most; exit code 1 when it has not). --frames writes all
 * MeterFrames to FILE as they are; a difference of two such files is what happened between.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "meter.h"

#define WAIT_STEPS 3000         /* of 10 ms */
#define COUNTERS (sizeof(MeterCounters) / sizeof(uint64_t))

static uint64_t now_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static MeterPage *page_map(const char *path) {
        struct stat st;
        MeterPage *p;
        int fd;

        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
                fprintf(stderr, "meter-read: cannot open '%s': %m\n", path);
                return NULL;
        }
        if (fstat(fd, &st) < 0 || st.st_size < (off_t) sizeof(MeterPage)) {
                fprintf(stderr, "meter-read: '%s' is not a meter's page\n", path);
                close(fd);
                return NULL;
        }
        p = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (p == MAP_FAILED || p->magic != METER_MAGIC ||
            p->frames_offset + p->n_frames * sizeof(MeterFrame) > (uint64_t) st.st_size) {
                fprintf(stderr, "meter-read: '%s' is not a meter's page\n", path);
                return NULL;
        }
        return p;
}

/* Sums over the vCPUs. All fields are counters, so the struct is added up as an array of them. */
static MeterCounters page_sum(const MeterPage *p) {
        MeterCounters sum = {};
        uint64_t *to = (uint64_t*) &sum;

        for (unsigned v = 0; v < p->n_vcpus && v < METER_VCPUS_MAX; v++) {
                const volatile uint64_t *from = (const volatile uint64_t*) (p->vcpu + v);

                for (size_t i = 0; i < COUNTERS; i++)
                        to[i] += from[i];
        }
        return sum;
}

static int want_parse(const char *text, uint32_t *ret) {
        static const struct {
                const char *name;
                uint32_t want;
        } table[] = {
                { "none", 0 },
                { "instructions", METER_INSTRUCTIONS },
                { "accesses", METER_INSTRUCTIONS | METER_ACCESSES },
                { "all", METER_ALL },
                { "delayed", METER_INSTRUCTIONS | METER_ACCESSES | METER_CACHE | METER_DELAYS },
        };

        for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
                if (strcmp(text, table[i].name) == 0) {
                        *ret = table[i].want;
                        return 0;
                }
        fprintf(stderr, "meter-read: '%s' cannot be counted: none, instructions, accesses, all, delayed\n",
                text);
        return -EINVAL;
}

#define DELAY_MAX_NS 10000000

static int delays_parse(const char *text, unsigned n_nodes, MeterDelay *ret) {
        unsigned n = 0;
        int length;

        for (;; text++) {
                MeterDelay d;

                if (n == n_nodes ||
                    sscanf(text, "%" SCNu64 ":%" SCNu64 "%n", &d.fill_ns, &d.write_back_ns, &length) != 2 ||
                    d.fill_ns > DELAY_MAX_NS || d.write_back_ns > DELAY_MAX_NS)
                        break;
                ret[n++] = d;
                text += length;
                if (*text == '\0' && n == n_nodes)
                        return 0;
                if (*text != ',')
                        break;
        }
        fprintf(stderr,
                "meter-read: --delays takes FILL:WRITE-BACK for each of %u nodes, joined by commas, in ns, "
                "at "
                "most %d\n",
                n_nodes, DELAY_MAX_NS);
        return -EINVAL;
}

static int frames_write(const MeterPage *p, const char *path) {
        FILE *f = fopen(path, "we");
        size_t n;

        if (!f) {
                fprintf(stderr, "meter-read: cannot write '%s': %m\n", path);
                return 1;
        }
        n = fwrite((const uint8_t*) p + p->frames_offset, sizeof(MeterFrame), p->n_frames, f);
        if (fclose(f) != 0 || n != p->n_frames) {
                fprintf(stderr, "meter-read: cannot write all of '%s'\n", path);
                return 1;
        }
        return 0;
}

static void print_counts(const MeterPage *p, const MeterCounters *c, double seconds, bool json) {
        if (json) {
                printf("{\"active\":%s,\"seconds\":%.3f,\"instructions\":%" PRIu64
                       ",\"other_accesses\":%" PRIu64 ",\"nodes\":[",
                       p->active ? "true" : "false", seconds, c->instructions, c->other_accesses);
                for (unsigned n = 0; n < p->n_nodes; n++)
                        printf("%s{\"node\":%u,\"loads\":%" PRIu64 ",\"stores\":%" PRIu64
                               ",\"load_bytes\":%" PRIu64 ",\"store_bytes\":%" PRIu64
                               ",\"fills\":%" PRIu64 ",\"write_backs\":%" PRIu64 "}",
                               n ? "," : "", n, c->loads[n], c->stores[n], c->load_bytes[n],
                               c->store_bytes[n], c->fills[n], c->write_backs[n]);
                printf("],\"cache_bytes\":%" PRIu64 "}\n", p->cache_bytes);
                return;
        }
        printf("metering is %s; %.1f s since the last reset\n", p->active ? "on" : "off", seconds);
        printf("%-6s %16s %16s %16s %16s\n", "node", "loads", "stores", "bytes loaded", "bytes stored");
        for (unsigned n = 0; n < p->n_nodes; n++)
                printf("%-6u %16" PRIu64 " %16" PRIu64 " %16" PRIu64 " %16" PRIu64 "\n",
                       n, c->loads[n], c->stores[n], c->load_bytes[n], c->store_bytes[n]);
        if (p->active & METER_CACHE)
                for (unsigned n = 0; n < p->n_nodes; n++)
                        printf("%-6u %16" PRIu64 " lines filled, %" PRIu64 " written back (cache model)\n",
                               n, c->fills[n], c->write_backs[n]);
        printf("%-6s %16" PRIu64 "\ninstructions: %" PRIu64 "\n", "other", c->other_accesses,
               c->instructions);
}

int main(int argc, char **argv) {
        bool json = false, reset = false, wait = false;
        const char *frames_path = NULL, *delays_text = NULL;
        MeterDelay delays[METER_NODES_MAX] = {};
        bool has_want = false;
        uint32_t want = 0;
        MeterPage *p;

        if (argc < 2) {
                fprintf(stderr, "usage: meter-read PAGE [--json] [--reset] [--want WHAT] [--wait] "
                                "[--frames FILE] [--delays NS:NS,NS:NS]\n");
                return 2;
        }
        for (int i = 2; i < argc; i++)
                if (strcmp(argv[i], "--json") == 0)
                        json = true;
                else if (strcmp(argv[i], "--reset") == 0)
                        reset = true;
                else if (strcmp(argv[i], "--wait") == 0)
                        wait = true;
                else if (strcmp(argv[i], "--want") == 0 && i + 1 < argc) {
                        if (want_parse(argv[++i], &want) < 0)
                                return 2;
                        has_want = true;
                } else if (strcmp(argv[i], "--frames") == 0 && i + 1 < argc)
                        frames_path = argv[++i];
                else if (strcmp(argv[i], "--delays") == 0 && i + 1 < argc)
                        delays_text = argv[++i];
                else {
                        fprintf(stderr, "meter-read: unknown argument '%s'\n", argv[i]);
                        return 2;
                }

        p = page_map(argv[1]);
        if (!p)
                return 1;

        if (delays_text) {
                if (delays_parse(delays_text, p->n_nodes, delays) < 0)
                        return 2;
                memcpy(p->delays, delays, sizeof(delays));
        }
        if (has_want)
                __atomic_store_n(&p->wanted, want, __ATOMIC_RELEASE);
        if (wait) {
                for (int i = 0; i < WAIT_STEPS; i++) {
                        if (__atomic_load_n(&p->active, __ATOMIC_ACQUIRE) == p->wanted)
                                return 0;
                        nanosleep(&(struct timespec) { .tv_nsec = 10000000 }, NULL);
                }
                fprintf(stderr, "meter-read: the plugin did not switch; is the machine running?\n");
                return 1;
        }
        if (frames_path && frames_write(p, frames_path) != 0)
                return 1;
        if (has_want || frames_path || delays_text)
                return 0;

        MeterCounters sum = page_sum(p);
        if (reset) {
                p->baseline = sum;
                p->baseline_usec = now_usec();
                return 0;
        }
        for (size_t i = 0; i < COUNTERS; i++)
                ((uint64_t*) &sum)[i] -= ((const uint64_t*) &p->baseline)[i];
        print_counts(p, &sum, p->baseline_usec ? (double) (now_usec() - p->baseline_usec) / 1e6 : 0, json);
        return 0;
}
