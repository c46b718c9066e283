/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Random pages, uniform or skewed: see pattern.h.
 */

#include "pattern.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* A column of the alias table: below the threshold it stands for its own page, above it for the other. */
typedef struct PatternAlias {
        uint32_t threshold, other;
} PatternAlias;

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016. */
uint64_t random_next(uint64_t *state) {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * UINT64_C(0x2545F4914F6CDD1D);
}

/* How often each page is written, as a share of the mean: 1 / rank^skew, the ranks in a random order. */
static void weights_fill(double *weight, uint32_t n, double skew, uint64_t seed) {
        double sum = 0;

        for (uint32_t i = 0; i < n; i++) {
                weight[i] = pow(i + 1, -skew);
                sum += weight[i];
        }
        for (uint32_t i = 0; i < n; i++)
                weight[i] *= n / sum;
        for (uint32_t i = n; i > 1; i--) {
                uint32_t k = (uint32_t) ((random_next(&seed) >> 32) % i);
                double w = weight[k];

                weight[k] = weight[i - 1];
                weight[i - 1] = w;
        }
}

/* Vose, "A linear algorithm for generating random numbers with a given distribution", 1991. */
static void alias_fill(PatternAlias *alias, double *weight, uint32_t *stack, uint32_t n) {
        uint32_t n_small = 0, large = n; /* small ones from the stack's bottom, large ones from its top */

        for (uint32_t i = 0; i < n; i++)
                if (weight[i] < 1)
                        stack[n_small++] = i;
                else
                        stack[--large] = i;
        while (n_small > 0 && large < n) {
                uint32_t s = stack[--n_small], l = stack[large];

                alias[s] = (PatternAlias) { (uint32_t) (weight[s] * UINT32_MAX), l };
                weight[l] -= 1 - weight[s];
                if (weight[l] < 1) {
                        large++;
                        stack[n_small++] = l;
                }
        }
        while (n_small > 0) {
                uint32_t s = stack[--n_small];

                alias[s] = (PatternAlias) { UINT32_MAX, s };
        }
        for (; large < n; large++)
                alias[stack[large]] = (PatternAlias) { UINT32_MAX, stack[large] };
}

int pattern_init(Pattern *p, uint64_t hot_size, double skew, uint64_t seed) {
        uint64_t n = hot_size / PAGE;
        double *weight;
        uint32_t *stack;

        p->hot_size = hot_size;
        p->seed = seed;
        if (skew == 0)
                return 0;
        if (n > UINT32_MAX)
                return -EFBIG;
        p->alias = calloc(n, sizeof(*p->alias));
        p->share = calloc(n, sizeof(*p->share));
        weight = calloc(n, sizeof(*weight));
        stack = calloc(n, sizeof(*stack));
        if (p->alias && p->share && weight && stack) {
                weights_fill(weight, (uint32_t) n, skew, seed);
                for (uint64_t i = 0; i < n; i++)
                        p->share[i] = weight[i] / (double) n;
                alias_fill(p->alias, weight, stack, (uint32_t) n);
        }
        n = p->alias && p->share && weight && stack;
        free(weight);
        free(stack);
        return n ? 0 : -ENOMEM;
}

void pattern_free(Pattern *p) {
        free(p->alias);
        free(p->share);
        p->alias = NULL;
        p->share = NULL;
}

void pattern_move(Pattern *p) {
        uint64_t places = p->range.size / p->hot_size, here = atomic_load(&p->hot_offset) / p->hot_size;

        if (places < 2)
                return;
        atomic_store(&p->hot_offset,
                     (here + 1 + random_next(&p->seed) % (places - 1)) % places * p->hot_size);
}

uint64_t pattern_next_page(const Pattern *p, uint64_t *state) {
        uint64_t r = random_next(state);
        uint32_t page = (uint32_t) ((r >> 32) * (p->hot_size / PAGE) >> 32);

        if (p->alias && (uint32_t) r > p->alias[page].threshold)
                page = p->alias[page].other;
        return page;
}

PageSet pattern_hot(const Pattern *p) {
        return (PageSet){ .base = (uint8_t *) p->range.base + atomic_load(&p->hot_offset),
                          .size = p->hot_size };
}
