/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest model. Frames of the DRAM cell come first, then those of the slow cell, each cell with room to
 * be plugged. As in a real guest, a page that is moved gets another frame, which the host is not told.
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

static uint32_t cell_of(const Guest *g, uint32_t frame) {
        return frame < g->cells[1].first ? 0 : 1;
}

/* The kernel's own frames are at the start of DRAM. */
static uint32_t cell_start(const Guest *g, uint32_t cell) {
        return cell == 0 ? g->setup.unmovable : g->cells[1].first;
}

static bool frame_is_usable(const Guest *g, uint32_t frame) {
        const GuestCell *c = &g->cells[cell_of(g, frame)];

        return frame < c->first + c->usable;
}

static void cell_count_free(Guest *g, uint32_t cell) {
        GuestCell *c = &g->cells[cell];

        c->n_free = 0;
        for (uint32_t f = cell_start(g, cell); f < c->first + c->usable; f++)
                c->n_free += g->frame_page[f] == NO_PAGE;
}

static void page_put(Guest *g, uint32_t page, uint32_t frame) {
        g->frame_page[frame] = page;
        g->page_frame[page] = frame;
        g->cells[cell_of(g, frame)].n_free--;
}

static void page_take(Guest *g, uint32_t page) {
        uint32_t frame = g->page_frame[page];

        g->frame_page[frame] = NO_PAGE;
        g->page_frame[page] = NO_PAGE;
        g->cells[cell_of(g, frame)].n_free += frame_is_usable(g, frame);
}

