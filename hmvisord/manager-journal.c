/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See manager-journal.h.
 */
#include "manager-journal.h"

#include "proto/journal.h"

static JournalTicket ticket_to_journal(const Ticket *t) {
        return (JournalTicket) { t->lots, t->delivered, t->paid, t->returned, t->closing };
}

static Ticket ticket_from_journal(const JournalTicket *t) {
        return (Ticket) { t->lots, t->delivered, t->paid, t->returned, t->closing, 0 };
}

static int journal_from_ledger(const Ledger *l, Journal *ret) {
        JournalAccount *accounts = calloc(l->n_accounts + 1, sizeof(*accounts));

        if (!accounts)
                return -ENOMEM;
        for (size_t i = 0; i < l->n_accounts; i++) {
                const Account *a = &l->accounts[i];

                memcpy(accounts[i].id, a->id.bytes, sizeof(accounts[i].id));
                memcpy(accounts[i].entitlement_blocks, a->entitlement_blocks, sizeof(a->entitlement_blocks));
                accounts[i].position = a->position;
                accounts[i].last_direction = a->last_direction;
                accounts[i].rests = a->ended_at > 0;
                accounts[i].withdraws = a->withdraws;
                accounts[i].command = a->command;
                accounts[i].refusals = a->refusals;
                accounts[i].ticket = ticket_to_journal(&a->ticket);
        }
        *ret = (Journal) {
                .block_bytes = l->terms.block_bytes,
                .dram_price = l->terms.dram_price,
                .slow_price = l->terms.slow_price,
                .lot_dram_blocks = l->terms.lot_dram_blocks,
                .lot_slow_blocks = l->terms.lot_slow_blocks,
                .repricing = { l->repricing.lot_slow_blocks, l->repricing.last_direction,
                               l->repricing.holds, l->repricing.ended_at > 0 },
                .pool_position = l->pool.position,
                .pool_ticket = ticket_to_journal(&l->pool.ticket),
                .accounts = accounts,
                .n_accounts = l->n_accounts,
        };
        return 0;
}

static int ledger_from_journal(const Journal *j, Ledger *ret) {
        Account *accounts = calloc(j->n_accounts + 1, sizeof(*accounts));

        if (!accounts)
                return -ENOMEM;
        for (size_t i = 0; i < j->n_accounts; i++) {
                const JournalAccount *a = &j->accounts[i];

                memcpy(accounts[i].id.bytes, a->id, sizeof(a->id));
                memcpy(accounts[i].entitlement_blocks, a->entitlement_blocks, sizeof(a->entitlement_blocks));
                accounts[i].position = a->position;
                accounts[i].last_direction = a->last_direction;
                accounts[i].ended_at = a->rests ? 1 : 0; /* some time ago; trade_resume() says when */
                accounts[i].withdraws = a->withdraws;
                accounts[i].command = a->command;
                accounts[i].refusals = a->refusals;
                accounts[i].ticket = ticket_from_journal(&a->ticket);
        }
        *ret = (Ledger) {
                .terms = {
                        .block_bytes = j->block_bytes,
                        .dram_price = j->dram_price,
                        .slow_price = j->slow_price,
                        .lot_dram_blocks = j->lot_dram_blocks,
                        .lot_slow_blocks = j->lot_slow_blocks,
                },
                .repricing = {
                        .lot_slow_blocks = j->repricing.lot_slow_blocks,
                        .ended_at = j->repricing.rests ? 1 : 0,
                        .last_direction = j->repricing.last_direction,
                        .holds = j->repricing.holds,
                },
                .pool = { .position = j->pool_position, .ticket = ticket_from_journal(&j->pool_ticket) },
                .accounts = accounts,
                .n_accounts = j->n_accounts,
        };
        return 0;
}

static int damaged(const JournalFile *f, const char *what, Outcome *o) {
        (void) outcome_set(
                o, OUTCOME_FAILED,
                "the market's journal '%s' is damaged (%s); put back a good one, or remove it: then each "
                "domain starts from what it has now",
                journal_file_path(f), what);
        return -EINVAL;
}

static int failed(const JournalFile *f, int error, const char *what, Outcome *o) {
        (void) outcome_set(o, OUTCOME_FAILED, "the market's journal '%s' cannot be %s: %s",
                           journal_file_path(f), what, strerror(-error));
        return error;
}

/* Nothing is wrong with it: removing it would lose who owns what. */
static int of_another_version(const JournalFile *f, const char *text, Outcome *o) {
        unsigned version = 0;

        (void) sscanf(text, "%*s %9u", &version);
        (void) outcome_set(
                o, OUTCOME_FAILED,
                "the market's journal '%s' was written by a later hmvisord (it is of format %u, this "
                "hmvisord reads up to %u); keep it, and install that hmvisord again",
                journal_file_path(f), version, JOURNAL_VERSION);
        return -EPROTONOSUPPORT;
}

int ledger_load(JournalFile *f, Ledger *ret, Outcome *o) {
        _cleanup_(journal_done) Journal journal = { 0 };
        _cleanup_(ledger_done) Ledger ledger = { 0 };
        _cleanup_free_ char *text = NULL;
        const char *what = NULL;
        size_t size;
        int r;

        r = journal_file_read(f, &text, &size, o);
        if (r < 0)
                return r;
        r = journal_from_text(text, size, &journal, &what);
        if (r >= 0)
                r = ledger_from_journal(&journal, &ledger);
        if (r == -ENOMEM)
                return failed(f, r, "read", o);
        if (r == -EPROTONOSUPPORT)
                return of_another_version(f, text, o);
        if (r < 0 || ledger_check(&ledger, &what) < 0)
                return damaged(f, what, o);
        *ret = ledger;
        ledger = (Ledger) { 0 };
        return 0;
}

int ledger_store(JournalFile *f, const Ledger *l, Outcome *o) {
        _cleanup_(journal_done) Journal journal = { 0 };
        _cleanup_free_ char *text = NULL;
        int r;

        r = journal_from_ledger(l, &journal);
        if (r >= 0)
                r = journal_to_text(&journal, &text);
        return r < 0 ? failed(f, r, "written", o) : journal_file_write(f, text, strlen(text), o);
}
