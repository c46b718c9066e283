/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whether the host hears the guest. After a hang-up while the host was not reading, QEMU (10.0 at least) may
 * hold a virtio port's output back for ever: requests come in, answers go nowhere, until the guest closes
 * the port. libvirt then asks guest-sync again and again and never goes on to a command. Knows no clock.
 */
#pragma once

#include "base/cleanup.h"

typedef struct Hearing {
        bool asked;         /* the last request was guest-sync */
        bool said;          /* something, since then */
        unsigned unheard;   /* guest-syncs in a row that were answered, with no other command after them */
        usec_t first, last; /* when they were asked */
        unsigned reopened;  /* how often that was tried since another command came */
} Hearing;

/* Something was said to the host. */
void hearing_said(Hearing *h);
/* A request came; sync: it was guest-sync. */
void hearing_asked(Hearing *h, bool sync, usec_t now);

/* Whether the host seems not to hear our answers, so that the channel is to be opened anew: each time after
 * twice as many as the last, since a host may ask nothing but guest-sync, to see whether the guest is alive.
 */
bool hearing_is_lost(const Hearing *h);
void hearing_reopened(Hearing *h);
/* The connection ended: what was said and asked on it does not count for the next. */
void hearing_forget(Hearing *h);
