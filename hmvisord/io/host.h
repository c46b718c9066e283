/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The physical side: NUMA nodes, which tier each is, what it costs to reach, and where a process has its
 * memory. Reads sysfs and procfs below a root that is a parameter (tests give a folder); never writes.
 */
#pragma once

#include "base/outcome.h"
#include "base/tier.h"

#define HOST_NODES_MAX 64

typedef enum TierSource {
        TIER_FROM_CONF,     /* [Tiers] in the configuration */
        TIER_FROM_HWLOC,    /* node subtype, MemoryTier, memory attributes */
        TIER_FROM_KERNEL,   /* /sys/devices/virtual/memory_tiering */
        TIER_FROM_DISTANCE, /* CPU-less and far: a suggestion only, not used for binding until configured */
        _TIER_SOURCE_MAX,
} TierSource;

typedef struct HostNode {
        uint32_t node;
        Tier tier;
        TierSource source;
        uint64_t total_bytes, free_bytes;
        uint32_t n_cpus;
        char cpus[128];              /* list form, "" when CPU-less */
        uint32_t latency_ns;         /* read, best initiator; 0: not known */
        uint32_t bandwidth_mibs;     /* read, best initiator; 0: not known */
        uint32_t distance_from_dram; /* from the nearest DRAM node, 10 = itself */
} HostNode;

typedef struct HostTiers {
        HostNode nodes[HOST_NODES_MAX];   /* ascending by node */
        size_t n_nodes;
} HostTiers;

/* dram_nodes and slow_nodes: node lists such as "0,2-3" from the configuration, or NULL. Where both are
 * given, a node in neither is left out. Nodes without memory are left out too. A node with CPUs that nobody
 * calls slow is DRAM. root: "/" or a test's folder (then hwloc is not asked, as it reads the real machine).
 * Returns 0 or -errno with `o` filled. Having no slow tier is no failure here. */
int host_tiers_discover(const char *root, const char *dram_nodes, const char *slow_nodes, HostTiers *ret,
                        Outcome *o);

/* Nodes of a tier as a list "0,2-3"; "" when there are none. A tier that is only suggested counts when
 * `suggested` is true. */
void host_tiers_nodelist(const HostTiers *t, Tier tier, bool suggested, char *buf, size_t size);
const char *tier_source_to_string(TierSource s);

/* Bytes per node of the mapping of process pid that holds host virtual address hva (from
 * /proc/PID/numa_maps): all pieces of the same file (a memfd is one), else that piece alone. Walks all page
 * tables of the process, which takes seconds for hundreds of GiB; needs CAP_SYS_PTRACE for another user's
 * process. ret_bytes has HOST_NODES_MAX members. Returns 0, -ENOENT (no such mapping), -ESRCH (no such
 * process), -EACCES, or -errno. */
int host_mapping_node_bytes(const char *root, pid_t pid, uint64_t hva, uint64_t *ret_bytes);

/* Bytes per node of the anonymous and the shared memory that the kernel accounts to the cgroup of the
 * machine of QEMU process pid: guest memory, and QEMU's own. Cheap. ret_bytes has HOST_NODES_MAX members.
 * Returns 0, -ESRCH (no such process), -ENODATA (no cgroup of a machine, or it is not accounted), or -errno.
 */
int host_machine_bytes(const char *root, pid_t pid, uint64_t *ret_bytes);

/* The part of them that is QEMU's own: anonymous memory that is bound to no node, as a cell's memory is. As
 * costly as host_mapping_node_bytes(). Returns 0, -ESRCH, -EACCES, or -errno. */
int host_machine_own_bytes(const char *root, pid_t pid, uint64_t *ret_bytes);

/* Processor time that process pid has taken, user and system; QEMU's is with what its guest ran. Returns 0,
 * -ESRCH or -errno. */
int host_process_cpu_usec(const char *root, pid_t pid, usec_t *ret);
bool host_nodelist_has(const char *list, unsigned node); /* "0,2-3" */
