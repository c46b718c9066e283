/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * libvirt with one domain, scripted: stands in for io/virt.c, so that the manager meets a QEMU with the
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

typedef struct Fake {
        char *xml, *policy; /* of the domain, live and inactive */
        char *defined;      /* what was defined last */
        bool extension;
        FakeAgent agent;
        bool guest_managed; /* prepare said so last */
        bool tracking;
        unsigned n_submits, n_stops, n_releases, n_qmp;
        char submitted[4096];
        uint8_t *table;
        size_t table_size;
        uint64_t requested[2], current[2]; /* of the devices, as asked for last and as plugged; bytes */
        uint64_t swapped; /* bytes read from disk vdb */
        unsigned n_updates;
        bool grew_first; /* the first size asked for was a larger one */
        bool guest_keeps;         /* it unplugs nothing */
        const char *update_error; /* libvirt refuses to resize */
        bool update_silent;       /* or does not say what came of it */
        bool libvirt_gone; /* calls fail with NO_LIBVIRT */
} Fake;
extern Fake fake;

#define FAKE_UUID "6bd76140-2ff5-4310-80b6-3373538f640f"

/* Tells the manager of an event at once. */
void fake_event(VirtEventType type, VirtState state, int id, bool agent_connected);
/* Answers what was asked, also what is asked meanwhile. */
void fake_answer(void);
/* Sizes of a cell's device, from here on. */
void fake_plug(unsigned cell, uint64_t requested, uint64_t current);
void fake_reset(void);
