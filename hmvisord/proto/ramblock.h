/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's table of RAM blocks (QMP x-query-ramblock): where each block of guest memory is in QEMU's address
 * space. The one way to learn that from a QEMU that nobody changed. Its answer is a table for people, so it
 * is read with care.
 */
#pragma once

#include "base/outcome.h"

#define RAMBLOCKS_MAX 128

typedef struct RamBlock {
        char name[80];
        uint64_t used_bytes;
        uint64_t hva;
} RamBlock;

int ramblock_request(char **ret);   /* the caller frees *ret */
/* Returns 0 with at most RAMBLOCKS_MAX blocks in ret, or -EIO with UNSUPPORTED or FAILED. */
int ramblock_reply_parse(const char *text, RamBlock *ret, size_t *ret_n, Outcome *o);
