/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the page frames of an order hold right now, by /proc/kpageflags: which can be moved and how, which
 * cannot and why. Turns named frames into units, a unit being what moves in one piece: one page, or the huge
 * page around it. Never moves anything.
 */
#pragma once

#include "mover.h"
#include "nodes.h"

/* Bits of /proc/kpageflags (Documentation/admin-guide/mm/pagemap.rst of the kernel). */
enum {
        KPF_REFERENCED = 2,
        KPF_LRU = 5,
        KPF_SLAB = 7,
        KPF_BUDDY = 10,
        KPF_MMAP = 11,
        KPF_ANON = 12,
        KPF_SWAPBACKED = 14,
        KPF_COMPOUND_HEAD = 15,
        KPF_COMPOUND_TAIL = 16,
        KPF_HUGE = 17,
        KPF_HWPOISON = 19,
        KPF_NOPAGE = 20,
        KPF_THP = 22,
        KPF_OFFLINE = 23,
        KPF_ZERO_PAGE = 24,
        KPF_PGTABLE = 26,
        KPF_RESERVED = 32,
};
#define KPF(name) (UINT64_C(1) << KPF_##name)

/* The flags say that a user of the page may exist whom the kernel can move it for. */
static inline bool kpf_is_movable(uint64_t flags) {
        return !(flags & (KPF(SLAB) | KPF(BUDDY) | KPF(NOPAGE) | KPF(OFFLINE) | KPF(ZERO_PAGE) |
                          KPF(PGTABLE) | KPF(RESERVED) | KPF(HWPOISON))) &&
               (flags & (KPF(LRU) | KPF(MMAP) | KPF(ANON) | KPF(SWAPBACKED) | KPF(THP) | KPF(HUGE)));
}

/* Reads the flags of n frames, which must ascend, in as few reads as pay. Frames that the kernel does not
 * know come back as NOPAGE. Returns 0 or -errno. */
int kpageflags_read(int fd, const uint64_t pfns[], size_t n, uint64_t ret_flags[]);

/* Units for the frames that can move to target, in the order in which the frames were named; counts the
 * others into skipped[]. A frame named twice counts once. The caller frees *ret_units. Returns 0 or -errno.
 */
int placement_classify(int kpageflags_fd, const NodeMap *map, const PageRange ranges[], size_t n_ranges,
                       int target, uint64_t skipped[static PAGE_RESULT_MAX], Unit **ret_units,
                       size_t *ret_n);
