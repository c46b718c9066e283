/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The seam: one tick over all domains. Each domain observes and plans for itself; here is what they share,
 * the host's rate cap and whose turn it is.
 */
#include "core/domain.h"

#define ROOM_KEPT 8 /* of a guest's memory, one part in so many is never asked for */
#define ROOM_KEPT_MAX (UINT64_C(200) << 20)

struct Core {
        Domain **domains; /* ascending by key, as in the last inputs */
        size_t n_domains;
        usec_t now;
        uint64_t last_order; /* the last id given out */
        uint64_t turn;       /* key of the domain that was served last: the next one comes first */
        Pacer pacer;
        Trade *trade; /* NULL: no market yet */
};

int core_new(Core **ret) {
        Core *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        *ret = c;
        return 0;
}

Core *core_free(Core *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_domains; i++)
                domain_free(c->domains[i]);
        free(c->domains);
        trade_free(c->trade);
        free(c);
        return NULL;
}

static Domain *core_find(const Core *c, uint64_t key) {
        size_t low = 0, high = c->n_domains;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (c->domains[middle]->domain == key)
                        return c->domains[middle];
                if (c->domains[middle]->domain < key)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

/* The same generation must mean the same ranges: heat would go to other frames. */
static int core_check(const Core *c, const Inputs *in) {
        if (inputs_check(in) < 0)
                return -EINVAL;
        for (size_t i = 0; i < in->n_domains; i++) {
                const DomainFacts *facts = &in->domains[i];
                const Domain *d = core_find(c, facts->domain);

                if (d && !facts->frozen && d->has_ranges &&
                    d->ranges_generation == facts->ranges_generation &&
                    !heatmap_has_ranges(&d->heatmap, facts->ranges, facts->n_ranges))
                        return -EINVAL;
        }
        return 0;
}

/* Makes c->domains hold exactly the domains of the inputs. Returns 0, or -ENOMEM with nothing changed. */
static int core_match_domains(Core *c, const Inputs *in) {
        _cleanup_free_ Domain **domains = calloc(MAX(in->n_domains, 1U), sizeof(*domains));
        size_t old = 0;

        if (!domains)
                return -ENOMEM;
        for (size_t i = 0; i < in->n_domains; i++) {
                domains[i] = core_find(c, in->domains[i].domain);
                if (domains[i] || domain_new(in->domains[i].domain, &domains[i]) == 0)
                        continue;
                while (i-- > 0)
                        if (!core_find(c, domains[i]->domain))
                                domain_free(domains[i]);
                return -ENOMEM;
        }
        for (size_t i = 0; i < c->n_domains; i++) {
                while (old < in->n_domains && in->domains[old].domain < c->domains[i]->domain)
                        old++;
                if (old == in->n_domains || in->domains[old].domain != c->domains[i]->domain)
                        domain_free(c->domains[i]);
        }
        free(c->domains);
        c->domains = TAKE_PTR(domains);
        c->n_domains = in->n_domains;
        return 0;
}

/* A bucket holds one epoch's worth, or one smallest order where that is more. No rate, no moves. */
static uint64_t burst_bytes(uint64_t bytes_per_sec, usec_t epoch, uint64_t min_order_pages) {
        return bytes_per_sec == 0 ? 0 : MAX(rate_over(bytes_per_sec, epoch), order_bytes(min_order_pages));
}

static void core_refill(Core *c, const Inputs *in) {
        uint64_t largest_minimum = 1;

        for (size_t i = 0; i < c->n_domains; i++) {
                const DomainPolicy *policy = &in->domains[i].policy;
                uint64_t minimum = policy_min_order_pages(policy);

                pacer_refill(&c->domains[i]->pacer, policy->migrate_bytes_per_sec,
                             burst_bytes(policy->migrate_bytes_per_sec, in->policy.epoch_usec, minimum),
                             c->now);
                if (policy->managed)
                        largest_minimum = MAX(largest_minimum, minimum);
        }
        pacer_refill(&c->pacer, in->policy.migrate_bytes_per_sec,
                     burst_bytes(in->policy.migrate_bytes_per_sec, in->policy.epoch_usec, largest_minimum),
                     c->now);
}

/* The index of the domain that comes first in this tick: the one after the last served. */
static size_t core_first_in_turn(const Core *c) {
        for (size_t i = 0; i < c->n_domains; i++)
                if (c->domains[i]->domain > c->turn)
                        return i;
        return 0;
}

/* Promotions that a domain is granted: an equal share of the host's bytes among those still to be served,
 * all of them where a share is too little for an order; never more than its own bucket holds. 0: wait. */
static uint64_t core_grant(const Core *c, const Domain *d, uint64_t minimum, bool dry_run,
                           size_t n_waiting) {
        uint64_t host = c->pacer.tokens / order_bytes(1), own = d->pacer.tokens / order_bytes(1);
        uint64_t share = dry_run ? own : MAX(host / n_waiting, MIN(minimum, host));
        uint64_t granted = MIN(MIN(share, own), d->plan.pages);

        return granted >= minimum ? granted : 0;
}

static int core_make_orders(Core *c, const Inputs *in, Decision *decisions, OrderList *list) {
        size_t n_waiting = 0, first = core_first_in_turn(c);

        for (size_t i = 0; i < c->n_domains; i++)
                n_waiting += c->domains[i]->wants;
        for (size_t k = 0; k < c->n_domains && n_waiting > 0; k++) {
                size_t i = (first + k) % c->n_domains;
                Domain *d = c->domains[i];
                const DomainPolicy *policy = &in->domains[i].policy;
                bool dry_run = policy->dry_run || in->policy.dry_run;
                Order *o = &list->orders[list->n_orders];
                uint64_t pages, moved;
                int r;

                if (!d->wants)
                        continue;
                pages = core_grant(c, d, domain_min_order_pages(d, policy), dry_run, n_waiting--);
                if (pages == 0)
                        continue;
                r = domain_order(d, policy, c->last_order + 1, pages, dry_run, c->now, o, &decisions[i]);
                if (r < 0)
                        return r;
                list->n_orders++;
                c->last_order++;
                c->turn = d->domain;
                moved = order_bytes(o->promote.n_pages) + o->demote_most * PAGE_BYTES;
                pacer_take(&d->pacer, moved);
                if (!dry_run)
                        pacer_take(&c->pacer, moved);
        }
        return 0;
}

static void core_keep_decisions(Core *c, const Decision *decisions, OrderList *list) {
        for (size_t i = 0; i < c->n_domains; i++) {
                Domain *d = c->domains[i];
                const Decision *new = &decisions[i];
                bool made = new->verdict == VERDICT_ORDERED || new->verdict == VERDICT_DRY_RUN;

                if (made || new->verdict != d->decision.verdict)
                        list->decisions[list->n_decisions++] = *new;
                d->decision = *new;
        }
}

static int trade_facts_compare(const void *a, const void *b) {
        const TradeFacts *x = a, *y = b;

        return memcmp(&x->seen.id, &y->seen.id, sizeof(x->seen.id));
}

/* What the domain wishes now; heat is as its last samples left it. */
static void core_wish(Core *c, Domain *d, const DomainFacts *facts, const MarketPolicy *policy) {
        const Ledger *ledger = trade_ledger(c->trade);
        const Account *account = ledger_find(ledger, facts->market->id);
        WishFacts f = {
                .terms = &ledger->terms,
                .policy = policy,
                .trading = facts->policy.trading,
                .frozen = facts->frozen,
                .moved = facts->policy.managed && facts->agent_ready,
                .has_heat = d->totals.epochs > facts->policy.warmup_epochs &&
                            c->now - d->sampled_at <= HEAT_KEEPS_USEC,
                .swap_bytes_per_sec = facts->market->swap_bytes_per_sec,
                .swap_wait_usec = facts->market->swap_wait_usec,
                .said_swap_in_bytes = facts->market->said_swap_in_bytes,
                .said_stall_usec = facts->market->said_stall_usec,
                .available_bytes = facts->market->available_bytes,
                .position = account ? account->position : 0,
        };

        for (Tier t = 0; t < _TIER_MAX; t++) {
                uint64_t resident = facts->market->cells[t].resident_bytes;

                f.size_bytes[t] = facts->market->cells[t].size_bytes;
                f.resident_bytes = resident == UINT64_MAX || f.resident_bytes == UINT64_MAX
                                           ? UINT64_MAX
                                           : f.resident_bytes + MIN(resident, (uint64_t) MEMORY_BYTES_MAX);
        }
        for (size_t i = 0; i < facts->n_cells; i++) {
                int slot = heatmap_find_slot(&d->heatmap, facts->cells[i].cell);

                for (size_t heat = 0; slot >= 0 && heat < HEAT_VALUES; heat++)
                        f.heat[facts->cells[i].tier][heat] += d->heatmap.histogram[slot][heat];
        }
        wish_step(&d->wish, &f, c->now, &d->wish_decision);
}

/* What a guest keeps of its memory when it gives some: an eighth, and at most 200 MiB. Measured: asked for
 * more than it had, one guest in six killed its workload; in steps of 64 MiB with 200 MiB left to each of
 * them, none did. */
static uint64_t room_lacked(const MarketFacts *m, const MarketPolicy *policy) {
        uint64_t total = m->cells[TIER_DRAM].size_bytes + m->cells[TIER_SLOW].size_bytes;
        uint64_t wanted = policy->step_bytes + MIN(total / ROOM_KEPT, ROOM_KEPT_MAX), room;

        if (m->available_bytes == UINT64_MAX)
                return 0;
        room = MIN(m->available_bytes, total);
        if (m->swap_free_bytes != UINT64_MAX)
                room += MIN(m->swap_free_bytes, BYTES_MAX);
        return wanted - MIN(wanted, room);
}

static TradeFacts trade_facts_of(const DomainFacts *d, const MarketPolicy *policy, int64_t wish) {
        TradeFacts f = { .seen = { .id = d->market->id,
                                   .frozen = d->frozen,
                                   .lacks_bytes = room_lacked(d->market, policy) },
                         .trading = d->policy.trading,
                         .wish = wish };

        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                f.seen.cells[tier] = d->market->cells[tier];
                f.entitled_bytes[tier] = d->policy.entitled_bytes[tier];
                f.floor_bytes[tier] = d->policy.floor_bytes[tier];
                f.ceiling_bytes[tier] = d->policy.ceiling_bytes[tier];
        }
        return f;
}

