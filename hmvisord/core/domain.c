/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One domain through its ticks: warming up -> ready -> busy -> settling -> ready.
 */
#include "core/domain.h"

int domain_new(uint64_t key, Domain **ret) {
        Domain *d = calloc(1, sizeof(*d));

        if (!d)
                return -ENOMEM;
        d->domain = key;
        d->decision.verdict = _VERDICT_MAX;
        d->wish_decision.reason = WISH_NO_SIGNAL;
        *ret = d;
        return 0;
}

static void order_done(Order *o) {
        free(o->promote.ranges);
        free(o->demote.ranges);
        *o = (Order){ 0 };
}

Domain *domain_free(Domain *d) {
        if (!d)
                return NULL;
        heatmap_done(&d->heatmap);
        payoff_done(&d->payoff);
        order_done(&d->under_way);
        free(d);
        return NULL;
}

bool domain_state_may_become(DomainState from, DomainState to) {
        static const bool table[_DOMAIN_STATE_MAX][_DOMAIN_STATE_MAX] = {
                [DOMAIN_WARMING] = { [DOMAIN_READY] = true },
                [DOMAIN_READY] = { [DOMAIN_BUSY] = true, [DOMAIN_SETTLING] = true /* after a dry run */ },
                [DOMAIN_BUSY] = { [DOMAIN_SETTLING] = true, [DOMAIN_READY] = true /* never handed out */ },
                [DOMAIN_SETTLING] = { [DOMAIN_READY] = true, [DOMAIN_BUSY] = true /* for room */ },
        };

        return table[from][to];
}

static void domain_set_state(Domain *d, DomainState to) {
        if (domain_state_may_become(d->state, to))
                d->state = to;
}

uint64_t policy_min_order_pages(const DomainPolicy *p) {
        return MIN(MAX(p->min_order_pages, UINT64_C(1)), (uint64_t) ORDER_PAGES_MAX);
}

uint64_t domain_min_order_pages(const Domain *d, const DomainPolicy *p) {
        uint64_t minimum = policy_min_order_pages(p);

        if (d->room_pages > 0)
                return MIN(minimum, d->room_pages);
        return d->plan.steady_pages > 0 ? MIN(minimum, d->plan.steady_pages) : minimum;
}

uint64_t order_bytes(uint64_t promote_pages) {
        return 2 * promote_pages * PAGE_BYTES;
}

static void domain_count_ack(Domain *d, const AckFacts *ack) {
        d->totals.promoted_pages += ack->promoted_pages;
        d->totals.demoted_pages += ack->demoted_pages;
        for (size_t i = 0; i < _SKIP_MAX; i++)
                d->totals.skipped_pages[i] += ack->skipped_pages[i];
        if (ack->state == ACK_FAILED)
                d->totals.failed_orders++;
}

static void domain_settle(Domain *d, const DomainPolicy *policy) {
        uint64_t pause = MIN((uint64_t) policy->settle_epochs, UINT64_C(1) << 32);

        d->epochs_left = d->backoff == 0 ? pause : MAX(pause, UINT64_C(1)) << d->backoff;
        domain_set_state(d, DOMAIN_SETTLING);
}

/* What the guest says of the order, cut down to what was ordered. */
static AckFacts ack_bound(const AckFacts *ack, const Order *o) {
        AckFacts bound = { .order = ack->order, .state = ack->state };
        uint64_t left;

        bound.promoted_pages = MIN(ack->promoted_pages, o->promote.n_pages);
        bound.demoted_pages = MIN(ack->demoted_pages, o->demote.n_pages);
        left = o->promote.n_pages + o->demote.n_pages - bound.promoted_pages - bound.demoted_pages;
        for (size_t i = 0; i < _SKIP_MAX; i++) {
                bound.skipped_pages[i] = MIN(ack->skipped_pages[i], left);
                left -= bound.skipped_pages[i];
        }
        return bound;
}

/* Gives the front of a list a heat, or (HEAT_VALUES) leaves it. Returns the frame behind the last one. */
static uint64_t list_front_set_heat(Heatmap *m, const PageList *l, uint64_t n_pages, uint32_t heat) {
        uint64_t next = 0;

        for (size_t i = 0; i < l->n_ranges && n_pages > 0; i++) {
                uint64_t n = MIN(l->ranges[i].n_pages, n_pages);

                if (heat < HEAT_VALUES)
                        heatmap_set_heat(m, l->ranges[i].gfn, n, (uint8_t) heat);
                next = l->ranges[i].gfn + n;
                n_pages -= n;
        }
        return next;
}

