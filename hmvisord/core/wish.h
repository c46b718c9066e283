/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a VM would trade: how many lots of DRAM to buy or to sell, from what the host sees of it. Owns the
 * weighing of room against heat, and what keeps a wish from swinging; never knows other VMs, floors,
 * ceilings, caps by ticket or rests after a trade (core/trade.h), which hold for whatever is wished.
 *
 * Two signals, in one unit: microseconds of waiting per second.
 *
 * - Room: how long the VM waits for its swap device. It sells DRAM, which buys more slow memory than that,
 * while the waiting that a lot of room saves is more than what the hot pages lose that fall out of DRAM.
 * Waiting is what the disk's reads took, measured on the host: a disk of 79 reads a second keeps a guest
 * waiting all the time at 316 KiB/s. Writes do not count: a fault waits for its page to be read, while
 * kernels write pages out ahead of need; and a disk that is busy with writes shows in its reads. Bytes both
 * ways tell how much room is wanted. A guest that has got room reads back what it had swapped out, which
 * takes minutes from a hard disk: while it has a lot's room to spare, it sells no more.
 * - Heat: all pages in order of heat, hottest first; DRAM holds the first of them once they are migrated.
 * What the next lot would catch, and what the last one holds, can be read off that curve, wherever the pages
 * lie now: pages that migration alone will bring to DRAM are no reason to buy. Lots that it bought for heat
 * and that have gone cold it sells again; what it is entitled to it keeps, however cold.
 *
 * Where the host sees no swap device, the guest's own word stands in: what it reads back, and how long some
 * task of it waited for memory (PSI), which counts only while it reads back. It can make the VM sell, and
 * keep it from buying, but never buy more.
 *
 * A guest can swap and write to look hungry or hot, and lie about what is free. All that this changes is
 * which of its own memory it gives for which: each lot that it gets is one that it pays for.
 */
#pragma once

#include "core/heatmap.h"
#include "core/market.h"

/* One page swapped in or out, where the disk's times are not known: 80 to 100 us is what data sheets give
 * for a random read of 4 KiB by flash drives on NVMe; a fault and a virtual disk are not less than the rest.
 * As much as some 450 writes to slow memory at 220 ns more than to DRAM (80 against 300 ns: what CXL
 * expanders add). */
#define WISH_SWAP_PAGE_USEC 100
/* Reads in flight overlap, each with a time of its own: more than one CPU's whole time is not believed. How
 * many CPUs wait at once is not known; a guest has at least one. */
#define WISH_WAIT_MAX USEC_PER_SEC
/* Per second, for a page of heat 255 on slow memory. Heat says that a page was written in a sample, not how
 * often: taken to be each of its 64 cache lines once, at two samples a second, 220 ns each. */
#define WISH_HOT_PAGE_USEC 28
/* Swapping counts from here on (1.3% of a CPU's time: 128 pages a second of a flash drive, one of a hard
 * disk), and ends below a quarter of it. */
#define WISH_SWAP_START_USEC 12800
#define WISH_SWAP_STOP_USEC 3200
/* Swapping has ended when it was below for so many epochs of the market; it begins after one. */
#define WISH_CALM_EPOCHS 3
/* A lot is worth buying when the pages that it catches have this heat on average, written in a tenth of the
 * samples: three times what the planner asks of a move, as a trade costs a resize on top of the moves. */
#define WISH_LOT_HEAT 24
/* Lots that were bought and hold so little are offered again, down to the entitlement: a quarter of that, so
 * that a lot which was just worth buying stays, and for so many epochs of the market, as warm pages may only
 * rest. */
#define WISH_COLD_HEAT (WISH_LOT_HEAT / 4)
#define WISH_COLD_EPOCHS 6
/* Who trades one way and then the other waits twice as long each time, up to 64 times the dwell; who has not
 * turned for twice as long as that begins anew. */
#define WISH_TURNS_MAX 6
/* One part in 8 of a VM's memory stays available to it when it buys: a guest's file cache and bursts. */
#define WISH_SPARE_KEPT 8
#define WISH_LOTS_MAX 4096 /* per wish; an epoch's cap is far below */

