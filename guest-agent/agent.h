/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The agent's loop: channel, stock agent, commands, lease, signals. main.c gives it real movers; a test may
 * give it others.
 */
#pragma once

#include "order.h"

typedef struct AgentOptions {
        const char *channel; /* virtio port, or a unix socket to connect to */
        const char *stock;   /* unix socket of the stock qemu-ga */
        const char *root;    /* directory in place of / */
        usec_t lease;
        bool debug;
} AgentOptions;

/* Returns 0 to go on, 1 to end with success (help, version), or -EINVAL. */
int agent_options_parse(int argc, char *argv[], AgentOptions *ret);

/* Runs until SIGTERM or SIGINT. runner NULL: the real one. Returns 0 or -errno. */
int agent_run(const AgentOptions *options, const OrderRunner *runner);