/* The frames of an order hold other pages now. Which, the guest alone knows; but it works its lists off from
 * the front, so what it moved or skipped is their front. Frames that pages were promoted from are taken to
 * be cold: a page that was skipped shows by its next writes. Frames that were demoted from most likely hold
 * the promoted pages: they get these pages' heat, and cool down if that was wrong. Where most of them were
 * skipped, that is wrong of most: as much heat as that leaves then is spread over all, or a few such orders
 * would make all of DRAM look too warm to be displaced. Whether they are written again tells whether the
 * order paid. */
static void domain_move_heat(Domain *d, const AckFacts *ack, bool lost) {
        Order *o = &d->under_way;
        uint64_t tried = ack->promoted_pages + ack->demoted_pages, next, heat;

        for (size_t i = 0; i < _SKIP_MAX; i++)
                tried += i == SKIP_NO_ROOM ? 0 : ack->skipped_pages[i];
        if (lost)
                tried = o->promote.n_pages; /* not a word came back: it may have done all of it */
        if (ack->promoted_pages > 0 || lost)
                list_front_set_heat(&d->heatmap, &o->promote, MIN(tried, o->promote.n_pages), 0);
        tried = lost ? 0 : MIN(tried - MIN(tried, ack->promoted_pages), o->demote.n_pages);
        heat = d->least_heat * MIN(DEMOTE_OVERPROVISION * ack->promoted_pages, tried) /
               MAX(tried, UINT64_C(1));
        next = list_front_set_heat(&d->heatmap, &o->demote, tried,
                                   ack->promoted_pages > 0 ? (unsigned) heat : HEAT_VALUES);
        if (next > 0)
                d->demote_from = next;
        payoff_begin(&d->payoff, &o->demote, tried, MIN(ack->promoted_pages, ack->demoted_pages),
                     (uint32_t) heat);
}

/* Cold DRAM pages that were asked for and gave no room: the kernel's own, free ones that it keeps in
 * reserve. They look cold for ever, and without them there was nothing to displace. */
static uint64_t ack_stuck_pages(const AckFacts *ack, const Order *o) {
        uint64_t stuck = 0;

        if (ack->state != ACK_DONE || ack->skipped_pages[SKIP_NO_ROOM] <= o->promote.n_pages / 4 * 3)
                return 0;
        for (size_t i = 0; i < _SKIP_MAX; i++)
                stuck += i == SKIP_NO_ROOM || i == SKIP_ALREADY_THERE ? 0 : ack->skipped_pages[i];
        return MIN(stuck, o->demote.n_pages);
}

/* A guest keeps some memory of each node free. Where it has less than that, what is demoted first makes no
 * room, and by how much it lacks only its guest knows: the next order brings more, and twice as many each
 * time. */
static uint64_t ack_lack_pages(const AckFacts *ack, uint64_t lack_pages) {
        uint64_t no_room = ack->skipped_pages[SKIP_NO_ROOM];

        if (ack->state != ACK_DONE || no_room == 0)
                return 0;
        return MIN(MAX(2 * lack_pages, LACK_FACTOR * no_room), (uint64_t) ORDER_PAGES_MAX);
}

/* The end of an order, however it came. */
static int domain_end_order(Domain *d, const DomainPolicy *policy, const AckFacts *ack, bool lost) {
        uint64_t ordered = d->under_way.promote.n_pages;
        uint64_t refused = ordered - ack->promoted_pages, stuck = ack_stuck_pages(ack, &d->under_way);
        int r = 0;

        /* An order of which next to nothing was moved is not repeated soon; and where that was not for want
         * of room, its pages are not asked for again for a while. Where it was, and as many cold pages as it
         * needed are stuck, the next order reckons without those, and need not wait. */
        if (ack->promoted_pages < ordered / 8 + 1 && stuck >= refused && stuck > d->stuck_pages) {
                d->stuck_pages = stuck;
                d->stuck_epochs_left = BAR_EPOCHS;
        } else if (ack->promoted_pages < ordered / 8 + 1) {
                d->backoff = MIN(d->backoff + 1, (unsigned) BACKOFF_MAX);
                refused -= MIN(refused, ack->skipped_pages[SKIP_NO_ROOM]);
                if (ack->state == ACK_DONE && refused > ordered / 4 * 3) {
                        r = heatmap_bar(&d->heatmap, d->under_way.promote.ranges,
                                        d->under_way.promote.n_ranges);
                        d->bar_epochs_left = BAR_EPOCHS;
                }
        } else
                d->backoff = 0;

        d->lack_pages = ack_lack_pages(ack, d->lack_pages);
        domain_move_heat(d, ack, lost);
        order_done(&d->under_way);
        domain_settle(d, policy);
        return r;
}

