/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Turns dirty bitmaps into counters.  Pure: memory in, memory out; knows
 * nothing of QEMU, and never looks at the guest's memory itself.
 */
#ifndef HMVISOR_DIRTY_COUNT_H
#define HMVISOR_DIRTY_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIRTY_WORD_BITS = 8 * sizeof(unsigned long) };

/*
 * Adds 1, saturating at 255, to counters[i] for every bit (first + i) that
 * is set in words, for i in [0, n).  Reads only the words that hold those
 * bits; reads and writes counters only beside a dirty page, that is those
 * that share a word of the bitmap with it.
 */
void dirty_count_add(uint8_t *counters, const unsigned long *words,
                     size_t first, size_t n);

/*
 * Ways to do it for whole words, the best first; the last suits any CPU.
 * dirty_count_add() takes the first that is usable, tests take them all.
 */
typedef struct DirtyCountWay {
    const char *name;
    bool (*is_usable)(void);
    void (*add)(uint8_t *counters, const unsigned long *words,
                size_t n_words);
} DirtyCountWay;

extern const DirtyCountWay dirty_count_ways[];
extern const size_t dirty_count_n_ways;

#endif
