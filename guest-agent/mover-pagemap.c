/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Moves units by move_pages(2), having found who maps them by reading page tables (rmap.h). Works on every
 * kernel and for hugetlb; cannot reach page cache that nobody maps. Cost: 50-75 ms per GiB mapped in the
 * guest, once per order, then about 50,000 pages/s.
 */
#include "mover.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/syscall.h>

#include "rmap.h"

#define MPOL_MF_MOVE_ALL (1 << 2)
#define STATUS_UNSET INT32_MIN /* the kernel leaves the statuses of pages that it gave up on unwritten */

typedef struct MoverPagemap {
        Mover base;
        int root;
        RmapScratch scratch;
        Rmap map;
} MoverPagemap;

static long pages_call(pid_t pid, size_t n, void **addresses, const int *nodes, int *status, int flags) {
        return syscall(SYS_move_pages, pid, (unsigned long) n, addresses, nodes, status, flags);
}

static int pagemap_begin(Mover *m, Unit *const units[], size_t n, const Stop *stop) {
        MoverPagemap *p = (MoverPagemap *) m;

        rmap_done(&p->map);
        return rmap_build(p->root, units, n, &p->scratch, stop, &p->map);
}

/* What the kernel said of a page that is not on the target node. */
static PageResult status_judge(long call, int status) {
        if (status == -ENOMEM || (status == STATUS_UNSET && call < 0 && errno == ENOMEM))
                return PAGE_NO_ROOM;
        if (status == -EACCES)
                return PAGE_OTHER; /* the cpuset of the process excludes the node */
        if (status == -ENOENT || status == -EFAULT)
                return PAGE_UNREACHED;
        return PAGE_PINNED;
}

/* Moves and then asks again where each page is: the kernel's own answer by node. */
static int process_move(RmapEntry *entries[], size_t n, int node) {
        _cleanup_free_ void **addresses = malloc(n * sizeof(void *));
        _cleanup_free_ int *nodes = malloc(n * sizeof(int)), *moved = malloc(n * sizeof(int)),
                           *seen = malloc(n * sizeof(int));
        long call;
        int error;

        if (!addresses || !nodes || !moved || !seen)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                addresses[i] = (void *) (uintptr_t) entries[i]->address;
                nodes[i] = node;
                moved[i] = seen[i] = STATUS_UNSET;
        }
        call = pages_call(entries[0]->pid, n, addresses, nodes, moved, MPOL_MF_MOVE_ALL);
        error = call < 0 ? errno : 0;
        if (error == ESRCH || error == EPERM || error == EACCES || error == ENODEV) {
                for (size_t i = 0; i < n; i++)
                        entries[i]->unit->result = error == ESRCH ? PAGE_UNREACHED :
                                                   error == ENODEV ? PAGE_NO_ROOM : PAGE_OTHER;
                return 0;
        }
        if (pages_call(entries[0]->pid, n, addresses, NULL, seen, 0) < 0)
                for (size_t i = 0; i < n; i++)
                        seen[i] = STATUS_UNSET;
        errno = error;
        for (size_t i = 0; i < n; i++)
                entries[i]->unit->result = seen[i] == node      ? PAGE_MOVED
                                           : seen[i] == -ENOENT ? PAGE_UNREACHED
                                                                : status_judge(call, moved[i]);
        return 0;
}

static int pagemap_move(Mover *m, Unit *const units[], size_t n, int node, const Stop *stop) {
        MoverPagemap *p = (MoverPagemap *) m;
        _cleanup_free_ RmapEntry **entries = malloc(MAX(n, (size_t) 1) * sizeof(RmapEntry *));
        size_t n_entries = 0;
        int r;

        if (!entries)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                RmapEntry *found;

                if (units[i]->result != PAGE_PENDING)
                        continue;
                found = rmap_find(&p->map, units[i]);
                if (found)
                        entries[n_entries++] = found;
                else
                        units[i]->result = PAGE_UNREACHED;
        }
        n_entries = rmap_revalidate(p->root, entries, n_entries);
        for (size_t i = 0, last; i < n_entries; i = last) {
                r = stop_check(stop);
                if (r < 0)
                        return r;
                for (last = i + 1; last < n_entries && entries[last]->pid == entries[i]->pid; last++)
                        ;
                r = process_move(entries + i, last - i, node);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void pagemap_end(Mover *m) {
        rmap_done(&((MoverPagemap *) m)->map);
}

static void pagemap_release(Mover *m) {
        rmap_scratch_free(&((MoverPagemap *) m)->scratch);
}

static void pagemap_free(Mover *m) {
        pagemap_end(m);
        pagemap_release(m);
        free(m);
}

bool mover_pagemap_available(int root) {
        _cleanup_close_ int fd = sysfile_open(root, O_RDONLY, "proc/kpageflags");

        return fd >= 0;
}

int mover_pagemap_new(int root, Mover **ret) {
        MoverPagemap *p = calloc(1, sizeof(MoverPagemap));

        if (!p)
                return -ENOMEM;
        p->base = (Mover){
                "pagemap", pagemap_begin, pagemap_move, pagemap_end, pagemap_release, pagemap_free
        };
        p->root = root;
        *ret = &p->base;
        return 0;
}
