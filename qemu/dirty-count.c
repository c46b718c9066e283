/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Word-wise counting: a word of 64 clean pages costs one test.
 */
#include "dirty-count.h"

enum { WORD_BITS = 8 * sizeof(unsigned long) };

static inline void word_add(uint8_t *counters, unsigned long word)
{
    while (word) {
        uint8_t *counter = &counters[__builtin_ctzl(word)];

        *counter += *counter != UINT8_MAX;
        word &= word - 1;
    }
}

void dirty_count_add(uint8_t *counters, const unsigned long *words,
                     size_t first, size_t n)
{
    size_t shift = first % WORD_BITS;
    size_t i = 0;

    if (n == 0) {
        return;
    }
    words += first / WORD_BITS;

    if (shift) {
        size_t head = WORD_BITS - shift;
        unsigned long word = *words++ >> shift;

        if (n < head) {
            word &= (1UL << n) - 1;
            head = n;
        }
        word_add(counters, word);
        i = head;
    }
    for (; n - i >= WORD_BITS; i += WORD_BITS, words++) {
        if (*words) {
            word_add(counters + i, *words);
        }
    }
    if (i < n) {
        word_add(counters + i, *words & ((1UL << (n - i)) - 1));
    }
}