void guest_init(Guest *g, const GuestSetup *setup, uint64_t seed) {
        uint32_t dram_most = MAX(setup->dram_frames, setup->dram_max_frames);
        uint32_t slow_most = MAX(setup->slow_frames, setup->slow_max_frames);

        *g = (Guest){ .setup = *setup, .random = seed * 2 + 1, .generation = 1, .pages = setup->pages };
        guest_init_chances(g);
        g->n_frames = dram_most + slow_most;
        g->cells[0] = (GuestCell){ .most = dram_most };
        g->cells[1] = (GuestCell){ .first = dram_most, .most = slow_most };
        g->cells[0].usable = g->cells[0].plugged = setup->dram_frames;
        g->cells[1].usable = g->cells[1].plugged = setup->slow_frames;
        g->frame_page = must_calloc(g->n_frames, sizeof(*g->frame_page));
        g->page_frame = must_calloc(setup->pages, sizeof(*g->page_frame));
        g->pinned = must_calloc(setup->pages, sizeof(*g->pinned));
        g->counters = must_calloc(g->n_frames, 1);
        for (uint32_t f = 0; f < g->n_frames; f++)
                g->frame_page[f] = NO_PAGE;
        for (uint32_t p = 0; p < setup->pages; p++) {
                uint32_t frame = setup->unmovable + p;

                if (frame >= setup->dram_frames)
                        frame += dram_most - setup->dram_frames;
                g->page_frame[p] = frame < dram_most + setup->slow_frames ? frame : NO_PAGE;
                if (g->page_frame[p] != NO_PAGE)
                        g->frame_page[frame] = p;
        }
        cell_count_free(g, 0);
        cell_count_free(g, 1);
        for (uint32_t i = 0; i < setup->hot_unmovable; i++)
                g->pinned[setup->hot_first + i] = true;
        for (uint32_t i = 0; i < 2; i++)
                g->ranges[i] = (RangeFacts){ .gfn = g->cells[i].first,
                                             .cell = i,
                                             .counters = g->counters + g->cells[i].first };
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

/* ---- swap ---- */

/* Goes round, as a kernel's allocator does. */
static uint32_t cell_find_free(Guest *g, uint32_t cell) {
        GuestCell *c = &g->cells[cell];
        uint32_t start = cell_start(g, cell), end = c->first + c->usable;

        for (uint32_t n = 0; c->n_free > 0 && n <= 2 * c->usable; n++) {
                uint32_t f = c->scan = c->scan + 1 < end && c->scan >= start ? c->scan + 1 : start;

                if (f < end && g->frame_page[f] == NO_PAGE)
                        return f;
        }
        return NO_PAGE;
}

static bool page_is_hot(const Guest *g, uint32_t page) {
        return page - g->setup.hot_first < g->setup.hot_pages;
}

/* Whether the disk has time left for it in this epoch; takes it. */
static bool disk_use(Guest *g, uint32_t cost) {
        if (g->disk_used + cost > g->setup.disk_operations * SWAP_CLUSTER)
                return false;
        g->disk_used += cost;
        return true;
}

/* Writes some page out that is not pinned, rather one that is not hot, and frees a frame that stays: which.
 */
static uint32_t guest_evict(Guest *g) {
        for (unsigned i = 0; i < 64; i++) {
                uint32_t page = guest_random(g) % g->pages, frame = g->page_frame[page];

                if (frame == NO_PAGE || g->pinned[page] || !frame_is_usable(g, frame) ||
                    (i < 32 && page_is_hot(g, page)))
                        continue;
                if (!disk_use(g, 1))
                        break;
                page_take(g, page);
                g->swapped++;
                return frame;
        }
        return NO_PAGE;
}

/* Finds a page a frame, in DRAM first as kernels do. */
static bool guest_place(Guest *g, uint32_t page) {
        uint32_t frame = cell_find_free(g, 0);

        if (frame == NO_PAGE)
                frame = cell_find_free(g, 1);
        if (frame == NO_PAGE)
                frame = guest_evict(g);
        if (frame == NO_PAGE)
                return false;
        page_put(g, page, frame);
        return true;
}

static bool guest_fault(Guest *g, uint32_t page) {
        if (g->page_frame[page] != NO_PAGE)
                return true;
        if (!disk_use(g, SWAP_CLUSTER) || !guest_place(g, page))
                return false; /* the workload waits for its disk */
        g->swapped++;
        g->swapped_in++;
        return true;
}

void guest_set_hot(Guest *g, uint32_t first, uint32_t pages, uint32_t permyriad) {
        if (first > g->setup.pages || pages > g->setup.pages - first)
                abort();
        g->setup.hot_first = first;
        g->setup.hot_pages = pages;
        g->setup.permyriad = permyriad;
        guest_init_chances(g);
}

uint64_t guest_free_bytes(const Guest *g) {
        return ((uint64_t) g->cells[0].n_free + g->cells[1].n_free) * 4096;
}

void guest_use_pages(Guest *g, uint32_t pages) {
        uint32_t before = g->pages;

        if (pages == 0 || pages > g->setup.pages)
                abort();
        for (uint32_t p = pages; p < before; p++)
                if (g->page_frame[p] != NO_PAGE)
                        page_take(g, p);
        g->pages = pages;
        for (uint32_t p = before; p < pages; p++)
                (void) guest_place(g, p);
}

/* ---- workload ---- */

void guest_write(Guest *g, uint32_t page, uint32_t samples) {
        uint8_t *counter;

        if (samples == 0)
                return;
        g->writes += samples;
        if (!guest_fault(g, page)) {
                g->slow_writes += samples;
                return;
        }
        g->slow_writes += cell_of(g, g->page_frame[page]) == 1 ? samples : 0;
        counter = &g->counters[g->page_frame[page]];
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
                for (uint32_t p = 0; p < g->pages; p++)
                        guest_write(g, p, guest_samples_written(g));
                break;
        case WORKLOAD_STREAM:
                for (uint32_t i = 0; i < s->hot_pages; i++) {
                        guest_write(g, g->stream_at, 1);
                        g->stream_at = (g->stream_at + 1) % g->pages;
                }
                break;
        }
        for (uint32_t i = 0; i < s->touched; i++)
                (void) guest_fault(g, guest_random(g) % g->pages);
}

/* ---- memory ---- */

