/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A small text on disk that is never half written: the market's journal. One process at a time has it. Owns
 * the file, its lock and a file for the next version; never looks into the text (proto/journal).
 *
 *     PATH         the text, replaced as a whole
 *     PATH.new     the next one, while it is written; what a crash left there is thrown away
 *     PATH.lock    locked for as long as a daemon runs; empty, and stays
 */
#pragma once

#include "base/outcome.h"

#define JOURNAL_FILE_MAX (16 * 1024 * 1024)

typedef struct JournalFile JournalFile;

/* All functions: outcomes (may be NULL) name the file, the reason and the remedy. */

/* Locks it; the folder must be there, the file need not. Returns 0, -EBUSY (another process has it), or what
 * open(2) says. */
int journal_file_open(const char *path, JournalFile **ret, Outcome *o);
JournalFile *journal_file_free(JournalFile *f); /* NULL-safe; returns NULL; lets others have it */
DEFINE_CLEANUP(JournalFile *, journal_file_free);

const char *journal_file_path(const JournalFile *f);

/* The whole text, with a zero byte behind; the caller frees it. Returns 0, -ENOENT (none was written yet),
 * -EFBIG, -EINVAL (no regular file), or what read(2) says. */
int journal_file_read(JournalFile *f, char **ret_text, size_t *ret_size, Outcome *o);

/* Returns 0 when the text is on disk, also after a power cut; else -ENOSPC, -EROFS and so on, and the text
 * is still the former one (or, where only the folder's sync failed, either). Blocks until the disk has it.
 */
int journal_file_write(JournalFile *f, const char *text, size_t size, Outcome *o);
