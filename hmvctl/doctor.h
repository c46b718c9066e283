/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verb "doctor": what stands in HMvisor's way on a host, and what to do about it. doctor.c asks the
 * daemon, doctor-host.c looks at the host's own files. Changes nothing.
 */
#pragma once

#include <json-c/json.h>

#include "verb.h"

typedef enum FindingState {
        FINDING_OK,
        FINDING_WARNING,   /* works, and not as well as it could */
        FINDING_PROBLEM,   /* something does not work */
        _FINDING_STATE_MAX,
} FindingState;

typedef struct Findings {
        json_object *list;
        unsigned n[_FINDING_STATE_MAX];
        bool failed;       /* no memory */
} Findings;

/* what: the thing, as "kvm" or "domain vm1"; remedy: what to do, NULL when there is nothing. */
void finding_add(Findings *f, FindingState state, const char *what, const char *remedy, const char *format,
                 ...) _printf_(5, 6);

/* What can be seen without the daemon, below root ("" for the host itself). nodes: also which memory nodes
 * there are, as the daemon cannot be asked for tiers. */
void doctor_check_host(Findings *f, const char *root, bool nodes);

int run_doctor(Ctl *ctl, const Args *args, Outcome *o);