/* Of an order that only made room. What was demoted was cold and its frames are free now; what will be in
 * them shows by its writes. */
static void domain_end_room(Domain *d, const DomainPolicy *policy) {
        const PageList *l = &d->under_way.demote;

        if (l->n_ranges > 0)
                d->demote_from = l->ranges[l->n_ranges - 1].gfn + l->ranges[l->n_ranges - 1].n_pages;
        d->epochs_left = MAX(d->epochs_left, (uint64_t) policy->settle_epochs);
        order_done(&d->under_way);
        domain_set_state(d, DOMAIN_SETTLING);
}

static int domain_take_ack(Domain *d, const DomainPolicy *policy, const AckFacts *ack, bool lost) {
        domain_count_ack(d, ack);
        if (d->under_way.promote.n_pages > 0)
                return domain_end_order(d, policy, ack, lost);
        domain_end_room(d, policy);
        return 0;
}

static bool facts_have_samples(const DomainFacts *facts) {
        for (size_t i = 0; i < facts->n_ranges; i++)
                if (facts->ranges[i].counters)
                        return facts->samples > 0;
        return false;
}

/* Returns whether none is left. */
static bool epochs_pass(uint64_t *left, uint64_t n_epochs) {
        *left -= MIN(*left, n_epochs);
        return *left == 0;
}

/* An epoch with samples, at the end of so many: pages settle with time, and what a guest could not move it
 * may be able to by now, whether it is watched or not. */
static void domain_pass_epoch(Domain *d, const DomainPolicy *policy, uint64_t n_epochs) {
        d->totals.epochs++;
        payoff_pass_epoch(&d->payoff);
        if (d->state == DOMAIN_WARMING && d->totals.epochs >= policy->warmup_epochs)
                domain_set_state(d, DOMAIN_READY);
        if (d->state == DOMAIN_SETTLING && epochs_pass(&d->epochs_left, n_epochs))
                domain_set_state(d, DOMAIN_READY);
        if (epochs_pass(&d->bar_epochs_left, n_epochs))
                heatmap_unbar(&d->heatmap);
        if (epochs_pass(&d->stuck_epochs_left, n_epochs))
                d->stuck_pages = 0;
}

int domain_observe(Domain *d, const DomainFacts *facts, usec_t now) {
        HeatLook look = { 0 };
        int r = 0;

        d->sampled = false;
        d->epochs_since++;
        if (!facts->frozen) {
                if (!d->has_ranges || d->ranges_generation != facts->ranges_generation) {
                        r = heatmap_set_ranges(&d->heatmap, facts->ranges, facts->n_ranges);
                        if (r < 0)
                                return r;
                        d->has_ranges = true;
                        d->ranges_generation = facts->ranges_generation;
                }
                d->sampled = facts_have_samples(facts);
                if (d->sampled) {
                        d->sampled_at = now;
                        look = heatmap_update(&d->heatmap, facts->ranges, facts->samples);
                        d->totals.sightings += look.sightings;
                        domain_pass_epoch(d, &facts->policy, d->epochs_since);
                        d->epochs_since = 0;
                }
        }
        tracking_step(&d->tracking, facts->faults_per_sec, tracking_faults(look.sightings, facts->has_ring),
                      d->sampled ? &look : NULL, now);

        if (d->state != DOMAIN_BUSY)
                return 0;
        if (facts->ack && facts->ack->order == d->under_way.order && facts->ack->state != ACK_RUNNING) {
                AckFacts ack = ack_bound(facts->ack, &d->under_way);

                r = domain_take_ack(d, &facts->policy, &ack, false);
        } else if (now - d->ordered_at >= ORDER_TIMEOUT_USEC) {
                AckFacts none = { .order = d->under_way.order, .state = ACK_FAILED };

                r = domain_take_ack(d, &facts->policy, &none, true);
        }
        return r;
}

