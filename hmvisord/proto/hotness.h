/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The QMP half of the hotness protocol (docs/protocol.md, 1): requests as text, answers as bounded plain
 * values. Pure; the counters themselves are in shared memory (qemu/hotness-table.h) and never pass here.
 */
#pragma once

#include "base/outcome.h"
#include "hotness-table.h"

#define HOTNESS_FDNAME "hmvisor-hotness-table"
#define HOTNESS_PAGES_MAX (UINT64_C(1) << 36)      /* 256 TiB of guest memory */
#define HOTNESS_GPA_MAX (UINT64_C(1) << 52)        /* x86-64's largest physical address */

typedef enum HotnessState {
        HOTNESS_OFF,
        HOTNESS_TRACKING,
        HOTNESS_RESTING,
        HOTNESS_BLOCKED,
        HOTNESS_EXPIRED,
        HOTNESS_FAILED,
        _HOTNESS_STATE_MAX,
} HotnessState;
const char *hotness_state_to_string(HotnessState s);

typedef struct HotnessRange {
        char block[80];        /* RAM block, e.g. "ram-node0" */
        uint64_t gfn;
        uint64_t n_pages;
        uint64_t offset;       /* of the first counter */
        uint64_t skip;         /* the bit that leaves its block out of samples; 0: it cannot be */
} HotnessRange;

typedef struct HotnessStatus {
        char version[32], qemu[32];
        HotnessState state;
        char reason[256];
        bool ring;             /* else the bitmap */
        uint64_t generation, epochs, dropped, cost_ns, last_cost_ns;
        uint64_t n_counters;   /* that a table must have */
        HotnessRange ranges[HOTNESS_RANGES_MAX]; /* ascending by gfn, none overlaps another, also not in the
                                                    table */
        size_t n_ranges;
} HotnessStatus;

typedef struct HotnessStart {
        uint64_t interval_ms, on_ms, off_ms, lease_ms;   /* off_ms 0: always on */
} HotnessStart;

/* The caller frees *ret. Values outside the protocol's bounds are clamped. */
int hotness_request_getfd(char **ret);
int hotness_request_start(const HotnessStart *start, char **ret);
int hotness_request_stop(char **ret);
int hotness_request_query(char **ret);

/* An answer to start or query. max_pages: of all ranges together, from what libvirt says of the domain.
 * Returns 0, or -EIO with NO_EXTENSION (command not known) or FAILED (QEMU's own words, or what is wrong
 * with the answer). */
int hotness_reply_parse(const char *text, uint64_t max_pages, HotnessStatus *ret, Outcome *o);
/* An answer that only matters as success or failure (getfd, stop). */
int hotness_reply_check(const char *text, Outcome *o);
