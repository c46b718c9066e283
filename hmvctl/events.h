/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Waiting: for the daemon's events, and for time, both ended by Ctrl-C. Owns no state.
 */
#pragma once

#include "verb.h"

/* Calls step at once and then at each interval, until it returns < 0 (which is returned) or a SIGINT or
 * SIGTERM comes (0). A signal that comes while step works counts when it is done. */
int events_repeat(usec_t interval, int (*step)(void *userdata), void *userdata);
int run_events(Ctl *ctl, const Args *args, Outcome *o);
