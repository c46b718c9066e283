/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Moves units by DAMON one-shots: their frames become the regions of a physical-address target, and one pass
 * of the scheme "migrate_hot" moves just those. Reaches page cache that nobody maps and needs no reverse
 * map; moves no hugetlb pages. What it relies on (kernel >= 6.11):
 *
 *  - a kdamond that is told to stop while it is in its first sleep still applies its scheme once, then ends,
 * and the write of "off" returns only then: exactly one pass. It must never be left on: it would go on to
 * migrate whatever reuses the frames.
 *  - nr_kdamonds is one switch for the whole kernel: taken only when it is 0, given back when not needed.
 *  - the kernel's own figures of success count pages that it copied inside their own node. So what is
 * claimed comes from where the frames went (kpageflags) bounded by the target node's allocations (numastat).
 */
#include "mover.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "placement.h"

#define ADMIN "sys/kernel/mm/damon/admin/kdamonds"
#define CONTEXT ADMIN "/0/contexts/0"
#define SCHEME CONTEXT "/schemes/0"
#define MARKER "run/hmvisor-ga/kdamond" /* exists while the kdamond directory is ours */
#define REGIONS 256                     /* per shot; 10 us and 3.3 KB of kernel memory each to create, */
#define REGIONS_FEW 128 /* and far more to open, so no more than this until an order needs them */
#define SAMPLE_US "1000"                /* the length of the one sleep, and so the fixed cost of a shot */
#define PAD_ADDRESS (UINT64_C(1) << 51) /* beyond any memory: unused regions of the pool lie there */
#define HANDSHAKE_MAX_USEC (100 * USEC_PER_MSEC)
#define PAGE_SIZE_BYTES UINT64_C(4096)
#define MPOL_MF_MOVE (1 << 1)

typedef struct MoverDamon {
        Mover base;
        int root, kpageflags, state, pid;
        int ends[REGIONS], starts[REGIONS];
        uint64_t start[REGIONS], end[REGIONS]; /* what the files hold; 0: unknown */
        size_t regions;                        /* that exist; 0: nothing is built */
        int target_node;                       /* what the scheme holds; -1: unknown */
} MoverDamon;

static void fd_drop(int *fd) {
        if (*fd >= 0)
                close(*fd);
        *fd = -EBADF;
}

static void pool_close(MoverDamon *d) {
        fd_drop(&d->state);
        fd_drop(&d->pid);
        for (size_t i = 0; i < REGIONS; i++) {
                fd_drop(&d->starts[i]);
                fd_drop(&d->ends[i]);
                d->start[i] = d->end[i] = 0;
        }
        d->target_node = -1;
        d->regions = 0;
}

static void damon_release(Mover *m) {
        MoverDamon *d = (MoverDamon *) m;

        if (d->regions > 0)
                mover_damon_cleanup_stale(d->root);
        pool_close(d);
}

/* Somebody else wrote nr_kdamonds: what is there now is theirs. */
static void pool_abandon(MoverDamon *d) {
        (void) unlinkat(d->root, MARKER, 0);
        pool_close(d);
}

void mover_damon_cleanup_stale(int root) {
        if (faccessat(root, MARKER, F_OK, 0) < 0)
                return;
        (void) sysfile_write(root, "off", ADMIN "/0/state");
        (void) sysfile_write(root, "0", ADMIN "/nr_kdamonds");
        (void) unlinkat(root, MARKER, 0);
}

