/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the core is told at each tick: plain values, gathered by the manager from libvirt, the extension, the
 * guest agent and the host. The core keeps no pointer of them beyond core_step().
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"
#include "core/policy.h"
#include "core/trade.h"

#define CELLS_MAX 8
#define HEAT_BANDS 9 /* of heat, for people and for the order of lists: see core_get_heat() */

/* One virtual NUMA node of a domain. */
typedef struct CellFacts {
        uint32_t cell; /* guest node id */
        Tier tier;
        uint64_t size_bytes;       /* boot memory plus what virtio-mem has plugged, as the host sees it */
        /* The guest's word, hints only; UINT64_MAX when not known. */
        uint64_t guest_free_bytes;
        uint64_t guest_foreign_pages; /* ever wanted here and got memory of another cell */
} CellFacts;

/* One run of guest frames that belongs to one cell, with its counters of the last epoch.
 * Ordered by gfn, not overlapping. counters[i] counts the samples in which frame gfn + i was found written
 * (0..255, saturating); NULL when no sample of this epoch looked at it. Owned by the caller. The memory may
 * be shared with a hostile QEMU: the core reads each byte once. */
typedef struct RangeFacts {
        uint64_t gfn;
        uint64_t n_pages;
        uint32_t cell;
        const uint8_t *counters;
} RangeFacts;

/* What became of an order, as the guest says it (bounded by the manager to the pages that were ordered). */
typedef enum AckState {
        ACK_RUNNING, /* queued or running */
        ACK_DONE,
        ACK_FAILED, /* refused, cancelled, expired, or the guest no longer knows it */
} AckState;

typedef enum SkipReason {
        SKIP_FREE,
        SKIP_ALREADY_THERE,
        SKIP_UNMOVABLE,
        SKIP_PINNED,
        SKIP_NO_ROOM,
        SKIP_NOT_RAM,
        SKIP_OTHER,
        _SKIP_MAX,
} SkipReason;

typedef struct AckFacts {
        uint64_t order;
        AckState state;
        uint64_t promoted_pages;
        uint64_t demoted_pages;
        uint64_t skipped_pages[_SKIP_MAX];
} AckFacts;

/* What the market is told of a domain with one DRAM and one slow cell. */
typedef struct MarketFacts {
        AccountId id;
        SettleCell cells[_TIER_MAX];
        /* On its swap device, as the host sees it; UINT64_MAX: not known. */
        uint64_t swap_bytes_per_sec;
        uint64_t swap_wait_usec; /* that reads took, per second */
        /* The guest's word on that, which can only make it sell; UINT64_MAX: none. */
        uint64_t said_swap_in_bytes, said_stall_usec; /* per second */
        /* The guest's word, too, which can only make it trade less; UINT64_MAX: none. */
        uint64_t available_bytes; /* that it can do without */
        uint64_t swap_free_bytes; /* that it could swap out beyond that */
} MarketFacts;

/* A user's. dram_bytes: to buy (> 0) or sell, whole lots; of TRADE_LOTS only. */
typedef struct MarketCommand {
        AccountId id;
        TradeCommandType type;
        int64_t dram_bytes;
} MarketCommand;

typedef struct DomainFacts {
        uint64_t domain; /* the manager's key; unique, never reused, ascending within Inputs */
        DomainPolicy policy;
        bool agent_ready;           /* the guest can take orders now */
        bool frozen;                /* migrating, paused, resetting: forget nothing, order nothing */
        uint64_t ranges_generation; /* changes when ranges changed: heat of frames that left is dropped */
        CellFacts cells[CELLS_MAX];
        size_t n_cells;
        const RangeFacts *ranges;
        size_t n_ranges;
        uint64_t faults_per_sec; /* that tracking may cost the guest; 0: as many as there are */
        bool has_ring;       /* writes are logged by a dirty ring, which QEMU empties by itself, too */
        uint32_t samples;    /* samples behind the counters of this epoch; 0: none */
        const AckFacts *ack; /* news of the order under way, or NULL */
        const MarketFacts *market; /* NULL: it takes no part */
} DomainFacts;

typedef struct Inputs {
        HostPolicy policy;
        const DomainFacts *domains; /* ascending by domain; one that is missing is forgotten */
        size_t n_domains;
        uint64_t capacity_bytes[_TIER_MAX]; /* that all domains together may hold; of an enabled market */
        const MarketCommand *commands;
        size_t n_commands;
} Inputs;

/* Limits of what the core takes in: far above any guest, low enough that no sum of them overflows. */
#define GFN_MAX (UINT64_C(1) << 52)
#define DOMAIN_RANGES_MAX 4096
#define MEMORY_BYTES_MAX (UINT64_C(1) << 52)

/* Checks the contract of all of the above. Returns 0 or -EINVAL. */
int inputs_check(const Inputs *in);
