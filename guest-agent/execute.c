/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One order, start to end: see execute.h.
 */
#include "execute.h"

#include <fcntl.h>
#include <inttypes.h>

#include "base/log.h"
#include "placement.h"

#define CHUNK_PAGES 4096 /* 16 MiB between two looks at the target's free memory; move_pages wants >= 1024 */

#define SCAN_MEASURE_GIB 0.25 /* less says more of fixed costs than of the scan */

/* What moving costs here, in microseconds: measured priors, then a moving average of what was seen, at most
 * four times off. With the priors DAMON wins below about 2,000 pages for each GiB that the guest has mapped.
 */
typedef struct Costs {
        double damon_page;
        double pagemap_page;
        double scan_gib;
} Costs;

static const Costs costs_prior = { .damon_page = 50, .pagemap_page = 20, .scan_gib = 62500 };

struct Executor {
        int root;
        Mover *damon, *pagemap; /* NULL: not in this kernel */
        const char *forced;
        Costs costs;
};

/* The state of one order. */
typedef struct Run {
        Executor *e;
        const Stop *stop;
        NodeMap map;
        int kpageflags;
        Unit *promote, *demote;
        size_t n_promote, n_demote;
        Unit **scope; /* all units, for the reverse map */
        size_t n_scope;
        bool damon, pagemap; /* usable */
        bool damon_begun, pagemap_begun, prefer_damon;
        double gib_mapped;
        uint64_t moved_by_damon, moved_by_pagemap;
} Run;

static void run_done(Run *run) {
        if (run->damon_begun)
                run->e->damon->end(run->e->damon);
        if (run->pagemap_begun)
                run->e->pagemap->end(run->e->pagemap);
        node_map_done(&run->map);
        if (run->kpageflags >= 0)
                close(run->kpageflags);
        free(run->promote);
        free(run->demote);
        free(run->scope);
}

