/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Takes the samples.
 *
 * Why this is safe beside live migration.  A sample clears bits of
 * DIRTY_MEMORY_MIGRATION, the bitmap that migration (also savevm, COLO,
 * dirty-limit, calc-dirty-rate) consumes; a bit cleared while one of them
 * counts on it is a page that never reaches the destination.  Hence:
 *
 * - A migration leaves the idle state in QEMU's main thread under the BQL,
 *   before it starts its log; savevm holds the BQL throughout.  We run in
 *   the same thread under the same lock and look first, so from that moment
 *   on we clear nothing (is_in_use()).
 * - Syncing the log may drop the BQL while it kicks the vCPUs out, so we look
 *   again between sync and clear.  The clear itself never drops it.  RAM
 *   blocks are looked up after the sync for the same reason.
 * - What we cleared before does not matter: migration's own bitmap starts
 *   with all ones (ram_list_init_bitmaps()), and a log that is on already
 *   counts on for it.  Afterwards our first sample is thrown away.
 * - calc-dirty-rate shares our bit, and asserts that it is still set when it
 *   stops.  While it measures we neither sample nor stop; its own stop
 *   switches the log off, and we notice.
 * - We do without memory_global_after_dirty_log_sync(): it drops the BQL, and
 *   a write that a TCG vCPU has under way costs us one count, no migration
 *   anything, as its own first sync waits for that vCPU.
 * - A stop while the VM is paused is put off by QEMU until it runs, and taken
 *   back by the next start: both are QEMU's own rules, we only call.
 *
 * A reset changes RAM like any guest does.  Background snapshots do not use
 * the log, yet count as a migration, and so we wait for them as well.
 */
#include "sampler.h"

#include "dirty-count.h"

#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Samples take at most one part in so many of the time */
#define SAMPLE_TIME_SHARE 10
/* How often to retry a stop that calc-dirty-rate put off */
#define STOP_RETRY_US 200000

static const char *const state_names[] = {
    [HOTNESS_OFF] = "off",           [HOTNESS_TRACKING] = "tracking",
    [HOTNESS_RESTING] = "resting",   [HOTNESS_BLOCKED] = "blocked",
    [HOTNESS_EXPIRED] = "expired",   [HOTNESS_FAILED] = "failed",
};

const char *hotness_state_to_string(HotnessState state)
{
    return state_names[state];
}

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void set_state(Sampler *s, HotnessState state, const char *reason)
{
    s->state = state;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
}

static bool is_measuring_dirty_rate(const QemuSymbols *q)
{
    QDict *args = q->qdict_new();
    QObject *ret = NULL;
    Error *err = NULL;
    bool is_measuring = false;

    q->qmp_marshal_query_dirty_rate(args, &ret, &err);
    if (ret) {
        const char *status = q->qdict_get_try_str((QDict *)ret, "status");

        is_measuring = status && strcmp(status, "measuring") == 0;
    }
    if (err) {
        q->error_free(err);
    }
    qobject_unref(q, ret);
    qobject_unref(q, args);
    return is_measuring;
}

/* Returns who else uses dirty tracking, or NULL. */
static const char *is_in_use(const QemuSymbols *q)
{
#ifdef HOTNESS_CARELESS /* a test must see that pages are lost without this */
    return NULL;
#endif
    if (q->migration_is_running ? q->migration_is_running()
                                : !q->migration_is_idle()) {
        return "a migration or snapshot is running";
    }
    if (*q->global_dirty_tracking & ~GLOBAL_DIRTY_DIRTY_RATE) {
        return "QEMU tracks dirty pages for a migration or a dirty limit";
    }
    if (is_measuring_dirty_rate(q)) {
        return "QEMU measures the dirty rate";
    }
    return NULL;
}

/* Somebody may have switched our log off: see calc-dirty-rate above. */
static bool log_is_on(const Sampler *s)
{
    return s->is_logging &&
           (*s->q->global_dirty_tracking & GLOBAL_DIRTY_DIRTY_RATE);
}

static void log_stop(Sampler *s)
{
    if (!s->is_logging) {
        return;
    }
    if (*s->q->global_dirty_tracking & GLOBAL_DIRTY_DIRTY_RATE) {
        if (is_measuring_dirty_rate(s->q)) {
            /* Its bit now; should it not measure by log, ours to stop later */
            return;
        }
        s->q->memory_global_dirty_log_stop(GLOBAL_DIRTY_DIRTY_RATE);
    }
    s->is_logging = false;
}

