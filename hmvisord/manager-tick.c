/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The two timers. The beat keeps conversations and leases going while any domain is watched. The epoch is
 * one tick of the policy: counters held, facts gathered, core_step(), counters released, orders carried out.
 */
#include <time.h>

#include "base/log.h"
#include "manager-internal.h"

#define BUSY_WAIT_USEC (10 * USEC_PER_MSEC) /* for all domains of an epoch together; a sample takes 2-7 ms  \
                                             */
#define BUSY_STEP_USEC 500
#define COUNTERS_USEC USEC_PER_SEC

/* Everything that one core_step() is told, with the memory behind it. */
typedef struct DomainInput {
        Domain *d;
        AckFacts ack;
        MarketFacts market;
        RangeFacts ranges[HOTNESS_RANGES_MAX];
} DomainInput;

static bool anybody_busy(Manager *m) {
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp)
                if (d->held && source_is_busy(d->source))
                        return true;
        return false;
}

/* Keeps samples out of all tables. A QEMU that does not come to an end in time keeps its counters for the
 * next epoch; one that lies costs all others BUSY_WAIT_USEC at most. */
static void hold_all(Manager *m) {
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp)
                if ((d->held = d->source != NULL))
                        source_hold(d->source);
        for (usec_t waited = 0; waited < BUSY_WAIT_USEC && anybody_busy(m); waited += BUSY_STEP_USEC)
                (void) nanosleep(&(struct timespec) { .tv_nsec = BUSY_STEP_USEC * 1000 }, NULL);
        HASH_ITER(hh, m->domains, d, tmp)
                if (d->held && source_is_busy(d->source)) {
                        source_release(d->source, false, false);
                        d->held = false;
                }
}

static void release_all(Manager *m, bool clear) {
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp) {
                if (d->held && d->source) {
                        source_skip(d->source, tracking_skips(d));
                        source_release(d->source, clear && d->samples > 0, tracking_rests(d));
                }
                d->held = false;
        }
}

/* NULL: memory of no cell, or of a device with nothing plugged. */
static const DomainCell *cell_of_block(const DomainInfo *info, const char *block) {
        for (size_t i = 0; i < info->n_cells; i++) {
                const DomainCell *c = &info->cells[i];
                bool device = false;

                if (cell_owns_block(c, block, &device))
                        return device && c->device_current_bytes == 0 ? NULL : c;
        }
        return NULL;
}

/* The core's generation of ranges: of what it is told, since what belongs to a cell changes with the
 * domain's XML too. FNV-1a over the values (Fowler, Noll, Vo: offset basis and prime of the 64-bit variant).
 */
static uint64_t ranges_generation(const RangeFacts *ranges, size_t n) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < n; i++) {
                const uint64_t values[] = { ranges[i].gfn, ranges[i].n_pages, ranges[i].cell };

                for (size_t k = 0; k < ELEMENTSOF(values); k++)
                        hash = (hash ^ values[k]) * UINT64_C(0x100000001b3);
        }
        return hash;
}

static size_t gather_ranges(Domain *d, RangeFacts *ret, uint64_t *ret_generation) {
        const SourceRange *ranges;
        bool can_skip = true;
        size_t n, n_facts = 0;

        n = source_collect(d->source, &ranges, &d->samples);
        if (!d->held)
                d->samples = 0;
        d->dram_blocks = 0;
        for (size_t i = 0; i < n; i++) {
                const DomainCell *cell = cell_of_block(&d->info, ranges[i].block);
                bool seen = d->samples > 0 && !source_has_skipped(d->source, &ranges[i]);

                if (!cell)
                        continue;
                if (cell->tier == TIER_DRAM) {
                        d->dram_blocks |= ranges[i].skip;
                        can_skip = can_skip && ranges[i].skip != 0;
                }
                ret[n_facts++] = (RangeFacts) {
                        .gfn = ranges[i].gfn,
                        .n_pages = ranges[i].n_pages,
                        .cell = cell->cell,
                        .counters = seen ? ranges[i].counters : NULL,
                };
        }
        if (!can_skip)
                d->dram_blocks = 0;
        *ret_generation = ranges_generation(ret, n_facts);
        return n_facts;
}

