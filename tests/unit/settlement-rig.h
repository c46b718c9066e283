/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture of the tests of settlement: a ledger, the host's facts, and guests that are scripted by hand.
 */
#pragma once

#include "core/settlement.h"

#define MIB (UINT64_C(1) << 20)
#define VMS 4

/* Two VMs (and more where a test wants them) of 256 MiB DRAM and 512 MiB slow memory, of which 128 and 256
 * can be unplugged; lots of 32 MiB DRAM against 128 MiB slow memory. */
typedef struct Rig {
        Ledger ledger;
        MarketPolicy policy;
        SettleFacts facts[VMS];
        uint64_t capacity[_TIER_MAX];
        size_t n_facts;
        usec_t now;
        Settlement out;
} Rig;

static inline AccountId id_of(unsigned i) {
        return (AccountId) { { [0] = (uint8_t) (i + 1) } };
}

static inline Account *vm(Rig *r, unsigned i) {
        return ledger_find(&r->ledger, id_of(i));
}

static inline int setup(void **state) {
        Rig *r = calloc(1, sizeof(*r));
        const uint64_t entitled[_TIER_MAX] = { 128, 256 }; /* blocks */

        r->policy = market_policy_default();
        r->policy.min_trade_bytes = 32 * MIB;
        r->policy.dram_price = 4;
        r->policy.slow_price = 1;
        assert_return_code(terms_make(&r->policy, &r->ledger.terms), 0);
        assert_int_equal(terms_lot_bytes(&r->ledger.terms, TIER_SLOW), 128 * MIB);
        for (unsigned i = 0; i < VMS; i++) {
                if (i < 2)
                        assert_return_code(ledger_add(&r->ledger, id_of(i), entitled, NULL), 0);
                r->facts[i].id = id_of(i);
                r->facts[i].cells[TIER_DRAM] =
                        (SettleCell) { 128 * MIB, 512 * MIB, 256 * MIB, 256 * MIB, UINT64_MAX };
                r->facts[i].cells[TIER_SLOW] =
                        (SettleCell) { 256 * MIB, 1024 * MIB, 512 * MIB, 512 * MIB, UINT64_MAX };
        }
        r->n_facts = 2;
        r->capacity[TIER_DRAM] = 512 * MIB;
        r->capacity[TIER_SLOW] = 1024 * MIB;
        r->now = USEC_PER_SEC;
        *state = r;
        return 0;
}

static inline int teardown(void **state) {
        Rig *r = *state;

        settlement_done(&r->out);
        ledger_done(&r->ledger);
        free(r);
        return 0;
}

/* One step, and QEMU is asked for every target. */
static inline void step(Rig *r) {
        settlement_done(&r->out);
        r->now += USEC_PER_SEC;
        assert_return_code(settlement_step(&r->ledger, &r->policy, r->facts, r->n_facts, r->capacity, r->now,
                                           &r->out), 0);
        assert_return_code(ledger_check(&r->ledger, NULL), 0);
        for (size_t i = 0; i < r->out.n_targets; i++)
                for (size_t k = 0; k < r->n_facts; k++)
                        if (memcmp(&r->facts[k].id, &r->out.targets[i].id, sizeof(AccountId)) == 0)
                                r->facts[k].cells[r->out.targets[i].tier].requested_bytes =
                                        r->out.targets[i].bytes;
}

/* The guest does what it is asked for. */
static inline void obey(Rig *r, unsigned i) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                r->facts[i].cells[tier].size_bytes = r->facts[i].cells[tier].requested_bytes;
}

static inline bool told(const Rig *r, SettleEventType type, unsigned i, uint64_t lots) {
        AccountId id = id_of(i);

        for (size_t k = 0; k < r->out.n_events; k++)
                if (r->out.events[k].type == type && r->out.events[k].lots == lots &&
                    memcmp(&r->out.events[k].id, &id, sizeof(id)) == 0)
                        return true;
        return false;
}

static inline void assert_sizes(const Rig *r, unsigned i, uint64_t dram_mib, uint64_t slow_mib) {
        assert_int_equal(r->facts[i].cells[TIER_DRAM].requested_bytes / MIB, dram_mib);
        assert_int_equal(r->facts[i].cells[TIER_SLOW].requested_bytes / MIB, slow_mib);
}

static inline void open_trade(Rig *r, int64_t sold, int64_t bought) {
        assert_return_code(settlement_open(&r->ledger, id_of(0), -sold, r->now), 0);
        assert_return_code(settlement_open(&r->ledger, id_of(1), bought, r->now), 0);
}

/* Lots are exchanged from the offer to the end, and each side gets what it was promised. */
static inline void trade_once(Rig *r) {
        open_trade(r, 1, 1);
        step(r);
        assert_sizes(r, 0, 224, 512); /* nobody grows yet */
        assert_sizes(r, 1, 256, 448); /* in steps of 64 MiB */
        obey(r, 0);
        obey(r, 1);
        step(r);
        assert_true(told(r, SETTLE_DELIVERED, 0, 1));
        assert_int_equal(vm(r, 0)->position, 0);
        assert_int_equal(ticket_escrow(&vm(r, 0)->ticket), 1);
        assert_int_equal(account_owned(vm(r, 0), &r->ledger.terms, TIER_DRAM), 224 * MIB);
        assert_sizes(r, 0, 224, 512);
        assert_sizes(r, 1, 256, 384);
        obey(r, 1);
        step(r);
        assert_true(told(r, SETTLE_PAID, 0, 1) && told(r, SETTLE_PAID, 1, 1) && told(r, SETTLE_ENDED, 0, 1));
        assert_int_equal(vm(r, 0)->position, -1);
        assert_int_equal(vm(r, 1)->position, 1);
        assert_int_equal(vm(r, 0)->last_direction, -1);
        assert_sizes(r, 0, 224, 640);
        assert_sizes(r, 1, 288, 384);
        assert_int_equal(vm(r, 0)->ticket.lots, 0);
        obey(r, 0);
        obey(r, 1);
        step(r);
        assert_int_equal(r->out.n_targets + r->out.n_events, 0);
        assert_false(r->out.changed);
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
