/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A model of a guest for the simulation: virtual pages that lie in frames of two cells, a workload that
 * writes some of them, and a kernel that carries out orders by moving pages to other frames. Owns what the
 * guest knows and the host does not: which page lies in which frame, what is free, what cannot be moved.
 */
#pragma once

#include "core/core.h"

#define NO_PAGE UINT32_MAX
#define SAMPLES_MAX 32

typedef enum Workload {
        WORKLOAD_IDLE,    /* nothing is written */
        WORKLOAD_STATIC,  /* a fixed set of pages is written at random */
        WORKLOAD_MOVING,  /* the set moves on to other pages every `move_every` epochs */
        WORKLOAD_UNIFORM, /* every page is as likely to be written as any other */
        WORKLOAD_STREAM,  /* each page is written once, one after the other, round and round */
} Workload;

typedef struct GuestSetup {
        uint32_t dram_frames, slow_frames;
        uint32_t pages;                /* of the workload; they fill DRAM first, then slow memory */
        uint32_t unmovable;            /* frames of DRAM, from the lowest on, that the kernel itself uses */
        uint32_t hot_first, hot_pages; /* pages [first, first + pages) of the workload */
        uint32_t hot_unmovable;        /* so many of the hot pages are pinned */
        uint32_t permyriad;            /* chance that a hot page is written in one sample */
        uint32_t samples;              /* per epoch */
        uint32_t move_every;
        Workload workload;
        uint32_t pages_per_epoch; /* that the guest can move */
} GuestSetup;

typedef struct Guest {
        GuestSetup setup;
        uint32_t n_frames;
        uint32_t *frame_page; /* frame -> page; NO_PAGE: free */
        uint32_t *page_frame;
        bool *pinned;      /* per page */
        uint8_t *counters; /* per frame, as the extension would count */
        uint64_t random;
        uint32_t up_to[SAMPLES_MAX + 1]; /* chance, of 2^32, that a page is written in at most i samples */
        uint64_t epoch;
        uint32_t stream_at;
        uint32_t free_scan;

        bool has_order;
        uint64_t order;
        uint64_t epochs_left;
        PageRange *promote, *demote;
        size_t n_promote, n_demote;
        AckFacts ack;

        RangeFacts ranges[2];
        uint64_t moved; /* pages, in both directions */
        uint64_t most_in_an_order;
} Guest;

void guest_init(Guest *g, const GuestSetup *setup, uint64_t seed);
void guest_done(Guest *g);

/* One epoch of the workload, with its samples; then, if an order is under way, its progress. */
void guest_run_epoch(Guest *g);

/* What the host would be told now. The facts point into g. */
void guest_facts(Guest *g, uint64_t domain, const DomainPolicy *policy, DomainFacts *ret);

void guest_submit(Guest *g, const Order *order);

/* Of the pages that are hot now: how many lie in DRAM. */
uint32_t guest_hot_in_dram(const Guest *g);