static size_t gather_cells(const Domain *d, CellFacts *ret) {
        const AgentStats *stats = d->agent ? agent_link_stats(d->agent) : NULL;

        for (size_t i = 0; i < d->info.n_cells; i++) {
                const DomainCell *c = &d->info.cells[i];

                ret[i] = (CellFacts) {
                        .cell = c->cell,
                        .tier = c->tier,
                        .size_bytes = c->boot_bytes + c->device_current_bytes,
                        .guest_free_bytes = UINT64_MAX,
                        .guest_foreign_pages = UINT64_MAX,
                };
                for (size_t k = 0; stats && k < stats->n_nodes; k++)
                        if (stats->nodes[k].node == c->cell) {
                                ret[i].guest_free_bytes = stats->nodes[k].free_bytes;
                                ret[i].guest_foreign_pages = stats->nodes[k].foreign_pages;
                        }
        }
        return d->info.n_cells;
}

/* Between two incarnations it has an account, and nothing else that counts. */
static bool is_watched(const Domain *d) {
        return d->source && d->info_known;
}

static DomainFacts gather_domain(DomainInput *in) {
        Domain *d = in->d;
        DomainFacts f = {
                .domain = d->key,
                .policy = d->policy,
                .frozen = domain_is_frozen(d) || !is_watched(d),
                .ranges = in->ranges,
        };

        _Static_assert(CELLS_MAX >= DOMAIN_CELLS_MAX, "the core takes as many cells as a domain can have");
        f.n_cells = gather_cells(d, f.cells);
        f.policy.trading = f.policy.trading && !domain_is_dry(d);
        if (market_takes_part(d)) {
                market_facts(d, &in->market);
                f.market = &in->market;
        }
        if (!is_watched(d))
                return f;
        f.agent_ready = agent_link_health(d->agent) == AGENT_READY;
        f.ack = order_ack(d, &in->ack);
        f.n_ranges = gather_ranges(d, in->ranges, &f.ranges_generation);
        f.samples = d->samples;
        f.has_ring = tracking_has_ring(d);
        tracking_look(d);
        f.faults_per_sec = tracking_limit(d);
        return f;
}

static int compare_keys(const void *a, const void *b) {
        const DomainInput *x = a, *y = b;

        return x->d->key < y->d->key ? -1 : x->d->key > y->d->key;
}

static void carry_out(Manager *m, const Inputs *in, const OrderList *list) {
        Domain *d;

        for (size_t i = 0; i < in->n_domains; i++)
                if (in->domains[i].ack && (d = manager_domain_by_key(m, in->domains[i].domain)))
                        order_acknowledged(d, in->domains[i].ack);
        for (size_t i = 0; i < list->n_decisions; i++)
                if ((d = manager_domain_by_key(m, list->decisions[i].domain)) && is_watched(d))
                        decision_keep(d, &list->decisions[i]);
        for (size_t i = 0; i < list->n_orders; i++)
                if ((d = manager_domain_by_key(m, list->orders[i].domain)))
                        order_carry(d, &list->orders[i]);
        market_carry(m, in, list);
}

static int epoch_step(Manager *m, DomainInput *inputs, DomainFacts *facts, size_t n, OrderList *ret) {
        Inputs in = { .policy = m->conf->host, .domains = facts, .n_domains = n };
        int r;

        qsort(inputs, n, sizeof(*inputs), compare_keys);
        market_inputs(m, &in);
        for (size_t i = 0; i < n; i++)
                facts[i] = gather_domain(&inputs[i]);
        r = core_step(m->core, &in, manager_now(m), ret);
        release_all(m, r >= 0);
        if (r < 0)
                return log_error_errno(r, "This epoch is lost: the policy refused its facts");
        carry_out(m, &in, ret);
        return 0;
}

