/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A longer action of a user: who waits for its end, and which domain it is about. The domain may vanish
 * meanwhile, so it is looked up anew at each step. manager-action.c and manager-verify.c only.
 */
#pragma once

#include "manager-internal.h"

typedef struct Action {
        Manager *manager;
        char uuid[37];
        ManagerReply reply;
        void *userdata;

        BindOptions bind;
        bool dry_run, unbind;
        char *words;             /* of set_policy */
        bool live, config;
        char *text;              /* for the reply */
        DomainInfo info;         /* of verify */
} Action;

/* One action at a time on a domain. Returns 0, or -EIO with NO_DOMAIN, NO_LIBVIRT or DOMAIN_BUSY. */
int action_new(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Action **ret, Outcome *o);
Action *action_free(Action *a);   /* without a reply */
DEFINE_CLEANUP(Action *, action_free);
/* Replies, and frees a. */
void action_end(Action *a, const Outcome *o, const char *text);
/* "domain 'x': " before an outcome's text, as whoever asked sees only that. */
int action_outcome(const Action *a, Outcome *o, OutcomeCode code, const char *format, ...) _printf_(4, 5);
const char *action_name(const Action *a);
