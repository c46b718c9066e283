/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See sim.h. What hostile guests do is here, too: all that reaches the core is what a real host would see.
 */
#include "sim.h"

#include <inttypes.h>

#include "base/units.h"
#include "guest.h"

#define SAMPLES 2             /* a second: the default SampleInterval */
#define MOVED_PER_SEC 15000   /* pages that a guest moves or vacates */
#define LIE (UINT64_C(1) << 60)
#define ALTERNATE_USEC (240 * USEC_PER_SEC) /* how long an over-asker shows one need, before the other */

typedef struct Vm {
        size_t group;
        AccountId id;
        Guest guest;
        uint64_t random;
        uint64_t domain; /* the daemon's key: another one after each start */
        bool on, frozen;
        usec_t next_event; /* of what a hostile guest does, or of a start */
        usec_t offset;     /* of its phases */
        size_t phase;
        uint64_t requested[_TIER_MAX];
        MarketFacts market;
        AckFacts lie;
} Vm;

struct Sim {
        Scenario scenario;
        Core *core;
        Terms terms;
        Vm *vms;
        size_t n_vms;
        usec_t now;
        uint64_t last_domain;
        uint64_t capacity[_TIER_MAX];
        DomainFacts *facts;
        size_t *fact_vm; /* whose facts */
        GroupView totals[GROUPS_MAX];
        Clearing cleared;
        uint64_t epoch;
        char fault[256];
};

static uint32_t vm_random(Vm *v) {
        v->random ^= v->random << 13;
        v->random ^= v->random >> 7;
        v->random ^= v->random << 17;
        return (uint32_t) (v->random >> 32);
}

static uint32_t pages_of(uint64_t bytes) {
        return (uint32_t) (bytes / 4096);
}

static const Group *vm_group(const Sim *s, const Vm *v) {
        return &s->scenario.groups[v->group];
}

/* ---- VMs ---- */

static void vm_enter_phase(Sim *s, Vm *v, const Phase *p) {
        const Group *g = vm_group(s, v);
        uint32_t used = pages_of(p->used_bytes), hot = pages_of(p->hot_bytes);

        guest_use_pages(&v->guest, used);
        guest_set_hot(&v->guest, used - hot, hot, p->permyriad);
        v->guest.setup.touched = pages_of(p->touched_bytes);
        if (g->behaviour == BEHAVE_OVERASKS)
                guest_set_hot(&v->guest, 0, used, 10000);
}

static void vm_start(Sim *s, Vm *v) {
        const Group *g = vm_group(s, v);
        uint64_t most_used = 0;

        for (size_t i = 0; i < g->n_phases; i++)
                most_used = MAX(most_used, g->phases[i].used_bytes);
        guest_done(&v->guest);
        guest_init(&v->guest,
                   &(GuestSetup){
                           .dram_frames = pages_of(g->start_bytes[TIER_DRAM]),
                           .slow_frames = pages_of(g->start_bytes[TIER_SLOW]),
                           .dram_max_frames = pages_of(g->most_bytes[TIER_DRAM]),
                           .slow_max_frames = pages_of(g->most_bytes[TIER_SLOW]),
                           .pages = pages_of(most_used),
                           .unmovable = pages_of(g->boot_bytes[TIER_DRAM]) / 16,
                           .samples = SAMPLES,
                           .workload = WORKLOAD_STATIC,
                           .pages_per_epoch = MOVED_PER_SEC,
                           .disk_operations = g->disk_operations,
                           .refuses = g->behaviour == BEHAVE_REFUSES,
                   },
                   v->random);
        memcpy(v->requested, g->start_bytes, sizeof(v->requested));
        v->domain = ++s->last_domain;
        v->on = true;
        v->phase = 0;
        vm_enter_phase(s, v, &g->phases[0]);
}

static uint64_t vm_size(const Vm *v, Tier t) {
        return v->on ? guest_frames(&v->guest, t) * UINT64_C(4096) : 0;
}

/* What was asked for is held, whatever a guest unplugged: it could plug it again. */
static uint64_t vm_held(const Vm *v, Tier t) {
        return v->on ? MAX(vm_size(v, t), v->requested[t]) : 0;
}

static bool host_has_room(const Sim *s, const Vm *v) {
        const Group *g = vm_group(s, v);

        for (Tier t = 0; t < _TIER_MAX; t++) {
                uint64_t held = g->start_bytes[t];

                for (size_t i = 0; i < s->n_vms; i++)
                        held += vm_held(&s->vms[i], t);
                if (held > s->capacity[t])
                        return false;
        }
        return true;
}