void manager_epoch(Manager *m) {
        _cleanup_free_ DomainInput *inputs = NULL;
        _cleanup_free_ DomainFacts *facts = NULL;
        OrderList list = {};
        Domain *d, *tmp;
        size_t n = 0;

        HASH_ITER(hh, m->domains, d, tmp)
                n += is_watched(d) || market_takes_part(d);
        inputs = calloc(n + 1, sizeof(*inputs));
        facts = calloc(n + 1, sizeof(*facts));
        if (!inputs || !facts)
                return (void) log_error_errno(ENOMEM, "This epoch is lost");
        n = 0;
        HASH_ITER(hh, m->domains, d, tmp) {
                d->samples = 0;
                if (is_watched(d) || market_takes_part(d))
                        inputs[n++].d = d;
        }
        hold_all(m);
        if (epoch_step(m, inputs, facts, n, &list) >= 0)
                order_list_done(&list);
}

static int on_epoch(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;
        usec_t now = manager_now(m);

        if (!m->stopping)
                manager_epoch(m);
        (void) sd_event_source_set_time(s, now + m->conf->host.epoch_usec);
        return sd_event_source_set_enabled(s, m->stopping ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

/* They grow only, so that one sum tells whether any has changed. */
static uint64_t counters_sum(const Domain *d) {
        const HotnessStatus *s = source_status(d->source);
        DomainTotals t = {};
        uint64_t sum;

        (void) core_get_totals(d->manager->core, d->key, &t);
        sum = t.epochs + t.sightings + t.orders + t.failed_orders + t.promoted_pages + t.demoted_pages;
        for (size_t i = 0; i < _SKIP_MAX; i++)
                sum += t.skipped_pages[i];
        return sum + (s ? s->epochs + s->dropped + s->cost_ns : 0);
}

static void domain_tell_counters(Domain *d, usec_t now) {
        Manager *m = d->manager;
        uint64_t sum;

        if (!m->hooks.counters_changed || now < d->counters_told + COUNTERS_USEC)
                return;
        sum = counters_sum(d);
        if (sum == d->counters_sum)
                return;
        d->counters_told = now;
        d->counters_sum = sum;
        m->hooks.counters_changed(d->uuid, m->hooks.userdata);
}

/* Returns after how long the next one is due. */
static usec_t domain_beat(Domain *d, usec_t now) {
        source_renew(d->source, now);
        if (d->manager->connected) {
                source_run(d->source, now);
                agent_link_run(d->agent, now);
        }
        domain_evaluate(d);
        domain_tell_counters(d, now);
        return source_is_calm(d->source) && agent_link_is_calm(d->agent) ? CALM_BEAT_USEC : BEAT_USEC;
}

static int on_beat(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;
        usec_t now = manager_now(m), pause = m->stopping ? BEAT_USEC : CALM_BEAT_USEC;
        bool stopped = true, needed = m->stopping;
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp) {
                if (d->source) {
                        pause = MIN(pause, domain_beat(d, now));
                        needed = true;
                }
                stopped = stopped && domain_is_stopped(d);
        }
        if (m->stopping && (stopped || !m->connected))
                return sd_event_exit(m->event, 0);
        if (!needed)
                return sd_event_source_set_enabled(s, SD_EVENT_OFF);
        (void) sd_event_source_set_time(s, now + pause);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

void manager_tick_wake(Manager *m) {
        int enabled = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(m->beat, &enabled);
        if (enabled != SD_EVENT_OFF)
                return;   /* it comes soon enough */
        (void) sd_event_source_set_time(m->beat, manager_now(m));
        (void) sd_event_source_set_enabled(m->beat, SD_EVENT_ONESHOT);
}

int manager_tick_start(Manager *m) {
        int r;

        r = sd_event_add_time(m->event, &m->beat, CLOCK_MONOTONIC, 0, BEAT_USEC / 10, on_beat, m);
        if (r >= 0)
                r = sd_event_source_set_enabled(m->beat, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(m->event, &m->epoch, CLOCK_MONOTONIC,
                                      manager_now(m) + m->conf->host.epoch_usec, 0, on_epoch, m);
        return r;
}
