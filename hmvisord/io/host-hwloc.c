/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What hwloc >= 2.10 says of the NUMA nodes: their kind of memory, and latency and bandwidth from the best
 * initiator. Reads the real machine, so tests with a root of their own never come here.
 */
#include <hwloc.h>

#include "io/host-internal.h"

/* Values of a node's subtype, see "Kinds of memory" in hwloc's manual. What is not named stays unknown.
 * "DRAM" is left out on purpose: it names the chips, also those of an expander (seen with hwloc 2.12 on a
 * slow node with an HMAT), so whether such a node is slow is for the kernel's tiers and the CPUs to say. */
static bool tier_of_subtype(const char *subtype, Tier *ret) {
        static const struct {
                const char *subtype;
                Tier tier;
        } table[] = {
                { "HBM", TIER_DRAM },      { "MCDRAM", TIER_DRAM },  { "NVM", TIER_SLOW },
                { "CXL-DRAM", TIER_SLOW }, { "CXL-NVM", TIER_SLOW },
        };

        for (size_t i = 0; subtype && i < ELEMENTSOF(table); i++)
                if (streq(subtype, table[i].subtype)) {
                        *ret = table[i].tier;
                        return true;
                }
        return false;
}

static uint32_t best_value(hwloc_topology_t topology, hwloc_memattr_id_t attribute, hwloc_obj_t node) {
        struct hwloc_location initiator;
        hwloc_uint64_t value = 0;

        if (hwloc_memattr_get_best_initiator(topology, attribute, node, 0, &initiator, &value) < 0)
                return 0;
        return value > UINT32_MAX ? UINT32_MAX : (uint32_t) value;
}

void host_hwloc_hints(NodeHint *hints) {
        hwloc_topology_t topology;
        hwloc_obj_t node = NULL;

        if (hwloc_topology_init(&topology) < 0)
                return;
        if (hwloc_topology_load(topology) >= 0)
                while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node))) {
                        NodeHint *h;

                        if (node->os_index >= HOST_NODES_MAX)
                                continue;
                        h = hints + node->os_index;
                        h->known = tier_of_subtype(node->subtype, &h->tier);
                        h->latency_ns = best_value(topology, HWLOC_MEMATTR_ID_LATENCY, node);
                        h->bandwidth_mibs = best_value(topology, HWLOC_MEMATTR_ID_BANDWIDTH, node);
                }
        hwloc_topology_destroy(topology);
}
