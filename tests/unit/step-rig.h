/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture of the tests of core_step(): a core with one domain of two cells, and its clock.
 */
#pragma once

#include "core/domain.h"

#define DRAM 4096
#define SLOW 8192
#define HOT 700 /* slow frames that are always written */
#define FIRST_DEMOTED ((HOT + DRAM / DRAM_RESERVE) * DEMOTE_OVERPROVISION) /* by the first order, at most */

typedef struct Rig {
        Core *core;
        uint8_t counters[DRAM + SLOW];
        RangeFacts ranges[2];
        DomainFacts facts;
        Inputs in;
        usec_t now;
        AckFacts ack;
        uint64_t order; /* of the last tick; 0: none */
        Decision decision;
        bool decided;
} Rig;

static inline int set_up(void **state) {
        Rig *g = calloc(1, sizeof(*g));

        if (!g || core_new(&g->core) < 0)
                return -1;
        g->ranges[0] = (RangeFacts){ .gfn = 0, .n_pages = DRAM, .cell = 0, .counters = g->counters };
        g->ranges[1] =
                (RangeFacts){ .gfn = 1 << 20, .n_pages = SLOW, .cell = 1, .counters = g->counters + DRAM };
        g->facts = (DomainFacts){
                .domain = 7,
                .policy = domain_policy_default(),
                .agent_ready = true,
                .ranges_generation = 1,
                .cells = { { .cell = 0, .tier = TIER_DRAM, .size_bytes = DRAM * PAGE_BYTES },
                           { .cell = 1, .tier = TIER_SLOW, .size_bytes = SLOW * PAGE_BYTES } },
                .n_cells = 2,
                .ranges = g->ranges,
                .n_ranges = 2,
                .samples = 10,
        };
        g->facts.policy.managed = true;
        g->in = (Inputs){ .policy = host_policy_default(), .domains = &g->facts, .n_domains = 1 };
        memset(g->counters + DRAM, 10, HOT);
        *state = g;
        return 0;
}

static inline int tear_down(void **state) {
        Rig *g = *state;

        core_free(g->core);
        free(g);
        return 0;
}

/* One tick; the list is the caller's. */
static inline void step_list(Rig *g, OrderList *ret) {
        g->now += USEC_PER_SEC;
        assert_int_equal(core_step(g->core, &g->in, g->now, ret), 0);
}

static inline void step(Rig *g) {
        OrderList list;

        step_list(g, &list);
        g->order = list.n_orders > 0 ? list.orders[0].order : 0;
        g->decided = list.n_decisions > 0;
        if (g->decided)
                g->decision = list.decisions[0];
        order_list_done(&list);
}

static inline unsigned steps_until_order(Rig *g, unsigned most) {
        for (unsigned i = 1; i <= most; i++) {
                step(g);
                if (g->order > 0)
                        return i;
        }
        return 0;
}

static inline void acknowledge(Rig *g, uint64_t order, AckState state) {
        g->ack.order = order;
        g->ack.state = state;
        g->facts.ack = &g->ack;
        step(g);
        g->facts.ack = NULL;
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
