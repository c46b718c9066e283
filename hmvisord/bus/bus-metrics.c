/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * GetMetrics of the entry object: what no property has, of the daemon and of all domains in one answer. What
 * it tells of trades is no more than their events do, which all may hear. Only translates.
 */
#include "bus/bus-internal.h"

/* An entry {sv} of numbers. */
static int append_numbers(sd_bus_message *m, const char *name, const uint64_t *numbers, size_t size) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 't', numbers, size);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_domain(sd_bus_message *m, const DomainMetrics *d) {
        const struct {
                const char *name;
                uint64_t value;
        } numbers[] = {
                { "TradesWhole", d->trades[TRADE_WHOLE] },
                { "TradesPartial", d->trades[TRADE_PARTIAL] },
                { "TradesNothing", d->trades[TRADE_NOTHING] },
                { "BoughtDramBytes", d->bought_bytes[TIER_DRAM] },
                { "BoughtSlowBytes", d->bought_bytes[TIER_SLOW] },
                { "SoldDramBytes", d->sold_bytes[TIER_DRAM] },
                { "SoldSlowBytes", d->sold_bytes[TIER_SLOW] },
        };
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(m, "UUID", "s", d->uuid);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(numbers); i++)
                r = message_append_entry(m, numbers[i].name, "t", numbers[i].value);
        if (r >= 0)
                r = append_numbers(m, "OrderLatencyCounts", d->order_latency.counts,
                                   sizeof(d->order_latency.counts));
        if (r >= 0)
                r = message_append_entry(m, "OrderLatencySumUSec", "t", d->order_latency.sum_usec);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_daemon(sd_bus_message *m, const DaemonMetrics *d) {
        static const uint64_t bounds[] = LATENCY_BOUNDS_USEC;
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(m, "MemoryBytes", "t", d->memory_bytes);
        if (r >= 0)
                r = message_append_entry(m, "CPUUSec", "t", d->cpu_usec);
        if (r >= 0)
                r = append_numbers(m, "OrderLatencyBoundsUSec", bounds, sizeof(bounds));
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int bus_run_get_metrics(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ char (*uuids)[37] = NULL;
        size_t n = manager_list_domains(b->manager, &uuids);
        DaemonMetrics daemon;
        int r;

        manager_get_metrics(b->manager, &daemon);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_daemon(reply, &daemon);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < n; i++) {
                DomainMetrics domain;

                if (manager_get_domain_metrics(b->manager, uuids[i], &domain) >= 0)
                        r = append_domain(reply, &domain);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}
