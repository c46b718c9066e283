/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Placing pages by mbind(2) and locating them by move_pages(2): see pageset.h.
 */

#include "pageset.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK       (UINT64_C(1) << 20)
#define QUERY_PAGES 4096        /* pages asked for by one move_pages(2) */
#define FILL_MISSES 4           /* chunks in a row that land elsewhere before a node counts as full */

static long set_policy(void *base, uint64_t size, int mode, int node) {
        unsigned long mask = node >= 0 ? 1UL << node : 0;

        return syscall(SYS_mbind, base, size, mode, node >= 0 ? &mask : NULL,
                       node >= 0 ? NODES_MAX + 1UL : 0UL, 0U);
}

/* The nodes of pages from *at on; moves *at behind them. How many, 0 at the end, or -errno. */
static long pages_query(const PageSet *set, unsigned stride, uint64_t *at, int status[QUERY_PAGES]) {
        static void *pages[QUERY_PAGES];
        long n = 0;

        for (; n < QUERY_PAGES && *at < set->size; n++, *at += stride * PAGE)
                pages[n] = (uint8_t *) set->base + *at;
        if (n > 0 && syscall(SYS_move_pages, 0, n, pages, NULL, status, 0) < 0)
                return -errno;
        return n;
}

int pages_locate(const PageSet *set, unsigned stride, uint64_t by_node[NODES_MAX], uint64_t *ret_elsewhere) {
        static int status[QUERY_PAGES];
        uint64_t elsewhere = 0, at = 0;
        long n;

        while ((n = pages_query(set, stride, &at, status)) > 0)
                for (long i = 0; i < n; i++)
                        if (status[i] >= 0 && status[i] < NODES_MAX)
                                by_node[status[i]]++;
                        else
                                elsewhere++;
        *ret_elsewhere = elsewhere;
        return (int) n;
}

int pages_weigh(const PageSet *set, const double *weight, double by_node[NODES_MAX]) {
        static int status[QUERY_PAGES];
        uint64_t at = 0;
        long n;

        while ((n = pages_query(set, 1, &at, status)) > 0)
                for (long i = 0; i < n; i++, weight++)
                        if (status[i] >= 0 && status[i] < NODES_MAX)
                                by_node[status[i]] += *weight;
        return (int) n;
}

int pages_count_on(void *const *pages, unsigned long n, int node, unsigned *ret_on, unsigned *ret_known) {
        static int status[QUERY_PAGES];

        *ret_on = *ret_known = 0;
        if (n > QUERY_PAGES)
                return -E2BIG;
        if (n > 0 && syscall(SYS_move_pages, 0, n, pages, NULL, status, 0) < 0)
                return -errno;
        for (unsigned long i = 0; i < n; i++) {
                *ret_known += status[i] >= 0;
                *ret_on += status[i] == node;
        }
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

int set_place(PageSet *set, uint64_t size, int node, bool thp) {
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
                r = pages_locate(set, 1, by_node, &elsewhere);
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

int set_fill(PageSet *set, int node, bool thp) {
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
                r = pages_locate(&chunk, 1, by_node, &elsewhere);
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
