/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Tests of core_step(): its contract, verdicts, and what a hostile guest can say without gaining by it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "step-rig.h"

static void test_life_of_an_order(void **state) {
        Rig *g = *state;
        DomainTotals t;
        HeatHistogram h;
        uint64_t order;

        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_WARMING_UP);
        step(g);
        assert_false(g->decided); /* nothing new to say */
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_ORDERED);
        assert_int_equal(g->decision.promote_pages, HOT);
        order = g->order;
        assert_true(order > 0);
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_BUSY);
        acknowledge(g, order, ACK_RUNNING);
        assert_false(g->decided);
        g->ack.promoted_pages = g->ack.demoted_pages = HOT;
        memset(g->counters, 0, sizeof(g->counters));
        acknowledge(g, order, ACK_DONE);
        assert_int_equal(core_get_heat(g->core, 7, &h), 0);
        assert_int_equal(h.cells[0].pages[0], DRAM - HOT); /* heat follows the pages to where others left */
        assert_int_equal(h.cells[1].pages[0], SLOW);
        assert_int_equal(g->decision.verdict, VERDICT_SETTLING);
        memset(g->counters, 10, HOT); /* they are written on */
        memset(g->counters + DRAM + 4000, 10,
               HOT); /* new hot pages: not before two whole epochs have passed */
        step(g);
        assert_int_equal(g->order, 0);
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_ORDERED);
        assert_true(g->order > order);
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.orders, 2);
        assert_int_equal(t.promoted_pages, HOT);
        assert_int_equal(t.epochs, 8);
}

static void test_verdicts(void **state) {
        Rig *g = *state;

        g->facts.policy.managed = false;
        for (unsigned i = 0; i < 5; i++)
                step(g);
        assert_int_equal(g->decision.verdict, VERDICT_NOT_MANAGED);
        g->facts.policy.managed = true;
        g->facts.frozen = true;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_FROZEN);
        g->facts.frozen = false;
        g->facts.samples = 0;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_NO_SAMPLES);
        g->facts.samples = 10;
        g->facts.agent_ready = false;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_NO_AGENT);
        g->facts.agent_ready = true;
        g->facts.cells[1].tier = TIER_DRAM;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_NO_TIERS);
        g->facts.cells[1].tier = TIER_SLOW;
        g->facts.policy.migrate_bytes_per_sec = 0;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_RATE_CAPPED);
        g->facts.policy.hot_heat = 255;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_BALANCED);
        g->facts.policy = domain_policy_default();
        g->facts.policy.managed = g->facts.policy.dry_run = true;
        step(g);
        assert_int_equal(g->decision.verdict, VERDICT_DRY_RUN);
        for (int v = 0; v < _VERDICT_MAX; v++) {
                Decision d = { .verdict = (Verdict) v };
                char line[512];

                assert_string_not_equal(verdict_to_string(d.verdict), "unknown");
                assert_in_range(decision_describe(&d, line, sizeof(line)), 20, sizeof(line) - 1);
        }
        assert_string_equal(verdict_to_string(_VERDICT_MAX), "unknown");
}

static void test_lying_acknowledgements(void **state) {
        Rig *g = *state;
        DomainTotals t;
        uint64_t skipped = 0;

        assert_int_equal(steps_until_order(g, 3), 3);
        memset(&g->ack, 255, sizeof(g->ack));
        acknowledge(g, 999, ACK_DONE); /* of no order of ours */
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.promoted_pages, 0);
        acknowledge(g, 1, ACK_DONE);
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.promoted_pages, HOT);
        assert_true(t.demoted_pages <= FIRST_DEMOTED);
        for (size_t i = 0; i < _SKIP_MAX; i++)
                skipped += t.skipped_pages[i];
        assert_true(t.promoted_pages + t.demoted_pages + skipped <= HOT + FIRST_DEMOTED);
        acknowledge(g, 1, ACK_DONE); /* again */
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.promoted_pages, HOT);
}

/* Few hot pages do not end the first turn of tracking while it is paid for; nor do they wait for ever. */
static void test_first_turn_is_made_use_of(void **state) {
        Rig *g = *state;

        memset(g->counters, 10, DRAM / 2);
        memset(g->counters + DRAM + 100, 0, SLOW - 100);
        g->facts.faults_per_sec = 1000000;
        assert_int_equal(steps_until_order(g, 3), 0);
        assert_int_equal(g->decision.verdict, VERDICT_LEARNING);
        assert_int_equal(steps_until_order(g, 20), HEAT_MEMORY);
        g->ack.promoted_pages = 100;
        acknowledge(g, g->order, ACK_DONE);
}

