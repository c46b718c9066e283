/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CMQ, RAMinate's planner, as an alternative to ours: dirty bits each second; 8 queues, of level floor(log2
 * of detections); 5 s without one and a page goes down a level, at last to the victim queue; every 5 s a
 * plan of at most 1,000 swaps. Where this is not the whole story, it is told in CMQ's favour: a page keeps
 * its count until it reaches the victim queue, plans take no time, and any page of a higher level displaces
 * one of a lower.
 */
#include "place.h"

#define QUEUES 8
#define LIFETIME_SECONDS 5
#define PLAN_SECONDS 5
#define PLAN_PAIRS 1000
#define VICTIM (-1)

typedef struct CmqPage {
        uint32_t page;
        int level;       /* VICTIM to QUEUES - 1 */
        uint32_t detections;
        size_t since;    /* second in which it was seen, or came to this queue */
} CmqPage;

typedef struct Cmq {
        CmqPage *pages;
        CmqPage *slow, *dram; /* of a plan */
} Cmq;

static int level_of(uint32_t detections) {
        return MIN(31 - __builtin_clz(detections), QUEUES - 1);
}

static void cmq_done(void *state) {
        Cmq *c = state;

        if (!c)
                return;
        free(c->pages);
        free(c->slow);
        free(c->dram);
        free(c);
}

static int cmq_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        Cmq *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        *ret_state = c;
        c->pages = calloc(s->trace->pages, sizeof(*c->pages));
        c->slow = calloc(s->trace->pages, sizeof(*c->slow));
        c->dram = calloc(s->trace->pages, sizeof(*c->dram));
        if (!c->pages || !c->slow || !c->dram)
                return -ENOMEM;
        for (uint32_t p = 0; p < s->trace->pages; p++)
                c->pages[p] = (CmqPage){ .page = p, .level = VICTIM };
        return place_static.start(s, in_dram, ret_state);
}

/* The hottest first, of equals those seen last. */
static int by_hottest(const void *a, const void *b) {
        const CmqPage *x = a, *y = b;

        if (x->level != y->level)
                return x->level > y->level ? -1 : 1;
        if (x->since != y->since)
                return x->since > y->since ? -1 : 1;
        return x->page < y->page ? -1 : 1;
}

static int by_coldest(const void *a, const void *b) {
        return by_hottest(b, a);
}

static void cmq_plan(const PlaceSetup *s, Cmq *c, uint8_t *in_dram) {
        size_t n_slow = 0, n_dram = 0;

        for (uint32_t p = 0; p < s->trace->pages; p++)
                if (in_dram[p])
                        c->dram[n_dram++] = c->pages[p];
                else
                        c->slow[n_slow++] = c->pages[p];
        qsort(c->slow, n_slow, sizeof(*c->slow), by_hottest);
        qsort(c->dram, n_dram, sizeof(*c->dram), by_coldest);
        for (size_t i = 0; i < MIN(MIN(n_slow, n_dram), (size_t) PLAN_PAIRS); i++) {
                if (c->slow[i].level <= c->dram[i].level)
                        break;
                in_dram[c->slow[i].page] = 1;
                in_dram[c->dram[i].page] = 0;
        }
}

/* Knows the second that has just passed: one bit per page. */
static int cmq_step(const PlaceSetup *s, void *state, size_t second, uint8_t *in_dram) {
        const Trace *t = s->trace;
        Cmq *c = state;

        for (size_t i = t->first[second - 1]; i < t->first[second]; i++) {
                CmqPage *p = &c->pages[t->accesses[i].page];

                if (t->accesses[i].stores == 0)
                        continue;
                p->detections++;
                p->level = level_of(p->detections);
                p->since = second;
        }
        for (uint32_t i = 0; i < t->pages; i++) {
                CmqPage *p = &c->pages[i];

                if (p->level == VICTIM || second - p->since < LIFETIME_SECONDS)
                        continue;
                p->level--;
                p->since = second;
                if (p->level == VICTIM)
                        p->detections = 0;
        }
        if (second % PLAN_SECONDS == 0)
                cmq_plan(s, c, in_dram);
        return 0;
}

const Competitor place_cmq = { .name = "cmq", .start = cmq_start, .step = cmq_step, .done = cmq_done };