/* What a guest does beside its work, each second. */
static void vm_behave(Sim *s, Vm *v) {
        bool due = s->now >= v->next_event;

        switch (vm_group(s, v)->behaviour) {
        case BEHAVE_VANISHES:
                if (due && v->on)
                        v->on = false;
                else if (due && host_has_room(s, v)) /* else its start fails, and is tried again */
                        vm_start(s, v);
                else
                        return;
                v->next_event = s->now + (10 + vm_random(v) % 200) * USEC_PER_SEC;
                break;
        case BEHAVE_FREEZES:
                if (due) {
                        v->frozen = !v->frozen;
                        v->next_event = s->now + (1 + vm_random(v) % 120) * USEC_PER_SEC;
                }
                break;
        case BEHAVE_GRABS:
                for (Tier t = 0; t < _TIER_MAX; t++)
                        guest_ask_frames(&v->guest, t,
                                         pages_of(vm_random(v) % 2 ? vm_group(s, v)->boot_bytes[t]
                                                                   : v->requested[t]));
                break;
        default:
                break;
        }
}

static void vm_run(Sim *s, Vm *v) {
        const Group *g = vm_group(s, v);
        GroupView *total = &s->totals[v->group];
        uint64_t moved = v->guest.moved;

        while (v->phase + 1 < g->n_phases && s->now >= g->phases[v->phase + 1].at + v->offset)
                vm_enter_phase(s, v, &g->phases[++v->phase]);
        guest_run_epoch(&v->guest);
        total->writes += v->guest.writes;
        total->slow_writes += v->guest.slow_writes;
        total->swap_bytes += v->guest.swapped * UINT64_C(4096);
        total->moved_bytes += (v->guest.moved - moved) * 4096;
}

static void vm_facts(Sim *s, Vm *v, DomainFacts *ret) {
        const Group *g = vm_group(s, v);
        DomainPolicy policy = domain_policy_default();

        policy.managed = true;
        policy.trading = g->trading;
        memcpy(policy.entitled_bytes, g->start_bytes, sizeof(policy.entitled_bytes));
        guest_facts(&v->guest, v->domain, &policy, ret);
        v->market = (MarketFacts){
                .id = v->id,
                .swap_bytes_per_sec = v->guest.swapped * UINT64_C(4096),
                .swap_wait_usec = v->guest.swapped_in * USEC_PER_SEC / g->disk_operations,
                .available_bytes = guest_free_bytes(&v->guest),
                .swap_free_bytes = BYTES_MAX,
                .said_swap_in_bytes = UINT64_MAX,
                .said_stall_usec = UINT64_MAX,
        };
        for (Tier t = 0; t < _TIER_MAX; t++)
                v->market.cells[t] = (SettleCell){
                        .boot_bytes = g->boot_bytes[t],
                        .device_max_bytes = g->most_bytes[t] - g->boot_bytes[t],
                        .requested_bytes = v->requested[t],
                        .size_bytes = vm_held(v, t),
                        .resident_bytes = UINT64_MAX,
                };
        ret->market = &v->market;
        ret->frozen = v->frozen;
        if (g->behaviour == BEHAVE_LIES) {
                bool hungry = s->now / ALTERNATE_USEC % 2 == 0; /* or has more than it could ever use */

                v->market.available_bytes = hungry ? 0 : LIE;
                v->market.swap_bytes_per_sec = v->market.swap_wait_usec = UINT64_MAX;
                v->market.said_swap_in_bytes = v->market.said_stall_usec = hungry ? LIE : 0;
                v->lie = (AckFacts){ .order = v->guest.order,
                                     .state = ACK_DONE,
                                     .promoted_pages = LIE,
                                     .demoted_pages = LIE };
                ret->ack = &v->lie;
        }
        if (g->behaviour == BEHAVE_OVERASKS && s->now / ALTERNATE_USEC % 2 == 0) {
                v->market.swap_bytes_per_sec = g->disk_operations * UINT64_C(4096);
                v->market.swap_wait_usec = USEC_PER_SEC;
        }
        if (g->behaviour == BEHAVE_OVERASKS)
                v->market.available_bytes = LIE;
}

/* ---- one second ---- */

static Vm *vm_by_domain(Sim *s, size_t n, uint64_t domain) {
        for (size_t i = 0; i < n; i++)
                if (s->facts[i].domain == domain)
                        return &s->vms[s->fact_vm[i]];
        return NULL;
}

