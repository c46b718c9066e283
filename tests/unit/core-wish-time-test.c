/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a VM wishes over hours: that no wish swings, that what went cold is offered again, and that what was
 * sold is bought back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "wish-rig.h"

/* Each second is as `live` makes it. What it wishes it gets when the dwell is over: so many lots, or its
 * entitlement. Returns how many trades that were; *ret_early: in the first half hour. */
static unsigned trades_in_4_hours(Rig *g, void (*live)(Rig *g, unsigned second), int64_t lots,
                                  unsigned *ret_early) {
        unsigned trades = 0, early = 0;

        for (unsigned i = 0; i < 4 * 3600; i++) {
                bool rests = g->wish.known && g->now < g->wish.traded_at + g->policy.dwell_usec;

                live(g, i);
                run(g, 1);
                if (g->d.lots == 0 || rests)
                        continue;
                g->facts.position = g->d.lots > 0 ? lots : 0;
                trades++;
                early += i < 1800;
        }
        *ret_early = early;
        return trades;
}

/* Hungry and hot in turn, whatever it gets: it trades ever less often. */
static void hungry_when_it_bought(Rig *g, unsigned second) {
        g->facts.swap_bytes_per_sec = g->facts.position > 0 ? 79 * 4096 : 0;
        g->facts.swap_wait_usec = g->facts.position > 0 ? USEC_PER_SEC : 0;
}

static void test_no_swinging(void **state) {
        unsigned trades, early;
        Rig *g = *state;

        heat_pages(g, TIER_SLOW, 255, IN_DRAM + 64 * LOT_PAGES / 10);
        trades = trades_in_4_hours(g, hungry_when_it_bought, 1, &early);
        print_message("# swinging: %u trades in 4 h, %u in the first half\n", trades, early);
        assert_in_range(early, 3, 6);
        assert_in_range(trades, 4, 12);
}

static void test_turning_is_forgiven(void **state) {
        Rig *g = *state;

        run(g, 1);
        g->facts.position = 1;
        run(g, 1);
        g->facts.position = 0;
        run(g, 1);
        assert_int_equal(g->wish.turns, 1);
        heat_pages(g, TIER_SLOW, 200, IN_DRAM + LOT_PAGES);
        run(g, 60);
        assert_wish(g, WISH_TURNING, 0);
        assert_int_equal(g->d.best, 1);
        run(g, 190);
        assert_wish(g, WISH_HEAT_MISSED, 1); /* twice the dwell */
        run(g, 120 * 128);
        assert_int_equal(g->wish.turns, 0);
}

/* What it bought and does not use is offered again, what it is entitled to is not. */
static void test_cold_is_sold(void **state) {
        Rig *g = *state;
        char text[400];

        run(g, 200);
        assert_wish(g, WISH_IDLE, 0); /* at its entitlement, however cold */
        g->facts.position = -2;
        run(g, 200);
        assert_wish(g, WISH_IDLE, 0);
        g->wish = (Wish){ 0 };
        g->facts.position = 2;
        run(g, 59);
        assert_wish(g, WISH_WATCHING, 0); /* six epochs of 10 s */
        run(g, 3);
        assert_wish(g, WISH_COLD, -2);
        wish_describe(&g->d, &g->terms, text, sizeof(text));
        assert_string_equal(text,
                            "would sell 2 lots of 32 MiB DRAM of those that it bought, each for 96 MiB more "
                            "memory: they hold nothing warm any more, and the last one saves 0 us/s");
        g->policy.max_trade_bytes = 32 * MIB;
        run(g, 1);
        assert_wish(g, WISH_COLD, -1);
        g->facts.moved = false; /* then others are in DRAM than those that it is for */
        run(g, 100);
        assert_wish(g, WISH_IDLE, 0);
        g->facts.moved = true;
        g->facts.has_heat = false;
        run(g, 100);
        assert_wish(g, WISH_IDLE, 0);
}

