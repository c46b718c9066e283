/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Counters beside the core's totals: how long orders take, what trades came to, what the daemon itself uses.
 * Counts what it is told; decides and logs nothing.
 */
#include <sys/resource.h>

#include "manager-internal.h"

static const usec_t bounds[] = LATENCY_BOUNDS_USEC;

_Static_assert(ELEMENTSOF(bounds) == LATENCY_BOUNDS, "each bucket but the last has its bound");

static void latency_add(Latency *l, usec_t usec) {
        size_t i = 0;

        while (i < LATENCY_BOUNDS && usec > bounds[i])
                i++;
        l->counts[i]++;
        l->sum_usec += usec;
}

void metrics_order_sent(Domain *d) {
        d->order_sent = manager_now(d->manager);
}

/* Once for each order sent; what was under way when the guest went away is never acknowledged. */
void metrics_order_acknowledged(Domain *d) {
        latency_add(&d->metrics.order_latency, manager_now(d->manager) - d->order_sent);
}

void metrics_trade_ended(Domain *d, const Ticket *t, const Terms *terms) {
        DomainMetrics *m = &d->metrics;
        uint64_t lots = ticket_lots(t);
        Tier sold = ticket_gives(t), bought = sold == TIER_DRAM ? TIER_SLOW : TIER_DRAM;

        m->trades[t->paid == 0 ? TRADE_NOTHING : t->paid < lots ? TRADE_PARTIAL : TRADE_WHOLE]++;
        m->sold_bytes[sold] += t->paid * terms_lot_bytes(terms, sold);
        m->bought_bytes[bought] += t->paid * terms_lot_bytes(terms, bought);
}

static uint64_t resident_bytes(void) {
        _cleanup_fclose_ FILE *f = fopen("/proc/self/statm", "re");
        unsigned long long pages;

        return f && fscanf(f, "%*u %llu", &pages) == 1 ? pages * (uint64_t) sysconf(_SC_PAGESIZE) : 0;
}

static usec_t usec_of(const struct timeval *tv) {
        return (usec_t) tv->tv_sec * USEC_PER_SEC + (usec_t) tv->tv_usec;
}

void manager_get_metrics(const Manager *m, DaemonMetrics *ret) {
        struct rusage usage = {};

        (void) getrusage(RUSAGE_SELF, &usage);
        *ret = (DaemonMetrics) {
                .memory_bytes = resident_bytes(),
                .cpu_usec = usec_of(&usage.ru_utime) + usec_of(&usage.ru_stime),
        };
}

int manager_get_domain_metrics(const Manager *m, const char *uuid, DomainMetrics *ret) {
        const Domain *d = manager_domain(m, uuid);

        if (!d)
                return -ENOENT;
        *ret = d->metrics;
        memcpy(ret->uuid, d->uuid, sizeof(ret->uuid));
        return 0;
}
