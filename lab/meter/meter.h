/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * The page that the meter plugin and its reader share. Each counter has one writer: its vCPU's thread. The
 * reader owns 'wanted' and the baseline, the plugin everything else.
 */

#include <stdint.h>

#define METER_MAGIC     UINT64_C(0x31726574654d6d48)   /* "HmMeter1" */
#define METER_NODES_MAX 4
#define METER_VCPUS_MAX 16

typedef struct MeterCounters {
        uint64_t loads[METER_NODES_MAX];
        uint64_t stores[METER_NODES_MAX];
        uint64_t load_bytes[METER_NODES_MAX];
        uint64_t store_bytes[METER_NODES_MAX];
        uint64_t other_accesses;        /* devices, ROM: no node's memory */
        uint64_t instructions;
        uint64_t pad[14];               /* each vCPU on cache lines of its own */
} MeterCounters;

typedef struct MeterPage {
        uint64_t magic;
        uint32_t n_nodes, n_vcpus;
        uint32_t wanted;                /* by the reader: 1 = count */
        uint32_t active;                /* by the plugin: 1 = the translated code counts */
        uint64_t switches;              /* times that 'active' changed */
        uint64_t baseline_usec;         /* CLOCK_MONOTONIC at the last reset, 0 = never */
        uint64_t pad[3];
        MeterCounters baseline;         /* sums over vCPUs at the last reset */
        MeterCounters vcpu[METER_VCPUS_MAX];
} MeterPage;
