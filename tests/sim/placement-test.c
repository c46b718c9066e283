/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The core against simulated guests with a virtual clock: whether hot pages end in DRAM, and how many moves
 * it takes, for workloads that are easy, and for those that make naive policies thrash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "guest.h"

#define MIB_FRAMES(n) ((n) *256)
#define N_GUESTS 2

typedef struct Sim {
        Core *core;
        HostPolicy host;
        DomainPolicy policy[N_GUESTS];
        Guest guests[N_GUESTS];
        size_t n_guests;
        usec_t now;
        uint64_t ordered[N_GUESTS]; /* pages promoted by orders */
        uint64_t digest;            /* of every order and decision: FNV-1a */
        bool trace;
} Sim;

/* The lab's guest: 256 + 768 MiB, 96 MiB written at random, all of it on slow memory; DRAM full of cold
 * pages. */
static GuestSetup lab_guest(void) {
        return (GuestSetup){
                .dram_frames = MIB_FRAMES(256),
                .slow_frames = MIB_FRAMES(768),
                .unmovable = MIB_FRAMES(24),
                .pages = MIB_FRAMES(640),
                .hot_first = MIB_FRAMES(400),
                .hot_pages = MIB_FRAMES(96),
                .permyriad = 3000,
                .samples = 10,
                .workload = WORKLOAD_STATIC,
                .pages_per_epoch = 15000,
        };
}

/* A quarter of it, for the long runs. */
static GuestSetup small_guest(void) {
        GuestSetup setup = lab_guest();

        setup.dram_frames /= 4;
        setup.slow_frames /= 4;
        setup.unmovable /= 4;
        setup.pages /= 4;
        setup.hot_first /= 4;
        setup.hot_pages /= 4;
        return setup;
}

static void sim_init(Sim *s, const GuestSetup *setups, size_t n) {
        *s = (Sim){ .host = host_policy_default(), .n_guests = n, .digest = UINT64_C(14695981039346656037) };
        s->trace = getenv("SIM_TRACE") != NULL;
        assert_int_equal(core_new(&s->core), 0);
        for (size_t i = 0; i < n; i++) {
                s->policy[i] = domain_policy_default();
                s->policy[i].managed = true;
                guest_init(&s->guests[i], &setups[i], i + 1);
        }
}

static void sim_done(Sim *s) {
        core_free(s->core);
        for (size_t i = 0; i < s->n_guests; i++)
                guest_done(&s->guests[i]);
}

static void sim_digest(Sim *s, uint64_t v) {
        for (size_t i = 0; i < 8; i++)
                s->digest = (s->digest ^ (v >> (8 * i) & 255)) * UINT64_C(1099511628211);
}

static void sim_digest_list(Sim *s, const PageList *l) {
        sim_digest(s, l->target_cell);
        for (size_t i = 0; i < l->n_ranges; i++) {
                sim_digest(s, l->ranges[i].gfn);
                sim_digest(s, l->ranges[i].n_pages);
        }
}

/* What must hold for every order, whatever the workload. */
static void sim_check_order(const Sim *s, const Order *o) {
        const Guest *g = &s->guests[o->domain];
        uint64_t pages = 0;

        assert_true(o->promote.n_pages > 0 && o->promote.n_pages <= ORDER_PAGES_MAX);
        assert_true(o->demote.n_pages <= ORDER_PAGES_MAX);
        assert_true(o->promote.n_ranges <= ORDER_RANGES_MAX && o->demote.n_ranges <= ORDER_RANGES_MAX);
        for (size_t i = 0; i < o->promote.n_ranges; i++) {
                assert_true(o->promote.ranges[i].gfn >= g->setup.dram_frames);
                assert_true(o->promote.ranges[i].gfn + o->promote.ranges[i].n_pages <= g->n_frames);
                pages += o->promote.ranges[i].n_pages;
        }
        assert_int_equal(pages, o->promote.n_pages);
        for (size_t i = 0; i < o->demote.n_ranges; i++)
                assert_true(o->demote.ranges[i].gfn + o->demote.ranges[i].n_pages <= g->setup.dram_frames);
}

