/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture: a host below root (temp-root.h) with a node of each tier, a configuration with the market on,
 * and domains bound to it. Included after temp-root.h, by one source of a test.
 */
#pragma once

#include "base/log.h"
#include "base/units.h"
#include "fake-virt.h"
#include "manager-internal.h"

/* Each domain: 256 MiB of DRAM, half of it at boot, and 512 MiB of slow memory, up to 512 and 1536 MiB. */
#define BOOT (128 * MIB)
#define DRAM (128 * MIB)
#define SLOW (384 * MIB)
#define LOT (32 * MIB)

static void host_make(uint64_t dram_bytes, uint64_t slow_bytes) {
        put("/sys/devices/system/node/online", "0-1\n");
        for (unsigned i = 0; i < 2; i++) {
                unsigned long long kib = (i == 0 ? dram_bytes : slow_bytes) / 1024;
                char path[96], text[96];

                snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/meminfo", i);
                snprintf(text, sizeof(text), "Node %u MemTotal: %llu kB\nNode %u MemFree: %llu kB\n", i, kib,
                         i, kib);
                put(path, text);
                snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", i);
                put(path, i == 0 ? "0-1\n" : "\n");
                snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/distance", i);
                put(path, i == 0 ? "10 28\n" : "28 10\n");
        }
}

static Conf market_conf(const char *words, usec_t settle_usec) {
        Conf conf = { .lease_usec = 30 * USEC_PER_SEC,
                      .sample_usec = 200000,
                      .host = host_policy_default(),
                      .domain = domain_policy_default(),
                      .dram_nodes = strdup("0"),
                      .slow_nodes = strdup("1"),
                      .log_level = LOG_CRIT };
        char journal[128];
        Outcome o = {};

        snprintf(journal, sizeof(journal), "%s/journal", root);
        conf.journal_path = strdup(journal);
        conf.host.epoch_usec = 10 * USEC_PER_SEC; /* the tests make the epochs */
        conf.host.market.enabled = true;
        conf.host.market.use_pool = true;
        conf.host.market.epoch_usec = 1;
        conf.host.market.cooldown_usec = conf.host.market.dwell_usec = 0;
        conf.host.market.settle_usec = settle_usec;
        if (policy_parse(words, &conf.domain, &o) < 0)
                abort();
        return conf;
}

static void domain_bind(unsigned vm) {
        const BindOptions bind = { .dram_bytes = BOOT + DRAM,
                                   .slow_bytes = BOOT + SLOW,
                                   .min_dram_bytes = BOOT,
                                   .min_slow_bytes = BOOT,
                                   .max_dram_bytes = 512 * MIB,
                                   .max_slow_bytes = 1536 * MIB,
                                   .extension_path = "/x.so",
                                   .tiers = { { .nodes = "0", .cpus = "0-1", .distance = 10 },
                                              { .nodes = "1", .distance = 28 } } };
        char plain[640];
        Outcome o = {};

        snprintf(plain, sizeof(plain),
                 "<domain type='kvm'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>1024</memory>"
                 "<vcpu>2</vcpu><os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>"
                 "<features><acpi/></features><cpu mode='host-passthrough'/><devices>"
                 "<emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>",
                 vm == 0 ? "vm" : "vm1", vm == 0 ? FAKE_UUID : FAKE_UUID_1);
        if (domain_xml_bind(plain, &bind, &fake.vms[vm].xml, &o) < 0)
                abort();
        fake_plug(vm, 0, DRAM, DRAM);
        fake_plug(vm, 1, SLOW, SLOW);
}

static inline void domain_connect_agent(unsigned vm) {
        static const char name[] = "name=\"org.qemu.guest_agent.0\"";
        char *xml = fake.vms[vm].xml, *at = strstr(xml, name), *new;

        if (!at || asprintf(&new, "%.*s%s state=\"connected\"%s", (int) (at - xml), xml, name,
                            at + strlen(name)) < 0)
                abort();
        free(xml);
        fake.vms[vm].xml = new;
}