/* Its place among all VMs is in its id. */
static Vm *vm_by_id(Sim *s, const AccountId *id) {
        size_t i = (size_t) id->bytes[1] << 16 | (size_t) id->bytes[2] << 8 | id->bytes[3];

        return id->bytes[0] != 0 && i < s->n_vms ? &s->vms[i] : NULL;
}

static void sim_carry(Sim *s, size_t n, const OrderList *list) {
        for (size_t i = 0; i < list->n_orders; i++) {
                Vm *v = vm_by_domain(s, n, list->orders[i].domain);

                if (v && vm_group(s, v)->behaviour != BEHAVE_LIES && !list->orders[i].dry_run)
                        guest_submit(&v->guest, &list->orders[i]);
                else if (v)
                        v->guest.order = list->orders[i].order;
        }
        for (size_t i = 0; i < list->market.n_targets; i++) {
                const SizeTarget *t = &list->market.targets[i];
                Vm *v = vm_by_id(s, &t->id);

                if (!v)
                        continue;
                v->requested[t->tier] = t->bytes;
                guest_ask_frames(&v->guest, t->tier, pages_of(t->bytes));
        }
        for (size_t i = 0; i < list->market.n_events; i++) {
                const SettleEvent *e = &list->market.events[i];
                Vm *v = vm_by_id(s, &e->id);

                if (v && e->type == SETTLE_PAID)
                        s->totals[v->group].lots += e->lots;
        }
        if (core_get_trade(s->core) && trade_epoch(core_get_trade(s->core)) != s->epoch) {
                const Clearing *c = trade_last_clearing(core_get_trade(s->core));

                s->epoch = trade_epoch(core_get_trade(s->core));
                s->cleared.demand += c->demand;
                s->cleared.supply += c->supply;
                s->cleared.traded += c->traded;
                s->cleared.recalled += c->recalled;
                s->cleared.pool += c->pool;
        }
}

/* The promises of the market, held against what the host really gave out. */
static int sim_watch(Sim *s) {
        const Trade *trade = core_get_trade(s->core);
        const char *what;

        for (Tier t = 0; t < _TIER_MAX; t++) {
                uint64_t sum = 0;

                for (size_t i = 0; i < s->n_vms; i++)
                        sum += vm_held(&s->vms[i], t);
                if (sum > s->capacity[t])
                        snprintf(s->fault, sizeof(s->fault),
                                 "the VMs hold %" PRIu64 " bytes more %s than the host has",
                                 sum - s->capacity[t], tier_to_string(t));
        }
        for (size_t i = 0; i < s->n_vms; i++) {
                const Vm *v = &s->vms[i];
                const uint64_t *start = vm_group(s, v)->start_bytes;

                if (v->on && terms_value(&s->terms, vm_held(v, TIER_DRAM), vm_held(v, TIER_SLOW)) >
                                     terms_value(&s->terms, start[TIER_DRAM], start[TIER_SLOW]))
                        snprintf(s->fault, sizeof(s->fault),
                                 "VM %zu of group '%s' holds more than it pays for", i,
                                 vm_group(s, v)->name);
        }
        if (trade && ledger_check(trade_ledger(trade), &what) < 0)
                snprintf(s->fault, sizeof(s->fault), "the ledger is broken: %s", what);
        return *s->fault ? -EPROTO : 0;
}

static int by_domain(const void *a, const void *b) {
        const DomainFacts *x = a, *y = b;

        return x->domain < y->domain ? -1 : x->domain > y->domain;
}

int sim_step(Sim *s) {
        Inputs in = { .policy = s->scenario.policy, .domains = s->facts };
        OrderList list;
        int r;

        s->now += USEC_PER_SEC;
        for (size_t i = 0; i < s->n_vms; i++) {
                Vm *v = &s->vms[i];

                vm_behave(s, v);
                if (!v->on)
                        continue;
                if (!v->frozen)
                        vm_run(s, v);
                vm_facts(s, v, &s->facts[in.n_domains++]);
        }
        memcpy(in.capacity_bytes, s->capacity, sizeof(in.capacity_bytes));
        qsort(s->facts, in.n_domains, sizeof(*s->facts), by_domain);
        for (size_t i = 0; i < in.n_domains; i++)
                s->fact_vm[i] = (size_t) (vm_by_id(s, &s->facts[i].market->id) - s->vms);
        r = core_step(s->core, &in, s->now, &list);
        if (r < 0)
                return r;
        r = list.market_result;
        if (r >= 0)
                sim_carry(s, in.n_domains, &list);
        order_list_done(&list);
        return r < 0 ? r : sim_watch(s);
}

