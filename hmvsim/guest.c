/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest model. Frames [0, dram_frames) are the DRAM cell, the rest the slow cell. As in a real guest, a
 * page that is moved gets another frame, which the host is not told.
 */
#include "guest.h"

/* xorshift64*: the same numbers on every machine. */
static uint32_t guest_random(Guest *g) {
        g->random ^= g->random >> 12;
        g->random ^= g->random << 25;
        g->random ^= g->random >> 27;
        return (uint32_t) ((g->random * UINT64_C(2685821657736338717)) >> 32);
}

/* In how many of an epoch's samples a page is found written: binomial, so that one number per page is
 * enough. */
static void guest_init_chances(Guest *g) {
        double p = g->setup.permyriad / 10000.0, at[SAMPLES_MAX + 1] = { 1 }, sum = 0;

        if (g->setup.samples > SAMPLES_MAX)
                abort();
        for (uint32_t n = 0; n < g->setup.samples; n++)
                for (uint32_t i = n + 2; i-- > 0;)
                        at[i] = at[i] * (1 - p) + (i > 0 ? at[i - 1] * p : 0);
        for (uint32_t i = 0; i <= g->setup.samples; i++) {
                sum += at[i];
                g->up_to[i] = (uint32_t) (MIN(sum, 1.0) * UINT32_MAX);
        }
}

static uint32_t guest_samples_written(Guest *g) {
        uint32_t n = 0, random = guest_random(g);

        while (n < g->setup.samples && random >= g->up_to[n])
                n++;
        return n;
}

static void *must_calloc(size_t n, size_t size) {
        void *p = calloc(n > 0 ? n : 1, size);

        if (!p)
                abort();
        return p;
}

void guest_init(Guest *g, const GuestSetup *setup, uint64_t seed) {
        *g = (Guest){ .setup = *setup, .random = seed * 2 + 1 };
        guest_init_chances(g);
        g->n_frames = setup->dram_frames + setup->slow_frames;
        if (setup->pages + setup->unmovable > g->n_frames)
                abort();
        g->frame_page = must_calloc(g->n_frames, sizeof(*g->frame_page));
        g->page_frame = must_calloc(setup->pages, sizeof(*g->page_frame));
        g->pinned = must_calloc(setup->pages, sizeof(*g->pinned));
        g->counters = must_calloc(g->n_frames, 1);
        for (uint32_t f = 0; f < g->n_frames; f++)
                g->frame_page[f] = NO_PAGE;
        for (uint32_t p = 0; p < setup->pages; p++) {
                g->page_frame[p] = setup->unmovable + p;
                g->frame_page[setup->unmovable + p] = p;
        }
        for (uint32_t i = 0; i < setup->hot_unmovable; i++)
                g->pinned[setup->hot_first + i] = true;
        g->ranges[0] = (RangeFacts){ .gfn = 0, .n_pages = setup->dram_frames, .cell = 0 };
        g->ranges[1] = (RangeFacts){ .gfn = setup->dram_frames, .n_pages = setup->slow_frames, .cell = 1 };
        g->ranges[0].counters = g->counters;
        g->ranges[1].counters = g->counters + setup->dram_frames;
}

void guest_done(Guest *g) {
        free(g->frame_page);
        free(g->page_frame);
        free(g->pinned);
        free(g->counters);
        free(g->promote);
        free(g->demote);
        *g = (Guest){ 0 };
}

static void guest_write(Guest *g, uint32_t page, uint32_t samples) {
        uint8_t *counter = &g->counters[g->page_frame[page]];

        *counter = (uint8_t) MIN(*counter + samples, 255U);
}

static void guest_run_workload(Guest *g) {
        const GuestSetup *s = &g->setup;

        switch (s->workload) {
        case WORKLOAD_IDLE:
                break;
        case WORKLOAD_STATIC:
        case WORKLOAD_MOVING:
                for (uint32_t i = 0; i < s->hot_pages; i++)
                        guest_write(g, s->hot_first + i, guest_samples_written(g));
                break;
        case WORKLOAD_UNIFORM:
                for (uint32_t p = 0; p < s->pages; p++)
                        guest_write(g, p, guest_samples_written(g));
                break;
        case WORKLOAD_STREAM:
                for (uint32_t i = 0; i < s->hot_pages; i++) {
                        guest_write(g, g->stream_at, 1);
                        g->stream_at = (g->stream_at + 1) % s->pages;
                }
                break;
        }
}

static uint32_t guest_find_free(const Guest *g, uint32_t cell, uint32_t *hint) {
        uint32_t first = cell == 0 ? g->setup.unmovable : g->setup.dram_frames;
        uint32_t end = cell == 0 ? g->setup.dram_frames : g->n_frames;

        for (uint32_t f = MAX(*hint, first); f < end; f++)
                if (g->frame_page[f] == NO_PAGE) {
                        *hint = f;
                        return f;
                }
        return NO_PAGE;
}

static uint32_t cell_of(const Guest *g, uint32_t frame) {
        return frame < g->setup.dram_frames ? 0 : 1;
}