/* Asks about the largest DRAM cell and all slow cells (the largest first: it takes what is demoted). */
static bool question_ask(const Domain *d, const DomainFacts *facts, PlanQuestion *ret) {
        const CellFacts *dram = NULL;
        uint64_t largest_slow = 0;
        PlanQuestion q = {
                .heatmap = &d->heatmap,
                .stuck_pages = d->stuck_pages,
                .lack_pages = d->lack_pages,
                .hot_heat = facts->policy.hot_heat,
                .hysteresis = facts->policy.hysteresis,
                .samples = facts->samples,
        };

        for (size_t i = 0; i < facts->n_cells; i++) {
                const CellFacts *c = &facts->cells[i];

                if (c->size_bytes < PAGE_BYTES)
                        continue;
                if (c->tier == TIER_DRAM) {
                        if (!dram || c->size_bytes > dram->size_bytes)
                                dram = c;
                } else {
                        q.slow_cells[q.n_slow_cells] = c->cell;
                        if (c->size_bytes > largest_slow) {
                                q.slow_cells[q.n_slow_cells] = q.slow_cells[0];
                                q.slow_cells[0] = c->cell;
                                largest_slow = c->size_bytes;
                        }
                        q.n_slow_cells++;
                }
        }
        if (!dram || q.n_slow_cells == 0)
                return false;
        q.dram_cell = dram->cell;
        q.dram_pages = dram->size_bytes / PAGE_BYTES;
        /* At first the coldest frames are its kernel's own, which cannot be moved, and lie together. */
        if (d->totals.promoted_pages == 0)
                q.lack_pages = MAX(q.lack_pages, q.dram_pages / DRAM_RESERVE);
        *ret = q;
        return true;
}

static Verdict domain_judge(Domain *d, const DomainFacts *facts) {
        if (!facts->policy.managed)
                return VERDICT_NOT_MANAGED;
        if (facts->frozen)
                return VERDICT_FROZEN;
        if (!question_ask(d, facts, &d->question))
                return VERDICT_NO_TIERS;
        if (!d->sampled)
                return VERDICT_NO_SAMPLES;
        if (d->state == DOMAIN_WARMING)
                return VERDICT_WARMING_UP;
        if (!facts->agent_ready)
                return VERDICT_NO_AGENT;
        if (d->state == DOMAIN_BUSY)
                return VERDICT_BUSY;
        if (d->state == DOMAIN_SETTLING)
                return VERDICT_SETTLING;
        return VERDICT_BALANCED;
}

/* An order ends the turn of tracking, and the guest pays for each end. In the first turn, if it can go on,
 * only what changes much is ordered at once; the rest with what is learned until then. */
static bool domain_learns(Domain *d) {
        bool waits = tracking_goes_on(&d->tracking) && d->totals.promoted_pages == 0 &&
                     d->plan.gain < d->plan.total_heat / GAIN_AT_ONCE && d->learning_epochs < HEAT_MEMORY;

        d->learning_epochs = waits ? d->learning_epochs + 1 : 0;
        return waits;
}

/* Where there is nothing to promote, room may be made for what is to come: best while tracking is at rest
 * anyway, but it is not waited for longer than a pause. */
static bool domain_wants_room(Domain *d, const DomainFacts *facts, Verdict verdict, usec_t now) {
        const CellFacts *dram = facts->cells;
        int slot = heatmap_find_slot(&d->heatmap, d->question.dram_cell);
        uint64_t free_pages;
        bool can = verdict_is_rest(verdict) || verdict == VERDICT_SETTLING ||
                   (verdict == VERDICT_NO_SAMPLES && facts->agent_ready &&
                    (d->state == DOMAIN_READY || d->state == DOMAIN_SETTLING));

        d->room_pages = 0;
        if (!can || slot < 0)
                return false;
        while (dram->cell != d->question.dram_cell)
                dram++;
        free_pages = dram->guest_free_bytes == UINT64_MAX ? UINT64_MAX : dram->guest_free_bytes / PAGE_BYTES;
        room_look(&d->room, dram->guest_foreign_pages, now);
        if (!d->sampled || now >= d->room.next + ROOM_PAUSE_USEC)
                d->room_pages = MIN(room_wanted(&d->room, d->question.dram_pages, free_pages, now),
                                    d->heatmap.histogram[slot][0]);
        return d->room_pages > 0;
}