static int marker_make(int root) {
        _cleanup_close_ int fd = -EBADF;

        (void) mkdirat(root, "run/hmvisor-ga", 0700);
        fd = openat(root, MARKER, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        return fd < 0 ? -errno : 0;
}

static int region_write(MoverDamon *d, size_t i, uint64_t start, uint64_t end) {
        char text[32];
        int r;

        if (d->end[i] != end) {
                snprintf(text, sizeof(text), "%" PRIu64, end);
                r = sysfile_pwrite(d->ends[i], text);
                if (r < 0)
                        return r;
                d->end[i] = end;
        }
        if (d->start[i] != start) {
                snprintf(text, sizeof(text), "%" PRIu64, start);
                r = sysfile_pwrite(d->starts[i], text);
                if (r < 0)
                        return r;
                d->start[i] = start;
        }
        return 0;
}

static int settings_write(int root, size_t regions) {
        static const struct {
                const char *path, *value;
        } settings[] = {
                { ADMIN "/nr_kdamonds", "1" },
                { ADMIN "/0/contexts/nr_contexts", "1" },
                { CONTEXT "/operations", "paddr" },
                /* sample == aggregation: the scheme is applied at the first tick. No regions update. */
                { CONTEXT "/monitoring_attrs/intervals/sample_us", SAMPLE_US },
                { CONTEXT "/monitoring_attrs/intervals/aggr_us", SAMPLE_US },
                { CONTEXT "/monitoring_attrs/intervals/update_us", "1000000000" },
                { CONTEXT "/monitoring_attrs/nr_regions/max", "1000000" },
                { CONTEXT "/monitoring_attrs/nr_regions/min", "3" },
                { CONTEXT "/targets/nr_targets", "1" },
                { CONTEXT "/schemes/nr_schemes", "1" },
                { SCHEME "/action", "migrate_hot" },
                { SCHEME "/access_pattern/sz/max", "18446744073709551615" },
                { SCHEME "/access_pattern/nr_accesses/max", "4294967295" },
                { SCHEME "/access_pattern/age/max", "4294967295" },
                { SCHEME "/apply_interval_us", "0" },
                { SCHEME "/quotas/ms", "0" },
                { SCHEME "/quotas/bytes", "0" },
                { SCHEME "/watermarks/metric", "none" },
        };
        char count[16];

        for (size_t i = 0; i < ELEMENTSOF(settings); i++) {
                int r = sysfile_write(root, settings[i].value, "%s", settings[i].path);

                if (r < 0) /* an unknown action is a kernel before 6.11 */
                        return r == -ENOENT || r == -EINVAL ? -EOPNOTSUPP : r;
        }
        snprintf(count, sizeof(count), "%zu", regions);
        return sysfile_write(root, count, CONTEXT "/targets/0/regions/nr_regions");
}

static void descriptors_allow(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= 2 * REGIONS + 256)
                return;
        limit.rlim_cur = 2 * REGIONS + 256;
        limit.rlim_max = MAX(limit.rlim_max, limit.rlim_cur);
        (void) setrlimit(RLIMIT_NOFILE, &limit);
}

/* Makes at least so many regions, at most REGIONS. */
static int pool_build(MoverDamon *d, size_t want) {
        uint64_t others;
        int r;

        if (d->regions >= MIN(want, (size_t) REGIONS))
                return 0;
        damon_release(&d->base);
        mover_damon_cleanup_stale(d->root);
        r = sysfile_read_u64(d->root, &others, ADMIN "/nr_kdamonds");
        if (r < 0)
                return r == -ENOENT ? -EOPNOTSUPP : r;
        if (others != 0)
                return -EBUSY;
        r = marker_make(d->root);
        if (r < 0)
                return r;
        d->regions = want <= REGIONS_FEW ? REGIONS_FEW : REGIONS;
        descriptors_allow();
        r = settings_write(d->root, d->regions);
        if (r < 0)
                goto fail;
        d->state = r = sysfile_open(d->root, O_WRONLY, ADMIN "/0/state");
        if (r < 0)
                goto fail;
        d->pid = r = sysfile_open(d->root, O_RDONLY, ADMIN "/0/pid");
        if (r < 0)
                goto fail;
        for (size_t i = 0; i < d->regions; i++) {
                d->ends[i] = r = sysfile_open(d->root, O_WRONLY, CONTEXT "/targets/0/regions/%zu/end", i);
                if (r < 0)
                        goto fail;
                d->starts[i] = r =
                        sysfile_open(d->root, O_WRONLY, CONTEXT "/targets/0/regions/%zu/start", i);
                if (r < 0)
                        goto fail;
        }
        return 0;
fail:
        damon_release(&d->base);
        return r;
}

static void sleep_usec(usec_t usec) {
        nanosleep(&(struct timespec) { .tv_sec = (time_t) (usec / USEC_PER_SEC),
                                       .tv_nsec = (long) (usec % USEC_PER_SEC) * 1000 }, NULL);
}

/* Waits until the kdamond is in its first sleep: told to stop before, it would end without a pass. */
static void handshake_wait(MoverDamon *d) {
        usec_t give_up = now_usec() + HANDSHAKE_MAX_USEC;
        char buf[4096];
        ssize_t n;
        int pid;

        n = pread(d->pid, buf, sizeof(buf) - 1, 0);
        if (n <= 0) {
                sleep_usec(2 * USEC_PER_MSEC);
                return;
        }
        buf[n] = '\0';
        pid = (int) strtol(buf, NULL, 10);
        while (now_usec() < give_up) {
                uint64_t switches;

                if (sysfile_read(d->root, buf, sizeof(buf), "proc/%d/status", pid) < 0)
                        return; /* it has ended by itself */
                if (text_find_u64(buf, "voluntary_ctxt_switches", &switches) >= 0 && switches >= 2)
                        return;
                sleep_usec(50);
        }
}