static SkipReason guest_move(Guest *g, uint32_t frame, uint32_t cell, uint32_t *hint) {
        uint32_t page, to;

        if (frame >= g->n_frames)
                return SKIP_NOT_RAM;
        if (frame < g->setup.unmovable)
                return SKIP_UNMOVABLE;
        page = g->frame_page[frame];
        if (page == NO_PAGE)
                return SKIP_FREE;
        if (cell_of(g, frame) == cell)
                return SKIP_ALREADY_THERE;
        if (g->pinned[page])
                return SKIP_PINNED;
        to = guest_find_free(g, cell, hint);
        if (to == NO_PAGE)
                return SKIP_NO_ROOM;
        g->frame_page[to] = page;
        g->page_frame[page] = to;
        g->frame_page[frame] = NO_PAGE;
        g->moved++;
        return _SKIP_MAX; /* not skipped */
}

/* Demotes as many as promotion lacks room for, from the front of the list; then promotes. */
static void guest_carry_out(Guest *g) {
        uint64_t lack = 0, room = 0;
        uint32_t hint = 0;
        AckFacts *ack = &g->ack;

        for (size_t i = 0; i < g->n_promote; i++)
                lack += g->promote[i].n_pages;
        for (uint32_t f = g->setup.unmovable; f < g->setup.dram_frames; f++)
                room += g->frame_page[f] == NO_PAGE;
        lack -= MIN(lack, room);

        for (size_t i = 0; i < g->n_demote; i++)
                for (uint64_t k = 0; k < g->demote[i].n_pages && ack->demoted_pages < lack; k++) {
                        SkipReason why = guest_move(g, (uint32_t) (g->demote[i].gfn + k), 1, &hint);

                        if (why == _SKIP_MAX)
                                ack->demoted_pages++;
                        else
                                ack->skipped_pages[why]++;
                }
        hint = 0;
        for (size_t i = 0; i < g->n_promote; i++)
                for (uint64_t k = 0; k < g->promote[i].n_pages; k++) {
                        SkipReason why = guest_move(g, (uint32_t) (g->promote[i].gfn + k), 0, &hint);

                        if (why == _SKIP_MAX)
                                ack->promoted_pages++;
                        else
                                ack->skipped_pages[why]++;
                }
        g->most_in_an_order = MAX(g->most_in_an_order, ack->promoted_pages + ack->demoted_pages);
}

void guest_run_epoch(Guest *g) {
        memset(g->counters, 0, g->n_frames);
        if (g->setup.workload == WORKLOAD_MOVING && g->epoch > 0 && g->epoch % g->setup.move_every == 0)
                g->setup.hot_first =
                        (g->setup.hot_first + g->setup.hot_pages) % (g->setup.pages - g->setup.hot_pages);
        guest_run_workload(g);
        g->epoch++;
        if (!g->has_order)
                return;
        if (g->epochs_left > 0) {
                g->epochs_left--;
                return;
        }
        if (g->ack.state == ACK_RUNNING) {
                guest_carry_out(g);
                g->ack.state = ACK_DONE;
        }
}

void guest_facts(Guest *g, uint64_t domain, const DomainPolicy *policy, DomainFacts *ret) {
        *ret = (DomainFacts){
                .domain = domain,
                .policy = *policy,
                .agent_ready = true,
                .ranges_generation = 1,
                .cells = { { .cell = 0,
                             .tier = TIER_DRAM,
                             .size_bytes = g->setup.dram_frames * UINT64_C(4096) },
                           { .cell = 1,
                             .tier = TIER_SLOW,
                             .size_bytes = g->setup.slow_frames * UINT64_C(4096) } },
                .n_cells = 2,
                .ranges = g->ranges,
                .n_ranges = 2,
                .samples = g->setup.samples,
                .ack = g->has_order ? &g->ack : NULL,
        };
        ret->cells[0].guest_free_bytes = ret->cells[1].guest_free_bytes = UINT64_MAX;
}

static PageRange *ranges_copy(const PageList *l) {
        PageRange *copy = must_calloc(l->n_ranges, sizeof(*copy));

        memcpy(copy, l->ranges, l->n_ranges * sizeof(*copy));
        return copy;
}

void guest_submit(Guest *g, const Order *order) {
        uint64_t pages = 2 * order->promote.n_pages;

        free(g->promote);
        free(g->demote);
        g->promote = ranges_copy(&order->promote);
        g->demote = ranges_copy(&order->demote);
        g->n_promote = order->promote.n_ranges;
        g->n_demote = order->demote.n_ranges;
        g->has_order = true;
        g->order = order->order;
        g->epochs_left = pages / g->setup.pages_per_epoch;
        g->ack = (AckFacts){ .order = order->order, .state = ACK_RUNNING };
}

uint32_t guest_hot_in_dram(const Guest *g) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < g->setup.hot_pages; i++)
                n += cell_of(g, g->page_frame[g->setup.hot_first + i]) == 0;
        return n;
}
