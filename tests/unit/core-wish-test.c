/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a VM wishes: room against heat, spare memory, and the guest's word. What comes of it over hours is in
 * core-wish-time-test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "wish-rig.h"

/* Where the times of the swap device are not known. */
#define START_BYTES (WISH_SWAP_START_USEC / WISH_SWAP_PAGE_USEC * UINT64_C(4096))
#define STOP_BYTES (WISH_SWAP_STOP_USEC / WISH_SWAP_PAGE_USEC * UINT64_C(4096))

static void test_idle(void **state) {
        Rig *g = *state;

        run(g, 100);
        assert_wish(g, WISH_IDLE, 0);
}

static void test_swapping_sells(void **state) {
        Rig *g = *state;
        unsigned first = 0;

        g->facts.swap_bytes_per_sec = 40 * MIB;
        for (unsigned i = 1; i <= 30 && first == 0; i++) {
                run(g, 1);
                first = g->d.lots != 0 ? i : 0;
        }
        assert_in_range(first, 10, 13); /* an epoch of the market, not at once */
        run(g, 150);
        /* What it swaps in 10 s, in lots of 96 MiB more: 5. */
        assert_wish(g, WISH_SWAPPING, -5);
        assert_int_equal(g->d.room_usec, WISH_WAIT_MAX / 5); /* 10,240 pages of 100 us were more than that */
        assert_int_equal(g->d.heat_usec, 0);
        g->facts.swap_bytes_per_sec = 4000 * MIB;
        run(g, 60);
        assert_wish(g, WISH_SWAPPING, -7); /* no more than the DRAM that it has */
        g->policy.max_trade_bytes = 64 * MIB;
        run(g, 1);
        assert_wish(g, WISH_SWAPPING, -2);
}

static void test_swapping_ends(void **state) {
        Rig *g = *state;
        unsigned at = 0;

        g->facts.swap_bytes_per_sec = 40 * MIB;
        run(g, 60);
        g->facts.swap_bytes_per_sec = 0;
        for (unsigned i = 1; i <= 200 && at == 0; i++) {
                run(g, 1);
                if (g->wish.swap_wait_usec < WISH_SWAP_STOP_USEC)
                        assert_int_equal(g->d.lots, 0); /* not one lot more than it needs */
                at = !g->wish.swaps ? i : 0;
        }
        assert_in_range(at, 60, 90); /* smoothed: half of it each 5 s; then calm for 3 epochs */
        run(g, 100);
        assert_wish(g, WISH_IDLE, 0);
}

/* A rate about the threshold is no reason to begin, and none to end. */
static void test_swapping_has_hysteresis(void **state) {
        Rig *g = *state;

        g->facts.swap_bytes_per_sec = START_BYTES - 4096;
        run(g, 200);
        assert_false(g->wish.swaps);
        g->facts.swap_bytes_per_sec = START_BYTES + 65536;
        run(g, 200);
        assert_true(g->wish.swaps);
        g->facts.swap_bytes_per_sec = START_BYTES - 65536;
        run(g, 200);
        assert_true(g->wish.swaps);
        g->facts.swap_bytes_per_sec = STOP_BYTES / 2;
        run(g, 200);
        assert_false(g->wish.swaps);
        for (unsigned i = 0; i < 200; i++) { /* bursts of a second */
                g->facts.swap_bytes_per_sec = i % 30 == 0 ? 8 * MIB : 0;
                run(g, 1);
                assert_int_equal(g->d.lots, 0);
        }
}