/* Returns false where the layout no longer fits: the state says why. */
static bool layout_update(Sampler *s)
{
    static RamLayout now;
    bool has_same_blocks;

    if (ram_layout_read(s->q, &now) < 0) {
        set_state(s, HOTNESS_FAILED,
                  "the guest's RAM has more blocks or ranges than a table can "
                  "tell: use fewer, larger memory devices");
        return false;
    }
    if (ram_layout_is_equal(&now, &s->layout)) {
        return true;
    }
    has_same_blocks = ram_layout_has_same_blocks(&now, &s->layout);
    /* Bits of skipped speak of other blocks than before */
    s->is_fresh |= !has_same_blocks && s->skipped;
    s->layout = now;
    s->generation++;
    if (!s->table.header) {
        return true;
    }
    table_set_generation(&s->table, s->generation);
    if (s->layout.n_counters > s->table.n_counters) {
        s->state = HOTNESS_FAILED;
        snprintf(s->reason, sizeof(s->reason),
                 "table too small: it has %" PRIu64 " counters, the guest's "
                 "RAM now needs %" PRIu64 ": start again with a larger table",
                 s->table.n_counters, s->layout.n_counters);
        return false;
    }
    if (!has_same_blocks) {
        /* Counters would speak of other pages than before */
        memset(s->table.counters, 0, s->table.n_counters);
    }
    return true;
}

/* Takes a block's dirty bits, and counts them unless they are stale. */
static bool block_sample(Sampler *s, const RamBlock *block)
{
    uint64_t size = block->n_pages << HOTNESS_PAGE_SHIFT;
    DirtyBitmapSnapshot *snap;
    bool is_sound;

    snap = s->q->snapshot_and_clear_dirty(block->mr, 0, size,
                                          DIRTY_MEMORY_MIGRATION);
    is_sound = snap->start <= block->ram_addr &&
               snap->end >= block->ram_addr + size &&
               snap->end - snap->start < size + (2u << 20);
    if (!is_sound) {
        set_state(s, HOTNESS_FAILED,
                  "QEMU's dirty bitmaps are not laid out as known: use a "
                  "newer hmvisor");
    } else if (!s->is_fresh) {
        dirty_count_add(s->table.counters + block->offset, snap->dirty,
                        (block->ram_addr - snap->start) >> HOTNESS_PAGE_SHIFT,
                        block->n_pages);
    }
    g_free(snap);
    return is_sound;
}

/* Stays off the log while somebody else needs it. */
static void block(Sampler *s, const char *user)
{
    log_stop(s);
    s->is_fresh = true;
    s->dropped++;
    set_state(s, HOTNESS_BLOCKED, user);
}

/*
 * Takes a sample.  Returns false where tracking cannot go on: the state says
 * why.  A sample left for later (hold) or thrown away counts as dropped.
 */
static bool sample(Sampler *s)
{
    const char *user;
    uint64_t skip;
    bool is_sound;

    s->q->memory_global_dirty_log_sync(false);

    user = is_in_use(s->q);
    if (user) {
        block(s, user);
        return true;
    }
    if (!table_enter(&s->table)) {
        s->dropped++;
        return true;
    }
    is_sound = layout_update(s);
    skip = log_is_ring(s->q) ? 0 : table_get_skip(&s->table);
    /* What a block left out holds is older than a sample */
    s->is_fresh |= (s->skipped & ~skip) != 0;
    s->skipped = skip;
    for (size_t i = 0; is_sound && i < s->layout.n_blocks; i++) {
        if (!(skip >> i & 1)) {
            is_sound = block_sample(s, &s->layout.blocks[i]);
        }
    }
    if (is_sound && s->is_fresh) {
        s->is_fresh = false;
        s->dropped++;
    } else if (is_sound) {
        table_set_epoch(&s->table, ++s->epochs);
        s->has_counted = true;
    }
    table_leave(&s->table);
    return is_sound;
}

static bool sample_timed(Sampler *s)
{
    uint64_t begin = clock_ns();
    bool is_sound = sample(s);

    s->last_cost_ns = clock_ns() - begin;
    s->cost_ns += s->last_cost_ns;
    return is_sound;
}

static bool log_start(Sampler *s)
{
    Error *err = NULL;
    bool is_on;

    is_on = s->q->memory_global_dirty_log_start(GLOBAL_DIRTY_DIRTY_RATE,
                                                &err);
    if (s->q->has_start_error && !is_on) {
        s->state = HOTNESS_FAILED;
        snprintf(s->reason, sizeof(s->reason), "tracking not possible: %s",
                 err ? s->q->error_get_pretty(err) : "QEMU does not say why");
        if (err) {
            s->q->error_free(err);
        }
        return false;
    }
    s->is_logging = true;
    s->is_fresh = true;
    return true;
}

static gboolean on_timer(void *opaque);

static void timer_arm(Sampler *s, int64_t delay_us)
{
    int64_t delay_ms = MAX(delay_us, 0) / 1000 + 1;

    s->timer = g_timeout_add((guint)delay_ms, on_timer, s);
}

static void timer_stop(Sampler *s)
{
    if (s->timer) {
        g_source_remove(s->timer);
        s->timer = 0;
    }
}

/* Ends tracking; the state and its reason are the caller's to set. */
static void finish(Sampler *s)
{
    timer_stop(s);
    table_unmap(&s->table);
    log_stop(s);
    if (s->is_logging) {
        timer_arm(s, STOP_RETRY_US);
    }
}

static bool lease_is_over(Sampler *s, int64_t now)
{
    uint64_t renew = table_get_renew(&s->table);

    if (renew != s->renew) {
        s->renew = renew;
        s->renewed_us = now;
    }
    return now - s->renewed_us >= s->settings.lease_ms * 1000;
}

