/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The way to the stock qemu-ga, which listens on a unix socket: requests that are not ours go there byte for
 * byte, its answers come back so. Waits for nothing: qemu-ga does not answer each request (guest-shutdown),
 * and may take long over others. The one thing it looks at is the answer to guest-info.
 */
#pragma once

#include <poll.h>

#include "stream.h"

#define PASSTHROUGH_HOLD_MAX (1024 * 1024) /* a longer answer to guest-info would go through as it is */

/* Bytes for the host. */
typedef void (*PassthroughSink)(void *userdata, const char *bytes, size_t n);

/* Given one line, returns what to send instead (to be freed), or NULL to leave it as it is. */
typedef char *(*PassthroughEdit)(const char *line);

typedef struct Passthrough {
        const char *path;
        Stream stream;
        bool mid_line;     /* the last byte for the host was not an end of line */
        unsigned editing;  /* answers to guest-info that are still to come */
        char *held;        /* the beginning of a line that may be one */
        size_t held_len, held_allocated;
        PassthroughEdit edit;
        PassthroughSink sink;
        void *userdata;
} Passthrough;

void passthrough_init(Passthrough *p, const char *path, PassthroughEdit edit, PassthroughSink sink,
                      void *userdata);
void passthrough_done(Passthrough *p);

/* Connects first if need be. edit_answer: this is guest-info. Returns 0, or -errno where qemu-ga is not
 * there. */
int passthrough_send(Passthrough *p, const char *bytes, size_t n, bool edit_answer);

/* The host is another one now: answers to its predecessor's guest-info are not waited for. */
void passthrough_forget(Passthrough *p);

void passthrough_poll(const Passthrough *p, bool want_input, struct pollfd *ret);
void passthrough_dispatch(Passthrough *p, short revents);
