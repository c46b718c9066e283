/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * The page that the meter plugin and its reader share. Each counter has one writer: its vCPU's thread. The
 * reader owns 'wanted', 'delays' and the baseline, the plugin everything else. Behind the page, at
 * 'frames_offset', lies a MeterFrame for each 4 KiB frame of all nodes' memory, node after node; they only
 * grow, and wrap.
 */

#include <stdint.h>

#define METER_MAGIC     UINT64_C(0x31726574654d6d48)   /* "HmMeter1" */
#define METER_NODES_MAX 4
#define METER_VCPUS_MAX 16
#define METER_FRAME     4096

/* What is wanted, and what is active. */
enum {
        METER_INSTRUCTIONS = 1 << 0,    /* costs little */
        METER_ACCESSES     = 1 << 1,    /* loads and stores, by node */
        METER_FRAMES       = 1 << 2,    /* the same by frame */
        METER_CACHE        = 1 << 3,    /* what a write-back cache would make of them */
        METER_ALL          = (1 << 4) - 1,
        METER_DELAYS       = 1 << 4,    /* what misses that cache takes as long as 'delays' says */
};

/* What a line costs that goes between the cache and a node's memory, in ns of this machine. */
typedef struct MeterDelay {
        uint64_t fill_ns, write_back_ns;
} MeterDelay;

typedef struct MeterFrame {
        uint32_t loads, stores;
} MeterFrame;

typedef struct MeterCounters {
        uint64_t loads[METER_NODES_MAX];
        uint64_t stores[METER_NODES_MAX];
        uint64_t load_bytes[METER_NODES_MAX];
        uint64_t store_bytes[METER_NODES_MAX];
        uint64_t other_accesses;        /* devices, ROM: no node's memory */
        uint64_t instructions;
        uint64_t fills[METER_NODES_MAX];        /* of the cache model, in lines of 64 bytes */
        uint64_t write_backs[METER_NODES_MAX];
        uint64_t pad[6];                /* each vCPU on cache lines of its own */
} MeterCounters;

typedef struct MeterPage {
        uint64_t magic;
        uint32_t n_nodes, n_vcpus;
        uint32_t wanted;                /* by the reader: METER_* that shall be counted */
        uint32_t active;                /* by the plugin: METER_* that the translated code counts */
        uint64_t switches;              /* times that 'active' changed */
        uint64_t baseline_usec;         /* CLOCK_MONOTONIC at the last reset, 0 = never */
        uint64_t frames_offset, n_frames;
        uint64_t cache_bytes;           /* of the cache model, one for each vCPU */
        MeterDelay delays[METER_NODES_MAX];
        MeterCounters baseline;         /* sums over vCPUs at the last reset */
        MeterCounters vcpu[METER_VCPUS_MAX];
} MeterPage;
