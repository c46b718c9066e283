/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * GetMetrics of the entry object: what no property has, of the daemon and of all domains in one answer. What
 * it tells of trades is no more than their events do, which all may hear. Only translates.
 */
#include "bus/bus-internal.h"

static int append_latency(sd_bus_message *m, const Latency *l) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', "OrderLatencyCounts");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 't', l->counts, sizeof(l->counts));
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : message_append_entry(m, "OrderLatencySumUSec", "t", l->sum_usec);
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
                r = append_latency(m, &d->order_latency);
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
                r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', "OrderLatencyBoundsUSec");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 't', bounds, sizeof(bounds));
        for (int i = 0; r >= 0 && i < 3; i++) /* the variant, the entry, the dictionary */
                r = sd_bus_message_close_container(m);
        return r;
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
