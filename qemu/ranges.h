/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where the guest's RAM is: its RAM blocks, each with its counters in the
 * table, and the guest-physical ranges at which they are mapped.  Reads
 * QEMU's memory map; never changes it, and keeps no pointer into it beyond
 * the next time that the big lock may have been dropped.
 */
#ifndef HMVISOR_RANGES_H
#define HMVISOR_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hotness-table.h"
#include "qemu-symbols.h"

enum { RAM_BLOCKS_MAX = 64, RAM_BLOCK_NAME_MAX = 256 };

/* Counters belong to blocks, not ranges: a remapped block keeps its own. */
typedef struct RamBlock {
    char name[RAM_BLOCK_NAME_MAX];
    MemoryRegion *mr;
    uint64_t ram_addr; /* in QEMU's space of RAM addresses, bytes */
    uint64_t n_pages;
    uint64_t offset;   /* index of its first counter */
} RamBlock;

/*
 * Maximal in each block: a hole that something shadows (the VGA window) is
 * part of the range around it, so that remapping it changes nothing here.
 */
typedef struct RamRange {
    size_t block;
    uint64_t gpa;
    uint64_t n_pages;
    uint64_t offset;
} RamRange;

typedef struct RamLayout {
    size_t n_blocks;
    size_t n_ranges;
    uint64_t n_counters;
    RamBlock blocks[RAM_BLOCKS_MAX];
    RamRange ranges[HOTNESS_RANGES_MAX];
} RamLayout;

/*
 * Reads the layout, under the BQL.  Only memory backends count (main memory,
 * NUMA cells, DIMMs, virtio-mem); one that is not mapped now has no range.
 * Returns 0, or -E2BIG where there are more blocks or ranges than the table
 * can tell.  Same memory map, same bytes in *ret.
 */
int ram_layout_read(const QemuSymbols *q, RamLayout *ret);

bool ram_layout_has_same_blocks(const RamLayout *a, const RamLayout *b);
bool ram_layout_is_equal(const RamLayout *a, const RamLayout *b);

#endif
