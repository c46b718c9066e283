/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See wish.h. All that is weighed comes from two functions: the heat of pages by their rank on the curve,
 * and the waiting for the swap device.
 */
#include <inttypes.h>

#include "base/units.h"
#include "core/planner.h"
#include "core/wish.h"

#define FRAME_BYTES UINT64_C(4096)
#define SWAP_WEIGHT 8 /* of a tick in the smoothed rate: one part in so many; half is gone after 5 ticks */

const char *wish_reason_to_string(WishReason r) {
        static const char *const names[_WISH_REASON_MAX] = {
                [WISH_IDLE] = "idle",
                [WISH_BALANCED] = "balanced",
                [WISH_SWAPPING] = "swapping",
                [WISH_HAS_ROOM] = "has-room",
                [WISH_HEAT_MISSED] = "heat-missed",
                [WISH_COLD] = "cold",
                [WISH_NO_SPARE] = "no-spare",
                [WISH_NOT_MOVED] = "not-moved",
                [WISH_WATCHING] = "watching",
                [WISH_TURNING] = "turning",
                [WISH_NO_SIGNAL] = "no-signal",
                [WISH_FROZEN] = "frozen",
                [WISH_OFF] = "off",
        };

        return (unsigned) r < _WISH_REASON_MAX ? names[r] : "unknown";
}

/* ---- the curve ---- */

/* Sum of heat of the pages ranked [from, from + n), the hottest being 0. */
static uint64_t heat_ranked(const WishFacts *f, uint64_t from, uint64_t n) {
        uint64_t rank = 0, sum = 0;

        if (!f->has_heat)
                return 0;
        for (uint64_t heat = HEAT_VALUES - 1; heat > 0 && rank < from + n; heat--) {
                uint64_t end = rank + f->heat[TIER_DRAM][heat] + f->heat[TIER_SLOW][heat];
                uint64_t first = MAX(rank, from), last = MIN(end, from + n);

                sum += first < last ? (last - first) * heat : 0;
                rank = end;
        }
        return sum;
}

static uint64_t heat_usec(uint64_t heat) {
        return heat * WISH_HOT_PAGE_USEC / (HEAT_VALUES - 1);
}

static uint64_t lot_pages(const Terms *t) {
        return terms_lot_bytes(t, TIER_DRAM) / FRAME_BYTES;
}

/* Pages that DRAM holds for the workload: as the planner sees it. */
static uint64_t dram_pages(const WishFacts *f) {
        uint64_t pages = f->size_bytes[TIER_DRAM] / FRAME_BYTES;

        return pages - pages / DRAM_RESERVE;
}

/* What a lot of DRAM brings or takes in memory altogether. */
static uint64_t lot_room(const Terms *t) {
        uint64_t dram = terms_lot_bytes(t, TIER_DRAM), slow = terms_lot_bytes(t, TIER_SLOW);

        return slow > dram ? slow - dram : 0;
}

static int64_t lots_per_epoch(const WishFacts *f) {
        return (int64_t) MIN(f->policy->max_trade_bytes / terms_lot_bytes(f->terms, TIER_DRAM),
                             (uint64_t) WISH_LOTS_MAX);
}

/* How many lots of DRAM the pages behind those in DRAM are worth. */
static int64_t lots_missed(const WishFacts *f, uint64_t *ret_usec) {
        uint64_t pages = lot_pages(f->terms), at = dram_pages(f), heat;
        int64_t n = 0;

        *ret_usec = heat_usec(heat_ranked(f, at, pages));
        for (; n < lots_per_epoch(f); n++, at += pages) {
                heat = heat_ranked(f, at, pages);
                if (heat < pages * WISH_LOT_HEAT)
                        break;
        }
        return n;
}

/* How many lots of DRAM are worth less to it than the room that they buy. As many as hold what is swapped in
 * an epoch would end it; each of them saves its share of the waiting. */
static int64_t lots_for_room(const WishFacts *f, const Wish *w, uint64_t *ret_room, uint64_t *ret_heat) {
        uint64_t pages = lot_pages(f->terms), at = dram_pages(f), room = lot_room(f->terms), wanted;
        int64_t n = 0, most;

        *ret_room = 0;
        *ret_heat = heat_usec(heat_ranked(f, at - MIN(at, pages), MIN(at, pages)));
        if (room == 0)
                return 0; /* at this price DRAM buys no more slow memory than itself */
        wanted = (uint64_t) ((unsigned __int128) w->swap_bytes_per_sec * f->policy->epoch_usec /
                             USEC_PER_SEC / room) +
                 1;
        *ret_room = w->swap_wait_usec / wanted;
        most = (int64_t) MIN(wanted, (uint64_t) lots_per_epoch(f));
        while (n < most && at >= pages && heat_usec(heat_ranked(f, at - pages, pages)) < *ret_room) {
                at -= pages;
                n++;
        }
        return n;
}

