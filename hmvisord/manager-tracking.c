/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much tracking may cost a domain: the configuration's share of its processors' time, in faults. Owns
 * the figure of what a fault takes on this host; the budget itself is the core's.
 */
#include <inttypes.h>
#include <limits.h>

#include "base/log.h"
#include "config.h"
#include "manager-internal.h"

/* Not measured: where KVM is not at hand, the order of magnitude of an exit and a page table's change. */
#define FAULT_COST_ASSUMED_NS 2000
#define FAULT_COST_MAX_NS 1000000
#define BOOT_USEC (60 * USEC_PER_SEC) /* of a guest whose agent does not answer */

/* What was measured before the daemon started (hmvisor-fault-cost); 0: nothing. Tests give a root. */
static uint64_t fault_cost_read(const char *root) {
        _cleanup_fclose_ FILE *f = NULL;
        char path[PATH_MAX];
        uint64_t ns;

        snprintf(path, sizeof(path), "%s%s", root, HMV_FAULT_COST);
        f = fopen(path, "re");
        return f && fscanf(f, "%" SCNu64, &ns) == 1 ? MIN(ns, FAULT_COST_MAX_NS) : 0;
}

void tracking_start(Manager *m) {
        const char *how = "as configured";

        m->fault_cost_ns = m->conf->fault_cost_usec * 1000;
        if (m->fault_cost_ns == 0) {
                m->fault_cost_ns = fault_cost_read(m->config_root ?: "");
                how = "measured";
        }
        if (m->fault_cost_ns == 0) {
                m->fault_cost_ns = FAULT_COST_ASSUMED_NS;
                how = "assumed, as it could not be measured";
        }
        log_info("A page's first write costs a tracked guest %" PRIu64 ".%" PRIu64 " us, %s",
                 m->fault_cost_ns / 1000, m->fault_cost_ns / 100 % 10, how);
}

uint64_t tracking_limit(const Domain *d) {
        const Conf *c = d->manager->conf;
        usec_t limit = d->effort == EFFORT_FULL ? c->cost_limit_usec : c->watch_cost_limit_usec;

        return limit == 0 ? 0 : MAX(limit * 1000 * MAX(d->info.n_vcpus, 1U) / d->manager->fault_cost_ns, 1U);
}

/* While firmware runs, memory slots come and go, and QEMU (10.0; seen once in fifty starts) crashed in its
 * own dirty ring over one that had gone. There is nothing to learn before the guest has booted, either. */
static bool is_booting(const Domain *d) {
        return !d->booted && manager_now(d->manager) < d->watched_since + BOOT_USEC;
}

/* While a guest moves pages its frames change their content: samples would cost it much and tell nothing. A
 * migration has the log to itself (the extension sees to that, too). And what samples may cost is limited.
 */
bool tracking_rests(const Domain *d) {
        return is_booting(d) || d->job || order_is_under_way(d) ||
               !core_may_track(d->manager->core, d->key);
}