typedef enum WishReason {
        WISH_IDLE,        /* it neither swaps nor writes to what is warm */
        WISH_BALANCED,    /* what it has serves it best: hot pages fit, or are worth more than room */
        WISH_SWAPPING,    /* sells DRAM for room */
        WISH_HAS_ROOM,    /* swaps, and has not used the room that it has: pages are still coming back */
        WISH_HEAT_MISSED, /* buys DRAM for hot pages */
        WISH_COLD,        /* sells DRAM that it had bought, and that holds nothing warm any more */
        WISH_NO_SPARE,    /* would buy DRAM, and has no slow memory to spare */
        WISH_NOT_MOVED,   /* would buy, but its pages are not migrated: not managed, or no agent */
        WISH_WATCHING,    /* a signal that has not lasted long enough, or has just ended */
        WISH_TURNING,     /* traded the other way too short a time ago */
        WISH_NO_SIGNAL,   /* neither heat nor swapping is known */
        WISH_FROZEN,
        WISH_OFF, /* trading is off */
        _WISH_REASON_MAX,
} WishReason;
const char *wish_reason_to_string(WishReason r); /* "idle", "heat-missed", ... */

/* What is seen of one VM now. */
typedef struct WishFacts {
        const Terms *terms;
        const MarketPolicy *policy;
        bool trading, frozen;
        bool moved;    /* its pages are migrated: it is managed, and its agent takes orders */
        bool has_heat; /* enough epochs were seen */
        uint64_t size_bytes[_TIER_MAX];
        uint64_t heat[_TIER_MAX][HEAT_VALUES]; /* pages, by tier and heat */
        uint64_t swap_bytes_per_sec;           /* read and written; UINT64_MAX: not known */
        uint64_t swap_wait_usec;               /* that reads took, per second; UINT64_MAX: not known */
        /* The guest's word, per second; UINT64_MAX: none. */
        uint64_t said_swap_in_bytes, said_stall_usec;
        uint64_t resident_bytes;               /* of both tiers; UINT64_MAX: not known */
        uint64_t available_bytes;              /* the guest's word; UINT64_MAX: none */
        int64_t position;
} WishFacts;

/* What is remembered of one VM; all zero at first. */
typedef struct Wish {
        uint64_t swap_bytes_per_sec, swap_wait_usec; /* smoothed */
        bool swaps;
        usec_t swap_flips_at; /* 0: no sign of it */
        usec_t missed_at;     /* hot pages count as missed from then on; 0: none are */
        usec_t cold_at;       /* lots count as cold from then on; 0: none are */
        int64_t cold_lots;    /* the fewest since cold_at was set */
        bool known;           /* position is one that was seen */
        int64_t position;
        int direction; /* of the last trade: 1 bought, -1 sold, 0 none */
        unsigned turns;
        usec_t traded_at, turned_at;
} Wish;

/* A wish, and the figures behind it. Times are microseconds of waiting per second. */
typedef struct WishDecision {
        WishReason reason;
        int64_t lots; /* of DRAM to buy (> 0) or sell */
        int64_t best; /* what it would be without spare memory and earlier trades in the way */
        uint64_t swap_bytes_per_sec, swap_wait_usec;
        bool said;               /* these two are the guest's word */
        uint64_t room_usec;      /* saved per lot of DRAM sold; 0: does not swap */
        uint64_t heat_usec;      /* lost by the first lot sold, or gained by the first one bought */
        uint64_t slow_permyriad; /* of all heat, how much lies on slow memory now */
        uint64_t spare_bytes;    /* that it can do without; UINT64_MAX: not known */
        uint64_t wait_usec;      /* while watching or turning: how much longer at least */
} WishDecision;

/* One tick. Pure but for *w. */
void wish_step(Wish *w, const WishFacts *f, usec_t now, WishDecision *ret);

/* One line for people, with figures: "would sell 4 lots of 32 MiB DRAM, each for 96 MiB more memory: it
 * waits 900 ms/s for its swap device, at 316 KiB/s; ...". */
int wish_describe(const WishDecision *d, const Terms *t, char *buf, size_t size);