static void test_room_against_heat(void **state) {
        Rig *g = *state;

        /* 1 MiB/s: 256 pages, 25,600 us, all of it for one lot. Its last lot of hot pages is worth more:
         * heat 64 on 8,192 pages is 57,000 us. */
        heat_pages(g, TIER_DRAM, 64, IN_DRAM);
        g->facts.swap_bytes_per_sec = 1 * MIB;
        run(g, 100);
        assert_wish(g, WISH_BALANCED, 0);
        assert_int_equal(g->d.heat_usec, LOT_PAGES * 64 * WISH_HOT_PAGE_USEC / 255);
        assert_in_range(g->d.room_usec, 25000, 25600);
        /* 20 MiB/s are 512,000 us for 3 lots: more than that. */
        g->facts.swap_bytes_per_sec = 20 * MIB;
        run(g, 100);
        assert_wish(g, WISH_SWAPPING, -3);
        /* Half of the hot pages are four times as hot: they stay, the others go. */
        g->facts.heat[TIER_DRAM][64] -= IN_DRAM - LOT_PAGES;
        g->facts.heat[TIER_DRAM][255] += IN_DRAM - LOT_PAGES;
        run(g, 1);
        assert_wish(g, WISH_SWAPPING, -1);
}

/* A hard disk: 79 reads of 4 KiB a second take all the time there is. */
static void test_slow_disk(void **state) {
        Rig *g = *state;
        char text[400];

        g->facts.swap_bytes_per_sec = 79 * 4096;
        run(g, 100);
        assert_wish(g, WISH_BALANCED, 0); /* by bytes alone it is nothing */
        assert_false(g->wish.swaps);
        g->facts.swap_wait_usec = 990000;
        run(g, 60);
        assert_wish(g, WISH_SWAPPING, -1);
        assert_in_range(g->d.room_usec, 980000, 990000);
        wish_describe(&g->d, &g->terms, text, sizeof(text));
        assert_non_null(strstr(text, "it waits 990 ms/s for its swap device, at 316 KiB/s"));
        heat_pages(g, TIER_DRAM, 255, IN_DRAM); /* nothing that DRAM holds is worth that much */
        run(g, 1);
        assert_wish(g, WISH_SWAPPING, -1);
        g->facts.swap_wait_usec = WISH_SWAP_START_USEC - 100; /* between the thresholds */
        run(g, 200);
        assert_true(g->wish.swaps);
        assert_wish(g, WISH_BALANCED, 0);
        g->facts.swap_wait_usec = WISH_SWAP_STOP_USEC / 2;
        run(g, 200);
        assert_false(g->wish.swaps);
}

/* It has got room, and what it had swapped out comes back slowly: no more of it. */
static void test_room_that_is_not_used(void **state) {
        Rig *g = *state;

        g->facts.swap_bytes_per_sec = 79 * 4096;
        g->facts.swap_wait_usec = 990000;
        g->facts.resident_bytes = 800 * MIB; /* of 1024; 128 of the rest stay */
        run(g, 60);
        assert_wish(g, WISH_HAS_ROOM, 0);
        assert_int_equal(g->d.spare_bytes, 96 * MIB);
        g->facts.resident_bytes += 4096;
        run(g, 1);
        assert_wish(g, WISH_SWAPPING, -1);
        g->facts.available_bytes = UINT64_MAX - 1; /* a lie costs it the room that it could have */
        run(g, 1);
        assert_wish(g, WISH_HAS_ROOM, 0);
}

/* What is measured counts, also where it is less: memory that the host compresses, or writes alone. */
static void test_fast_disk(void **state) {
        Rig *g = *state;

        g->facts.swap_bytes_per_sec = 40 * MIB;
        g->facts.swap_wait_usec = WISH_SWAP_STOP_USEC;
        run(g, 200);
        assert_false(g->wish.swaps);
        assert_int_equal(g->d.lots, 0);
        g->facts.swap_wait_usec = 0;
        run(g, 200);
        assert_int_equal(g->d.swap_wait_usec, 0);
        g->facts.swap_wait_usec = WISH_SWAP_START_USEC + 100;
        run(g, 200);
        assert_wish(g, WISH_SWAPPING, -5);
}

