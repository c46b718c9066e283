/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The counter table: shared memory between hmvisord (which makes it, as a
 * sealed memfd) and hmvisor-hotness.so inside QEMU (which counts in it).
 *
 * A header of one page, then one byte per 4 KiB guest page: the number of
 * samples, saturating at 255, in which the page was found written since the
 * daemon last emptied the table.  Which byte belongs to which guest page is
 * told over QMP (docs/protocol.md), never in the table.
 *
 * Both sides treat every field as hostile: each keeps its own copy of sizes
 * and bounds, and reads a field once.
 *
 * Exclusion.  The daemon sets hold and waits, for a bounded time, until busy
 * is 0; then it may read and clear the counters, and sets hold back to 0.
 * The extension sets busy, and only then looks at hold: where hold is set it
 * clears busy and leaves the sample for the next tick.  Nothing is lost: the
 * dirty bits stay set.  Both use sequentially consistent atomics.  With hold
 * at HOTNESS_HOLD_REST the extension may also switch dirty logging off: what
 * is written meanwhile is of no use to the daemon.
 *
 * Skip.  Bit i set: RAM block i (skip-bit of its ranges, docs/protocol.md) is
 * left out of samples.  Its pages stay as they are, and cost no faults: with
 * the bitmap; with the ring QEMU takes what is in it whatever it is, so that
 * nothing can be left out, and no range has a skip-bit.  A sample in which a
 * block is looked at again is thrown away.
 *
 * Lease.  The daemon changes renew at least once per lease (an argument of
 * hotness-start); the extension stops tracking by itself where it did not.
 */
#ifndef HMVISOR_HOTNESS_TABLE_H
#define HMVISOR_HOTNESS_TABLE_H

#include <stdint.h>

#define HOTNESS_TABLE_MAGIC UINT64_C(0x31544f48564d4800) /* "\0HMVHOT1" */
#define HOTNESS_TABLE_LAYOUT 1
#define HOTNESS_TABLE_HEADER_SIZE 4096
#define HOTNESS_PAGE_SHIFT 12
#define HOTNESS_RANGES_MAX 64
#define HOTNESS_HOLD 1
#define HOTNESS_HOLD_REST 2

typedef struct HotnessTableHeader {
    uint64_t magic;        /* daemon, before hotness-start */
    uint32_t layout;       /* daemon, before hotness-start */
    uint32_t header_size;  /* daemon, before hotness-start */
    uint64_t n_counters;   /* daemon: bytes behind the header */
    uint64_t generation;   /* extension: changes with the RAM ranges */
    uint64_t epoch;        /* extension: samples added since start */
    uint32_t busy;         /* extension: a sample is being added */
    uint32_t hold;         /* daemon: 0 or HOTNESS_HOLD…: add no samples now */
    uint64_t renew;        /* daemon: changes while it is alive */
    uint64_t skip;         /* daemon: RAM blocks to leave out */
} HotnessTableHeader;

#endif
