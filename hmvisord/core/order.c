/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Orders and decisions as values and as text for people. Owns no policy.
 */
#include <inttypes.h>

#include "core/order.h"

const char *verdict_to_string(Verdict v) {
        static const char *const names[_VERDICT_MAX] = {
                [VERDICT_ORDERED] = "ordered",         [VERDICT_DRY_RUN] = "dry-run",
                [VERDICT_WARMING_UP] = "warming-up",   [VERDICT_NO_SAMPLES] = "no-samples",
                [VERDICT_FROZEN] = "frozen",           [VERDICT_NOT_MANAGED] = "not-managed",
                [VERDICT_NO_AGENT] = "no-agent",       [VERDICT_BUSY] = "busy",
                [VERDICT_SETTLING] = "settling",       [VERDICT_BALANCED] = "balanced",
                [VERDICT_RATE_CAPPED] = "rate-capped", [VERDICT_NO_TIERS] = "no-tiers",
                [VERDICT_LEARNING] = "learning",       [VERDICT_VAIN] = "vain",
        };

        return (unsigned) v < _VERDICT_MAX ? names[v] : "unknown";
}

int decision_describe(const Decision *d, char *buf, size_t size) {
        switch (d->verdict) {
        case VERDICT_ORDERED:
        case VERDICT_DRY_RUN:
                if (d->promote_pages == 0)
                        return snprintf(buf, size,
                                        "%s up to %" PRIu64 " cold pages demoted (order %" PRIu64
                                        "), to make room: %" PRIu64
                                        " new pages of the guest found none in DRAM",
                                        d->verdict == VERDICT_ORDERED ? "ordered"
                                                                      : "dry run, nothing sent:",
                                        d->demote_pages, d->order, d->lacked_pages);
                return snprintf(buf, size,
                                "%s %" PRIu64 " pages promoted and up to %" PRIu64
                                " demoted in exchange (order %" PRIu64 "): %" PRIu64
                                " pages on slow memory were hot (heat %" PRIu32 " and above), %" PRIu64
                                " DRAM pages cold",
                                d->verdict == VERDICT_ORDERED ? "ordered" : "dry run, nothing sent:",
                                d->promote_pages, MIN(d->promote_pages, d->demote_pages), d->order,
                                d->hot_slow_pages, d->threshold, d->cold_dram_pages);
        case VERDICT_BALANCED:
                return snprintf(buf, size,
                                "promoted nothing: %" PRIu64 " pages on slow memory are hot (heat %" PRIu32
                                " and above), too few of them hotter than the DRAM pages that they would "
                                "displace (%" PRIu64 " hot, %" PRIu64 " cold)",
                                d->hot_slow_pages, d->threshold, d->hot_dram_pages, d->cold_dram_pages);
        case VERDICT_VAIN:
                return snprintf(buf, size,
                                "promoted nothing for a while: of what the last orders promoted next to "
                                "nothing was written again (%" PRIu64 " pages on slow memory are hot)",
                                d->hot_slow_pages);
        case VERDICT_RATE_CAPPED:
                return snprintf(buf, size,
                                "promoted nothing yet: the migration rate cap is used up (%" PRIu64
                                " pages on slow memory are hot, %" PRIu64 " DRAM pages cold)",
                                d->hot_slow_pages, d->cold_dram_pages);
        case VERDICT_WARMING_UP:
                return snprintf(buf, size, "promoted nothing yet: heat is still being gathered");
        case VERDICT_NO_SAMPLES:
                return snprintf(buf, size,
                                "promoted nothing: no samples in this epoch, tracking rests or is blocked");
        case VERDICT_FROZEN:
                return snprintf(buf, size, "promoted nothing: the domain is migrating, paused or resetting");
        case VERDICT_NOT_MANAGED:
                return snprintf(buf, size,
                                "promoted nothing: the domain is observed, not managed (hmvctl manage)");
        case VERDICT_NO_AGENT:
                return snprintf(buf, size, "promoted nothing: the guest agent does not take orders now");
        case VERDICT_BUSY:
                return snprintf(buf, size, "promoted nothing more: order %" PRIu64 " is under way",
                                d->order);
        case VERDICT_SETTLING:
                return snprintf(buf, size, "promoted nothing yet: the last order just ended, heat settles");
        case VERDICT_LEARNING:
                return snprintf(buf, size,
                                "promoted nothing yet: tracking, which an order would end, goes on first "
                                "(%" PRIu64 " pages on slow memory are hot)",
                                d->hot_slow_pages);
        case VERDICT_NO_TIERS:
                return snprintf(
                        buf, size,
                        "promoted nothing: the domain lacks a DRAM cell or a slow cell (hmvctl bind)");
        case _VERDICT_MAX:
                break;
        }
        return snprintf(buf, size, "no decision");
}

#define BALANCE_PART 16 /* what is less than this part of the hot pages in DRAM changes nothing */

/* What belongs to an order, and an epoch without samples, says nothing. */
void decision_note_balance(const Decision *d, usec_t *since, Decision *then) {
        uint64_t little = d->hot_dram_pages / BALANCE_PART;

        if (d->verdict == VERDICT_BUSY || d->verdict == VERDICT_SETTLING ||
            d->verdict == VERDICT_LEARNING || d->verdict == VERDICT_NO_SAMPLES ||
            (d->order > 0 && d->promote_pages == 0))
                return;
        if (!verdict_is_rest(d->verdict) && (d->verdict != VERDICT_ORDERED || d->promote_pages > little))
                *since = 0;
        else if (*since == 0 || d->hot_slow_pages > then->hot_slow_pages + little) {
                *since = d->when;
                *then = *d;
        }
}

void order_list_done(OrderList *l) {
        for (size_t i = 0; i < l->n_orders; i++) {
                free(l->orders[i].promote.ranges);
                free(l->orders[i].demote.ranges);
        }
        free(l->orders);
        free(l->decisions);
        free(l->command_results);
        settlement_done(&l->market);
        *l = (OrderList){ 0 };
}