/* A page that is always written may have half of all stores: it is worth an order by itself, once it is
 * known to be; a guest that cannot move it is not asked again soon. */
static void test_one_steady_page(void **state) {
        Rig *g = *state;
        unsigned steps;

        memset(g->counters, 10, DRAM / 2);
        memset(g->counters + DRAM + 1, 0, SLOW - 1);
        steps = steps_until_order(g, 20);
        assert_in_range(steps, HEAT_MEMORY, HEAT_MEMORY + 2);
        assert_int_equal(g->decision.promote_pages, 1);
        g->ack.skipped_pages[SKIP_UNMOVABLE] = 1;
        acknowledge(g, g->order, ACK_DONE);
        assert_int_equal(steps_until_order(g, BAR_EPOCHS - 2), 0);
}

static void test_balance_is_noted(void **state) {
        Decision d = { .verdict = VERDICT_RATE_CAPPED, .when = 1, .hot_dram_pages = 1600 }, then = { 0 };
        usec_t since = 0;

        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 0);
        d.verdict = VERDICT_BALANCED;
        d.when = 2;
        d.hot_slow_pages = 500;
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 2);
        for (d.when = 3; d.when < 10; d.when++) { /* resting, and a little more or less, change nothing */
                d.verdict = d.when % 2 ? VERDICT_NO_SAMPLES : VERDICT_BALANCED;
                d.hot_slow_pages = d.when % 2 ? 0 : 590;
                decision_note_balance(&d, &since, &then);
                assert_int_equal(since, 2);
        }
        d.verdict = VERDICT_ORDERED; /* room only, which says nothing of what is hot */
        d.order = 1;
        d.when = 10;
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 2);
        since = 0;
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 0);
        since = 2;
        d.promote_pages = 100;
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 2);
        d.promote_pages = 101;
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 0);
        d.verdict = VERDICT_BALANCED;
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 10);
        d.when = 11;
        d.hot_slow_pages = 590 + 101; /* other pages are hot now */
        decision_note_balance(&d, &since, &then);
        assert_int_equal(since, 11);
}

static void assert_refused(Rig *g) {
        OrderList list = { .n_orders = 77 };
        DomainTotals before = { 0 }, after = { 0 };
        int known = core_get_totals(g->core, 7, &before);

        assert_int_equal(core_step(g->core, &g->in, g->now + USEC_PER_SEC, &list), -EINVAL);
        assert_int_equal(list.n_orders, 77);
        assert_int_equal(core_get_totals(g->core, 7, &after), known);
        assert_memory_equal(&before, &after, sizeof(before));
}

#define REFUSES(g, change)                                                                                  \
        do {                                                                                                \
                Rig saved = *(g);                                                                           \
                DomainFacts *f = &(g)->facts;                                                               \
                (void) f;                                                                                   \
                change;                                                                                     \
                assert_refused(g);                                                                          \
                *(g) = saved;                                                                               \
        } while (0)

static void test_contract(void **state) {
        Rig *g = *state;
        DomainFacts two[2];

        for (unsigned known = 0; known < 2; known++) {
                REFUSES(g, f->n_cells = CELLS_MAX + 1);
                REFUSES(g, f->cells[1].cell = 0);
                REFUSES(g, f->cells[1].tier = (Tier) 9);
                REFUSES(g, f->ranges = NULL);
                REFUSES(g, f->n_ranges = SIZE_MAX);
                REFUSES(g, g->ranges[1].gfn = DRAM - 1);
                REFUSES(g, g->ranges[1].gfn = UINT64_MAX);
                REFUSES(g, g->ranges[1].n_pages = UINT64_MAX);
                REFUSES(g, g->ranges[0].n_pages = 0);
                REFUSES(g, g->ranges[0].cell = 5);
                REFUSES(g, f->policy.hot_heat = 256);
                REFUSES(g, f->policy.hysteresis = UINT32_MAX);
                REFUSES(g, g->in.domains = NULL);
                if (known) {
                        REFUSES(g, g->ranges[0].n_pages--); /* without a new generation */
                        REFUSES(g, f->n_ranges--);
                }
                two[0] = two[1] = g->facts;
                REFUSES(g, (g->in.domains = two, g->in.n_domains = 2)); /* the same key twice */
                step(g);
        }
}

