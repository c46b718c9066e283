/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The contract of the core's inputs, checked at the seam so that nothing behind it has to. Owns no state.
 */
#include "core/facts.h"

static bool cell_is_known(const DomainFacts *d, uint32_t cell) {
        for (size_t i = 0; i < d->n_cells; i++)
                if (d->cells[i].cell == cell)
                        return true;
        return false;
}

static bool cells_are_valid(const DomainFacts *d) {
        if (d->n_cells > CELLS_MAX)
                return false;
        for (size_t i = 0; i < d->n_cells; i++) {
                if (d->cells[i].tier != TIER_DRAM && d->cells[i].tier != TIER_SLOW)
                        return false;
                for (size_t j = 0; j < i; j++)
                        if (d->cells[j].cell == d->cells[i].cell)
                                return false;
        }
        return true;
}

static bool ranges_are_valid(const DomainFacts *d) {
        uint64_t end = 0;

        if (d->n_ranges > DOMAIN_RANGES_MAX || (d->n_ranges > 0 && !d->ranges))
                return false;
        for (size_t i = 0; i < d->n_ranges; i++) {
                const RangeFacts *r = &d->ranges[i];

                if (r->gfn < end || r->gfn > GFN_MAX || r->n_pages == 0 || r->n_pages > GFN_MAX - r->gfn ||
                    !cell_is_known(d, r->cell))
                        return false;
                end = r->gfn + r->n_pages;
        }
        return true;
}

static bool ack_is_valid(const AckFacts *ack) {
        return !ack || ack->state == ACK_RUNNING || ack->state == ACK_DONE || ack->state == ACK_FAILED;
}

static bool market_is_valid(const MarketFacts *m) {
        for (Tier tier = 0; m && tier < _TIER_MAX; tier++)
                if (m->cells[tier].boot_bytes > MEMORY_BYTES_MAX ||
                    m->cells[tier].device_max_bytes > MEMORY_BYTES_MAX)
                        return false;
        return true;
}

int inputs_check(const Inputs *in) {
        if (!in || (in->n_domains > 0 && !in->domains) || (in->n_commands > 0 && !in->commands))
                return -EINVAL;
        for (size_t i = 0; i < in->n_domains; i++) {
                const DomainFacts *d = &in->domains[i];

                if (i > 0 && d->domain <= in->domains[i - 1].domain)
                        return -EINVAL;
                if (d->policy.hot_heat > 255 || d->policy.hysteresis > 255)
                        return -EINVAL;
                if (!cells_are_valid(d) || !ranges_are_valid(d) || !ack_is_valid(d->ack) ||
                    !market_is_valid(d->market))
                        return -EINVAL;
        }
        return 0;
}
