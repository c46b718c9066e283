/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What counting costs: the dirty bitmap of 1 GiB with 1% of its pages dirty,
 * at random, against memcpy() of what counting reads and writes, both timed
 * in the same rounds, medians compared.
 *
 * Memory moves in cache lines: what counting reads and writes is the bitmap
 * and each line that holds a counter to be changed.  It fails where counting
 * takes more than 4 times a memcpy() of so many bytes.  The second ratio
 * takes the single counters instead of their lines; it is printed only.
 */
#include "dirty-count.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WORD_BITS = DIRTY_WORD_BITS,
    N_PAGES = 262144,
    N_WORDS = N_PAGES / WORD_BITS,
    N_DIRTY = N_PAGES / 100,
    LINE = 64,
    N_ROUNDS = 2001,
    RATIO_MAX = 4,
};

static unsigned long words[N_WORDS] __attribute__((aligned(4096)));
static uint8_t counters[N_PAGES] __attribute__((aligned(4096)));
static uint8_t from[2 * N_PAGES] __attribute__((aligned(4096)));
static uint8_t to[2 * N_PAGES] __attribute__((aligned(4096)));

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void bitmap_renew(void)
{
    memset(words, 0, sizeof(words));
    for (size_t n = 0; n < N_DIRTY;) {
        size_t page = (size_t)random() % N_PAGES;
        unsigned long bit = 1UL << (page % WORD_BITS);

        n += !(words[page / WORD_BITS] & bit);
        words[page / WORD_BITS] |= bit;
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *times)
{
    qsort(times, N_ROUNDS, sizeof(*times), compare);
    return times[N_ROUNDS / 2];
}

static size_t lines_touched(void)
{
    size_t n = 0;

    for (size_t i = 0; i < N_WORDS; i++) {
        n += words[i] != 0;
    }
    return n * WORD_BITS / LINE;
}

static int way_measure(const DirtyCountWay *way, double ratio_max)
{
    static uint64_t count_ns[N_ROUNDS], lines_ns[N_ROUNDS], bytes_ns[N_ROUNDS];
    size_t bytes = sizeof(words) + N_DIRTY;
    size_t lines = 0;
    double count, by_lines, by_bytes;

    srandom(1);
    for (size_t i = 0; i < N_ROUNDS; i++) {
        uint64_t t0, t1, t2, t3;

        bitmap_renew();
        lines = sizeof(words) + lines_touched() * LINE;

        t0 = clock_ns();
        way->add(counters, words, N_WORDS);
        __asm__ volatile("" : : "r"(counters) : "memory");
        t1 = clock_ns();
        memcpy(to, from, bytes);
        __asm__ volatile("" : : "r"(to) : "memory");
        t2 = clock_ns();
        memcpy(to, from, lines);
        __asm__ volatile("" : : "r"(to) : "memory");
        t3 = clock_ns();
        count_ns[i] = t1 - t0;
        bytes_ns[i] = t2 - t1;
        lines_ns[i] = t3 - t2;
    }
    count = (double)median(count_ns);
    by_lines = count / (double)median(lines_ns);
    by_bytes = count / (double)median(bytes_ns);
    printf("%s: counting %d of %d dirty pages takes %.0f ns\n"
           "  %.2f times a memcpy of the bitmap and the cache lines of "
           "counters touched (%zu bytes)\n"
           "  %.2f times a memcpy of the bitmap and the bytes of counters "
           "touched (%zu bytes)\n",
           way->name, N_DIRTY, N_PAGES, count, by_lines, lines, by_bytes,
           bytes);
    if (by_lines > ratio_max) {
        printf("FAILED: more than %.0f times\n", ratio_max);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

/* The way that this CPU takes must hold; the others are for comparison. */
int main(void)
{
    int r = -1;

    memset(from, 1, sizeof(from));
    for (size_t i = 0; i < dirty_count_n_ways; i++) {
        const DirtyCountWay *way = &dirty_count_ways[i];

        if (way->is_usable()) {
            bool is_taken = r < 0;
            int result = way_measure(way, is_taken ? RATIO_MAX : HUGE_VAL);

            r = is_taken ? result : r;
        }
    }
    return r;
}
