/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whether orders pay: of the pages that one promoted, how many are found written again, and a pause where
 * next to none are. Owns that account; never names pages to move.
 *
 * Pages that are written one after the other, and then not for long, look hot while they are written: each
 * is seen twice, and to move it costs a copy and saves nothing. What comes of an order tells them from a
 * hot set, and is known as soon as DRAM has been looked at once more.
 */
#pragma once

#include "core/heatmap.h"
#include "core/order.h"

#define PAYOFF_PART 8     /* vain: of the pages promoted, less than one in so many is written again */
#define PAYOFF_LARGER 2   /* what is so many times as large as the vain orders were is something new */
#define PAYOFF_PAUSE_USEC (4 * USEC_PER_SEC)
#define PAYOFF_BACKOFF_MAX 4 /* doublings: a minute, for as long as heat remembers a sighting */

/* All zero is a new account. */
typedef struct Payoff {
        PageList frames;   /* whose front most likely holds what the last order promoted; owned; or empty */
        uint64_t n_frames; /* of that front */
        uint64_t promoted; /* that they hold */
        uint32_t heat;     /* that they were given */
        unsigned epochs;   /* with samples, since then */
        uint64_t promised, kept; /* pages promoted, and written again; of each order half as much as of the
                                    next */
        uint64_t vain_pages; /* of the largest order since the last one that was not vain */
        unsigned backoff;
        usec_t until; /* of the pause, while there is one */
} Payoff;

void payoff_done(Payoff *p);

/* An order has ended: so many pages were promoted, to the first n_frames of l, or to free frames, which
 * nobody knows; the frames of l now have this heat. Takes what l holds, if there is anything to judge. */
void payoff_begin(Payoff *p, PageList *l, uint64_t n_frames, uint64_t promoted, uint32_t heat);

/* An epoch had samples, of these frames too. */
void payoff_pass_epoch(Payoff *p);

/* Judges the last order, once an order is wanted again, or heat has forgotten how it began. */
void payoff_judge(Payoff *p, const Heatmap *m, uint32_t samples, bool wants, usec_t now);

/* Whether an order of so many pages has to wait. */
bool payoff_pauses(const Payoff *p, uint64_t pages, usec_t now);
