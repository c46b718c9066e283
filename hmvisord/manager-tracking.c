/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much tracking may cost a domain: the configuration's share of the processor time that it uses, in
 * faults. Owns the figure of what a fault takes on this host; the budget itself is the core's.
 */
#include <inttypes.h>
#include <limits.h>

#include "base/log.h"
#include "config.h"
#include "manager-internal.h"

/* Not measured: where KVM is not at hand, the order of magnitude of an exit and a page table's change. */
#define FAULT_COST_ASSUMED_NS 2000
#define FAULT_COST_MAX_NS 1000000
#define BUSY_LEAST_PERMILLE 100 /* so that a guest that was idle is not unknown when it begins to work */
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

/* What its processors run, with tracking's own faults; a guest that is idle has next to none. */
void tracking_look(Domain *d) {
        usec_t now = manager_now(d->manager), cpu;

        if (domain_pid(d, now) <= 0 || host_process_cpu_usec("/", d->pid, &cpu) < 0) {
                d->cpu_seen = 0;
                return;
        }
        if (d->cpu_seen > 0 && now > d->cpu_seen)
                d->busy_permille = (uint32_t) MIN((cpu - MIN(cpu, d->cpu_usec)) * 1000 / (now - d->cpu_seen),
                                                  MAX(d->info.n_vcpus, 1U) * UINT64_C(1000));
        d->cpu_usec = cpu;
        d->cpu_seen = now;
}

/* Of one processor, if that is not known. */
static uint64_t busy_permille(const Domain *d) {
        return d->cpu_seen > 0 ? MAX(d->busy_permille, (uint32_t) BUSY_LEAST_PERMILLE) : 1000;
}

uint64_t tracking_limit(const Domain *d) {
        const Conf *c = d->manager->conf;
        usec_t limit = d->effort == EFFORT_FULL ? c->cost_limit_usec : c->watch_cost_limit_usec;

        return limit == 0 ? 0 : MAX(limit * busy_permille(d) / d->manager->fault_cost_ns, 1U);
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

bool tracking_has_ring(const Domain *d) {
        const HotnessStatus *s = d->source ? source_status(d->source) : NULL;

        return s && s->ring;
}

uint64_t tracking_skips(const Domain *d) {
        return core_skips_dram(d->manager->core, d->key) ? d->dram_blocks : 0;
}
