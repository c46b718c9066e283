/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The account of what orders brought.
 */
#include "core/payoff.h"

static void payoff_forget_frames(Payoff *p) {
        free(p->frames.ranges);
        p->frames = (PageList){ 0 };
}

void payoff_done(Payoff *p) {
        payoff_forget_frames(p);
}

void payoff_begin(Payoff *p, PageList *l, uint64_t n_frames, uint64_t promoted, uint32_t heat) {
        payoff_forget_frames(p);
        if (promoted == 0 || n_frames == 0)
                return;
        p->frames = *l;
        *l = (PageList){ 0 };
        p->n_frames = n_frames;
        p->promoted = promoted;
        p->heat = heat;
        p->epochs = 0;
}

void payoff_pass_epoch(Payoff *p) {
        p->epochs += p->frames.ranges != NULL;
}

static uint64_t frames_written(const Payoff *p, const Heatmap *m, uint32_t samples) {
        uint32_t unwritten = heat_after_rest(p->heat, p->epochs) + heat_of_one_sighting(samples) / 2;
        uint64_t left = p->n_frames, n = 0;

        for (const PageRange *r = p->frames.ranges; r < p->frames.ranges + p->frames.n_ranges; r++)
                for (uint64_t i = 0; i < r->n_pages && left > 0; i++, left--)
                        n += heatmap_get_heat(m, r->gfn + i) > (int) unwritten;
        return MIN(n, p->promoted);
}

void payoff_judge(Payoff *p, const Heatmap *m, uint32_t samples, bool wants, usec_t now) {
        if (!p->frames.ranges || p->epochs < (wants ? 1 : HEAT_MEMORY))
                return;
        p->promised = p->promised / 2 + p->promoted;
        p->kept = p->kept / 2 + frames_written(p, m, samples);
        if (p->kept < p->promised / PAYOFF_PART) {
                p->backoff = MIN(p->backoff + 1, (unsigned) PAYOFF_BACKOFF_MAX);
                p->until = now + (PAYOFF_PAUSE_USEC << p->backoff);
                p->vain_pages = MAX(p->vain_pages, p->promoted);
        } else {
                p->backoff = 0;
                p->vain_pages = 0; /* which ends a pause, too */
        }
        payoff_forget_frames(p);
}

bool payoff_pauses(const Payoff *p, uint64_t pages, usec_t now) {
        return now < p->until && pages <= p->vain_pages * PAYOFF_LARGER;
}
