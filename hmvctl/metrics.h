/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verb "metrics": what the daemon counts, as text for Prometheus and the like.
 */
#pragma once

#include "verb.h"

int run_metrics(Ctl *ctl, const Args *args, Outcome *o);
