/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * libvirt with a few domains, scripted: stands in for io/virt.c, so that the manager meets a QEMU with the
 * extension and a guest with the agent, or ones without, that lie or say nothing.
 */
#pragma once

#include "hotness-table.h"
#include "io/virt.h"

typedef enum FakeAgent {
        FAKE_AGENT_OURS,
        FAKE_AGENT_STOCK,
        FAKE_AGENT_GARBAGE,
        FAKE_AGENT_SILENT,
} FakeAgent;

#define FAKE_VMS 2

typedef struct FakeVm {
        char *xml, *policy; /* live and inactive */
        char *defined;      /* what was defined last */
        uint64_t requested[2], current[2]; /* of the devices, as asked for last and as plugged; bytes */
} FakeVm;

/* What the scripts say of one domain is said of all. */
typedef struct Fake {
        FakeVm vms[FAKE_VMS];
        bool extension;
        FakeAgent agent;
        bool guest_managed; /* prepare said so last */
        bool tracking;
        unsigned n_submits, n_stops, n_releases, n_qmp;
        char submitted[4096];
        uint8_t *table;
        size_t table_size;
        uint64_t said_pages; /* that the guest says it has read back; 0: it says nothing */
        uint64_t swapped; /* bytes read from disk vdb */
        uint64_t swap_ns; /* that these reads took; 0: not told */
        unsigned n_updates;
        bool grew_first; /* the first size asked for was a larger one */
        bool guest_keeps;         /* it unplugs nothing */
        const char *update_error; /* libvirt refuses to resize */
        bool update_silent;       /* or does not say what came of it */
        /* Does what a resize does, and returns what is plugged right after it; NULL: as the flags say. */
        uint64_t (*on_update)(unsigned vm, unsigned cell, uint64_t requested);
        void (*on_updated)(void); /* libvirt has done it, and not said so yet */
        bool libvirt_gone; /* calls fail with NO_LIBVIRT */
} Fake;
extern Fake fake;

#define FAKE_UUID "6bd76140-2ff5-4310-80b6-3373538f640f"
#define FAKE_UUID_1 "a1f0c9d2-53be-4e17-9c60-0d2b8e47f315" /* vms[1] */

/* Tells the manager of an event at once; of vms[0], which is called vm (the other one: vm1). */
void fake_event(VirtEventType type, VirtState state, int id, bool agent_connected);
void fake_event_of(unsigned vm, VirtEventType type, VirtState state, int id, bool agent_connected);
/* Answers what was asked, also what is asked meanwhile. */
void fake_answer(void);
/* Sizes of a cell's device, from here on. */
void fake_plug(unsigned vm, unsigned cell, uint64_t requested, uint64_t current);
void fake_reset(void);
