/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The ledger: who owns how much of each tier, and the trades on the way. Settlement carries a trade out
 * without trusting any guest: memory counts as given when the host has seen it come back, and is paid for
 * only when the other side has given too. Owns positions, tickets and escrow; never knows how a price or a
 * wish came about, and asks no device itself: it says which size each should have, again at every step, so
 * that a restart at any instant just goes on.
 *
 * One ticket a VM at a time: it gives so many lots of one tier, and is paid in the other.
 *
 *     given up on the host's sight -> escrow -> exchanged lot for lot with the other side -> the receiving
 *     cell may grow;  or, when nobody on the other side can pay any more -> given back
 *
 * Amounts are in lots of the ledger's terms (core/market.h), sizes in bytes.
 */
#pragma once

#include "core/market.h"

#define REFUSALS_MAX 6 /* are counted: each doubles a rest, which is long enough at 64 times */
#define HOLDS_MAX 6    /* the same, of a price */
#define BYTES_MAX (UINT64_C(1) << 62) /* of a cell or a holding: sums of two fit 64 bits */

typedef struct AccountId {
        uint8_t bytes[16]; /* the VM's UUID; all zero: the pool */
} AccountId;

typedef struct Ticket {
        int64_t lots;       /* of DRAM to buy (> 0: gives slow memory) or sell (< 0); 0: no ticket */
        uint64_t delivered; /* lots seen to come back, ever; those not paid nor returned are in escrow */
        uint64_t paid;      /* lots exchanged */
        uint64_t returned;  /* lots given back */
        bool closing;       /* nothing more will come; what is in escrow may still be paid */
        usec_t opened_at;
} Ticket;

typedef struct Account {
        AccountId id;
        uint64_t entitlement_blocks[_TIER_MAX];
        int64_t position; /* lots of DRAM bought since entitlement; exchanged ones only */
        Ticket ticket;
        usec_t ended_at; /* when its last ticket did; 0: never. A new life of the daemon starts it anew */
        int8_t last_direction; /* of the last one that moved anything: 1 bought DRAM, -1 sold, 0 none */
        bool withdraws;        /* a user wants it back at its entitlement */
        int64_t command;       /* lots that a user wants traded at the next clearing; 0: none */
        uint8_t refusals;      /* tickets in a row whose time was over with nothing delivered */
} Account;

/* A price on its way. At the new one, each position stands for other slow memory; DRAM stays where it is.
 * Who has to give some gives it first, as for a trade, and keeps owning it until all others have given too,
 * on the host's sight: then the terms change, at once for all, and who is to receive may grow. When the time
 * is over before that, the terms stay, and who gave grows back. No trade is open meanwhile. */
typedef struct Repricing {
        uint32_t lot_slow_blocks; /* of the price to come; 0: none is on its way */
        usec_t began_at;
        usec_t ended_at;       /* the last one; 0: never */
        int8_t last_direction; /* of the last one that came: 1 DRAM became dearer, -1 cheaper, 0 none */
        uint8_t holds; /* in a row that were given up or, where the price moves, turned it round: each
                        * doubles the wait before the next, so that a price that swings comes to rest */
} Repricing;

typedef struct Ledger {
        Terms terms;
        Repricing repricing;
        Account pool;      /* position and ticket only; what it owns is the host's free memory */
        Account *accounts; /* ascending by id */
        size_t n_accounts;
        usec_t now;        /* of the last step */
} Ledger;

/* The terms of a price on its way; false when none is. */
bool repricing_terms(const Ledger *l, Terms *ret);

void ledger_done(Ledger *l);

/* NULL when there is none. */
Account *ledger_find(const Ledger *l, AccountId id);
/* Opens an account at its entitlement. Returns 0, -EEXIST, -EINVAL (the pool's id) or -ENOMEM. */
int ledger_add(Ledger *l, AccountId id, const uint64_t entitlement_blocks[_TIER_MAX], Account **ret);
/* Ends an account, whatever its VM was doing: the pool takes its position, the host's free memory its
 * escrow. What of its ticket was not exchanged is forgotten. */
void ledger_remove(Ledger *l, AccountId id);

/* Lots in escrow: delivered, and neither paid nor returned. */
uint64_t ticket_escrow(const Ticket *t);
/* Lots that it has not done with: to come, or in escrow. */
uint64_t ticket_open_lots(const Ticket *t);
/* All that it is for. */
uint64_t ticket_lots(const Ticket *t);
/* The tier that a ticket gives. */
Tier ticket_gives(const Ticket *t);
bool ticket_gives_of(const Ticket *t, Tier tier); /* false when there is none */
/* Bytes of a tier that its position stands for, escrow included. */
uint64_t account_holding(const Account *a, const Terms *t, Tier tier);
/* Bytes that an account owns of a tier now: escrow is nobody's. */
uint64_t account_owned(const Account *a, const Terms *t, Tier tier);
/* The least and the most that its position may become within these sizes (floors, boot memory; ceilings,
 * device maximum). Returns false where not even the present one is within. */
bool account_bounds(const Account *a, const Terms *t, const uint64_t least_bytes[_TIER_MAX],
                    const uint64_t most_bytes[_TIER_MAX], int64_t *ret_low, int64_t *ret_high);

