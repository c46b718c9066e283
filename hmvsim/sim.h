/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A host with VMs in simulated time: each second the guests run, core_step() decides, and what it decided is
 * carried out. It is the daemon's own core, and nothing of it is done over here. Owns the host, which sees
 * what a real one would see, and watches that nobody ever has more than it may; never reads a clock.
 */
#pragma once

#include "core/core.h"
#include "scenario.h"

/* Sums over a group's VMs that are on. */
typedef struct GroupView {
        uint32_t n_on;
        uint64_t size_bytes[_TIER_MAX];
        unsigned __int128 worth, entitled_worth; /* at the market's price */
        int64_t position, wish;                  /* lots of DRAM; wish: what it would trade now */
        uint64_t reasons[_WISH_REASON_MAX];      /* VMs by why they wish what they wish */
        /* Since the simulation began: */
        uint64_t writes, slow_writes; /* found in samples; slow: to pages that were not in DRAM */
        uint64_t swap_bytes, moved_bytes;
        uint64_t lots; /* traded, either way */
} GroupView;

/* One VM, for the tests. */
typedef struct VmView {
        bool on, busy; /* a trade is under way */
        Behaviour behaviour;
        uint64_t size_bytes[_TIER_MAX], entitled_bytes[_TIER_MAX];
        int64_t position;
} VmView;

typedef struct Sim Sim;

/* Returns 0, -ENOMEM or -EINVAL. The scenario is copied; same scenario and seed, same simulation. */
int sim_new(const Scenario *scenario, uint64_t seed, Sim **ret);
Sim *sim_free(Sim *s); /* NULL-safe; returns NULL */
DEFINE_CLEANUP(Sim *, sim_free);

/* One second. Returns 0, a negative errno of core_step(), or -EPROTO: something that must hold did not, as
 * sim_fault() says. */
int sim_step(Sim *s);
const char *sim_fault(const Sim *s);

usec_t sim_now(const Sim *s); /* since it began */
size_t sim_n_vms(const Sim *s);
void sim_group(const Sim *s, size_t group, GroupView *ret);
void sim_vm(const Sim *s, size_t vm, VmView *ret);
const Trade *sim_trade(const Sim *s); /* NULL where the market is off */
const Terms *sim_terms(const Sim *s);
/* Sums over all clearings: what was wished, and what was traded. */
const Clearing *sim_cleared(const Sim *s);
