/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Turns dirty bitmaps into counters.  Pure: memory in, memory out; knows
 * nothing of QEMU, and never looks at the guest's memory itself.
 */
#ifndef HMVISOR_DIRTY_COUNT_H
#define HMVISOR_DIRTY_COUNT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Adds 1, saturating at 255, to counters[i] for every bit (first + i) that
 * is set in words, for i in [0, n).  Reads only the words that hold those
 * bits, and touches no counter of a clean page.
 */
void dirty_count_add(uint8_t *counters, const unsigned long *words,
                     size_t first, size_t n);

#endif