/* 32 reads at once that each take a second. */
static void test_overlapping_reads(void **state) {
        Rig *g = *state;

        g->facts.swap_bytes_per_sec = 200 * MIB;
        g->facts.swap_wait_usec = 32 * USEC_PER_SEC;
        run(g, 100);
        assert_wish(g, WISH_SWAPPING, -7);
        assert_int_equal(g->d.swap_wait_usec, WISH_WAIT_MAX);
        assert_int_equal(g->d.room_usec, WISH_WAIT_MAX / 21);
        g->facts.swap_wait_usec = UINT64_MAX - 1;
        run(g, 1);
        assert_int_equal(g->d.swap_wait_usec, WISH_WAIT_MAX);
}

static void test_no_room_at_this_price(void **state) {
        Rig *g = *state;

        g->policy.dram_price = g->policy.slow_price = 1;
        assert_int_equal(terms_make(&g->policy, &g->terms), 0);
        g->facts.swap_bytes_per_sec = 40 * MIB;
        run(g, 100);
        assert_wish(g, WISH_BALANCED, 0);
}

static void test_heat_buys(void **state) {
        Rig *g = *state;

        heat_pages(g, TIER_SLOW, 200, IN_DRAM); /* they will fit, once they are moved */
        run(g, 100);
        assert_wish(g, WISH_BALANCED, 0);
        assert_int_equal(g->d.slow_permyriad, 10000);
        heat_pages(g, TIER_SLOW, 200, 2 * LOT_PAGES + LOT_PAGES / 4);
        run(g, 1);
        assert_wish(g, WISH_WATCHING, 0);
        run(g, 10);
        assert_wish(g, WISH_HEAT_MISSED, 3); /* a quarter of a lot at 200 is warm enough, too */
        assert_int_equal(g->d.heat_usec, LOT_PAGES * 200 * WISH_HOT_PAGE_USEC / 255);
        g->facts.size_bytes[TIER_DRAM] += 96 * MIB; /* it got them */
        g->facts.size_bytes[TIER_SLOW] -= 384 * MIB;
        run(g, 100);
        assert_wish(g, WISH_BALANCED, 0);
}

/* Warm pages are not worth a trade, however many. */
static void test_warm_pages_do_not_buy(void **state) {
        Rig *g = *state;

        heat_pages(g, TIER_SLOW, WISH_LOT_HEAT - 1, 3 * 65536);
        run(g, 100);
        assert_wish(g, WISH_BALANCED, 0);
}

static void test_spare(void **state) {
        Rig *g = *state;

        heat_pages(g, TIER_SLOW, 200, IN_DRAM + 4 * LOT_PAGES);
        run(g, 20);
        assert_wish(g, WISH_HEAT_MISSED, 4);
        g->facts.resident_bytes = 600 * MIB; /* 424 never touched, 128 of them stay: 3 lots of 96 */
        run(g, 1);
        assert_wish(g, WISH_HEAT_MISSED, 3);
        g->facts.available_bytes = 330 * MIB;
        run(g, 1);
        assert_wish(g, WISH_HEAT_MISSED, 2);
        g->facts.available_bytes = UINT64_MAX - 1; /* a lie */
        run(g, 1);
        assert_wish(g, WISH_HEAT_MISSED, 4);
        assert_int_equal(g->d.spare_bytes, 896 * MIB);
        g->policy.max_trade_bytes = 64 * MIB;
        run(g, 1);
        assert_wish(g, WISH_HEAT_MISSED, 2);
        g->policy.max_trade_bytes = 512 * MIB;
        g->facts.available_bytes = 200 * MIB;
        run(g, 1);
        assert_wish(g, WISH_NO_SPARE, 0);
        assert_int_equal(g->d.best, 4);
        assert_int_equal(g->d.spare_bytes, 72 * MIB);
}

