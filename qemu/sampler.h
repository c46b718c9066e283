/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The sampler: the timer, the duty cycle, the lease, and the rule that keeps
 * it away from live migration.  Everything here runs in QEMU's main thread
 * under the BQL.  It never looks into the guest's memory.
 */
#ifndef HMVISOR_SAMPLER_H
#define HMVISOR_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "qemu-symbols.h"
#include "ranges.h"
#include "table.h"

typedef enum HotnessState {
    HOTNESS_OFF,
    HOTNESS_TRACKING,
    HOTNESS_RESTING,
    HOTNESS_BLOCKED,
    HOTNESS_EXPIRED,
    HOTNESS_FAILED,
} HotnessState;

typedef struct SamplerSettings {
    int64_t interval_ms;
    int64_t on_ms;
    int64_t off_ms; /* 0: always on */
    int64_t lease_ms;
} SamplerSettings;

typedef struct Sampler {
    const QemuSymbols *q;
    HotnessState state;
    char reason[256];

    SamplerSettings settings;
    Table table;
    RamLayout layout;
    uint64_t generation;

    bool is_logging;        /* our bit of global_dirty_tracking is on */
    bool is_fresh;          /* the next sample must be thrown away */
    uint64_t skipped;       /* RAM blocks that the last sample left out */
    bool has_counted;       /* a sample since this turn began */
    unsigned int timer;     /* glib source, 0: none */
    int64_t sample_due_us;
    int64_t phase_end_us;   /* of the duty cycle, on or off */
    uint64_t renew;         /* as last seen, and when it changed */
    int64_t renewed_us;

    uint64_t epochs;
    uint64_t dropped;
    uint64_t cost_ns;
    uint64_t last_cost_ns;
} Sampler;

void sampler_init(Sampler *s, const QemuSymbols *q);

/*
 * Takes over the table, and starts tracking or goes on tracking with it.
 * False: the state is HOTNESS_FAILED, s->reason says why, the table is gone.
 */
bool sampler_start(Sampler *s, Table *table, const SamplerSettings *settings);
void sampler_stop(Sampler *s);

/* Reads the layout where no table is in use; else it is the last sample's. */
void sampler_refresh_layout(Sampler *s);

/* For migration events: lets go of the log at once where one begins. */
void sampler_yield(Sampler *s);

const char *hotness_state_to_string(HotnessState state);

#endif