static void sim_step(Sim *s) {
        DomainFacts facts[N_GUESTS];
        Inputs in = { .policy = s->host, .domains = facts, .n_domains = s->n_guests };
        OrderList list;

        s->now += s->host.epoch_usec;
        for (size_t i = 0; i < s->n_guests; i++) {
                guest_run_epoch(&s->guests[i]);
                guest_facts(&s->guests[i], i, &s->policy[i], &facts[i]);
        }
        assert_int_equal(core_step(s->core, &in, s->now, &list), 0);
        for (size_t i = 0; i < list.n_orders; i++) {
                const Order *o = &list.orders[i];

                sim_check_order(s, o);
                sim_digest(s, o->order);
                sim_digest(s, o->domain);
                sim_digest_list(s, &o->promote);
                sim_digest_list(s, &o->demote);
                s->ordered[o->domain] += o->promote.n_pages;
                if (!o->dry_run)
                        guest_submit(&s->guests[o->domain], o);
        }
        for (size_t i = 0; i < list.n_decisions; i++) {
                char line[512];

                sim_digest(s, (uint64_t) list.decisions[i].verdict);
                sim_digest(s, list.decisions[i].threshold);
                assert_true(decision_describe(&list.decisions[i], line, sizeof(line)) < (int) sizeof(line));
                if (s->trace)
                        fprintf(stderr, "# %3llu s domain %llu %s: %s\n",
                                (unsigned long long) (s->now / USEC_PER_SEC),
                                (unsigned long long) list.decisions[i].domain,
                                verdict_to_string(list.decisions[i].verdict), line);
        }
        order_list_done(&list);
        if (s->trace)
                fprintf(stderr, "# %3llu s: %u of %u hot pages in DRAM, %llu moved\n",
                        (unsigned long long) (s->now / USEC_PER_SEC), guest_hot_in_dram(&s->guests[0]),
                        s->guests[0].setup.hot_pages, (unsigned long long) s->guests[0].moved);
}

static void sim_run(Sim *s, unsigned epochs) {
        for (unsigned i = 0; i < epochs; i++)
                sim_step(s);
}

static unsigned hot_percent(const Guest *g) {
        return (unsigned) (guest_hot_in_dram(g) * UINT64_C(100) / g->setup.hot_pages);
}

/* The main case, for busy and for slow writers: 90% within 60 s, little traffic, and then peace. */
static void test_static_hot_set(void **state) {
        static const uint32_t rates[] = { 10000, 3000, 800 };

        for (size_t i = 0; i < ELEMENTSOF(rates); i++) {
                GuestSetup setup = lab_guest();
                uint64_t moved;
                Sim s;

                setup.permyriad = rates[i];
                sim_init(&s, &setup, 1);
                sim_run(&s, 30);
                print_message("# rate %u: %u%% of the hot set in DRAM after 30 s\n", rates[i],
                              hot_percent(&s.guests[0]));
                sim_run(&s, 30);
                assert_true(hot_percent(&s.guests[0]) >= 90);
                moved = s.guests[0].moved;
                print_message("# rate %u: %u%% after 60 s, %llu moves for %u hot pages\n", rates[i],
                              hot_percent(&s.guests[0]), (unsigned long long) moved, setup.hot_pages);
                /* One promotion and one demotion per page, and a fifth more for mistakes. */
                assert_true(moved <= setup.hot_pages * UINT64_C(12) / 5);
                sim_run(&s, 60);
                print_message("# rate %u: %llu moves in the next 60 s\n", rates[i],
                              (unsigned long long) (s.guests[0].moved - moved));
                assert_true(hot_percent(&s.guests[0]) >= 97);
                assert_true(s.guests[0].moved - moved <= setup.hot_pages / 5);
                sim_done(&s);
        }
}