static int core_command(Core *c, const MarketCommand *command) {
        int64_t lot;

        if (!c->trade)
                return -EOPNOTSUPP;
        lot = (int64_t) terms_lot_bytes(&trade_ledger(c->trade)->terms, TIER_DRAM);
        if (command->type == TRADE_LOTS && (command->dram_bytes == 0 || command->dram_bytes % lot != 0))
                return -EINVAL;
        return trade_command(c->trade, command->id, command->type, command->dram_bytes / lot);
}

/* Commands first, so that the clearing of this tick knows them; a new domain's from the next tick on. */
static int core_trade(Core *c, const Inputs *in, OrderList *list) {
        _cleanup_free_ TradeFacts *facts = calloc(in->n_domains + 1, sizeof(*facts));
        const MarketPolicy *policy = &in->policy.market;
        size_t n = 0;
        int r;

        if (!facts)
                return -ENOMEM;
        if (policy->enabled && !c->trade) {
                r = trade_new(policy, &c->trade);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < in->n_commands; i++)
                list->command_results[i] = core_command(c, &in->commands[i]);
        if (!policy->enabled)
                return 0;
        r = trade_set_terms(c->trade, policy);
        if (r < 0)
                return r;
        for (size_t i = 0; i < in->n_domains; i++)
                if (in->domains[i].market) {
                        Domain *d = c->domains[i];

                        core_wish(c, d, &in->domains[i], policy);
                        facts[n++] = trade_facts_of(&in->domains[i], policy, d->wish_decision.lots);
                }
        qsort(facts, n, sizeof(*facts), trade_facts_compare);
        return trade_step(c->trade, policy, facts, n, in->capacity_bytes, c->now, &list->market);
}

