/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Keeps the market's ledger on disk: between core/settlement, which may not see a codec, and proto/journal,
 * which may not see the core. Owns nothing.
 */
#pragma once

#include "core/settlement.h"
#include "io/journal-file.h"

/* Returns 0 with a ledger that ledger_check() passes (times are 0; trade_resume() starts the clocks);
 * -ENOENT when there is none yet; -EINVAL when it is damaged; -EPROTONOSUPPORT when a later version wrote
 * it; -errno. The outcome (may be NULL) says what to do, but for -ENOENT. */
int ledger_load(JournalFile *f, Ledger *ret, Outcome *o);

/* 0: it is on disk, whatever happens now, and sizes may be asked for. Else -errno, with the outcome set. */
int ledger_store(JournalFile *f, const Ledger *l, Outcome *o);
