/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The scripted manager's counters: domain "hot" had six orders, of which one took longer than any bucket,
 * and three trades.
 */
#include "fake-manager.h"

void manager_get_metrics(const Manager *m, DaemonMetrics *ret) {
        *ret = (DaemonMetrics) { .memory_bytes = 12345678, .cpu_usec = 1500000 };
}

int manager_get_domain_metrics(const Manager *m, const char *uuid, DomainMetrics *ret) {
        char hot[37];

        *ret = (DomainMetrics) { 0 };
        snprintf(ret->uuid, sizeof(ret->uuid), "%s", uuid);
        if (manager_find_domain(m, "hot", hot, NULL) < 0 || !streq(uuid, hot))
                return 0;
        ret->order_latency = (Latency) { .counts = { 0, 0, 1, 3, 1, [LATENCY_BOUNDS] = 1 },
                                         .sum_usec = 74250000 };
        memcpy(ret->trades, (const uint64_t[]) { 1, 1, 1 }, sizeof(ret->trades));
        ret->bought_bytes[TIER_DRAM] = UINT64_C(96) << 20;
        ret->sold_bytes[TIER_SLOW] = UINT64_C(384) << 20;
        return 0;
}