/* One sample per epoch: all that the host sees of a page is written or not. */
static void test_one_sample_per_epoch(void **state) {
        GuestSetup setup = lab_guest();
        Sim s;

        setup.samples = 1;
        setup.permyriad = 6000;
        sim_init(&s, &setup, 1);
        sim_run(&s, 60);
        print_message("# one sample: %u%% after 60 s, %llu moves\n", hot_percent(&s.guests[0]),
                      (unsigned long long) s.guests[0].moved);
        assert_true(hot_percent(&s.guests[0]) >= 90);
        assert_true(s.guests[0].moved <= setup.hot_pages * UINT64_C(3));
        sim_done(&s);
}

static void test_moving_hot_set(void **state) {
        GuestSetup setup = small_guest();
        unsigned good = 0;
        Sim s;

        setup.workload = WORKLOAD_MOVING;
        setup.move_every = 60;
        setup.hot_pages = MIB_FRAMES(16);
        sim_init(&s, &setup, 1);
        for (unsigned phase = 0; phase < 4; phase++) {
                sim_run(&s, 59);
                print_message("# moving: phase %u ends with %u%%\n", phase, hot_percent(&s.guests[0]));
                good += hot_percent(&s.guests[0]) >= 90;
                sim_run(&s, 1);
        }
        assert_int_equal(good, 4);
        assert_true(s.guests[0].moved <= 4 * setup.hot_pages * UINT64_C(3));
        sim_done(&s);
}

/* A hot set twice as large as DRAM, all pages equal: fill DRAM, then stop. */
static void test_hot_set_larger_than_dram(void **state) {
        static const struct {
                uint32_t samples, permyriad;
        } rates[] = { { 10, 10000 }, { 10, 3000 }, { 10, 800 }, { 4, 3000 } };

        for (size_t i = 0; i < ELEMENTSOF(rates); i++) {
                GuestSetup setup = small_guest();
                uint64_t filled;
                Sim s;

                setup.hot_first = MIB_FRAMES(32);
                setup.hot_pages = MIB_FRAMES(128);
                setup.permyriad = rates[i].permyriad;
                setup.samples = rates[i].samples;
                sim_init(&s, &setup, 1);
                sim_run(&s, 60);
                filled = s.guests[0].moved;
                print_message("# hot > DRAM, rate %u x %u: %u of %u in DRAM, %llu moves\n", rates[i].samples,
                              rates[i].permyriad, guest_hot_in_dram(&s.guests[0]), setup.dram_frames,
                              (unsigned long long) filled);
                assert_true(guest_hot_in_dram(&s.guests[0]) >= setup.dram_frames * 8 / 10);
                sim_run(&s, 120);
                print_message("# hot > DRAM, rate %u x %u: %llu moves in the next 120 s\n", rates[i].samples,
                              rates[i].permyriad, (unsigned long long) (s.guests[0].moved - filled));
                assert_true(s.guests[0].moved - filled <= setup.dram_frames / 10);
                sim_done(&s);
        }
}

static void test_uniform(void **state) {
        GuestSetup setup = small_guest();
        uint64_t moved;
        Sim s;

        setup.workload = WORKLOAD_UNIFORM;
        sim_init(&s, &setup, 1);
        sim_run(&s, 60);
        moved = s.guests[0].moved;
        print_message("# uniform: %llu moves in 60 s\n", (unsigned long long) moved);
        /* The kernel's own frames and the free ones look cold: they may be asked for, little comes of it. */
        assert_true(moved <= setup.dram_frames / 10);
        sim_done(&s);
}

/* Pages that are written once are not hot, however many. */
static void test_stream(void **state) {
        GuestSetup setup = small_guest();
        Sim s;

        setup.workload = WORKLOAD_STREAM;
        setup.hot_pages = 1000; /* written per epoch */
        sim_init(&s, &setup, 1);
        sim_run(&s, 60);
        assert_int_equal(s.guests[0].moved, 0);
        sim_done(&s);
}

static void test_idle_and_read_only(void **state) {
        GuestSetup setup = small_guest();
        Sim s;

        setup.workload = WORKLOAD_IDLE; /* reads do not show in dirty bits: the same thing to the host */
        sim_init(&s, &setup, 1);
        sim_run(&s, 60);
        assert_int_equal(s.ordered[0], 0);
        assert_int_equal(s.guests[0].moved, 0);
        sim_done(&s);
}

