/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Cuts the bytes of the host into requests without parsing them: a request is a JSON object, from the first
 * bracket to the one that closes it, and is handed out byte for byte with what stood before it. 0xFF throws
 * away what is unfinished (as qemu-ga does). Bounded: what gets too long is thrown away up to its end of
 * line.
 */
#pragma once

#include "base/cleanup.h"

#define FRAME_MAX (4 * 1024 * 1024)

typedef enum FrameEvent {
        FRAME_NONE,     /* needs more bytes */
        FRAME_REQUEST,  /* a complete one */
        FRAME_BLANK,    /* the end of a line with nothing on it but the rest of the last request's line */
        FRAME_SENTINEL, /* a byte 0xFF */
        FRAME_LINE_END, /* end of a line inside a request: it may be malformed, ask a parser */
        FRAME_BROKEN,   /* brackets that cannot be right; thrown away by the next call */
        FRAME_TOO_LONG, /* more than FRAME_MAX; said once, then everything up to an end of line is dropped */
} FrameEvent;

typedef struct Frame {
        char *data;
        size_t len, allocated;
        unsigned depth;
        bool in_string, escaped, dropping, ended;
        char quote;
} Frame;

/* Takes bytes until something is to be told; *ret_used says how many it took. Returns a FrameEvent or
 * -ENOMEM. After REQUEST, BLANK and LINE_END data[0..len) is what was gathered, until the next call. */
int frame_feed(Frame *f, const char *bytes, size_t n, size_t *ret_used);

/* Throws away what was gathered. */
void frame_reset(Frame *f);
void frame_done(Frame *f);
