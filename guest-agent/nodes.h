/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest's own NUMA nodes: which node a page frame belongs to, and how many pages a node can still take.
 * Read anew for each order, as memory comes and goes while the guest runs. Never moves anything.
 */
#pragma once

#include "base/cleanup.h"

#define NODES_MAX 1024

typedef struct NodeSpan {
        uint64_t start, end; /* page frames, end exclusive */
        int node;            /* or -ENOTUNIQ where two nodes share the frames and nothing tells them apart */
} NodeSpan;

typedef struct NodeMap {
        NodeSpan *spans; /* ascending, not overlapping */
        size_t n_spans;
} NodeMap;

/* From the memory blocks that sysfs lists under each node; a block that two nodes share is divided by the
 * zones of /proc/zoneinfo. Returns 0 or -errno. */
int node_map_read(int root, NodeMap *ret);
void node_map_done(NodeMap *map);

/* The node of a page frame, -ENOENT where there is no memory, or -ENOTUNIQ. */
int node_map_find(const NodeMap *map, uint64_t pfn);

/* Whether any memory of the map is on this node. */
bool node_map_has(const NodeMap *map, int node);

typedef struct NodeRoom {
        int64_t pages; /* negative: so many have to be freed first */
        uint64_t unlisted;
} NodeRoom;

/* Pages that the node's zones can give before one falls under its high watermark (and the reserve that it
 * keeps from movable allocations). Asking for more makes DAMON copy pages inside their own node and call it
 * success, and has the kernel reclaim. What the largest zone lacks counts against what small ones have: what
 * is freed comes from it, and goes there first; but before it, pages go to the lists of free pages that CPUs
 * keep, which watermarks do not see: "unlisted" is how many these may still take. Returns 0, -ENXIO (the
 * node has no memory) or -errno. */
int node_room_read(int root, int node, NodeRoom *ret);

/* The node that holds the kernel's own data, which are hot and cannot be moved: where they lie is decided at
 * boot, by chance where KASLR is on. Returns it, -ENODATA where /proc/iomem does not say, or -errno. */
int node_of_kernel(int root);

/* The nodes that have memory, ascending, at most max of them. Returns their number or -errno. */
int node_list_read(int root, int nodes[], size_t max);