/* How many of the lots that it bought hold next to nothing. Where pages are not migrated, DRAM holds others
 * than those that the curve says. */
static int64_t lots_cold(const WishFacts *f, uint64_t *ret_usec) {
        uint64_t pages = lot_pages(f->terms), at = dram_pages(f);
        int64_t n = 0, most = f->has_heat && f->moved ? MIN(f->position, lots_per_epoch(f)) : 0;

        *ret_usec = heat_usec(heat_ranked(f, at - MIN(at, pages), MIN(at, pages)));
        for (; n < most && at >= pages; n++, at -= pages)
                if (heat_ranked(f, at - pages, pages) >= pages * WISH_COLD_HEAT)
                        break;
        return n;
}

/* What it can do without, and still have its part of all. The host knows of memory that was never touched; a
 * guest that says what is available knows of caches, too. */
static uint64_t spare_bytes(const WishFacts *f) {
        uint64_t total = f->size_bytes[TIER_DRAM] + f->size_bytes[TIER_SLOW];
        uint64_t kept = total / WISH_SPARE_KEPT, spare;

        if (f->available_bytes != UINT64_MAX)
                spare = MIN(f->available_bytes, total);
        else if (f->resident_bytes != UINT64_MAX)
                spare = total - MIN(f->resident_bytes, total);
        else
                return UINT64_MAX;
        return spare - MIN(spare, kept);
}

/* ---- over time ---- */

static void smooth(uint64_t *x, uint64_t to) {
        if (to >= *x)
                *x += (to - *x + SWAP_WEIGHT - 1) / SWAP_WEIGHT;
        else
                *x -= (*x - to + SWAP_WEIGHT - 1) / SWAP_WEIGHT;
}

/* The host's own view comes first. */
static bool is_said(const WishFacts *f) {
        return f->swap_bytes_per_sec == UINT64_MAX && f->said_swap_in_bytes != UINT64_MAX;
}

static void wish_follow_swap(Wish *w, const WishFacts *f, usec_t now) {
        bool said = is_said(f);
        uint64_t bytes = said ? f->said_swap_in_bytes : f->swap_bytes_per_sec;
        uint64_t wait = said ? f->said_stall_usec : f->swap_wait_usec;
        uint64_t rate = bytes == UINT64_MAX ? 0 : MIN(bytes, UINT64_C(1) << 40);
        usec_t hold = f->policy->epoch_usec * (w->swaps ? WISH_CALM_EPOCHS : 1);

        if (bytes == UINT64_MAX || (said && bytes == 0))
                wait = 0;
        else if (wait == UINT64_MAX)
                wait = rate / FRAME_BYTES * WISH_SWAP_PAGE_USEC;
        smooth(&w->swap_bytes_per_sec, rate);
        smooth(&w->swap_wait_usec, MIN(wait, WISH_WAIT_MAX));
        if (w->swaps ? w->swap_wait_usec >= WISH_SWAP_STOP_USEC : w->swap_wait_usec < WISH_SWAP_START_USEC)
                w->swap_flips_at = 0;
        else if (w->swap_flips_at == 0)
                w->swap_flips_at = now + MAX(hold, UINT64_C(1));
        else if (now >= w->swap_flips_at) {
                w->swaps = !w->swaps;
                w->swap_flips_at = 0;
        }
}

static void wish_follow_trades(Wish *w, const WishFacts *f, usec_t now) {
        int64_t position = f->position;
        int direction = position > w->position ? 1 : -1;

        if (w->known && position != w->position) {
                w->cold_at = 0;
                if (w->direction == -direction) {
                        w->turns = MIN(w->turns + 1, (unsigned) WISH_TURNS_MAX);
                        w->turned_at = now;
                }
                w->direction = direction;
                w->traded_at = now;
        }
        if (now - w->turned_at >= f->policy->dwell_usec << (WISH_TURNS_MAX + 1))
                w->turns = 0;
        w->known = true;
        w->position = position;
}

static usec_t time_until(usec_t when, usec_t now) {
        return when > now ? when - now : 0;
}

static void wish_sell(const Wish *w, const WishFacts *f, usec_t now, WishDecision *d) {
        d->best = -lots_for_room(f, w, &d->room_usec, &d->heat_usec);
        d->spare_bytes = spare_bytes(f);
        if (w->swap_flips_at > 0) { /* it has ended, so it seems */
                d->reason = WISH_WATCHING;
                d->wait_usec = time_until(w->swap_flips_at, now);
        } else if (d->best < 0 && d->spare_bytes != UINT64_MAX && d->spare_bytes >= lot_room(f->terms))
                d->reason = WISH_HAS_ROOM;
        else
                d->reason = d->best < 0 ? WISH_SWAPPING : WISH_BALANCED;
        d->lots = d->reason == WISH_SWAPPING ? d->best : 0;
}

