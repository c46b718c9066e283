/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture: three VMs that trade, by the core alone, and guests that do what they are asked for. Included
 * by one source of a test.
 */
#pragma once

#include "core/trade.h"

#define MIB (UINT64_C(1) << 20)
#define VMS 3

/* VMs of 256 MiB DRAM, of which 128 can be unplugged, and 512 MiB slow memory; lots of 32 MiB DRAM against
 * 128 MiB slow memory. The host has just that. */
typedef struct Rig {
        Trade *trade;
        bool unwilling[VMS]; /* plugs, and never unplugs */
        MarketPolicy policy;
        TradeFacts facts[VMS];
        size_t first, n; /* of those that are there */
        uint64_t capacity[_TIER_MAX];
        usec_t now;
        Settlement out;
} Rig;

static inline AccountId id_of(unsigned i) {
        return (AccountId) { { [0] = (uint8_t) (i + 1) } };
}

static inline Rig *rig_new(uint64_t slow_boot, uint64_t slow_device) {
        Rig *r = calloc(1, sizeof(*r));

        r->policy = market_policy_default();
        r->policy.min_trade_bytes = 32 * MIB;
        assert_return_code(trade_new(&r->policy, &r->trade), 0);
        r->n = VMS;
        for (unsigned i = 0; i < VMS; i++) {
                TradeFacts *f = &r->facts[i];

                f->seen.id = id_of(i);
                f->trading = true;
                f->seen.cells[TIER_DRAM] =
                        (SettleCell) { 128 * MIB, 512 * MIB, 256 * MIB, 256 * MIB, UINT64_MAX };
                f->seen.cells[TIER_SLOW] =
                        (SettleCell) { slow_boot, slow_device, 512 * MIB, 512 * MIB, UINT64_MAX };
        }
        r->capacity[TIER_DRAM] = VMS * 256 * MIB;
        r->capacity[TIER_SLOW] = VMS * 512 * MIB;
        r->now = 1000 * USEC_PER_SEC;
        return r;
}

static inline int teardown(void **state) {
        Rig *r = *state;

        settlement_done(&r->out);
        trade_free(r->trade);
        free(r);
        return 0;
}

/* One tick: QEMU is asked for what the core wants. */
static inline void tick(Rig *r) {
        settlement_done(&r->out);
        r->now += USEC_PER_SEC;
        assert_true(trade_set_terms(r->trade, &r->policy) >= 0);
        assert_return_code(trade_step(r->trade, &r->policy, r->facts + r->first, r->n, r->capacity, r->now,
                                      &r->out),
                           0);
        assert_return_code(ledger_check(trade_ledger(r->trade), NULL), 0);
        for (size_t i = 0; i < r->out.n_targets; i++) {
                const SizeTarget *t = &r->out.targets[i];

                r->facts[t->id.bytes[0] - 1].seen.cells[t->tier].requested_bytes = t->bytes;
        }
}

static inline void obey(Rig *r, unsigned i) {
        for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                SettleCell *c = &r->facts[i].seen.cells[tier];

                c->size_bytes =
                        r->unwilling[i] ? MAX(c->size_bytes, c->requested_bytes) : c->requested_bytes;
        }
}

/* Seconds pass; guests do what they are asked for. */
static inline void run(Rig *r, unsigned seconds) {
        for (unsigned s = 0; s < seconds; s++) {
                tick(r);
                for (unsigned i = 0; i < VMS; i++)
                        obey(r, i);
                for (Tier tier = 0; tier < _TIER_MAX; tier++) {
                        uint64_t sum = 0;

                        for (size_t i = 0; i < r->n; i++)
                                sum += r->facts[r->first + i].seen.cells[tier].size_bytes;
                        assert_true(sum <= r->capacity[tier]);
                }
        }
}

static inline void ledger_copy(const Ledger *from, Ledger *ret) {
        *ret = *from;
        ret->accounts = malloc(from->n_accounts * sizeof(*ret->accounts));
        memcpy(ret->accounts, from->accounts, from->n_accounts * sizeof(*ret->accounts));
}

/* The daemon dies and is there again at a time, with what the journal holds. */
static inline void crash(Rig *r, usec_t now) {
        Ledger ledger;
        Trade *next;

        ledger_copy(trade_ledger(r->trade), &ledger);
        r->now = now;
        assert_return_code(trade_resume(&r->policy, &ledger, r->now, &next), 0);
        trade_free(r->trade);
        r->trade = next;
}

static inline TradeView view(const Rig *r, unsigned i) {
        TradeView v;

        assert_return_code(trade_view(r->trade, id_of(i), &v), 0);
        return v;
}