static int core_tick(Core *c, const Inputs *in, OrderList *list) {
        _cleanup_free_ Decision *decisions = NULL;
        int r;

        r = core_match_domains(c, in);
        if (r < 0)
                return r;
        decisions = calloc(MAX(c->n_domains, 1U), sizeof(*decisions));
        list->orders = calloc(MAX(c->n_domains, 1U), sizeof(*list->orders));
        list->decisions = calloc(MAX(c->n_domains, 1U), sizeof(*list->decisions));
        list->command_results = in->n_commands > 0 ? calloc(in->n_commands, sizeof(int)) : NULL;
        if (!decisions || !list->orders || !list->decisions ||
            (in->n_commands > 0 && !list->command_results))
                return -ENOMEM;

        core_refill(c, in);
        for (size_t i = 0; i < c->n_domains; i++) {
                r = domain_observe(c->domains[i], &in->domains[i], c->now);
                if (r < 0)
                        return r;
                domain_plan(c->domains[i], &in->domains[i], c->now, &decisions[i]);
        }
        r = core_make_orders(c, in, decisions, list);
        if (r < 0)
                return r;
        core_keep_decisions(c, decisions, list);
        list->market_result = core_trade(c, in, list);
        return 0;
}

int core_step(Core *c, const Inputs *in, usec_t now, OrderList *ret) {
        OrderList list = { 0 };
        int r;

        r = core_check(c, in);
        if (r < 0)
                return r;
        c->now = MAX(c->now, now);
        r = core_tick(c, in, &list);
        if (r < 0) {
                for (size_t i = 0; i < list.n_orders; i++)
                        domain_cancel_order(core_find(c, list.orders[i].domain));
                order_list_done(&list);
                return r;
        }
        *ret = list;
        return 0;
}

