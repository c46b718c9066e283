/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the page frames of an order hold: see placement.h. Owns no state.
 */
#include "placement.h"

#include <unistd.h>

#define BLOCK_PAGES 512 /* the largest folio that both movers can name: a 2 MiB huge page */
#define READ_GAP 8      /* frames worth reading for nothing to save a system call: 0.2 us against 2 us */

typedef struct Named {
        uint64_t pfn;
        size_t rank; /* place in the order */
} Named;

typedef struct Ranked {
        Unit unit;
        size_t rank;
} Ranked;

static int run_read(int fd, uint64_t pfn, uint64_t *flags, size_t n) {
        size_t have = 0;

        while (have < n) {
                ssize_t got = pread(fd, flags + have, (n - have) * sizeof(uint64_t),
                                    (off_t) ((pfn + have) * sizeof(uint64_t)));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0 && errno != EINVAL)
                        return -errno;
                if (got < (ssize_t) sizeof(uint64_t))
                        break;
                have += (size_t) got / sizeof(uint64_t);
        }
        for (; have < n; have++)
                flags[have] = KPF(NOPAGE);
        return 0;
}

int kpageflags_read(int fd, const uint64_t pfns[], size_t n, uint64_t ret_flags[]) {
        uint64_t buf[4096];

        for (size_t i = 0; i < n;) {
                size_t last = i;
                int r;

                while (last + 1 < n && pfns[last + 1] - pfns[last] <= READ_GAP &&
                       pfns[last + 1] - pfns[i] < ELEMENTSOF(buf))
                        last++;
                r = run_read(fd, pfns[i], buf, (size_t) (pfns[last] - pfns[i]) + 1);
                if (r < 0)
                        return r;
                for (size_t k = i; k <= last; k++)
                        ret_flags[k] = buf[pfns[k] - pfns[i]];
                i = last + 1;
        }
        return 0;
}

static int named_compare(const void *a, const void *b) {
        const Named *x = a, *y = b;

        if (x->pfn != y->pfn)
                return x->pfn < y->pfn ? -1 : 1;
        return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int ranked_compare(const void *a, const void *b) {
        const Ranked *x = a, *y = b;

        return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* The folio around a page of a compound one. Returns false where its edges are not within one block. */
static bool folio_find(int fd, uint64_t pfn, uint64_t *ret_head, uint32_t *ret_pages) {
        uint64_t flags[BLOCK_PAGES], base = pfn & ~(uint64_t) (BLOCK_PAGES - 1);
        size_t head = (size_t) (pfn - base), end = head + 1;

        if (run_read(fd, base, flags, BLOCK_PAGES) < 0)
                return false;
        while (head > 0 && (flags[head] & KPF(COMPOUND_TAIL)))
                head--;
        if (!(flags[head] & KPF(COMPOUND_HEAD)))
                return false;
        while (end < BLOCK_PAGES && (flags[end] & KPF(COMPOUND_TAIL)))
                end++;
        *ret_head = base + head;
        *ret_pages = (uint32_t) (end - head);
        return true;
}

static PageResult flags_judge(uint64_t flags) {
        if (flags & (KPF(NOPAGE) | KPF(OFFLINE)))
                return PAGE_NOT_RAM;
        if (flags & KPF(BUDDY))
                return PAGE_FREE;
        if (!kpf_is_movable(flags))
                return PAGE_UNMOVABLE;
        if ((flags & KPF(HUGE)) && !(flags & KPF(MMAP)))
                return PAGE_UNMOVABLE; /* waits in the hugetlb pool */
        return PAGE_PENDING;
}

/* The named frames, ascending, each once. */
static int named_collect(const PageRange ranges[], size_t n_ranges, Named **ret, size_t *ret_n) {
        _cleanup_free_ Named *named = NULL;
        size_t total = 0, n = 0, kept = 0;

        for (size_t i = 0; i < n_ranges; i++)
                total += (size_t) ranges[i].count;
        named = malloc(MAX(total, (size_t) 1) * sizeof(Named));
        if (!named)
                return -ENOMEM;
        for (size_t i = 0; i < n_ranges; i++)
                for (uint64_t k = 0; k < ranges[i].count; k++, n++)
                        named[n] = (Named) { ranges[i].pfn + k, n };
        array_sort(named, n, sizeof(Named), named_compare);
        for (size_t i = 0; i < n; i++)
                if (kept == 0 || named[kept - 1].pfn != named[i].pfn)
                        named[kept++] = named[i];
        *ret = TAKE_PTR(named);
        *ret_n = kept;
        return 0;
}

int placement_classify(int kpageflags_fd, const NodeMap *map, const PageRange ranges[], size_t n_ranges,
                       int target, uint64_t skipped[static PAGE_RESULT_MAX], Unit **ret_units,
                       size_t *ret_n) {
        _cleanup_free_ Named *named = NULL;
        _cleanup_free_ uint64_t *pfns = NULL, *flags = NULL;
        _cleanup_free_ Ranked *ranked = NULL;
        _cleanup_free_ Unit *units = NULL;
        size_t n, n_units = 0;
        int r;

        r = named_collect(ranges, n_ranges, &named, &n);
        if (r < 0)
                return r;
        pfns = malloc(MAX(n, (size_t) 1) * sizeof(uint64_t));
        flags = malloc(MAX(n, (size_t) 1) * sizeof(uint64_t));
        ranked = malloc(MAX(n, (size_t) 1) * sizeof(Ranked));
        if (!pfns || !flags || !ranked)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                pfns[i] = named[i].pfn;
        r = kpageflags_read(kpageflags_fd, pfns, n, flags);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                Ranked *last = n_units ? &ranked[n_units - 1] : NULL;
                Unit unit = { .pfn = pfns[i], .pages = 1, .named = 1 };
                int node = node_map_find(map, pfns[i]);
                PageResult verdict = flags_judge(flags[i]);

                if (last &&
                    pfns[i] < last->unit.pfn + last->unit.pages) { /* further part of the same folio */
                        last->unit.named++;
                        last->rank = MIN(last->rank, named[i].rank);
                        continue;
                }
                if (node == -ENOENT)
                        verdict = PAGE_NOT_RAM;
                else if (node < 0)
                        verdict = PAGE_OTHER;
                else if (verdict == PAGE_PENDING && node == target)
                        verdict = PAGE_ALREADY_THERE;
                if (verdict == PAGE_PENDING && (flags[i] & (KPF(COMPOUND_HEAD) | KPF(COMPOUND_TAIL))) &&
                    !folio_find(kpageflags_fd, pfns[i], &unit.pfn, &unit.pages))
                        verdict = PAGE_UNMOVABLE; /* a gigantic page */
                if (verdict != PAGE_PENDING) {
                        skipped[verdict]++;
                        continue;
                }
                unit.kind = flags[i] & KPF(HUGE)   ? UNIT_HUGETLB
                            : flags[i] & KPF(MMAP) ? UNIT_MAPPED
                                                   : UNIT_UNMAPPED;
                unit.referenced = flags[i] & KPF(REFERENCED);
                ranked[n_units++] = (Ranked) { unit, named[i].rank };
        }
        array_sort(ranked, n_units, sizeof(Ranked), ranked_compare);
        units = malloc(MAX(n_units, (size_t) 1) * sizeof(Unit));
        if (!units)
                return -ENOMEM;
        for (size_t i = 0; i < n_units; i++)
                units[i] = ranked[i].unit;
        *ret_units = TAKE_PTR(units);
        *ret_n = n_units;
        return 0;
}