/*
 * An interval after the last one was due, but never so soon that samples
 * would take more than a tenth of the time: QEMU's big lock is held in them.
 */
static int64_t next_sample_us(const Sampler *s, int64_t now)
{
    int64_t interval_us = s->settings.interval_ms * 1000;
    int64_t cost_us = (int64_t)(s->last_cost_ns / 1000);
    int64_t due = s->sample_due_us + interval_us;

    if (due <= now) {
        due = now + interval_us;
    }
    return MAX(due, now + SAMPLE_TIME_SHARE * cost_us);
}

static void rest(Sampler *s, int64_t now)
{
    log_stop(s);
    s->is_fresh = true; /* also where the stop was put off */
    set_state(s, HOTNESS_RESTING, "");
    s->phase_end_us = now + s->settings.interval_ms * 1000;
}

/* What a tick does while nobody else needs the log.  False: failed. */
static bool track(Sampler *s, int64_t now)
{
    const SamplerSettings *set = &s->settings;
    bool begins = s->state == HOTNESS_RESTING || !log_is_on(s);
    uint32_t hold;

    if (s->state == HOTNESS_RESTING && now < s->phase_end_us) {
        return true;
    }
    hold = table_get_hold(&s->table);
    if (hold == HOTNESS_HOLD_REST || (hold && begins)) {
        rest(s, now);
        return true;
    }
    if (!log_is_on(s) && !log_start(s)) {
        return false;
    }
    if (begins) {
        s->phase_end_us = now + set->on_ms * 1000;
        s->sample_due_us = now;
        s->has_counted = false;
    }
    set_state(s, HOTNESS_TRACKING, "");

    if (now >= s->sample_due_us) {
        if (!sample_timed(s)) {
            return false;
        }
        s->sample_due_us = next_sample_us(s, now);
    }
    /* Dear samples stretch the on part until one of them has counted */
    if (set->off_ms && s->state == HOTNESS_TRACKING && s->has_counted &&
        now >= s->phase_end_us) {
        log_stop(s);
        set_state(s, HOTNESS_RESTING, "");
        s->phase_end_us = now + set->off_ms * 1000;
    }
    return true;
}

static int64_t next_wake_us(const Sampler *s, int64_t now)
{
    int64_t wake = s->renewed_us + s->settings.lease_ms * 1000;

    switch (s->state) {
    case HOTNESS_TRACKING:
        wake = MIN(wake, s->sample_due_us);
        if (s->settings.off_ms && s->has_counted) {
            wake = MIN(wake, s->phase_end_us);
        }
        break;
    case HOTNESS_RESTING:
        wake = MIN(wake, s->phase_end_us);
        break;
    default:
        wake = MIN(wake, now + s->settings.interval_ms * 1000);
        break;
    }
    return wake;
}

static void tick(Sampler *s)
{
    int64_t now = g_get_monotonic_time();
    const char *user;

    if (!s->table.header) {
        finish(s);
        return;
    }
    if (lease_is_over(s, now)) {
        finish(s);
        s->state = HOTNESS_EXPIRED;
        snprintf(s->reason, sizeof(s->reason),
                 "the daemon did not renew its lease of %" PRId64
                 " ms: start again", s->settings.lease_ms);
        return;
    }
    user = is_in_use(s->q);
    if (user) {
        block(s, user);
    } else if (!s->q->runstate_is_running()) {
        /* Nothing is written, nothing lost: the log may stay on */
        set_state(s, HOTNESS_BLOCKED, "the VM is not running");
        s->dropped++;
    } else if (!track(s, now)) {
        finish(s);
        return;
    }
    timer_arm(s, next_wake_us(s, now) - now);
}

static gboolean on_timer(void *opaque)
{
    Sampler *s = opaque;

    s->timer = 0;
    tick(s);
    return G_SOURCE_REMOVE;
}

void sampler_init(Sampler *s, const QemuSymbols *q)
{
    *s = (Sampler){ .q = q, .state = HOTNESS_OFF };
}

bool sampler_start(Sampler *s, Table *table, const SamplerSettings *settings)
{
    int64_t now = g_get_monotonic_time();

    timer_stop(s);
    table_unmap(&s->table);
    s->table = *table;
    *table = (Table){ 0 };

    s->settings = *settings;
    s->renew = table_get_renew(&s->table);
    s->renewed_us = now;
    s->sample_due_us = now;
    s->phase_end_us = now + settings->on_ms * 1000;
    s->epochs = s->dropped = s->cost_ns = s->last_cost_ns = 0;
    s->state = HOTNESS_OFF;
    table_leave(&s->table);
    table_set_generation(&s->table, s->generation);
    table_set_epoch(&s->table, 0);

    tick(s);
    return s->state != HOTNESS_FAILED;
}

void sampler_stop(Sampler *s)
{
    finish(s);
    set_state(s, HOTNESS_OFF, "");
}

void sampler_refresh_layout(Sampler *s)
{
    if (!s->table.header) {
        layout_update(s);
    }
}

void sampler_yield(Sampler *s)
{
    const char *user = s->table.header ? is_in_use(s->q) : NULL;

    if (user) {
        block(s, user);
    }
}
