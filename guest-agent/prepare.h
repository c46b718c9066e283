/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Keeps the guest kernel's own tiering out of the way while a host manages placement, and puts back what it
 * was: at the host's word, at the end of the agent, when the host is not heard of any more, and after a
 * crash (the old values lie in /run/hmvisor-ga/saved before the first is changed). Changes nothing else.
 */
#pragma once

#include "base/cleanup.h"

#define PREPARE_SETTINGS 2
#define PREPARE_LEASE (120 * USEC_PER_SEC)

typedef struct Prepare {
        int root;
        bool managing;
        bool changed[PREPARE_SETTINGS];
        char old[PREPARE_SETTINGS][16];
} Prepare;

/* Puts back what an earlier run left changed. */
void prepare_init(Prepare *p, int root);

/* Returns 0 or -errno; a setting that this kernel does not have is no error. Idempotent. */
int prepare_start(Prepare *p);
int prepare_stop(Prepare *p);

/* Name of a setting that is changed now, or NULL. */
const char *prepare_changed(const Prepare *p, size_t i);
