/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What is to be simulated, as it is written in a scenario's file: the host, the market's settings, and
 * groups of like VMs with what their workloads do over time. Owns the file's syntax and bounds (hmvsim(1));
 * never simulates.
 */
#pragma once

#include "base/outcome.h"
#include "core/market.h"

#define GROUPS_MAX 16
#define PHASES_MAX 16
#define GROUP_NAME_SIZE 24
#define GROUP_VMS_MAX 20000

typedef enum Behaviour {
        BEHAVE_HONEST,
        BEHAVE_REFUSES,  /* gives no memory back */
        BEHAVE_LIES,     /* of free memory, and of what became of orders */
        BEHAVE_OVERASKS, /* writes and swaps as if it were in need */
        BEHAVE_VANISHES, /* is killed in the middle of things, and started again later */
        BEHAVE_FREEZES,  /* is paused and resumed, or migrates without end */
        BEHAVE_GRABS,    /* gives back, and plugs again what it was asked to give */
        _BEHAVIOUR_MAX,
} Behaviour;
const char *behaviour_to_string(Behaviour b);

/* What a workload does from a time on. Bytes are per VM. */
typedef struct Phase {
        usec_t at;
        uint64_t used_bytes;    /* pages that it keeps */
        uint64_t hot_bytes;     /* the last of these, which are written at random */
        uint32_t permyriad;     /* chance that one is written in a sample */
        uint64_t touched_bytes; /* read per second, at random in all that it keeps: what swaps if it must */
} Phase;

typedef struct Group {
        char name[GROUP_NAME_SIZE];
        uint32_t n_vms;
        uint64_t start_bytes[2], most_bytes[2], boot_bytes[2]; /* DRAM, slow */
        Behaviour behaviour;
        bool trading;
        uint32_t disk_operations; /* of its swap device, per second */
        usec_t stagger;           /* phases of the VMs are spread over so long */
        Phase phases[PHASES_MAX]; /* ascending by time; the first at 0 */
        size_t n_phases;
} Group;

typedef struct Scenario {
        usec_t duration;
        uint64_t free_bytes[2]; /* of the host, beyond what the VMs start with */
        HostPolicy policy;
        Group groups[GROUPS_MAX];
        size_t n_groups;
} Scenario;

/* Returns 0, or -EINVAL or another errno with the file, the line and the remedy in *o. */
int scenario_read(const char *path, Scenario *ret, Outcome *o);
