/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * What the command line of hmv-workload asks for, as plain values. Strings are argv's own.
 */

#include <stdbool.h>
#include <stdint.h>

#define DEFAULT_SOCKET "/run/hmv-workload.sock"

typedef struct Options {
        uint64_t hot_size, within, cold_size, read_size, seed;
        bool cold_fill, thp, query, reset_gap, brief;
        int hot_node, cold_node;        /* -1 = wherever the kernel likes */
        unsigned seconds;               /* 0 = for ever */
        unsigned move_every;            /* seconds, 0 = never */
        unsigned rate;                  /* writes per second at most, 0 = no limit */
        double skew;
        const char *socket_path, *report_path, *log_path;
} Options;

#define OPTIONS_DEFAULT { .hot_node = -1, .cold_node = -1, .seed = 1, .socket_path = DEFAULT_SOCKET }

/* 0 to go on, 1 when all is done (help), or -EINVAL after a message. */
int options_parse(Options *o, int argc, char **argv);
