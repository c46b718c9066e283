/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of the host adapter share, and nobody else includes.
 */
#pragma once

#include "io/host.h"

/* What a source knows of one node. */
typedef struct NodeHint {
        bool known;               /* tier is valid */
        Tier tier;
        uint32_t latency_ns, bandwidth_mibs;    /* 0: not known */
} NodeHint;

/* Asks hwloc about the machine it runs on; hints has HOST_NODES_MAX members, by node number. Says nothing
 * when hwloc fails. host-hwloc-none.c when hwloc is too old or not there at build. */
void host_hwloc_hints(NodeHint *hints);