/* Only lots that stay below a quarter of what makes one worth buying; those that were cold all the time. */
static void test_cold_has_hysteresis(void **state) {
        Rig *g = *state;

        g->facts.position = 3;
        heat_pages(g, TIER_DRAM, 100, IN_DRAM - 2 * LOT_PAGES);
        run(g, 100);
        assert_wish(g, WISH_COLD, -2);
        heat_pages(g, TIER_DRAM, WISH_COLD_HEAT, LOT_PAGES);
        run(g, 1);
        assert_wish(g, WISH_COLD, -1);
        g->facts.heat[TIER_DRAM][WISH_COLD_HEAT] = 0;
        run(g, 1);
        assert_wish(g, WISH_COLD, -1); /* the other one was warm a moment ago */
        heat_pages(g, TIER_DRAM, WISH_COLD_HEAT, 2 * LOT_PAGES);
        run(g, 1);
        assert_wish(g, WISH_IDLE, 0); /* far from being worth another lot, and warm enough to stay */
        g->facts.heat[TIER_DRAM][WISH_COLD_HEAT] = 0;
        run(g, 50);
        assert_wish(g, WISH_WATCHING, 0); /* anew */
        run(g, 20);
        assert_wish(g, WISH_COLD, -2);
        g->facts.position = 2; /* sold one of them: the rest has to last, too */
        run(g, 50);
        assert_wish(g, WISH_WATCHING, 0);
        g->facts.swap_bytes_per_sec = 8 * MIB; /* then it is sold for room */
        run(g, 40);
        assert_int_equal(g->wish.cold_at, 0);
        assert_wish(g, WISH_SWAPPING, -1);
}

/* A set that is hot for five minutes and cold for five, whatever it has. */
static void hot_and_cold(Rig *g, unsigned second) {
        unsigned heat = second / 300 % 2 == 0 ? 200 : 0;

        g->facts.heat[TIER_SLOW][200] = g->facts.heat[TIER_SLOW][0] = 0;
        g->facts.heat[TIER_SLOW][heat] = IN_DRAM + LOT_PAGES;
        g->facts.size_bytes[TIER_DRAM] = (uint64_t) (256 + 32 * g->facts.position) * MIB;
}

static void test_cold_does_not_swing(void **state) {
        Rig *g = *state;
        unsigned trades, early;

        trades = trades_in_4_hours(g, hot_and_cold, 2, &early);
        print_message("# hot and cold: %u trades in 4 h, %u in the first half hour\n", trades, early);
        assert_in_range(early, 3, 6);
        assert_in_range(trades, 4, 14);
}

/* Who sold for room and needs it no more buys back for heat, and never for want of anything else. */
static void test_sold_is_bought_back(void **state) {
        Rig *g = *state;

        g->facts.swap_bytes_per_sec = 40 * MIB;
        run(g, 60);
        assert_true(g->d.lots < 0);
        g->facts.position = -2;
        g->facts.size_bytes[TIER_DRAM] -= 64 * MIB;
        g->facts.size_bytes[TIER_SLOW] += 256 * MIB;
        g->facts.swap_bytes_per_sec = 0;
        g->facts.available_bytes = 500 * MIB;
        run(g, 300);
        assert_wish(g, WISH_IDLE, 0);
        heat_pages(g, TIER_SLOW, 200, IN_DRAM); /* two lots more than it kept */
        run(g, 20);
        assert_wish(g, WISH_HEAT_MISSED, 2);
        g->facts.available_bytes = 200 * MIB;
        run(g, 1);
        assert_wish(g, WISH_NO_SPARE, 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                WITH_RIG(test_no_swinging),
                WITH_RIG(test_turning_is_forgiven),
                WITH_RIG(test_cold_is_sold),
                WITH_RIG(test_cold_has_hysteresis),
                WITH_RIG(test_cold_does_not_swing),
                WITH_RIG(test_sold_is_bought_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
