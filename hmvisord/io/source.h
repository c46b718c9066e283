/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a running domain's write hotness comes from: today hmvisor-hotness.so in its QEMU
 * (source-hotness.c). Owns the counter table and the conversation that keeps it filled; one request is under
 * way at a time. Knows neither libvirt nor clocks: requests leave by a function of the owner, answers and
 * the time are handed in.
 */
#pragma once

#include "base/outcome.h"
#include "proto/hotness.h"

typedef struct Source Source;

typedef enum SourceHealth {
        SOURCE_STARTING,      /* asked, no answer yet */
        SOURCE_TRACKING,      /* counters come (or rest, as the duty cycle wants) */
        SOURCE_BLOCKED,       /* someone else uses dirty tracking; resumes by itself */
        SOURCE_FAILED,        /* the outcome says why; tried again now and then */
        SOURCE_STOPPED,
} SourceHealth;

typedef struct SourceSettings {
        usec_t sample_usec, duty_on_usec, duty_off_usec, lease_usec;
        uint64_t max_pages;            /* that the domain can have at most, of libvirt's XML */
} SourceSettings;

/* A run of guest frames with its counters. */
typedef struct SourceRange {
        char block[80];
        uint64_t gfn, n_pages;
        const uint8_t *counters; /* shared with a hostile QEMU: read each byte once; NULL without a table */
        uint64_t skip; /* its bit for source_skip(); 0: no sample can leave it out */
} SourceRange;

/* Sends a request. fd (or -1) is duplicated. Returns 0 when source_reply() will come, else -errno. */
typedef int (*SourceSend)(const char *json, int fd, void *userdata);

int source_new(const SourceSettings *settings, SourceSend send, void *userdata, Source **ret);
Source *
source_free(Source *s); /* unmaps; does not stop the extension: source_stop() before it, or its lease does */
DEFINE_CLEANUP(Source *, source_free);

/* At every beat of the owner: the extension goes on counting for another lease. Needs no request. */
void source_renew(Source *s, usec_t now);
/* At every beat while requests can be made: sends what is due. */
void source_run(Source *s, usec_t now);
/* The answer to the request under way: text NULL when the call failed, and then `failure` says why. */
void source_reply(Source *s, const Outcome *failure, const char *text, usec_t now);
/* Tracking off, as soon as the request under way is answered. Nothing starts it again. */
void source_stop(Source *s, usec_t now);
/* Start anew at the next run, for instance after the guest's memory or the settings changed. */
void source_restart(Source *s, const SourceSettings *settings);

SourceHealth source_health(const Source *s);
const Outcome *source_outcome(const Source *s);     /* why it failed or is blocked */
const HotnessStatus *source_status(const Source *s); /* of the last answer; NULL before the first */

/* Nothing was sent that is not answered yet, nor is anything to be sent soon. */
bool source_is_calm(const Source *s);

/* Reading the counters, in this order. hold: no samples from now on. busy: one is still being added, ask
 * again (bounded by the caller). collect: the ranges of this epoch and the samples behind them; 0 samples
 * when there is nothing new or the table changed under us. release: with clear, the counters start at 0
 * again; with rest, nothing is sampled, nor logged, until the next release. So it is before the first one.
 */
void source_hold(Source *s);
bool source_is_busy(const Source *s);
size_t source_collect(Source *s, const SourceRange **ret_ranges, uint32_t *ret_samples);
void source_release(Source *s, bool clear, bool rest);

/* Before a release: from then on samples leave out the ranges that have a bit of these. Where that differs
 * from before, counters start at 0. */
void source_skip(Source *s, uint64_t skip);
/* Whether the samples of this epoch left the range out. */
bool source_has_skipped(const Source *s, const SourceRange *r);