/* Absurd but well-formed: no overflow (the sanitizers look on), no crash, and caps still hold. */
static void test_absurd_values(void **state) {
        Rig *g = *state;

        g->in.policy.migrate_bytes_per_sec = g->in.policy.epoch_usec = UINT64_MAX;
        g->facts.policy.migrate_bytes_per_sec = g->facts.policy.min_order_pages = UINT64_MAX;
        g->facts.cells[0].size_bytes = g->facts.cells[1].size_bytes = UINT64_MAX;
        g->facts.cells[0].guest_free_bytes = UINT64_MAX;
        g->facts.samples = UINT32_MAX;
        memset(g->counters, 255, sizeof(g->counters));
        for (unsigned i = 0; i < 5; i++)
                step(g);
        assert_int_equal(g->decision.verdict, VERDICT_BALANCED);
        g->facts.policy.min_order_pages = 0;
        g->facts.policy.settle_epochs = g->facts.policy.warmup_epochs = UINT32_MAX;
        memset(g->counters, 0, DRAM);
        assert_true(steps_until_order(g, 60) > 0);
        acknowledge(g, g->order, ACK_FAILED);
        g->now = UINT64_MAX - 2 * USEC_PER_SEC;
        step(g);
        g->now = 0; /* goes back: counts as the last */
        step(g);
}

static void test_domains_come_and_go(void **state) {
        Rig *g = *state;
        DomainTotals t;
        HeatHistogram h;

        step(g);
        assert_int_equal(core_get_heat(g->core, 7, &h), 0);
        assert_int_equal(h.n_cells, 2);
        assert_int_equal(h.cells[1].pages[heat_band(32)], HOT);
        assert_int_equal(h.cells[1].pages[0], SLOW - HOT);
        assert_int_equal(core_get_heat(g->core, 8, &h), -ENOENT);
        g->in.n_domains = 0;
        step(g);
        assert_int_equal(core_get_totals(g->core, 7, &t), -ENOENT);
        g->in.n_domains = 1;
        step(g);
        assert_int_equal(core_get_totals(g->core, 7, &t), 0);
        assert_int_equal(t.epochs, 1);
}

static void test_new_ranges(void **state) {
        Rig *g = *state;

        step(g);
        step(g);
        g->ranges[1].n_pages = HOT / 2; /* half of the hot frames leave */
        g->facts.ranges_generation++;
        step(g);
        assert_true(g->order > 0); /* no new warm-up: what stayed kept its heat */
        assert_int_equal(g->decision.promote_pages, HOT / 2);
        g->ranges[1].n_pages =
                SLOW; /* and come back while the order is under way: nothing goes out of bounds */
        g->facts.ranges_generation++;
        step(g);
        g->facts.n_ranges = 0;
        g->facts.ranges_generation++;
        g->ack.promoted_pages = HOT / 2;
        acknowledge(g, g->order ? g->order : 1, ACK_DONE);
        assert_int_equal(g->decision.verdict, VERDICT_NO_SAMPLES);
}

/* Three domains want more than the host's cap: equal shares, and the cap is kept within one tick. */
static void test_host_cap_is_shared(void **state) {
        DomainFacts three[3];
        uint64_t pages = 0;
        OrderList list;
        Rig *g = *state;

        for (uint64_t i = 0; i < 3; i++) {
                three[i] = g->facts;
                three[i].domain = i + 1;
        }
        g->in.domains = three;
        g->in.n_domains = 3;
        g->in.policy.migrate_bytes_per_sec = order_bytes(300);
        step(g);
        step(g);
        assert_int_equal(core_step(g->core, &g->in, g->now + USEC_PER_SEC, &list), 0);
        assert_int_equal(list.n_orders, 3);
        for (size_t i = 0; i < list.n_orders; i++) {
                assert_int_equal(list.orders[i].promote.n_pages, 100);
                pages += list.orders[i].promote.n_pages;
        }
        assert_int_equal(pages, 300);
        order_list_done(&list);
}

/* The host's cap is enough for one order in four seconds: the domains take turns. */
static void test_domains_take_turns(void **state) {
        AckFacts acks[3] = { 0 };
        DomainFacts three[3];
        uint64_t next = 1;
        Rig *g = *state;

        for (uint64_t i = 0; i < 3; i++) {
                three[i] = g->facts;
                three[i].domain = i + 1;
        }
        g->in.domains = three;
        g->in.n_domains = 3;
        g->in.policy.migrate_bytes_per_sec = order_bytes(16);
        for (unsigned i = 0; i < 30; i++) {
                OrderList list;

                step_list(g, &list);
                for (size_t k = 0; k < 3; k++)
                        three[k].ack = NULL;
                for (size_t k = 0; k < list.n_orders; k++) {
                        uint64_t domain = list.orders[k].domain;

                        assert_int_equal(domain, (next - 1) % 3 + 1);
                        next++;
                        acks[domain - 1] = (AckFacts){ .order = list.orders[k].order,
                                                       .state = ACK_DONE,
                                                       .promoted_pages = list.orders[k].promote.n_pages };
                        three[domain - 1].ack = &acks[domain - 1];
                }
                order_list_done(&list);
        }
        assert_true(next > 6);
}

