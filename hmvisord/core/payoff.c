/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The account of what orders brought.
 */
#include "core/payoff.h"

static void payoff_forget_frames(Payoff *p) {
        free(p->frames);
        p->frames = NULL;
        p->n_frames = 0;
}

void payoff_done(Payoff *p) {
        payoff_forget_frames(p);
}

int payoff_begin(Payoff *p, const PageList *l, uint64_t n_frames, uint64_t promoted, uint32_t heat) {
        payoff_forget_frames(p);
        if (promoted == 0 || n_frames == 0)
                return 0;
        p->frames = calloc(l->n_ranges, sizeof(*p->frames));
        if (!p->frames)
                return -ENOMEM;
        for (; p->n_frames < l->n_ranges && n_frames > 0; p->n_frames++) {
                PageRange *r = &p->frames[p->n_frames];

                *r = l->ranges[p->n_frames];
                r->n_pages = MIN(r->n_pages, n_frames);
                n_frames -= r->n_pages;
        }
        p->promoted = promoted;
        p->heat = heat;
        p->epochs = 0;
        return 0;
}

void payoff_pass_epoch(Payoff *p) {
        p->epochs += p->frames != NULL;
}

/* What of a heat is left, at most, where a frame is not written for so many epochs. */
static uint32_t heat_left(uint32_t heat, unsigned epochs) {
        while (epochs-- > 0 && heat > HEAT_TAIL)
                heat -= (heat + HEAT_MEMORY - 1) / HEAT_MEMORY;
        return heat;
}

static uint64_t frames_written(const Payoff *p, const Heatmap *m, uint32_t samples) {
        uint32_t unwritten = heat_left(p->heat, p->epochs) + heat_of_one_sighting(samples) / 2;
        uint64_t n = 0;

        for (const PageRange *r = p->frames; r < p->frames + p->n_frames; r++)
                for (uint64_t gfn = r->gfn; gfn < r->gfn + r->n_pages; gfn++)
                        n += heatmap_get_heat(m, gfn) > (int) unwritten;
        return MIN(n, p->promoted);
}

void payoff_judge(Payoff *p, const Heatmap *m, uint32_t samples, bool wants, usec_t now) {
        if (!p->frames || p->epochs < (wants ? 1 : HEAT_MEMORY))
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