static void test_heat_that_is_not_moved(void **state) {
        Rig *g = *state;

        heat_pages(g, TIER_SLOW, 200, IN_DRAM + 4 * LOT_PAGES);
        g->facts.moved = false;
        run(g, 100);
        assert_wish(g, WISH_NOT_MOVED, 0);
        g->facts.has_heat = false;
        run(g, 1);
        assert_wish(g, WISH_IDLE, 0);
        g->facts.swap_bytes_per_sec = UINT64_MAX;
        run(g, 1);
        assert_wish(g, WISH_NO_SIGNAL, 0);
}

/* Who swaps buys nothing, whatever its heat. */
static void test_swapping_comes_first(void **state) {
        Rig *g = *state;

        heat_pages(g, TIER_DRAM, 255, IN_DRAM);
        heat_pages(g, TIER_SLOW, 255, 4 * LOT_PAGES);
        run(g, 20);
        assert_wish(g, WISH_HEAT_MISSED, 4);
        g->facts.swap_bytes_per_sec = 8 * MIB;
        run(g, 2);
        assert_wish(g, WISH_WATCHING, 0); /* from the first sign on */
        run(g, 30);
        assert_wish(g, WISH_BALANCED, 0);
}

static void test_frozen_and_off(void **state) {
        Rig *g = *state;

        g->facts.swap_bytes_per_sec = 40 * MIB;
        run(g, 60);
        g->facts.frozen = true;
        run(g, 1);
        assert_wish(g, WISH_FROZEN, 0);
        assert_int_equal(g->wish.swap_bytes_per_sec, 0);
        assert_int_equal(g->wish.swap_wait_usec, 0);
        g->facts.frozen = false;
        run(g, 5);
        assert_wish(g, WISH_WATCHING, 0); /* it is watched anew */
        g->facts.trading = false;
        run(g, 60);
        assert_wish(g, WISH_OFF, 0);
}

/* Where the host sees no swap device, the guest's word makes it sell; else it is not listened to. */
static void test_said(void **state) {
        Rig *g = *state;
        char text[400];

        g->facts.said_swap_in_bytes = 79 * 4096;
        g->facts.said_stall_usec = 900000;
        run(g, 100);
        assert_wish(g, WISH_IDLE, 0); /* the host sees that it does not swap */
        g->facts.swap_bytes_per_sec = UINT64_MAX;
        run(g, 200);
        assert_wish(g, WISH_SWAPPING, -1);
        wish_describe(&g->d, &g->terms, text, sizeof(text));
        if (!strstr(text, "by its own word it waits 900 ms/s for memory, and reads back 316 KiB/s; a lot"))
                fail_msg("'%s'", text);
        g->facts.said_swap_in_bytes = 20 * 4096; /* no PSI: by the pages, which are few */
        g->facts.said_stall_usec = UINT64_MAX;
        run(g, 200);
        assert_wish(g, WISH_BALANCED, 0);
        g->facts.said_swap_in_bytes = 40 * MIB;
        run(g, 60);
        assert_wish(g, WISH_SWAPPING, -5);
        g->facts.said_swap_in_bytes = 0; /* waits for its file cache, or for pages that are moved */
        g->facts.said_stall_usec = 900000;
        run(g, 200);
        assert_wish(g, WISH_IDLE, 0);
        g->facts.has_heat = false;
        run(g, 1);
        assert_wish(g, WISH_IDLE, 0);
        g->facts.said_swap_in_bytes = UINT64_MAX;
        run(g, 1);
        assert_wish(g, WISH_NO_SIGNAL, 0);
}

static uint64_t random_next(uint64_t *x) {
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        return *x >> 11;
}

static uint64_t random_word(uint64_t *x) {
        static const uint64_t lies[] = {
                0, 1, 79 * 4096, 40 * MIB, UINT64_C(1) << 60, UINT64_MAX - 1, UINT64_MAX
        };

        return lies[random_next(x) % ELEMENTSOF(lies)];
}