/* One pass over the regions as they are. */
static int shot_fire(MoverDamon *d) {
        void *address = NULL;
        int node = 0, status = 0, r;

        /* Moving no pages at all makes the kernel drain each CPU's LRU batch; pages waiting there are
         * skipped. */
        (void) syscall(SYS_move_pages, 0, 0UL, &address, &node, &status, MPOL_MF_MOVE);
        r = sysfile_pwrite(d->state, "on");
        if (r < 0)
                return r;
        handshake_wait(d);
        return sysfile_pwrite(d->state, "off");
}

/* Monotonic counters around a shot. */
typedef struct Counters {
        uint64_t migrated; /* pages, whole system */
        uint64_t hit;      /* allocations wanted on and served by the target */
        uint64_t foreign;  /* allocations wanted on the target and served elsewhere */
        bool numa;         /* the last two are kept by this kernel */
} Counters;

static void counters_read(int root, int node, Counters *ret) {
        static __thread char buf[32768];
        uint64_t on = 1;

        *ret = (Counters) { 0 };
        if (sysfile_read(root, buf, sizeof(buf), "proc/vmstat") >= 0)
                (void) text_find_u64(buf, "pgmigrate_success", &ret->migrated);
        (void) sysfile_read_u64(root, &on, "proc/sys/vm/numa_stat");
        ret->numa =
                on &&
                sysfile_read(root, buf, sizeof(buf), "sys/devices/system/node/node%d/numastat", node) >= 0 &&
                text_find_u64(buf, "numa_hit", &ret->hit) >= 0 &&
                text_find_u64(buf, "numa_foreign", &ret->foreign) >= 0;
}

/* Says what became of the units of one shot. A frame that is no user's page any more was left; one that
 * still is has not moved, or has moved and was taken again at once: the count of migrations tells how many
 * of these there can be. No more are claimed than migrations happened and the target node served, and those
 * it turned away went to another node. */
static void shot_judge(Unit *const units[], size_t n, const uint64_t after[], const Counters *a,
                       const Counters *b) {
        uint64_t pages = 0, left = 0, migrated = b->migrated - a->migrated, misplaced, units_max, moved = 0;
        bool all_moved;

        for (size_t i = 0; i < n; i++) {
                pages += units[i]->pages;
                if (!kpf_is_movable(after[i]))
                        left += units[i]->pages;
        }
        all_moved = migrated >= pages;
        for (size_t i = 0; i < n; i++)
                if (!kpf_is_movable(after[i]) || all_moved) {
                        units[i]->result = PAGE_MOVED;
                        moved++;
                } else
                        units[i]->result = PAGE_PINNED;
        if (left > migrated) /* freed by their owners meanwhile */
                for (size_t i = n; i-- > 0 && left > migrated;)
                        if (units[i]->result == PAGE_MOVED) {
                                units[i]->result = PAGE_FREE;
                                left -= MIN((uint64_t) units[i]->pages, left);
                                moved--;
                        }
        if (!a->numa || !b->numa)
                return;
        misplaced = b->foreign - a->foreign;
        units_max = b->hit - a->hit;
        misplaced = MAX(misplaced, moved > units_max ? moved - units_max : 0);
        for (size_t i = n; i-- > 0 && misplaced > 0;)
                if (units[i]->result == PAGE_MOVED) {
                        units[i]->result = PAGE_NO_ROOM;
                        misplaced--;
                }
}

/* Units ascending; as many as the regions of the pool hold. Returns how many, or -errno. */
static int shot_load(MoverDamon *d, Unit *const units[], size_t n) {
        size_t used = 0, i = 0;
        int r;

        while (i < n) {
                uint64_t start = units[i]->pfn, end = start + units[i]->pages;
                size_t next = i + 1;

                if (used == d->regions)
                        break;
                for (; next < n && units[next]->pfn == end; next++)
                        end += units[next]->pages;
                r = region_write(d, used++, start * PAGE_SIZE_BYTES, end * PAGE_SIZE_BYTES);
                if (r < 0)
                        return r;
                i = next;
        }
        for (size_t k = used; k < d->regions; k++) {
                r = region_write(d, k, PAD_ADDRESS + k * 2 * PAGE_SIZE_BYTES,
                                 PAD_ADDRESS + (k * 2 + 1) * PAGE_SIZE_BYTES);
                if (r < 0)
                        return r;
        }
        return (int) i;
}

static int target_set(MoverDamon *d, int node) {
        char text[16];
        int r;

        if (d->target_node == node)
                return 0;
        snprintf(text, sizeof(text), "%d", node);
        r = sysfile_write(d->root, text, SCHEME "/target_nid");
        if (r >= 0)
                d->target_node = node;
        return r;
}