/* Whether there is anything cold; then *d says so. */
static bool wish_shed(Wish *w, const WishFacts *f, usec_t now, WishDecision *d) {
        uint64_t usec;
        int64_t n = lots_cold(f, &usec);

        if (n == 0) {
                w->cold_at = 0;
                return false;
        }
        if (w->cold_at == 0) {
                w->cold_at = now + MAX(f->policy->epoch_usec * WISH_COLD_EPOCHS, UINT64_C(1));
                w->cold_lots = n;
        }
        w->cold_lots = MIN(w->cold_lots, n);
        d->best = -w->cold_lots;
        d->heat_usec = usec;
        d->wait_usec = time_until(MAX(w->cold_at, w->swap_flips_at), now);
        d->reason = d->wait_usec > 0 ? WISH_WATCHING : WISH_COLD;
        d->lots = d->reason == WISH_COLD ? d->best : 0;
        return true;
}

static void wish_buy(Wish *w, const WishFacts *f, usec_t now, WishDecision *d) {
        uint64_t room = lot_room(f->terms);

        d->best = lots_missed(f, &d->heat_usec);
        if (d->best == 0) {
                w->missed_at = 0;
                if (wish_shed(w, f, now, d))
                        return;
                d->reason = w->swap_flips_at > 0                         ? WISH_WATCHING
                            : d->swap_bytes_per_sec || d->slow_permyriad ? WISH_BALANCED
                                                                         : WISH_IDLE;
                d->wait_usec = time_until(w->swap_flips_at, now);
                return;
        }
        w->cold_at = 0;
        if (w->missed_at == 0)
                w->missed_at = now + MAX(f->policy->epoch_usec, UINT64_C(1));
        d->spare_bytes = spare_bytes(f);
        d->lots = room == 0 ? d->best : (int64_t) MIN((uint64_t) d->best, d->spare_bytes / room);
        d->wait_usec = time_until(MAX(w->missed_at, w->swap_flips_at), now);
        d->reason = !f->moved          ? WISH_NOT_MOVED
                    : d->wait_usec > 0 ? WISH_WATCHING
                    : d->lots == 0     ? WISH_NO_SPARE
                                       : WISH_HEAT_MISSED;
        if (d->reason != WISH_HEAT_MISSED)
                d->lots = 0;
}

/* Of all heat, the part on slow memory. */
static uint64_t slow_permyriad(const WishFacts *f) {
        uint64_t sum[_TIER_MAX] = { 0 };

        for (Tier t = 0; t < _TIER_MAX; t++)
                for (uint64_t heat = 1; heat < HEAT_VALUES; heat++)
                        sum[t] += f->heat[t][heat] * heat;
        if (!f->has_heat || sum[TIER_SLOW] == 0)
                return 0;
        return MAX((uint64_t) ((unsigned __int128) sum[TIER_SLOW] * 10000 /
                               (sum[TIER_DRAM] + sum[TIER_SLOW])),
                   UINT64_C(1));
}

void wish_step(Wish *w, const WishFacts *f, usec_t now, WishDecision *ret) {
        WishDecision d = { .spare_bytes = UINT64_MAX };
        usec_t turn_at;

        wish_follow_trades(w, f, now);
        if (f->frozen || !f->trading) {
                /* What was seen before says nothing of what comes after. */
                w->swap_bytes_per_sec = w->swap_wait_usec = w->swap_flips_at = w->missed_at = w->cold_at = 0;
                w->swaps = false;
                d.reason = f->trading ? WISH_FROZEN : WISH_OFF;
                *ret = d;
                return;
        }
        wish_follow_swap(w, f, now);
        d.swap_bytes_per_sec = w->swap_bytes_per_sec;
        d.swap_wait_usec = w->swap_wait_usec;
        d.said = is_said(f);
        d.slow_permyriad = slow_permyriad(f);
        if (w->swaps) {
                w->missed_at = w->cold_at = 0;
                wish_sell(w, f, now, &d);
        } else
                wish_buy(w, f, now, &d);
        if (d.lots == 0 && !f->has_heat && f->swap_bytes_per_sec == UINT64_MAX && !d.said)
                d.reason = WISH_NO_SIGNAL;
        turn_at = w->traded_at + (w->turns > 0 ? f->policy->dwell_usec << w->turns : 0);
        if ((d.lots > 0 ? w->direction < 0 : d.lots < 0 && w->direction > 0) && now < turn_at) {
                d.reason = WISH_TURNING;
                d.wait_usec = turn_at - now;
                d.lots = 0;
        }
        *ret = d;
}

/* ---- for people ---- */

#define SWAP_TEXT_MAX (2 * SIZE_TEXT_MAX + 64)

