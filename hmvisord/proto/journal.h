/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market's journal: a ledger as text and back. One line of a header, which says the version, the length
 * and a checksum of what follows, then one JSON object, so that people can read it too. Pure: text in,
 * values out; never touches a file (io/journal-file) and knows no rule of the ledger (core/settlement checks
 * it).
 *
 * Times are not kept: the clocks of a new life start anew. What is kept is that an account rests; it then
 * does so in full (core/trade.h).
 *
 * Version 1 had no rests, refusals, withdrawals and commands. It is still read: there, whoever had traded
 * rests. Before a version of hmvisord that reads only older ones takes over, there is nothing to remove or
 * mend: it says that the journal is of another version, and the market stands still until the newer one is
 * back.
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"

#define JOURNAL_VERSION 2
#define JOURNAL_VERSION_OLDEST 1 /* that can be read */
#define JOURNAL_ACCOUNTS_MAX 16384            /* far more VMs than a host can run */
#define JOURNAL_TEXT_MAX (16 * 1024 * 1024)   /* enough for as many */
#define JOURNAL_NUMBER_MAX                                                                                  \
        (INT64_C(1) << 53) /* more is no count of anything, and JSON readers disagree on it */

typedef struct JournalTicket {
        int64_t lots; /* 0: none, and the rest is 0 too */
        uint64_t delivered, paid, returned;
        bool closing;
} JournalTicket;

typedef struct JournalAccount {
        uint8_t id[16]; /* not kept for the pool */
        uint64_t entitlement_blocks[_TIER_MAX];
        int64_t position;
        int8_t last_direction; /* -1, 0 or 1 */
        bool rests;            /* its last trade's rest may not be over */
        bool withdraws;
        int64_t command;       /* lots; 0: none */
        uint8_t refusals;
        JournalTicket ticket;
} JournalAccount;

typedef struct JournalRepricing {
        uint32_t lot_slow_blocks; /* of the price to come; 0: none is on its way */
        int8_t last_direction;    /* -1, 0 or 1 */
        uint8_t holds;
        bool rests; /* the wait before the next may not be over */
} JournalRepricing;

typedef struct Journal {
        uint64_t block_bytes;
        uint32_t dram_price, slow_price, lot_dram_blocks, lot_slow_blocks;
        JournalRepricing repricing; /* all 0: no price ever moved */
        int64_t pool_position;
        JournalTicket pool_ticket;
        JournalAccount *accounts;
        size_t n_accounts;
} Journal;

void journal_done(Journal *j);

/* The caller frees *ret. Returns 0, -ERANGE when a number or the count of accounts is beyond the bounds
 * above (so whatever is written can be read), or -ENOMEM. */
int journal_to_text(const Journal *j, char **ret);

/* text need not end with a zero byte. Returns 0; -EPROTONOSUPPORT when it is of a version that this hmvisord
 * cannot read (so nothing is wrong with it, and nobody should remove it); -EINVAL when it is cut off,
 * changed, or holds what a journal cannot; or -ENOMEM. In each case the reason is in *ret_what (static text;
 * may be NULL). Accounts are in the order of the text. */
int journal_from_text(const char *text, size_t size, Journal *ret, const char **ret_what);
