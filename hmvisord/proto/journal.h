/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market's journal: a ledger as text and back. One line of a header, which says the version, the length
 * and a checksum of what follows, then one JSON object, so that people can read it too. Pure: text in,
 * values out; never touches a file (io/journal-file) and knows no rule of the ledger (core/settlement checks
 * it).
 *
 * Times are not kept: the clocks of a new life start anew.
 */
#pragma once

#include "base/cleanup.h"
#include "base/tier.h"

#define JOURNAL_VERSION 1
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
        JournalTicket ticket;
} JournalAccount;

typedef struct Journal {
        uint64_t block_bytes;
        uint32_t dram_price, slow_price, lot_dram_blocks, lot_slow_blocks;
        int64_t pool_position;
        JournalTicket pool_ticket;
        JournalAccount *accounts;
        size_t n_accounts;
} Journal;

void journal_done(Journal *j);

/* The caller frees *ret. Returns 0, -ERANGE when a number or the count of accounts is beyond the bounds
 * above (so whatever is written can be read), or -ENOMEM. */
int journal_to_text(const Journal *j, char **ret);

/* text need not end with a zero byte. Returns 0; -EINVAL, with the reason in *ret_what (static text; may be
 * NULL), when it is cut off, changed, of another version, or holds what a journal cannot; or -ENOMEM.
 * Accounts are in the order of the text. */
int journal_from_text(const char *text, size_t size, Journal *ret, const char **ret_what);