bool core_may_track(const Core *c, uint64_t domain) {
        const Domain *d = core_find(c, domain);

        return !d || tracking_is_affordable(&d->tracking);
}

bool core_skips_dram(const Core *c, uint64_t domain) {
        const Domain *d = core_find(c, domain);

        return d && d->scope.slow_only;
}

const Trade *core_get_trade(const Core *c) {
        return c->trade;
}

int core_resume_trade(Core *c, const MarketPolicy *policy, Ledger *ledger, usec_t now) {
        if (c->trade)
                return -EBUSY;
        return trade_resume(policy, ledger, now, &c->trade);
}

int core_get_heat(const Core *c, uint64_t domain, HeatHistogram *ret) {
        const Domain *d = core_find(c, domain);
        HeatHistogram h = { 0 };

        if (!d)
                return -ENOENT;
        h.n_cells = d->heatmap.n_cells;
        for (size_t i = 0; i < h.n_cells; i++) {
                h.cells[i].cell = d->heatmap.cells[i];
                for (unsigned heat = 0; heat < HEAT_VALUES; heat++)
                        h.cells[i].pages[heat_band(heat)] += d->heatmap.histogram[i][heat];
        }
        *ret = h;
        return 0;
}

int core_get_wish(const Core *c, uint64_t domain, WishDecision *ret) {
        const Domain *d = core_find(c, domain);

        if (!d)
                return -ENOENT;
        *ret = d->wish_decision;
        return 0;
}

int core_get_totals(const Core *c, uint64_t domain, DomainTotals *ret) {
        const Domain *d = core_find(c, domain);

        if (!d)
                return -ENOENT;
        *ret = d->totals;
        return 0;
}
