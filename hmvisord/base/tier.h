/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The two kinds of memory. Owns no state.
 */
#pragma once

typedef enum Tier {
        TIER_DRAM,
        TIER_SLOW,
        _TIER_MAX,
} Tier;

static inline const char *tier_to_string(Tier t) {
        return t == TIER_DRAM ? "dram" : t == TIER_SLOW ? "slow" : "unknown";
}