/* Opens a ticket. Returns 0, -EBUSY (it has one), -ENOENT, or -ERANGE (not that much to give). */
int settlement_open(Ledger *l, AccountId id, int64_t lots, usec_t now);

typedef struct SettleCell {
        uint64_t boot_bytes, device_max_bytes;
        uint64_t requested_bytes; /* of boot memory and device together: what QEMU was asked for last */
        uint64_t size_bytes;      /* boot memory and what is plugged, as the host sees it */
        uint64_t resident_bytes;  /* of this cell's RAM in QEMU (not of QEMU's own memory, which would
                                   * keep a VM from ever having given); UINT64_MAX: not known */
} SettleCell;

/* What the host sees of one VM. */
typedef struct SettleFacts {
        AccountId id;
        bool frozen; /* migrating, paused, resetting: nothing is asked for, and nothing counts as given. Time
                      * goes on: others wait for it */
        uint64_t lacks_bytes; /* by so much the guest says that it has too little room for another step, or
                               * it would kill one of its own; 0: it has, or says nothing. Its word can only
                               * make it give less */
        SettleCell cells[_TIER_MAX];
} SettleFacts;

/* Begins a change of price. Returns 0; -EINVAL (terms_at_price(), or the present price); -ERANGE (an account
 * cannot hold its position at it); -ENOSPC (the host cannot: the pool owes slow memory at it that is not
 * there); -EAGAIN (one that has to give is frozen); -EBUSY (a trade is open, or a price is on its way;
 * looked at last). */
int settlement_reprice(Ledger *l, uint32_t lot_slow_blocks, const SettleFacts facts[], size_t n_facts,
                       uint64_t slow_capacity_bytes, usec_t now);
/* Gives it up; nothing was changed yet. */
void settlement_keep_price(Ledger *l);

typedef enum SettleEventType {
        SETTLE_DELIVERED, /* lots seen to come back */
        SETTLE_PAID,      /* lots exchanged */
        SETTLE_RETURNED,  /* lots given back, as nobody can pay for them, or the time is over */
        SETTLE_TAKEN_BACK, /* lots in escrow that its VM has again, as it was started anew, say; for the
                            * pool: that something else took */
        SETTLE_LATE,      /* lots that never came: the time is over, or the pool has no more */
        SETTLE_ENDED,     /* paid is what came of it */
        SETTLE_GONE,      /* the VM is gone, and its position the pool's */
        SETTLE_REPRICED,  /* the terms have changed; of the pool */
        SETTLE_KEPT,      /* the VM did not give what the new price takes */
        SETTLE_PRICE_KEPT, /* so the terms stay; of the pool */
        SETTLE_REFUSED,   /* the host has not what the VM should be entitled to (core/trade.h) */
        _SETTLE_EVENT_MAX,
} SettleEventType;

typedef struct SettleEvent {
        SettleEventType type;
        AccountId id;
        Tier gives;
        uint64_t lots;   /* what the event is about */
        Ticket ticket;   /* after it */
        usec_t waited;   /* since the ticket was opened */
        uint8_t refusals; /* of the account, after it */
} SettleEvent;

/* One line for people, to follow the VM's name: "was paid for 1 lot of 32 MiB DRAM: 3 of 4 are traded".
 * Returns 0, or -EINVAL for no event. */
int settle_event_describe(const SettleEvent *e, const Terms *t, char *buf, size_t size);

typedef struct SizeTarget {
        AccountId id;
        Tier tier;
        uint64_t bytes; /* boot memory plus whole blocks of the device, up to its maximum */
} SizeTarget;

typedef struct Settlement {
        SizeTarget *targets; /* only where another size was asked for last */
        size_t n_targets;
        SettleEvent *events;
        size_t n_events;
        bool changed; /* the ledger is another one: it must be on disk before any target is asked for */
} Settlement;

void settlement_done(Settlement *s);

/* One step. facts ascend by id; an account without facts is gone, and removed; facts without an account are
 * passed over, but count as held. capacity_bytes: what all VMs together may hold of each tier. Of the
 * policy: settle_usec, step_bytes. Returns 0, or -ENOMEM or -EINVAL (facts out of order, step_bytes below a
 * block) with nothing changed.
 *
 * In order: what the host sees is delivered, and a new price comes when all have given for it; lots that
 * both sides have in escrow are exchanged; what nobody can pay for goes back; then sizes. A cell grows only
 * within the room that the host has beside all that is held or was asked for, and while no other cell of its
 * VM is larger than what it owns: so neither the host nor a VM's worth is exceeded, in whatever order the
 * targets are carried out, and if only some of them. A VM that was started anew, at other sizes than it
 * owns, comes to them by the same rules. */
int settlement_step(Ledger *l, const MarketPolicy *policy, const SettleFacts facts[], size_t n_facts,
                    const uint64_t capacity_bytes[_TIER_MAX], usec_t now, Settlement *ret);

/* Bytes of a tier that no VM holds, was asked to hold, or owns; what is in escrow is not free. */
uint64_t settlement_free(const Ledger *l, const SettleFacts facts[], size_t n_facts, Tier tier,
                         uint64_t capacity_bytes);

/* All that must hold of a ledger at any time, whatever the guests did. Returns 0, or -EINVAL with what does
 * not hold in *ret_what (static text). */
int ledger_check(const Ledger *l, const char **ret_what);
