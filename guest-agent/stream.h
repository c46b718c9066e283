/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A descriptor that never blocks, with what could not be written yet. Owns the descriptor and the buffer;
 * knows nothing of what the bytes mean.
 */
#pragma once

#include "base/cleanup.h"

#define STREAM_HIGH (1024 * 1024) /* more than this waiting: whoever produces it should pause */

typedef struct Stream {
        int fd; /* -EBADF: closed */
        char *out;
        size_t out_start, out_len, out_allocated;
} Stream;

#define STREAM_CLOSED ((Stream) { .fd = -EBADF })

static inline bool stream_is_open(const Stream *s) {
        return s->fd >= 0;
}

static inline bool stream_is_full(const Stream *s) {
        return s->out_len > STREAM_HIGH;
}

/* Takes the bytes and writes what can be written now. Returns 0, -ENOTCONN (not open), -ENOMEM or another
 * -errno of write(). */
int stream_write(Stream *s, const char *bytes, size_t n);
int stream_flush(Stream *s);

/* Drops what waits to be written. */
void stream_clear(Stream *s);
void stream_close(Stream *s);
