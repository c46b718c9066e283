/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Sizes and times as people write them, and rates. Owns no state.
 */
#pragma once

#include "base/cleanup.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

/* Parses "512", "256M", "256MiB", "1.5G", "2TiB" into bytes: suffixes K M G T, each also as KiB or KB, all
 * powers of 1024; no suffix is bytes. Returns 0, -EINVAL (not a size) or -ERANGE (does not fit 64 bits). */
int size_parse(const char *text, uint64_t *ret_bytes);

/* Writes bytes as the shortest exact or one-decimal form ("256 MiB", "1.5 GiB", "12 B"); returns buf. */
#define SIZE_TEXT_MAX 48
char *size_format(char buf[static SIZE_TEXT_MAX], uint64_t bytes);

/* Entries of a dirty ring: 0 (none), or what libvirt takes, a power of two from 1024 to 65536. */
bool dirty_ring_size_is_valid(uint32_t entries);

/* Parses "250ms", "10s", "2min", "1h" and a bare number of seconds. Returns 0, -EINVAL or -ERANGE. */
int time_parse(const char *text, usec_t *ret_usec);

/* Per second, for an amount (below 2^108) that came in elapsed (> 0). Below UINT64_MAX, which can then say
 * "not known". */
uint64_t rate_per_sec(unsigned __int128 amount, usec_t elapsed);
