/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A scripted manager: implements manager.h from a table of domains, without libvirt, core or host. For tests
 * only.
 */
#pragma once

#include "manager.h"

/* One line of script: "phase NAME PHASE [REASON]", "counters NAME PROMOTED DEMOTED", "add NAME", "remove
 * NAME", "event NAME KIND MESSAGE", "guest NAME LOG [ONLINE-POLICY]", "market REASON", "connected yes|no".
 * Returns 0 or -EINVAL. */
int fake_manager_command(Manager *m, char *line);
