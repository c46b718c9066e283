/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The extension's end of the counter table: mapping it safely, the lease,
 * and the exclusion against the daemon.  Trusts no field: bounds are copied
 * at mapping, and the memfd must be sealed so that it cannot shrink beneath
 * us (a SIGBUS would take the VM down).
 */
#ifndef HMVISOR_TABLE_H
#define HMVISOR_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hotness-table.h"

typedef struct Table {
    HotnessTableHeader *header; /* NULL: not mapped */
    uint8_t *counters;
    uint64_t n_counters;
    size_t map_size;
} Table;

/*
 * Maps fd, which stays the caller's.  Returns 0; or -ENOSPC (fewer than
 * n_needed counters), -EINVAL (not a table) or another -errno, with one line
 * in ret_reason, and *ret untouched.
 */
int table_map(int fd, uint64_t n_needed, Table *ret, char *ret_reason,
              size_t reason_size);
void table_unmap(Table *table);

/* False where the daemon holds the table; the counters are not ours then. */
bool table_enter(Table *table);
void table_leave(Table *table);
uint32_t table_get_hold(const Table *table);

uint64_t table_get_renew(const Table *table);
uint64_t table_get_skip(const Table *table);
void table_set_generation(Table *table, uint64_t generation);
void table_set_epoch(Table *table, uint64_t epoch);

#endif
