/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The commands of docs/protocol.md, section 2: decides whether a request is ours, checks it strictly,
 * carries it out and makes the answer. Owns the lease. Never waits for an order.
 */
#pragma once

#include "order.h"
#include "prepare.h"

/* An order of as many ranges as there may be has 700 KiB; what is parsed takes 40 times its size. */
#define COMMAND_REQUEST_MAX (1024 * 1024)

typedef struct Commands {
        int root;
        OrderQueue *orders;
        Prepare prepare;
        usec_t lease, lease_until; /* until: USEC_INFINITY while nothing is prepared */
} Commands;

typedef enum CommandKind {
        COMMAND_OURS,    /* *ret_reply is the answer, one line */
        COMMAND_FOREIGN, /* for the stock agent */
        COMMAND_INFO,    /* the same, and its answer goes through commands_edit_info() */
        COMMAND_SYNC,    /* the same, by which the host finds out whether it is answered */
} CommandKind;

/* Returns a CommandKind or -ENOMEM. */
int commands_handle(Commands *c, const char *request, size_t n, usec_t now, char **ret_reply);

/* Undoes what prepare did if no command of ours came for the length of the lease. */
void commands_tend(Commands *c, usec_t now);

/* The answer to a foreign request when there is no stock agent: enough for a host to talk to us (guest-sync,
 * guest-ping, guest-info), an error for the rest. NULL: out of memory. */
char *commands_answer_alone(const char *request, size_t n);

/* An answer to guest-info with our commands in its list, or NULL if the line is no such answer. */
char *commands_edit_info(const char *line);

/* Whether these bytes may be the beginning of a request (and not malformed already). */
bool commands_may_continue(const char *bytes, size_t n);

/* One line of QGA's error form; class is "GenericError" or "CommandNotFound". */
char *commands_error(const char *class, const char *format, ...) _printf_(2, 3);
