/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How the guest's memory is doing: per node, swap, pressure stalls. Reads, never changes.
 */
#pragma once

#include "nodes.h"

#define PRESSURE_NODES_MAX 64

typedef struct NodeMemory {
        int node;
        uint64_t total, free, file, anon; /* bytes */
        uint64_t foreign; /* pages since boot that were wanted here and got memory of another node */
} NodeMemory;

typedef struct Pressure {
        NodeMemory nodes[PRESSURE_NODES_MAX];
        size_t n_nodes;
        uint64_t available, swap_total, swap_free; /* bytes */
        uint64_t swap_in, swap_out;                /* pages since boot */
        uint64_t oom_kills;
        uint64_t psi_some_usec, psi_full_usec; /* since boot; 0 where the kernel does not keep them */
} Pressure;

/* What cannot be read is 0. Returns 0 or -errno (no /proc/meminfo). */
int pressure_read(int root, Pressure *ret);