/* Once more from scratch when somebody else's write to nr_kdamonds took our directories away. */
static int shot_prepare(MoverDamon *d, Unit *const units[], size_t n, int node) {
        int r = -EIO;

        for (int attempt = 0; attempt < 2; attempt++) {
                r = pool_build(d, n);
                if (r < 0)
                        return r;
                r = target_set(d, node);
                if (r >= 0)
                        r = shot_load(d, units, n);
                if (r >= 0)
                        return r;
                if (r == -ENODEV || r == -ENOENT)
                        pool_abandon(d);
                else
                        damon_release(&d->base);
        }
        return r;
}

static int unit_compare_pfn(const void *a, const void *b) {
        const Unit *x = *(Unit *const *) a, *y = *(Unit *const *) b;

        return x->pfn < y->pfn ? -1 : x->pfn > y->pfn;
}

/* Re-reads what the frames hold and drops those that hold nothing movable any more. */
static int units_refresh(MoverDamon *d, Unit *units[], size_t n, uint64_t *pfns, uint64_t *flags,
                         size_t *ret_n) {
        size_t kept = 0;
        int r;

        for (size_t i = 0; i < n; i++)
                pfns[i] = units[i]->pfn;
        r = kpageflags_read(d->kpageflags, pfns, n, flags);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                if (kpf_is_movable(flags[i]) && !(flags[i] & KPF(HUGE)))
                        units[kept++] = units[i];
                else
                        units[i]->result = flags[i] & KPF(HUGE) ? PAGE_UNREACHED : PAGE_FREE;
        *ret_n = kept;
        return 0;
}

static int damon_move(Mover *m, Unit *const units[], size_t n, int node, const Stop *stop) {
        MoverDamon *d = (MoverDamon *) m;
        size_t room = MAX(n, (size_t) 1), todo = 0;
        _cleanup_free_ Unit **list = calloc(room, sizeof(Unit *));
        _cleanup_free_ uint64_t *pfns = calloc(room, sizeof(uint64_t)),
                                *flags = calloc(room, sizeof(uint64_t));
        Counters before, after;
        int r, batch;

        if (!list || !pfns || !flags)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (units[i]->result == PAGE_PENDING)
                        list[todo++] = units[i];
        array_sort(list, todo, sizeof(Unit *), unit_compare_pfn);
        r = units_refresh(d, list, todo, pfns, flags, &todo);
        if (r < 0)
                return r;
        for (size_t i = 0; i < todo; i += (size_t) batch) {
                r = stop_check(stop);
                if (r < 0)
                        return r;
                batch = shot_prepare(d, list + i, todo - i, node);
                if (batch < 0)
                        return batch;
                counters_read(d->root, node, &before);
                r = shot_fire(d);
                if (r < 0) {
                        damon_release(m); /* another user of DAMON runs, or took our directories */
                        return r;
                }
                counters_read(d->root, node, &after);
                for (int k = 0; k < batch; k++)
                        pfns[k] = list[i + (size_t) k]->pfn;
                r = kpageflags_read(d->kpageflags, pfns, (size_t) batch, flags);
                if (r < 0)
                        return r;
                shot_judge(list + i, (size_t) batch, flags, &before, &after);
        }
        return 0;
}

static int damon_begin(Mover *m, Unit *const units[], size_t n, const Stop *stop) {
        MoverDamon *d = (MoverDamon *) m;

        if (d->kpageflags < 0)
                d->kpageflags = sysfile_open(d->root, O_RDONLY, "proc/kpageflags");
        return d->kpageflags < 0 ? d->kpageflags : pool_build(d, 1);
}

static void damon_end(Mover *m) {
        /* The pool stays for the next order; release() gives it back. */
}

static void damon_free(Mover *m) {
        MoverDamon *d = (MoverDamon *) m;

        damon_release(m);
        fd_drop(&d->kpageflags);
        free(d);
}

bool mover_damon_available(int root) {
        char release[128];
        unsigned major, minor;

        return faccessat(root, ADMIN "/nr_kdamonds", F_OK, 0) == 0 &&
               sysfile_read(root, release, sizeof(release), "proc/sys/kernel/osrelease") > 0 &&
               sscanf(release, "%u.%u", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 11));
}

int mover_damon_new(int root, Mover **ret) {
        MoverDamon *d = calloc(1, sizeof(MoverDamon));

        if (!d)
                return -ENOMEM;
        d->base = (Mover) { "damon", damon_begin, damon_move, damon_end, damon_release, damon_free };
        d->root = root;
        d->kpageflags = d->state = d->pid = -EBADF;
        for (size_t i = 0; i < REGIONS; i++)
                d->starts[i] = d->ends[i] = -EBADF;
        d->target_node = -1;
        *ret = &d->base;
        return 0;
}
