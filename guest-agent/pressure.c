/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest's memory in figures: see pressure.h.
 */
#include "pressure.h"

#include <inttypes.h>

#include "sysfile.h"

/* "Node 0 MemTotal:  1234 kB" in bytes. */
static uint64_t node_field(const char *text, int node, const char *name) {
        char key[64];
        uint64_t kib = 0;

        snprintf(key, sizeof(key), "Node %d %s", node, name);
        (void) text_find_u64(text, key, &kib);
        return kib * 1024;
}

static uint64_t meminfo_field(const char *text, const char *name) {
        uint64_t kib = 0;

        (void) text_find_u64(text, name, &kib);
        return kib * 1024;
}

static uint64_t psi_total(const char *text, const char *kind) {
        const char *line = strstr(text, kind), *total = line ? strstr(line, "total=") : NULL;

        return total ? strtoull(total + strlen("total="), NULL, 10) : 0;
}

int pressure_read(int root, Pressure *ret) {
        Pressure p = { 0 };
        char buf[32768];
        int nodes[PRESSURE_NODES_MAX], n;
        ssize_t len;

        len = sysfile_read(root, buf, sizeof(buf), "proc/meminfo");
        if (len < 0)
                return (int) len;
        p.available = meminfo_field(buf, "MemAvailable");
        p.swap_total = meminfo_field(buf, "SwapTotal");
        p.swap_free = meminfo_field(buf, "SwapFree");
        if (sysfile_read(root, buf, sizeof(buf), "proc/vmstat") > 0) {
                (void) text_find_u64(buf, "pswpin", &p.swap_in);
                (void) text_find_u64(buf, "pswpout", &p.swap_out);
                (void) text_find_u64(buf, "oom_kill", &p.oom_kills);
        }
        if (sysfile_read(root, buf, sizeof(buf), "proc/pressure/memory") > 0) {
                p.psi_some_usec = psi_total(buf, "some");
                p.psi_full_usec = psi_total(buf, "full");
        }
        n = node_list_read(root, nodes, ELEMENTSOF(nodes));
        for (int i = 0; i < n; i++) {
                uint64_t foreign = 0;

                if (sysfile_read(root, buf, sizeof(buf), "sys/devices/system/node/node%d/numastat",
                                 nodes[i]) > 0)
                        (void) text_find_u64(buf, "numa_foreign", &foreign);
                if (sysfile_read(root, buf, sizeof(buf), "sys/devices/system/node/node%d/meminfo",
                                 nodes[i]) < 0)
                        continue;
                p.nodes[p.n_nodes++] = (NodeMemory) {
                        .node = nodes[i],
                        .total = node_field(buf, nodes[i], "MemTotal"),
                        .free = node_field(buf, nodes[i], "MemFree"),
                        .file = node_field(buf, nodes[i], "FilePages"),
                        .anon = node_field(buf, nodes[i], "AnonPages"),
                        .foreign = foreign,
                };
        }
        *ret = p;
        return 0;
}
