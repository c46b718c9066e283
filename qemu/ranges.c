/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reads RAM blocks and the flat view of the guest's memory into a RamLayout.
 */
#include "ranges.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More flat ranges than any machine has; a bound on the walk */
#define FLAT_RANGES_MAX 8192

typedef struct BlockCollector {
    const QemuSymbols *q;
    RamLayout *layout;
} BlockCollector;

static int block_collect(RAMBlock *rb, void *opaque)
{
    BlockCollector *c = opaque;
    RamLayout *layout = c->layout;
    void *host = c->q->qemu_ram_get_host_addr(rb);
    uint64_t n_pages =
        c->q->qemu_ram_get_used_length(rb) >> HOTNESS_PAGE_SHIFT;
    uint64_t offset_in_mr;
    MemoryRegion *mr;
    QemuObject *owner;
    RamBlock *block;

    if (!host || n_pages == 0) {
        return 0;
    }
    mr = c->q->memory_region_from_host(host, &offset_in_mr);
    if (!mr || offset_in_mr != 0) {
        return 0;
    }
    /* ROM, flash and video memory belong to devices, RAM to a backend */
    owner = c->q->memory_region_owner(mr);
    if (!owner || !c->q->object_dynamic_cast(owner, "memory-backend")) {
        return 0;
    }
    if (layout->n_blocks == RAM_BLOCKS_MAX) {
        return -E2BIG;
    }
    block = &layout->blocks[layout->n_blocks++];
    snprintf(block->name, sizeof(block->name), "%s",
             c->q->qemu_ram_get_idstr(rb));
    block->mr = mr;
    block->ram_addr = c->q->qemu_ram_get_offset(rb);
    block->n_pages = n_pages;
    return 0;
}

static int block_compare(const void *a, const void *b)
{
    uint64_t x = ((const RamBlock *)a)->ram_addr;
    uint64_t y = ((const RamBlock *)b)->ram_addr;

    return (x > y) - (x < y);
}

static RamRange *range_find(RamLayout *layout, size_t block, uint64_t delta)
{
    for (size_t i = 0; i < layout->n_ranges; i++) {
        RamRange *range = &layout->ranges[i];

        if (range->block == block &&
            range->gpa - (range->offset << HOTNESS_PAGE_SHIFT) == delta) {
            return range;
        }
    }
    return NULL;
}

/* Here range->offset counts from the block's start */
static int section_add(RamLayout *layout, const MemoryRegionSection *section)
{
    uint64_t page_size = 1u << HOTNESS_PAGE_SHIFT;
    uint64_t gpa = section->offset_within_address_space;
    uint64_t first, end, delta;
    RamRange *range;
    size_t block;

    for (block = 0; block < layout->n_blocks; block++) {
        if (layout->blocks[block].mr == section->mr) {
            break;
        }
    }
    if (block == layout->n_blocks) {
        return 0;
    }
    /* Whole pages inside */
    delta = gpa - section->offset_within_region;
    first = (section->offset_within_region + page_size - 1) >>
            HOTNESS_PAGE_SHIFT;
    end = (section->offset_within_region + (uint64_t)section->size) >>
          HOTNESS_PAGE_SHIFT;
    if (end > layout->blocks[block].n_pages) {
        end = layout->blocks[block].n_pages;
    }
    if (first >= end || delta % page_size) {
        return 0;
    }
    range = range_find(layout, block, delta);
    if (!range) {
        if (layout->n_ranges == HOTNESS_RANGES_MAX) {
            return -E2BIG;
        }
        range = &layout->ranges[layout->n_ranges++];
        range->block = block;
        range->gpa = delta + (first << HOTNESS_PAGE_SHIFT);
        range->offset = first;
    }
    /* Sections come by rising address */
    range->n_pages = end - range->offset;
    return 0;
}

static int sections_walk(const QemuSymbols *q, RamLayout *layout)
{
    MemoryRegion *root = q->get_system_memory();
    uint64_t addr = 0;

    for (int i = 0; i < FLAT_RANGES_MAX; i++) {
        MemoryRegionSection section =
            q->memory_region_find(root, addr, UINT64_MAX - addr);
        uint64_t end;
        int r;

        if (!section.mr) {
            return 0;
        }
        end = section.offset_within_address_space + (uint64_t)section.size;
        r = section_add(layout, &section);
        q->memory_region_unref(section.mr);
        if (r < 0) {
            return r;
        }
        if (end <= addr || end == UINT64_MAX) {
            return 0;
        }
        addr = end;
    }
    return -E2BIG;
}

static void counters_assign(RamLayout *layout)
{
    for (size_t i = 0; i < layout->n_blocks; i++) {
        layout->blocks[i].offset = layout->n_counters;
        layout->n_counters += layout->blocks[i].n_pages;
    }
    for (size_t i = 0; i < layout->n_ranges; i++) {
        RamRange *range = &layout->ranges[i];

        range->offset += layout->blocks[range->block].offset;
    }
}

static int range_compare(const void *a, const void *b)
{
    uint64_t x = ((const RamRange *)a)->gpa;
    uint64_t y = ((const RamRange *)b)->gpa;

    return (x > y) - (x < y);
}

int ram_layout_read(const QemuSymbols *q, RamLayout *ret)
{
    BlockCollector collector = { .q = q, .layout = ret };
    int r;

    memset(ret, 0, sizeof(*ret));
    r = q->qemu_ram_foreach_block(block_collect, &collector);
    if (r < 0) {
        return r;
    }
    /* QEMU lists the biggest block first; any fixed order will do */
    qsort(ret->blocks, ret->n_blocks, sizeof(RamBlock), block_compare);
    r = sections_walk(q, ret);
    if (r < 0) {
        return r;
    }
    counters_assign(ret);
    qsort(ret->ranges, ret->n_ranges, sizeof(RamRange), range_compare);
    return 0;
}

bool ram_layout_has_same_blocks(const RamLayout *a, const RamLayout *b)
{
    return a->n_blocks == b->n_blocks &&
           memcmp(a->blocks, b->blocks, a->n_blocks * sizeof(RamBlock)) == 0;
}

bool ram_layout_is_equal(const RamLayout *a, const RamLayout *b)
{
    return ram_layout_has_same_blocks(a, b) && a->n_ranges == b->n_ranges &&
           memcmp(a->ranges, b->ranges, a->n_ranges * sizeof(RamRange)) == 0;
}
