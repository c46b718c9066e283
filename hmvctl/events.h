/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Waiting: for the daemon's events, and for time, both ended by Ctrl-C. Owns no state.
 */
#pragma once

#include "verb.h"

/* Returns 1 when the time has passed, 0 on SIGINT or SIGTERM, or -errno. */
int events_sleep(usec_t usec);
int run_events(Ctl *ctl, const Args *args, Outcome *o);