/* Whatever a guest says: it never wishes to buy a lot more than if it had said nothing. */
static void test_said_buys_nothing(void **state) {
        Rig *g = *state;
        unsigned sold = 0, bought = 0;
        uint64_t x = 4711;

        g->facts.swap_bytes_per_sec = UINT64_MAX;
        for (unsigned run_of = 0; run_of < 300; run_of++) {
                Wish said = { 0 }, silent = { 0 };
                uint64_t bytes = 0, usec = 0;
                WishDecision a, b;

                for (unsigned i = 0; i < 300; i++) {
                        WishFacts f = g->facts;

                        if (i % 50 == 0) {
                                g->facts.position = (int64_t) (random_next(&x) % 7) - 3;
                                memset(g->facts.heat, 0, sizeof(g->facts.heat));
                                g->facts.heat[TIER_DRAM][random_next(&x) % 256] = random_next(&x) % IN_DRAM;
                                g->facts.heat[TIER_SLOW][random_next(&x) % 256] = random_next(&x) % IN_DRAM;
                                g->facts.resident_bytes = random_next(&x) % (1024 * MIB);
                                f = g->facts;
                        }
                        g->now += USEC_PER_SEC;
                        wish_step(&silent, &f, g->now, &b);
                        if (i % 60 == 0) {
                                bytes = random_word(&x);
                                usec = random_word(&x);
                        }
                        f.said_swap_in_bytes = bytes;
                        f.said_stall_usec = usec;
                        wish_step(&said, &f, g->now, &a);
                        assert_true(a.lots <= MAX(b.lots, 0));
                        assert_true(a.swap_wait_usec <= WISH_WAIT_MAX);
                        sold += a.lots < 0 && b.lots >= 0;
                        bought += a.lots > 0;
                }
        }
        print_message("# what guests said made them sell %u times; they bought %u times\n", sold, bought);
        assert_true(sold > 1000 && bought > 1000);
}

static void test_described(void **state) {
        Rig *g = *state;
        char text[400];

        for (WishReason r = 0; r <= _WISH_REASON_MAX; r++) {
                WishDecision d = {
                        .reason = r, .lots = -2, .best = -2, .room_usec = 1, .spare_bytes = 5 * MIB
                };
                int n = wish_describe(&d, &g->terms, text, sizeof(text));

                assert_true(n > 0 && (size_t) n < 250);
                assert_string_equal(r < _WISH_REASON_MAX ? "" : "unknown",
                                    r < _WISH_REASON_MAX ? "" : wish_reason_to_string(r));
        }
        g->facts.swap_bytes_per_sec = 40 * MIB;
        run(g, 200);
        wish_describe(&g->d, &g->terms, text, sizeof(text));
        assert_string_equal(
                text, "would sell 5 lots of 32 MiB DRAM, each for 96 MiB more memory: it waits 1000 ms/s "
                      "for its swap device, at 40 MiB/s; a lot saves 200000 us/s of that and costs "
                      "hot pages 0 us/s");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                WITH_RIG(test_idle),
                WITH_RIG(test_swapping_sells),
                WITH_RIG(test_swapping_ends),
                WITH_RIG(test_swapping_has_hysteresis),
                WITH_RIG(test_room_against_heat),
                WITH_RIG(test_slow_disk),
                WITH_RIG(test_room_that_is_not_used),
                WITH_RIG(test_fast_disk),
                WITH_RIG(test_overlapping_reads),
                WITH_RIG(test_no_room_at_this_price),
                WITH_RIG(test_heat_buys),
                WITH_RIG(test_warm_pages_do_not_buy),
                WITH_RIG(test_spare),
                WITH_RIG(test_heat_that_is_not_moved),
                WITH_RIG(test_swapping_comes_first),
                WITH_RIG(test_frozen_and_off),
                WITH_RIG(test_said),
                WITH_RIG(test_said_buys_nothing),
                WITH_RIG(test_described),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
