/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Waits until a domain's trade is settled, and tells how it goes on meanwhile.
 */
#pragma once

#include <json-c/json.h>

#include "verb.h"

typedef struct Settle {
        char uuid[37];
        char name[256];
        int64_t position_before;              /* DRAM bought since its entitlement, bytes */
        uint64_t lot_dram_bytes, lot_slow_bytes;
        /* of settle_wait() */
        int64_t got_dram_bytes, got_slow_bytes;
        bool was_matched;                     /* somebody took the other side */
} Settle;

/* Before the trade is asked for. */
int settle_begin(Ctl *ctl, const char *domain, Settle *ret, Outcome *o);
/* Until nothing is asked for or under way, and the domain has the sizes that it owns. timeout 0: none. The
 * trade goes on when waiting ends before. */
int settle_wait(Ctl *ctl, Settle *s, usec_t timeout, Outcome *o);