/* ---- life ---- */

static uint64_t seed_mix(uint64_t seed, uint64_t i) {
        uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xbf58476d1ce4e5b9) + 1;

        x = (x ^ x >> 29) * UINT64_C(0x94d049bb133111eb);
        return (x ^ x >> 32) | 1;
}

int sim_new(const Scenario *scenario, uint64_t seed, Sim **ret) {
        _cleanup_(sim_freep) Sim *s = calloc(1, sizeof(*s));
        size_t n = 0;
        int r;

        if (!s)
                return -ENOMEM;
        s->scenario = *scenario;
        r = terms_make(&scenario->policy.market, &s->terms);
        if (r < 0)
                return r;
        for (size_t g = 0; g < scenario->n_groups; g++)
                n += scenario->groups[g].n_vms;
        s->vms = calloc(n, sizeof(*s->vms));
        s->facts = calloc(n, sizeof(*s->facts));
        s->fact_vm = calloc(n, sizeof(*s->fact_vm));
        if (!s->vms || !s->facts || !s->fact_vm)
                return -ENOMEM;
        r = core_new(&s->core);
        if (r < 0)
                return r;
        for (Tier t = 0; t < _TIER_MAX; t++)
                s->capacity[t] = scenario->free_bytes[t];
        for (size_t g = 0; g < scenario->n_groups; g++)
                for (uint32_t i = 0; i < scenario->groups[g].n_vms; i++) {
                        const Group *group = &scenario->groups[g];
                        size_t at = s->n_vms++;
                        Vm *v = &s->vms[at];

                        *v = (Vm){ .group = g, .random = seed_mix(seed, at) };
                        v->id = (AccountId){ { 1, (uint8_t) (at >> 16), (uint8_t) (at >> 8),
                                               (uint8_t) at } };
                        v->offset = group->stagger / group->n_vms * i;
                        v->next_event = (60 + vm_random(v) % 120) * USEC_PER_SEC;
                        for (Tier t = 0; t < _TIER_MAX; t++)
                                s->capacity[t] += group->start_bytes[t];
                        vm_start(s, v);
                }
        *ret = TAKE_PTR(s);
        return 0;
}

Sim *sim_free(Sim *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_vms; i++)
                guest_done(&s->vms[i].guest);
        core_free(s->core);
        free(s->vms);
        free(s->facts);
        free(s->fact_vm);
        free(s);
        return NULL;
}

/* ---- views ---- */

const char *sim_fault(const Sim *s) {
        return s->fault;
}

usec_t sim_now(const Sim *s) {
        return s->now;
}

size_t sim_n_vms(const Sim *s) {
        return s->n_vms;
}

const Trade *sim_trade(const Sim *s) {
        return core_get_trade(s->core);
}

const Terms *sim_terms(const Sim *s) {
        return &s->terms;
}

const Clearing *sim_cleared(const Sim *s) {
        return &s->cleared;
}

void sim_vm(const Sim *s, size_t vm, VmView *ret) {
        const Vm *v = &s->vms[vm];
        const Trade *trade = core_get_trade(s->core);
        TradeView t;

        *ret = (VmView){ .on = v->on, .behaviour = vm_group(s, v)->behaviour };
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                ret->size_bytes[tier] = vm_size(v, tier);
                ret->entitled_bytes[tier] = vm_group(s, v)->start_bytes[tier];
        }
        if (!trade || trade_view(trade, v->id, &t) < 0)
                return;
        ret->position = t.account.position;
        ret->busy = t.account.ticket.lots != 0;
}

void sim_group(const Sim *s, size_t group, GroupView *ret) {
        *ret = s->totals[group];
        for (size_t i = 0; i < s->n_vms; i++) {
                const Vm *v = &s->vms[i];
                WishDecision wish;
                VmView view;

                if (v->group != group || !v->on)
                        continue;
                sim_vm(s, i, &view);
                ret->n_on++;
                ret->position += view.position;
                ret->worth += terms_value(&s->terms, view.size_bytes[TIER_DRAM], view.size_bytes[TIER_SLOW]);
                ret->entitled_worth += terms_value(&s->terms, view.entitled_bytes[TIER_DRAM],
                                                   view.entitled_bytes[TIER_SLOW]);
                for (Tier t = 0; t < _TIER_MAX; t++)
                        ret->size_bytes[t] += view.size_bytes[t];
                if (core_get_wish(s->core, v->domain, &wish) < 0)
                        continue;
                ret->wish += wish.lots;
                ret->reasons[wish.reason]++;
        }
}