int executor_new(int root, Executor **ret) {
        _cleanup_(executor_freep) Executor *e = calloc(1, sizeof(Executor));
        int r;

        if (!e)
                return -ENOMEM;
        e->root = root;
        e->costs = costs_prior;
        if (mover_damon_available(root)) {
                r = mover_damon_new(root, &e->damon);
                if (r < 0)
                        return r;
        }
        if (mover_pagemap_available(root)) {
                r = mover_pagemap_new(root, &e->pagemap);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(e);
        return 0;
}

Executor *executor_free(Executor *e) {
        if (!e)
                return NULL;
        mover_free(e->damon);
        mover_free(e->pagemap);
        free(e);
        return NULL;
}

void executor_force(Executor *e, const char *mover) {
        e->forced = mover;
}

static double gib_mapped_read(int root) {
        char buf[8192];
        uint64_t anon = 0, mapped = 0;

        if (sysfile_read(root, buf, sizeof(buf), "proc/meminfo") < 0)
                return 1;
        (void) text_find_u64(buf, "AnonPages", &anon);
        (void) text_find_u64(buf, "Mapped", &mapped);
        return (double) (anon + mapped) / (1024 * 1024);
}

static void average_update(double *average, double prior, double seen) {
        *average += (MAX(MIN(seen, prior * 4), prior / 4) - *average) / 4;
}

/* These end the order; anything else only a mover. */
static bool stopped(int r) {
        return r == -ECANCELED || r == -ETIME || r == -ENOMEM;
}

static int damon_ensure(Run *run) {
        int r;

        if (run->damon_begun || !run->damon)
                return run->damon ? 0 : -EOPNOTSUPP;
        r = run->e->damon->begin(run->e->damon, NULL, 0, run->stop);
        if (r < 0) {
                run->damon = false;
                log_debug("DAMON cannot be used for this order (%s), using move_pages.", strerror(-r));
                return r;
        }
        run->damon_begun = true;
        return 0;
}

static int pagemap_ensure(Run *run) {
        usec_t start = now_usec();
        int r;

        if (run->pagemap_begun || !run->pagemap)
                return run->pagemap ? 0 : -EOPNOTSUPP;
        r = run->e->pagemap->begin(run->e->pagemap, run->scope, run->n_scope, run->stop);
        if (r < 0) {
                run->pagemap = false;
                if (!stopped(r))
                        log_debug("The mappers of this order's pages cannot be found: %s.", strerror(-r));
                return r;
        }
        run->pagemap_begun = true;
        if (run->gib_mapped >= SCAN_MEASURE_GIB)
                average_update(&run->e->costs.scan_gib, costs_prior.scan_gib,
                               (double) (now_usec() - start) / run->gib_mapped);
        return 0;
}

/* Whether the mapped pages, n of them, go by DAMON: its dearer page against the other's scan. */
static bool damon_preferred(const Run *run, uint64_t n) {
        const Costs *c = &run->e->costs;

        if (!run->damon || !run->pagemap)
                return run->damon;
        return (double) n * c->damon_page < (double) n * c->pagemap_page + run->gib_mapped * c->scan_gib;
}

static uint64_t units_count(Unit *const units[], size_t n, PageResult result) {
        uint64_t pages = 0;

        for (size_t i = 0; i < n; i++)
                if (units[i]->result == result)
                        pages += units[i]->pages;
        return pages;
}

/* Hands the pending units to one mover and learns from how long it took. */
static int units_move_by(Run *run, Mover *mover, Unit *const units[], size_t n, int node) {
        bool damon = mover == run->e->damon;
        uint64_t pending = units_count(units, n, PAGE_PENDING), before, moved;
        usec_t start = now_usec();
        int r;

        if (pending == 0)
                return 0;
        before = units_count(units, n, PAGE_MOVED);
        r = mover->move(mover, units, n, node, run->stop);
        moved = units_count(units, n, PAGE_MOVED) - before;
        *(damon ? &run->moved_by_damon : &run->moved_by_pagemap) += moved;
        if (r >= 0 && pending >= 256)
                average_update(damon ? &run->e->costs.damon_page : &run->e->costs.pagemap_page,
                               damon ? costs_prior.damon_page : costs_prior.pagemap_page,
                               (double) (now_usec() - start) / (double) pending);
        return r;
}

/* Picks the units of units[] for one mover into list: returns how many. */
static size_t units_pick(const Run *run, Unit *units[], size_t n, bool damon, Unit *list[]) {
        size_t picked = 0;

        for (size_t i = 0; i < n; i++) {
                bool to_damon = units[i]->kind == UNIT_UNMAPPED ||
                                (units[i]->kind == UNIT_MAPPED && (run->prefer_damon || !run->pagemap));

                if (units[i]->result == PAGE_PENDING && to_damon == damon)
                        list[picked++] = units[i];
        }
        return picked;
}

/* Moves units by whatever reaches them. Returns 0, -ECANCELED, -ETIME or -ENOMEM. */
static int units_move(Run *run, Unit *units[], size_t n, int node) {
        _cleanup_free_ Unit **list = malloc(MAX(n, (size_t) 1) * sizeof(Unit *));
        size_t picked;
        int r;

        if (!list)
                return -ENOMEM;
        picked = units_pick(run, units, n, true, list);
        if (picked > 0 && damon_ensure(run) >= 0) {
                r = units_move_by(run, run->e->damon, list, picked, node);
                if (stopped(r))
                        return r;
                if (r < 0) {
                        log_debug("DAMON gave up on this order (%s), using move_pages.", strerror(-r));
                        run->damon = run->prefer_damon = false;
                }
        }
        if (!run->damon)
                run->prefer_damon = false;
        picked = units_pick(run, units, n, false, list);
        r = picked > 0 ? pagemap_ensure(run) : -ENOENT;
        if (stopped(r))
                return r;
        if (r >= 0) {
                r = units_move_by(run, run->e->pagemap, list, picked, node);
                if (stopped(r))
                        return r;
        }
        /* Nobody maps it (any more)? It may be page cache by now. */
        picked = 0;
        for (size_t i = 0; i < n; i++)
                if (units[i]->result == PAGE_UNREACHED && units[i]->kind == UNIT_MAPPED) {
                        units[i]->result = PAGE_PENDING;
                        list[picked++] = units[i];
                }
        if (picked > 0 && damon_ensure(run) >= 0) {
                r = units_move_by(run, run->e->damon, list, picked, node);
                if (stopped(r))
                        return r;
        }
        for (size_t i = 0; i < n; i++)
                if (units[i]->result == PAGE_PENDING || units[i]->result == PAGE_UNREACHED)
                        units[i]->result = PAGE_OTHER; /* no mover of this kernel gets at it */
        return 0;
}

/* Moves from the front of a list as many units as fit into max pages. */
static int list_advance(Run *run, Unit *units, size_t n, size_t *at, uint64_t max, int node,
                        uint64_t *ret_moved) {
        _cleanup_free_ Unit **list = NULL;
        uint64_t pages = 0;
        size_t first = *at, last = first;
        int r;

        while (last < n && pages + units[last].pages <= max)
                pages += units[last++].pages;
        *ret_moved = 0;
        if (last == first)
                return 0;
        list = malloc((last - first) * sizeof(Unit *));
        if (!list)
                return -ENOMEM;
        for (size_t i = first; i < last; i++)
                list[i - first] = &units[i];
        r = units_move(run, list, last - first, node);
        *ret_moved = units_count(list, last - first, PAGE_MOVED);
        *at = last;
        return r;
}

static void result_name_mover(const Run *run, OrderResult *result) {
        result->mover = run->moved_by_damon == 0 && run->moved_by_pagemap == 0 ? ""
                        : run->moved_by_damon > run->moved_by_pagemap          ? run->e->damon->name
                                                                               : run->e->pagemap->name;
}

/* Adds the units between two positions of a list to the result. */
static void units_tally(const Unit *units, size_t from, size_t to, uint64_t *moved, OrderResult *result) {
        for (size_t i = from; i < to; i++)
                if (units[i].result == PAGE_MOVED)
                        *moved += units[i].pages;
                else if (units[i].result != PAGE_PENDING)
                        result->skipped[units[i].result] += units[i].named;
}

static uint64_t pages_total(const Unit *units, size_t n) {
        uint64_t pages = 0;

        for (size_t i = 0; i < n; i++)
                pages += units[i].pages;
        return pages;
}

/* A demote list alone: all of it, or the most that is wanted of it, as far as its node has room. */
static int demote_all(Run *run, const OrderRequest *q, OrderProgress progress, void *userdata,
                      OrderResult *result) {
        uint64_t most = q->demote.most ?: UINT64_MAX, moved;
        size_t at = 0, before;
        NodeRoom room;
        int r = 0;

        while (at < run->n_demote && r >= 0 && result->demoted < most) {
                uint64_t left = MAX(most - result->demoted, (uint64_t) run->demote[at].pages);

                if (node_room_read(run->e->root, q->demote.node, &room) < 0 ||
                    room.pages < run->demote[at].pages)
                        break;
                before = at;
                r = list_advance(run, run->demote, run->n_demote, &at,
                                 MIN((uint64_t) MIN(room.pages, CHUNK_PAGES), left), q->demote.node, &moved);
                units_tally(run->demote, before, at, &result->demoted, result);
                result_name_mover(run, result);
                progress(userdata, result);
        }
        if (r >= 0 && result->demoted < most)
                for (; at < run->n_demote; at++)
                        result->skipped[PAGE_NO_ROOM] += run->demote[at].named;
        return r;
}

/* Promotes chunk by chunk; where a chunk lacks room, demotes as much first. */
static int promote_all(Run *run, const OrderRequest *q, OrderProgress progress, void *userdata,
                       OrderResult *result) {
        uint64_t demote_left = pages_total(run->promote, run->n_promote), moved;
        size_t at = 0, demote_at = 0, before, demote_before;
        NodeRoom room, target_room;
        int r;

        r = node_room_read(run->e->root, q->promote.node, &room);
        if (r >= 0)
                demote_left += room.unlisted + (uint64_t) MAX(-room.pages, 0);
        while (r >= 0 && at < run->n_promote) {
                uint64_t want = 0;

                demote_before = demote_at;
                for (size_t i = at;
                     i < run->n_promote && (want == 0 || want + run->promote[i].pages <= CHUNK_PAGES); i++)
                        want += run->promote[i].pages;
                r = node_room_read(run->e->root, q->promote.node, &room);
                if (r < 0)
                        break;
                if (room.pages < (int64_t) want && demote_at < run->n_demote && demote_left > 0 &&
                    node_room_read(run->e->root, q->demote.node, &target_room) >= 0 &&
                    target_room.pages > 0) {
                        uint64_t lack = MIN((uint64_t) ((int64_t) want - room.pages), demote_left);

                        before = demote_at;
                        r = list_advance(run, run->demote, run->n_demote, &demote_at,
                                         MIN(MAX(lack, (uint64_t) run->demote[demote_at].pages),
                                             (uint64_t) target_room.pages),
                                         q->demote.node, &moved);
                        units_tally(run->demote, before, demote_at, &result->demoted, result);
                        demote_left -= MIN(moved, demote_left);
                        if (r < 0 || (moved == 0 && demote_at > before))
                                continue; /* none of these could be moved: try the next ones */
                        r = node_room_read(run->e->root, q->promote.node, &room);
                        if (r < 0)
                                break;
                }
                before = at;
                r = list_advance(run, run->promote, run->n_promote, &at,
                                 (uint64_t) MAX(MIN(room.pages, (int64_t) want), 0), q->promote.node,
                                 &moved);
                units_tally(run->promote, before, at, &result->promoted, result);
                result_name_mover(run, result);
                progress(userdata, result);
                if (at == before && demote_at == demote_before)
                        break; /* full, and nothing left that may make room */
        }
        if (r == -ENXIO)
                r = 0;
        if (r >= 0)
                for (; at < run->n_promote; at++)
                        result->skipped[PAGE_NO_ROOM] += run->promote[at].named;
        return r;
}

/* The units whose mappers are looked for: those to promote and the demotions that will probably be needed.
 */
static int scope_make(Run *run, const OrderRequest *q) {
        size_t n_demote = run->n_demote;
        NodeRoom room;

        if (run->n_promote > 0 && n_demote > 0) {
                uint64_t promote = pages_total(run->promote, run->n_promote), lack = promote;

                if (node_room_read(run->e->root, q->promote.node, &room) >= 0)
                        lack = room.pages >= (int64_t) promote
                                       ? 0
                                       : (uint64_t) ((int64_t) promote - room.pages) + room.unlisted;
                n_demote = (size_t) MIN((uint64_t) n_demote, lack + lack / 4 + 64);
        }
        run->scope = malloc((run->n_promote + n_demote + 1) * sizeof(Unit *));
        if (!run->scope)
                return -ENOMEM;
        for (size_t i = 0; i < run->n_promote; i++)
                if (run->promote[i].kind != UNIT_UNMAPPED)
                        run->scope[run->n_scope++] = &run->promote[i];
        for (size_t i = 0; i < n_demote; i++)
                if (run->demote[i].kind != UNIT_UNMAPPED)
                        run->scope[run->n_scope++] = &run->demote[i];
        return 0;
}

/* Any cold page makes room for what is promoted, so those that move_pages reaches go first, in their order:
 * DAMON, the only way to page cache that nobody maps, needs a pass for each few hundred scattered pages, and
 * a pass waits for the scheduler several times. Room for pages to come is not pressing, and what a process
 * has just begun to use still looks cold to the host: there page cache goes first, and before what is read,
 * which the host does not see, what is not. */
static unsigned demote_rank(const Unit *u, bool room) {
        if (room)
                return u->kind != UNIT_UNMAPPED ? 2 : u->referenced;
        return u->kind == UNIT_UNMAPPED;
}

static int demote_sort(Run *run, bool room) {
        Unit *sorted = malloc(MAX(run->n_demote, (size_t) 1) * sizeof(Unit));
        size_t n = 0;

        if (!sorted)
                return -ENOMEM;
        for (unsigned rank = 0; rank <= 2; rank++)
                for (size_t i = 0; i < run->n_demote; i++)
                        if (demote_rank(&run->demote[i], room) == rank)
                                sorted[n++] = run->demote[i];
        free(run->demote);
        run->demote = sorted;
        return 0;
}

static int run_prepare(Run *run, const OrderRequest *q, OrderResult *result) {
        int r;

        run->kpageflags = sysfile_open(run->e->root, O_RDONLY, "proc/kpageflags");
        if (run->kpageflags < 0)
                return run->kpageflags;
        r = node_map_read(run->e->root, &run->map);
        if (r < 0)
                return r;
        r = placement_classify(run->kpageflags, &run->map, q->promote.ranges, q->promote.n_ranges,
                               q->promote.node, result->skipped, &run->promote, &run->n_promote);
        if (r < 0)
                return r;
        r = placement_classify(run->kpageflags, &run->map, q->demote.ranges, q->demote.n_ranges,
                               q->demote.node, result->skipped, &run->demote, &run->n_demote);
        if (r < 0)
                return r;
        if (q->promote.node >= 0 || q->demote.most > 0) {
                r = demote_sort(run, q->promote.node < 0);
                if (r < 0)
                        return r;
        }
        run->gib_mapped = gib_mapped_read(run->e->root);
        r = scope_make(run, q);
        if (r < 0)
                return r;
        run->prefer_damon = damon_preferred(run, run->n_scope);
        return 0;
}

static uint64_t ranges_total(const OrderList *list) {
        uint64_t pages = 0;

        for (size_t i = 0; i < list->n_ranges; i++)
                pages += list->ranges[i].count;
        return pages;
}

int executor_run(Executor *e, const OrderRequest *request, const Stop *stop, OrderProgress progress,
                 void *progress_userdata, OrderResult *ret) {
        _cleanup_(run_done) Run run = { .e = e, .stop = stop, .kpageflags = -EBADF };
        OrderResult result = { .mover = "" };
        int r;

        run.damon = e->damon && (!e->forced || streq(e->forced, "damon"));
        run.pagemap = e->pagemap && (!e->forced || streq(e->forced, "pagemap"));
        r = run_prepare(&run, request, &result);
        if (r < 0) {
                *ret = (OrderResult) { .mover = "" };
                ret->skipped[PAGE_OTHER] = ranges_total(&request->promote) + ranges_total(&request->demote);
                return log_error_errno(r, "Cannot look at the pages of order %" PRIu64, request->id);
        }
        if (request->promote.node >= 0)
                r = promote_all(&run, request, progress, progress_userdata, &result);
        else
                r = demote_all(&run, request, progress, progress_userdata, &result);
        result_name_mover(&run, &result);
        *ret = result;
        return r;
}

static int runner_run(void *userdata, const OrderRequest *request, const Stop *stop, OrderProgress progress,
                      void *progress_userdata, OrderResult *ret) {
        return executor_run(userdata, request, stop, progress, progress_userdata, ret);
}

static void runner_release(void *userdata) {
        Executor *e = userdata;

        if (e->damon)
                e->damon->release(e->damon);
        if (e->pagemap)
                e->pagemap->release(e->pagemap);
}

OrderRunner executor_runner(Executor *e) {
        return (OrderRunner) { runner_run, runner_release, e };
}