/* Hot pages that the guest cannot move are not asked for again and again; movable ones still are. */
static void test_unmovable_hot_pages(void **state) {
        GuestSetup setup = small_guest();
        DomainTotals totals;
        Sim s;

        setup.hot_pages = MIB_FRAMES(4);
        setup.hot_unmovable = MIB_FRAMES(4);
        sim_init(&s, &setup, 1);
        sim_run(&s, 300);
        assert_int_equal(core_get_totals(s.core, 0, &totals), 0);
        print_message("# unmovable: %llu orders in 300 s\n", (unsigned long long) totals.orders);
        assert_true(totals.orders >= 1 && totals.orders <= 8);
        sim_done(&s);

        setup.hot_pages = MIB_FRAMES(8); /* half of them */
        sim_init(&s, &setup, 1);
        sim_run(&s, 60);
        print_message("# half unmovable: %u%% of the hot set in DRAM\n", hot_percent(&s.guests[0]));
        assert_true(hot_percent(&s.guests[0]) >= 47);
        sim_done(&s);
}

static void test_domain_cap(void **state) {
        GuestSetup setup = lab_guest();
        Sim s;

        sim_init(&s, &setup, 1);
        s.policy[0].migrate_bytes_per_sec = UINT64_C(4) << 20;
        for (unsigned i = 1; i <= 120; i++) {
                sim_step(&s);
                /* Burst plus rate; the demotions that promotions need are part of it. */
                assert_true(s.guests[0].moved * 4096 <= (i + 1) * (UINT64_C(4) << 20));
        }
        print_message("# 4 MiB/s: %u%% after 120 s\n", hot_percent(&s.guests[0]));
        assert_true(hot_percent(&s.guests[0]) >= 10);
        sim_done(&s);
}

static void test_host_cap_is_shared(void **state) {
        GuestSetup setups[2] = { lab_guest(), lab_guest() };
        uint64_t a, b;
        Sim s;

        sim_init(&s, setups, 2);
        s.host.migrate_bytes_per_sec = UINT64_C(8) << 20;
        for (unsigned i = 1; i <= 90; i++) {
                sim_step(&s);
                assert_true((s.guests[0].moved + s.guests[1].moved) * 4096 <= (i + 1) * (UINT64_C(8) << 20));
        }
        a = s.ordered[0];
        b = s.ordered[1];
        print_message("# host cap: %llu and %llu pages\n", (unsigned long long) a, (unsigned long long) b);
        assert_true(a > 0 && b > 0);
        assert_true(MIN(a, b) * 10 >= MAX(a, b) * 8);
        sim_done(&s);
}

static void test_dry_run_moves_nothing(void **state) {
        GuestSetup setup = lab_guest();
        Sim s;

        sim_init(&s, &setup, 1);
        s.host.dry_run = true;
        sim_run(&s, 20);
        assert_true(s.ordered[0] > 0);
        assert_int_equal(s.guests[0].moved, 0);
        sim_done(&s);
}

static void test_replay_is_equal(void **state) {
        uint64_t digest[2];

        for (size_t i = 0; i < 2; i++) {
                GuestSetup setups[2] = { lab_guest(), lab_guest() };
                Sim s;

                setups[1].workload = WORKLOAD_UNIFORM;
                sim_init(&s, setups, 2);
                sim_run(&s, 30);
                assert_true(s.ordered[0] > 0);
                digest[i] = s.digest;
                sim_done(&s);
        }
        assert_true(digest[0] == digest[1]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_static_hot_set),
                cmocka_unit_test(test_one_sample_per_epoch),
                cmocka_unit_test(test_moving_hot_set),
                cmocka_unit_test(test_hot_set_larger_than_dram),
                cmocka_unit_test(test_uniform),
                cmocka_unit_test(test_stream),
                cmocka_unit_test(test_idle_and_read_only),
                cmocka_unit_test(test_unmovable_hot_pages),
                cmocka_unit_test(test_domain_cap),
                cmocka_unit_test(test_host_cap_is_shared),
                cmocka_unit_test(test_dry_run_moves_nothing),
                cmocka_unit_test(test_replay_is_equal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