static uint32_t guest_find_free(const Guest *g, uint32_t cell, uint32_t *hint) {
        const GuestCell *c = &g->cells[cell];

        for (uint32_t f = MAX(*hint, cell_start(g, cell)); c->n_free > 0 && f < c->first + c->usable; f++)
                if (g->frame_page[f] == NO_PAGE) {
                        *hint = f;
                        return f;
                }
        return NO_PAGE;
}

uint32_t guest_frames(const Guest *g, uint32_t cell) {
        return g->cells[cell].plugged;
}

void guest_ask_frames(Guest *g, uint32_t cell, uint32_t frames) {
        GuestCell *c = &g->cells[cell];

        frames = MIN(frames, c->most);
        if (frames < c->plugged && g->setup.refuses)
                return;
        c->usable = frames;
        if (frames > c->plugged) {
                c->plugged = frames;
                g->generation++;
        }
        cell_count_free(g, cell);
}

/* Empties frames from the end on, into whatever is free, or by swapping; as many as it can move in an epoch.
 */
static void guest_vacate(Guest *g, uint32_t cell) {
        GuestCell *c = &g->cells[cell];
        uint32_t before = c->plugged;

        for (uint32_t moved = 0; c->plugged > c->usable && moved < g->setup.pages_per_epoch;) {
                uint32_t page = g->frame_page[c->first + c->plugged - 1];

                if (page != NO_PAGE) {
                        if (g->pinned[page])
                                break;
                        page_take(g, page);
                        if (!guest_place(g, page)) {
                                g->frame_page[c->first + c->plugged - 1] = page;
                                g->page_frame[page] = c->first + c->plugged - 1;
                                break;
                        }
                        moved++;
                }
                c->plugged--;
        }
        g->generation += c->plugged != before;
}

/* ---- orders ---- */

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
        page_take(g, page);
        page_put(g, page, to);
        g->moved++;
        return _SKIP_MAX; /* not skipped */
}

/* Demotes as many as promotion lacks room for, from the front of the list; then promotes. */
static void guest_carry_out(Guest *g) {
        uint64_t lack = 0;
        uint32_t hint = 0;
        AckFacts *ack = &g->ack;

        for (size_t i = 0; i < g->n_promote; i++)
                lack += g->promote[i].n_pages;
        lack -= MIN(lack, g->cells[0].n_free);

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

void guest_begin_epoch(Guest *g) {
        memset(g->counters, 0, g->n_frames);
        g->swapped = g->swapped_in = g->disk_used = 0;
        g->writes = g->slow_writes = 0;
        guest_vacate(g, 0);
        guest_vacate(g, 1);
}

void guest_end_epoch(Guest *g) {
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

void guest_run_epoch(Guest *g) {
        if (g->setup.workload == WORKLOAD_MOVING && g->epoch > 0 && g->epoch % g->setup.move_every == 0)
                g->setup.hot_first =
                        (g->setup.hot_first + g->setup.hot_pages) % (g->setup.pages - g->setup.hot_pages);
        guest_begin_epoch(g);
        guest_run_workload(g);
        guest_end_epoch(g);
}

void guest_facts(Guest *g, uint64_t domain, const DomainPolicy *policy, DomainFacts *ret) {
        *ret = (DomainFacts){
                .domain = domain,
                .policy = *policy,
                .agent_ready = true,
                .ranges_generation = g->generation,
                .cells = { { .cell = 0,
                             .tier = TIER_DRAM,
                             .size_bytes = guest_frames(g, 0) * UINT64_C(4096) },
                           { .cell = 1,
                             .tier = TIER_SLOW,
                             .size_bytes = guest_frames(g, 1) * UINT64_C(4096) } },
                .n_cells = 2,
                .ranges = g->ranges,
                .n_ranges = 2,
                .samples = g->setup.samples,
                .ack = g->has_order ? &g->ack : NULL,
        };
        for (uint32_t i = 0; i < 2; i++) {
                g->ranges[i].n_pages = guest_frames(g, i);
                ret->cells[i].guest_free_bytes = ret->cells[i].guest_foreign_pages = UINT64_MAX;
        }
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
                n += g->page_frame[g->setup.hot_first + i] < g->cells[1].first;
        return n;
}
