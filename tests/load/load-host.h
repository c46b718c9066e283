/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A whole host, scripted: stands in for io/virt.c with as many domains as wanted, each with a QEMU that has
 * the extension and a guest that works, swaps, trades, starts and stops, or has no agent that is of use.
 * Calls wait for a worker, as libvirt's do, and take their time.
 */
#pragma once

#include "io/virt.h"
#include "load-vm.h"

typedef enum Lane {
        LANE_CONTROL,
        LANE_AGENT,
        _LANE_MAX,
} Lane;

typedef struct LoadCounters {
        uint64_t calls[_LANE_MAX], refused;        /* refused: a queue was full */
        /* for a worker; doubtful: of guests that did not answer, or were never asked */
        usec_t wait_max[_LANE_MAX], wait_doubtful_max;
        uint64_t timed_out;                /* waited too long, or the guest said nothing */
        uint64_t starts;
        VmCounters vms;
        usec_t peers_usec;                 /* CPU time that the scripts took, and the daemon did not */
} LoadCounters;

/* To be called before manager_new(). */
void load_host_make(size_t n_vms);
/* One domain, of those that get orders, is what it should not be. */
void load_host_make_hostile(Agent agent);
/* Tells the manager of the connection and of all domains. */
void load_host_connect(void);
const LoadCounters *load_host_counters(void);
/* How many domains there are, and how many of them run bound. */
void load_host_count(size_t *ret_domains, size_t *ret_running);
