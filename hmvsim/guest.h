/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A model of a guest: virtual pages that lie in frames of two cells or are swapped out, a workload that
 * writes some of them and touches others, and a kernel that carries out orders by moving pages to other
 * frames, plugs and unplugs memory, and swaps. Owns what the guest knows and the host does not: which page
 * lies in which frame, what is free, what cannot be moved.
 */
#pragma once

#include "core/core.h"

#define NO_PAGE UINT32_MAX
#define SAMPLES_MAX 32
#define SWAP_CLUSTER 32 /* pages that are written out together, as Linux does */

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

        /* For guests whose memory changes and may be too small. */
        uint32_t dram_max_frames, slow_max_frames; /* 0: no more than at the start */
        uint32_t touched;                          /* random pages that are read in an epoch */
        uint32_t disk_operations; /* of the swap device, per epoch: reads of one page, writes of a cluster */
        bool refuses;                              /* to give memory back */
} GuestSetup;

/* Frames of one cell: [first, first + usable) are the guest's; [.., first + plugged) are being vacated. */
typedef struct GuestCell {
        uint32_t first, most, usable, plugged;
        uint32_t n_free, scan;
} GuestCell;

typedef struct Guest {
        GuestSetup setup;
        uint32_t n_frames;
        GuestCell cells[2];
        uint32_t pages;       /* of the workload now, of setup.pages at most */
        uint32_t *frame_page; /* frame -> page; NO_PAGE: free */
        uint32_t *page_frame; /* NO_PAGE: swapped out */
        bool *pinned;         /* per page */
        uint8_t *counters;    /* per frame, as the extension would count */
        uint64_t random;
        uint32_t up_to[SAMPLES_MAX + 1]; /* chance, of 2^32, that a page is written in at most i samples */
        uint64_t epoch;
        uint32_t stream_at;
        uint32_t swapped, swapped_in; /* pages in and out, and in, in this epoch */
        uint32_t disk_used;           /* in writes of one page */
        uint64_t writes, slow_writes; /* found in the samples of this epoch; slow: not in DRAM */

        bool has_order;
        uint64_t order;
        uint64_t epochs_left;
        PageRange *promote, *demote;
        size_t n_promote, n_demote;
        AckFacts ack;

        RangeFacts ranges[2];
        uint64_t generation;
        uint64_t moved; /* pages, in both directions */
        uint64_t most_in_an_order;
} Guest;

void guest_init(Guest *g, const GuestSetup *setup, uint64_t seed);
void guest_done(Guest *g);

/* One epoch of the workload, with its samples; then, if an order is under way, its progress. */
void guest_run_epoch(Guest *g);

/* An epoch whose writes are the caller's: guest_write() of each page, with the samples that found it
 * written, between the two. */
void guest_begin_epoch(Guest *g);
void guest_write(Guest *g, uint32_t page, uint32_t samples);
void guest_end_epoch(Guest *g);

/* Memory that the host asks of it; what it does about it is seen in guest_frames(), epochs later. */
void guest_ask_frames(Guest *g, uint32_t cell, uint32_t frames);
uint32_t guest_frames(const Guest *g, uint32_t cell);

/* The workload uses more or fewer pages from now on; new ones come from free memory, or others are swapped.
 */
void guest_use_pages(Guest *g, uint32_t pages);

/* Another hot set, within all pages of the setup. */
void guest_set_hot(Guest *g, uint32_t first, uint32_t pages, uint32_t permyriad);
uint64_t guest_free_bytes(const Guest *g);

/* What the host would be told now. The facts point into g. */
void guest_facts(Guest *g, uint64_t domain, const DomainPolicy *policy, DomainFacts *ret);

void guest_submit(Guest *g, const Order *order);

/* Of the pages that are hot now: how many lie in DRAM. */
uint32_t guest_hot_in_dram(const Guest *g);