static void swap_format(char buf[static SWAP_TEXT_MAX], const WishDecision *d) {
        char rate[SIZE_TEXT_MAX];

        size_format(rate, d->swap_bytes_per_sec);
        snprintf(buf, SWAP_TEXT_MAX,
                 d->said ? "by its own word it waits %" PRIu64 " ms/s for memory, and reads back %s/s"
                         : "it waits %" PRIu64 " ms/s for its swap device, at %s/s",
                 (d->swap_wait_usec + 999) / 1000, rate);
}

int wish_describe(const WishDecision *d, const Terms *t, char *buf, size_t size) {
        char lot[SIZE_TEXT_MAX], spare[SIZE_TEXT_MAX], room[SIZE_TEXT_MAX], swap[SWAP_TEXT_MAX];
        uint64_t lots = (uint64_t) (d->lots < 0 ? -d->lots : d->lots);
        uint64_t best = (uint64_t) (d->best < 0 ? -d->best : d->best);
        const char *s = lots == 1 ? "" : "s";

        size_format(lot, terms_lot_bytes(t, TIER_DRAM));
        size_format(room, lot_room(t));
        swap_format(swap, d);
        size_format(spare, d->spare_bytes);
        switch (d->reason) {
        case WISH_IDLE:
                return snprintf(buf, size,
                                "would trade nothing: it does not swap, and writes to no slow memory");
        case WISH_BALANCED:
                if (d->room_usec > 0)
                        return snprintf(
                                buf, size,
                                "would trade nothing: %s, but a lot of %s DRAM is worth more to "
                                "it (%" PRIu64 " us/s) than its room (%" PRIu64 " us/s)",
                                swap, lot, d->heat_usec, d->room_usec);
                return snprintf(
                        buf, size,
                        "would trade nothing: %" PRIu64 ".%02" PRIu64
                        "%% of its heat is on slow memory, and the next %s of DRAM would save %" PRIu64
                        " us/s; %s",
                        d->slow_permyriad / 100, d->slow_permyriad % 100, lot, d->heat_usec, swap);
        case WISH_SWAPPING:
                return snprintf(buf, size,
                                "would sell %" PRIu64
                                " lot%s of %s DRAM, each for %s more memory: %s; "
                                "a lot saves %" PRIu64 " us/s of that and costs hot pages %" PRIu64 " us/s",
                                lots, s, lot, room, swap, d->room_usec, d->heat_usec);
        case WISH_HAS_ROOM:
                return snprintf(buf, size,
                                "would trade nothing: %s, but has %s to spare, so more room would not help; "
                                "what was swapped out is still coming back",
                                swap, spare);
        case WISH_HEAT_MISSED:
                return snprintf(buf, size,
                                "would buy %" PRIu64
                                " lot%s of %s DRAM, each for %s less memory: hot pages do not "
                                "fit its DRAM, and the next lot saves them %" PRIu64 " us/s",
                                lots, s, lot, room, d->heat_usec);
        case WISH_COLD:
                return snprintf(buf, size,
                                "would sell %" PRIu64
                                " lot%s of %s DRAM of those that it bought, each for %s more memory: they "
                                "hold nothing warm any more, and the last one saves %" PRIu64 " us/s",
                                lots, s, lot, room, d->heat_usec);
        case WISH_NO_SPARE:
                return snprintf(buf, size,
                                "would buy %" PRIu64
                                " of %s DRAM, but has only %s to spare, and each takes %s",
                                best, lot, spare, room);
        case WISH_NOT_MOVED:
                return snprintf(
                        buf, size,
                        "would trade nothing: hot pages do not fit its DRAM, but would not be moved to more "
                        "of it (not managed, or its agent does not answer)");
        case WISH_WATCHING:
                return snprintf(
                        buf, size,
                        "would trade nothing yet: what it needs has changed, and has to last %" PRIu64
                        " s more; %s",
                        (d->wait_usec + USEC_PER_SEC - 1) / USEC_PER_SEC, swap);
        case WISH_TURNING:
                return snprintf(buf, size,
                                "would %s %" PRIu64
                                " of %s DRAM, but traded the other way, and has done so before: "
                                "not for %" PRIu64 " s",
                                d->best > 0 ? "buy" : "sell", best, lot,
                                (d->wait_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
        case WISH_NO_SIGNAL:
                return snprintf(
                        buf, size,
                        "would trade nothing: neither its heat nor its swapping is known (hmvctl market set "
                        "DOMAIN --swap-device=NAME)");
        case WISH_FROZEN:
                return snprintf(buf, size, "would trade nothing: it is migrating, paused or resetting");
        case WISH_OFF:
                return snprintf(buf, size, "would trade nothing: trading is off for it");
        case _WISH_REASON_MAX:
                break;
        }
        return snprintf(buf, size, "no wish");
}