static void test_transitions(void **state) {
        static const char expected[_DOMAIN_STATE_MAX][_DOMAIN_STATE_MAX + 1] = { "-R--", "--BS", "-R-S",
                                                                                 "-RB-" };

        for (int from = 0; from < _DOMAIN_STATE_MAX; from++)
                for (int to = 0; to < _DOMAIN_STATE_MAX; to++)
                        assert_int_equal(domain_state_may_become((DomainState) from, (DomainState) to),
                                         expected[from][to] != '-');
}


/* A user's command goes in by the inputs, and sizes to ask for come out; without a market nothing does. */
static void test_market(void **state) {
        const uint64_t mib = UINT64_C(1) << 20;
        MarketFacts market = {
                .id = { { 9 } },
                .cells = { [TIER_DRAM] = { 128 * mib, 512 * mib, 256 * mib, 256 * mib, UINT64_MAX },
                           [TIER_SLOW] = { 256 * mib, 1024 * mib, 512 * mib, 512 * mib, UINT64_MAX } },
                .available_bytes = 0, /* of 768 MiB: it keeps 96, and a step is 64 */
                .swap_free_bytes = 160 * mib - 1,
        };
        MarketCommand command = { market.id, TRADE_LOTS, -(int64_t) (32 * mib) };
        Rig *g = *state;
        OrderList list;

        g->facts.market = &market;
        g->in.commands = &command;
        g->in.n_commands = 1;
        assert_int_equal(core_step(g->core, &g->in, g->now, &list), 0);
        assert_int_equal(list.command_results[0], -EOPNOTSUPP);
        assert_int_equal(list.market.n_targets, 0);
        assert_null(core_get_trade(g->core));
        order_list_done(&list);

        g->in.policy.market.enabled = g->in.policy.market.use_pool = true;
        g->in.capacity_bytes[TIER_DRAM] = 256 * mib;
        g->in.capacity_bytes[TIER_SLOW] = 1024 * mib;
        g->in.n_commands = 0;
        step(g); /* opens the account */
        g->now += 10 * USEC_PER_SEC;
        g->in.n_commands = 1;
        command.dram_bytes += 4096;
        assert_int_equal(core_step(g->core, &g->in, g->now, &list), 0);
        assert_int_equal(list.command_results[0], -EINVAL);
        order_list_done(&list);
        command.dram_bytes -= 4096;
        g->now += 10 * USEC_PER_SEC;
        assert_int_equal(core_step(g->core, &g->in, g->now, &list), 0);
        assert_int_equal(list.market_result, 0);
        assert_int_equal(list.command_results[0], 0);
        assert_true(list.market.changed);
        assert_int_equal(list.market.n_targets, 0);
        order_list_done(&list);
        g->in.n_commands = 0;
        market.swap_free_bytes++;
        assert_int_equal(core_step(g->core, &g->in, g->now, &list), 0);
        assert_int_equal(list.market.n_targets, 1);
        assert_int_equal(list.market.targets[0].bytes, 224 * mib);
        order_list_done(&list);

        /* A market that cannot be stops no migration. */
        g->in.policy.market.dram_price = 0;
        assert_int_equal(core_step(g->core, &g->in, g->now, &list), 0);
        assert_int_equal(list.market_result, -EINVAL);
        order_list_done(&list);
        market.cells[TIER_SLOW].boot_bytes = UINT64_MAX;
        assert_int_equal(core_step(g->core, &g->in, g->now, &list), -EINVAL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                WITH_RIG(test_life_of_an_order),
                WITH_RIG(test_verdicts),
                WITH_RIG(test_lying_acknowledgements),
                WITH_RIG(test_first_turn_is_made_use_of),
                WITH_RIG(test_one_steady_page),
                cmocka_unit_test(test_balance_is_noted),
                WITH_RIG(test_contract),
                WITH_RIG(test_absurd_values),
                WITH_RIG(test_domains_come_and_go),
                WITH_RIG(test_new_ranges),
                WITH_RIG(test_host_cap_is_shared),
                WITH_RIG(test_domains_take_turns),
                WITH_RIG(test_market),
                cmocka_unit_test(test_transitions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
