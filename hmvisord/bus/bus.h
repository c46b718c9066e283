/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon on D-Bus: name org.hmvisor1 on the system bus, an entry object with ObjectManager, and one
 * object per domain. Shows what the manager knows and passes requests on by manager_*(), after polkit
 * allowed them; decides nothing itself. Uses the manager's hooks.
 */
#pragma once

#include <systemd/sd-event.h>

#include "manager.h"

typedef struct Bus Bus;

/* Takes over the manager's hooks; m outlives the bus. A bus that cannot be reached now, or goes away later,
 * is tried again with back-off and is no error. Returns 0, -EEXIST when another process owns the name, or
 * -ENOMEM. */
int bus_new(sd_event *event, Manager *m, Bus **ret);
Bus *bus_free(Bus *b);
DEFINE_CLEANUP(Bus *, bus_free);