void domain_plan(Domain *d, const DomainFacts *facts, usec_t now, Decision *ret) {
        Decision decision = { .domain = d->domain, .when = now, .verdict = domain_judge(d, facts) };

        d->wants = false;
        if (decision.verdict == VERDICT_BUSY)
                decision.order = d->under_way.order;
        if (decision.verdict == VERDICT_BALANCED) {
                plan_compute(&d->question, &d->plan);
                decision.threshold = d->plan.threshold;
                decision.hot_slow_pages = d->plan.hot_slow_pages;
                decision.hot_dram_pages = d->plan.hot_dram_pages;
                decision.cold_dram_pages = d->plan.cold_dram_pages;
                d->wants = d->plan.pages >= domain_min_order_pages(d, &facts->policy);
                payoff_judge(&d->payoff, &d->heatmap, facts->samples, d->wants, now);
                if (d->wants && payoff_pauses(&d->payoff, d->plan.pages, now)) {
                        d->wants = false;
                        decision.verdict = VERDICT_VAIN;
                } else if (d->wants && domain_learns(d)) {
                        d->wants = false;
                        decision.verdict = VERDICT_LEARNING;
                } else if (d->wants)
                        decision.verdict = VERDICT_RATE_CAPPED; /* until it is granted bytes */
                scope_step(&d->scope, !verdict_is_rest(decision.verdict), d->plan.slow_heat,
                           d->plan.total_heat, now);
        }
        if (!facts->policy.managed || facts->policy.trading)
                d->scope = (Scope){ 0 }; /* what DRAM is worth to who trades, its heat tells */
        if (domain_wants_room(d, facts, decision.verdict, now)) {
                d->wants = true;
                d->plan = (Plan){ .pages = d->room_pages };
        }
        *ret = decision;
}

static int page_list_copy(PageList *to, const PageList *from) {
        PageRange *ranges = malloc(MAX(from->n_ranges, 1U) * sizeof(*ranges));

        if (!ranges)
                return -ENOMEM;
        if (from->n_ranges > 0)
                memcpy(ranges, from->ranges, from->n_ranges * sizeof(*ranges));
        *to = *from;
        to->ranges = ranges;
        return 0;
}

static int order_copy(Order *to, const Order *from) {
        Order copy = *from;

        copy.promote.ranges = copy.demote.ranges = NULL;
        if (page_list_copy(&copy.promote, &from->promote) < 0 ||
            page_list_copy(&copy.demote, &from->demote) < 0) {
                order_done(&copy);
                return -ENOMEM;
        }
        *to = copy;
        return 0;
}

static int domain_list_room(Domain *d, uint64_t n_pages, usec_t now, Order *o, Decision *decision) {
        int r;

        r = plan_list_room(&d->question, n_pages, d->demote_from, &o->demote);
        if (r < 0)
                return r;
        o->demote_most = MIN(n_pages, o->demote.n_pages);
        decision->lacked_pages = d->room.lacked_pages;
        room_ordered(&d->room, o->demote_most, d->question.dram_pages, now);
        return 0;
}

int domain_order(Domain *d, const DomainPolicy *policy, uint64_t id, uint64_t n_pages, bool dry_run,
                 usec_t now, Order *ret, Decision *decision) {
        Order o = { .domain = d->domain, .order = id, .dry_run = dry_run };
        uint8_t least = 0;
        int r;

        if (d->room_pages > 0)
                r = domain_list_room(d, n_pages, now, &o, decision);
        else
                r = plan_list(&d->question, &d->plan, n_pages, d->demote_from, &o.promote, &o.demote,
                              &least);
        if (r < 0)
                return r;
        if (dry_run)
                domain_settle(d, policy);
        else {
                r = order_copy(&d->under_way, &o);
                if (r < 0) {
                        order_done(&o);
                        return r;
                }
                d->ordered_at = now;
                d->least_heat = least;
                d->totals.orders++;
                domain_set_state(d, DOMAIN_BUSY);
        }
        decision->verdict = dry_run ? VERDICT_DRY_RUN : VERDICT_ORDERED;
        decision->order = id;
        decision->promote_pages = o.promote.n_pages;
        decision->demote_pages = o.demote_most ?: o.demote.n_pages;
        *ret = o;
        return 0;
}

void domain_cancel_order(Domain *d) {
        if (d->state != DOMAIN_BUSY)
                return;
        order_done(&d->under_way);
        d->totals.orders--;
        domain_set_state(d, DOMAIN_READY);
}
