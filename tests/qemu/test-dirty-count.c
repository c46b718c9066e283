/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dirty-count.c against a bit-by-bit reference, on every alignment.
 */
#include "dirty-count.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORD_BITS = DIRTY_WORD_BITS, N_PAGES = 1024, MARGIN = 64 };

static bool bit_test(const unsigned long *words, size_t bit)
{
    return words[bit / WORD_BITS] >> (bit % WORD_BITS) & 1;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void words_fill(unsigned long *words, size_t n, unsigned int per_mille,
                       uint64_t *seed)
{
    memset(words, 0, n * sizeof(*words));
    for (size_t i = 0; i < n * WORD_BITS; i++) {
        if (random_next(seed) % 1000 < per_mille) {
            words[i / WORD_BITS] |= 1UL << (i % WORD_BITS);
        }
    }
}

/* The bitmap is on the heap, exactly as long as needed: ASan sees over-reads */
static void check(size_t first, size_t n, unsigned int per_mille)
{
    size_t n_words = (first + n + WORD_BITS - 1) / WORD_BITS;
    unsigned long *words = malloc(n_words * sizeof(*words) + 1);
    uint8_t *counters = malloc(n + 2 * MARGIN);
    uint64_t seed = 88172645463325252 + first * 7919 + n;

    assert_non_null(words);
    assert_non_null(counters);
    words_fill(words, n_words, per_mille, &seed);
    for (size_t i = 0; i < n + 2 * MARGIN; i++) {
        counters[i] = (uint8_t)(i * 37);
    }
    dirty_count_add(counters + MARGIN, words, first, n);

    for (size_t i = 0; i < n + 2 * MARGIN; i++) {
        uint8_t before = (uint8_t)(i * 37);
        bool is_inside = i >= MARGIN && i < MARGIN + n;
        bool is_dirty = is_inside && bit_test(words, first + i - MARGIN);

        assert_int_equal(counters[i],
                         before + (is_dirty && before != UINT8_MAX));
    }
    free(counters);
    free(words);
}

static void test_densities(void **state)
{
    static const unsigned int densities[] = { 0, 1, 10, 100, 500, 900, 1000 };

    for (size_t i = 0; i < sizeof(densities) / sizeof(densities[0]); i++) {
        check(0, N_PAGES, densities[i]);
        check(17, N_PAGES, densities[i]);
    }
}

static void test_alignments(void **state)
{
    for (size_t first = 0; first <= 2 * WORD_BITS; first++) {
        for (size_t n = 0; n <= 2 * WORD_BITS + 3; n++) {
            check(first, n, 400);
        }
    }
}

static void test_saturation(void **state)
{
    unsigned long words[3] = { ~0UL, 1UL << 5, 0 };
    uint8_t counters[3 * WORD_BITS] = { 0 };

    for (int i = 0; i < 300; i++) {
        dirty_count_add(counters, words, 0, 3 * WORD_BITS);
    }
    for (size_t i = 0; i < 3 * WORD_BITS; i++) {
        bool is_dirty = i < WORD_BITS || i == WORD_BITS + 5;

        assert_int_equal(counters[i], is_dirty ? UINT8_MAX : 0);
    }
}

/* Whole words only; more of them than a vector way takes at a time */
static void check_way(const DirtyCountWay *way, size_t n_words,
                      unsigned int per_mille)
{
    size_t n = n_words * WORD_BITS;
    unsigned long *words = malloc(n_words * sizeof(*words) + 1);
    uint8_t *counters = malloc(n + 1);
    uint64_t seed = 2463534242 + n_words;

    assert_non_null(words);
    assert_non_null(counters);
    words_fill(words, n_words, per_mille, &seed);
    for (size_t i = 0; i < n; i++) {
        counters[i] = (uint8_t)(i * 37);
    }
    way->add(counters, words, n_words);
    for (size_t i = 0; i < n; i++) {
        uint8_t before = (uint8_t)(i * 37);

        assert_int_equal(counters[i], before + (bit_test(words, i) &&
                                                before != UINT8_MAX));
    }
    free(counters);
    free(words);
}

static void test_ways(void **state)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 511, 512, 513, 1100 };
    static const unsigned int densities[] = { 0, 10, 500, 1000 };

    for (size_t w = 0; w < dirty_count_n_ways; w++) {
        if (!dirty_count_ways[w].is_usable()) {
            print_message("this CPU has no %s\n", dirty_count_ways[w].name);
            continue;
        }
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            for (size_t d = 0; d < 4; d++) {
                check_way(&dirty_count_ways[w], sizes[i], densities[d]);
            }
        }
    }
}

/* Two blocks that share the bitmap, and whose counters lie side by side */
static void test_split_over_blocks(void **state)
{
    unsigned long words[N_PAGES / WORD_BITS];
    uint8_t whole[N_PAGES] = { 0 };
    uint8_t split[N_PAGES] = { 0 };
    uint64_t seed = 99;

    words_fill(words, N_PAGES / WORD_BITS, 300, &seed);
    dirty_count_add(whole, words, 0, N_PAGES);
    dirty_count_add(split, words, 0, 333);
    dirty_count_add(split + 333, words, 333, 1);
    dirty_count_add(split + 334, words, 334, N_PAGES - 334);
    assert_memory_equal(whole, split, N_PAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_densities),
        cmocka_unit_test(test_alignments),
        cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_ways),
        cmocka_unit_test(test_split_over_blocks),
    };

    return cmocka_run_group_tests_name("dirty-count", tests, NULL, NULL);
}
