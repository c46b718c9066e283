/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisor itself as a competitor: the daemon's core with its default policy, behind core_step(), and a
 * modelled guest that carries its orders out. What it learns is what the extension would tell by the
 * daemon's defaults: one bit per page and half second, while the log is on. As there, the log rests while an
 * order is under way, and while what tracking may cost is spent, and its first sample tells nothing. Once
 * nothing was left to move for a while, the ring rests for 12 of 16 seconds, and the bitmap leaves DRAM out.
 */
#include "guest.h"
#include "place.h"

#define HALVES 2            /* samples a second: SampleInterval=500ms */
#define BALANCED_EPOCHS 10 /* as manager-domain.c: until tracking is a watch only */
#define WATCH_ON_HALVES 8
#define WATCH_OFF_HALVES 24
#define FULL_FAULTS 25000 /* a second: CostLimit= of one processor, at 2 us each; and WatchCostLimit= */
#define WATCH_FAULTS 5000
#define PAGES_PER_EPOCH 15000 /* that a guest moves in a second: measured, DAMON's one-shots */
#define KERNEL_PART 32      /* of DRAM are the guest kernel's own frames, beside the trace's pages */
#define FREE_PART 16        /* of slow memory are free frames, as many more */

typedef struct Self {
        Core *core;
        HostPolicy host;
        DomainPolicy policy;
        Guest guest;
        bool has_ring;
        bool logging, watches;
        bool skips, widens; /* leaves DRAM out; does so no longer, and throws a sample away */
        uint64_t half;          /* half seconds since the start */
        uint64_t phase_end;     /* of the watch's on or off part */
        bool off;
        usec_t balanced_since; /* 0: it is not */
        uint64_t balanced_epochs;
        Decision balanced;
} Self;

static void self_done(void *state) {
        Self *h = state;

        if (!h)
                return;
        guest_done(&h->guest);
        core_free(h->core);
        free(h);
}

static void self_placement(const PlaceSetup *s, const Self *h, uint8_t *in_dram) {
        for (uint32_t p = 0; p < s->trace->pages; p++)
                in_dram[p] = h->guest.page_frame[p] < h->guest.cells[1].first;
}

static int self_start_log(const PlaceSetup *s, bool has_ring, uint8_t *in_dram, void **ret_state) {
        uint32_t kernel = s->dram_pages / KERNEL_PART, slow = s->trace->pages - s->dram_pages;
        GuestSetup setup = {
                .dram_frames = s->dram_pages + kernel,
                .slow_frames = slow + slow / FREE_PART + 1,
                .unmovable = kernel,
                .pages = s->trace->pages,
                .samples = HALVES,
                .workload = WORKLOAD_IDLE,
                .pages_per_epoch = PAGES_PER_EPOCH,
        };
        Self *h = calloc(1, sizeof(*h));

        if (!h)
                return -ENOMEM;
        *ret_state = h;
        h->has_ring = has_ring;
        h->host = host_policy_default();
        h->policy = domain_policy_default();
        h->policy.managed = true;
        guest_init(&h->guest, &setup, s->seed);
        self_placement(s, h, in_dram);
        return core_new(&h->core);
}

static int self_start(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        return self_start_log(s, false, in_dram, ret_state);
}

static int self_start_ring(const PlaceSetup *s, uint8_t *in_dram, void **ret_state) {
        return self_start_log(s, true, in_dram, ret_state);
}

/* One half second of the extension. Returns whether its sample counts. */
static bool self_sample(Self *h, bool rests) {
        h->half++;
        if (rests) {
                h->logging = false;
                return false;
        }
        if (h->has_ring && h->watches && h->off && h->half < h->phase_end)
                return false;
        if (!h->logging) {
                h->logging = true;
                h->off = false;
                h->phase_end = h->half + WATCH_ON_HALVES;
                return false;
        }
        if (h->has_ring && h->watches && h->half >= h->phase_end) {
                h->logging = false;
                h->off = true;
                h->phase_end = h->half + WATCH_OFF_HALVES;
        }
        return true;
}

/* As the manager does, in domain_set_effort(). */
static void self_note(Self *h, const OrderList *list) {
        DomainTotals totals = { 0 };
        usec_t since = h->balanced_since;
        bool watches, skips;

        for (size_t i = 0; i < list->n_decisions; i++)
                decision_note_balance(&list->decisions[i], &h->balanced_since, &h->balanced);
        (void) core_get_totals(h->core, 1, &totals);
        if (h->balanced_since != since)
                h->balanced_epochs = totals.epochs;
        watches = h->balanced_since > 0 && totals.epochs >= h->balanced_epochs + BALANCED_EPOCHS;
        if (watches != h->watches) {
                h->watches = watches;
                if (h->has_ring)
                        h->logging = h->off = false;
        }
        skips = !h->has_ring && core_skips_dram(h->core, 1);
        h->widens = h->skips && !skips;
        h->skips = skips;
}

static int self_step(const PlaceSetup *s, void *state, size_t second, uint8_t *in_dram) {
        const Trace *t = s->trace;
        Self *h = state;
        bool rests = !core_may_track(h->core, 1) ||
                     (h->guest.has_order && h->guest.ack.state == ACK_RUNNING);
        unsigned first = self_sample(h, rests), sampled = first | (unsigned) self_sample(h, rests) << 1;
        Inputs in = { .policy = h->host, .n_domains = 1 };
        DomainFacts facts;
        OrderList list;
        int r;

        if (h->widens)
                sampled &= ~1U;
        guest_begin_epoch(&h->guest);
        for (size_t i = t->first[second - 1]; i < t->first[second]; i++) {
                const Access *a = &t->accesses[i];

                guest_write(&h->guest, a->page,
                            (unsigned) __builtin_popcount(place_halves(s, second - 1, a) & sampled));
        }
        guest_end_epoch(&h->guest);
        guest_facts(&h->guest, 1, &h->policy, &facts);
        h->guest.ranges[0].counters = h->skips ? NULL : h->guest.counters;
        facts.faults_per_sec = h->watches ? WATCH_FAULTS : FULL_FAULTS;
        facts.has_ring = h->has_ring;
        facts.samples = (unsigned) __builtin_popcount(sampled);
        in.domains = &facts;
        r = core_step(h->core, &in, second * h->host.epoch_usec, &list);
        if (r < 0)
                return r;
        self_note(h, &list);
        if (list.n_orders > 0)
                guest_submit(&h->guest, &list.orders[0]);
        order_list_done(&list);
        self_placement(s, h, in_dram);
        return 0;
}

const Competitor place_hmvisor = {
        .name = "hmvisor",
        .start = self_start,
        .step = self_step,
        .done = self_done,
};

const Competitor place_hmvisor_ring = {
        .name = "hmvisor-ring",
        .start = self_start_ring,
        .step = self_step,
        .done = self_done,
};
