/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A descriptor with an output buffer: see stream.h.
 */
#include "stream.h"

int stream_flush(Stream *s) {
        while (s->out_len > 0) {
                ssize_t n = write(s->fd, s->out + s->out_start, s->out_len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                s->out_start += (size_t) n;
                s->out_len -= (size_t) n;
        }
        s->out_start = 0;
        if (s->out_allocated > STREAM_HIGH) {
                free(s->out);
                s->out = NULL;
                s->out_allocated = 0;
        }
        return 0;
}

int stream_write(Stream *s, const char *bytes, size_t n) {
        if (!stream_is_open(s))
                return -ENOTCONN;
        if (s->out_start > 0 && s->out_start + s->out_len + n > s->out_allocated) {
                memmove(s->out, s->out + s->out_start, s->out_len);
                s->out_start = 0;
        }
        if (s->out_len + n > s->out_allocated) {
                size_t want = MAX(s->out_allocated * 2, s->out_len + n);
                char *more = realloc(s->out, want);

                if (!more)
                        return -ENOMEM;
                s->out = more;
                s->out_allocated = want;
        }
        memcpy(s->out + s->out_start + s->out_len, bytes, n);
        s->out_len += n;
        return stream_flush(s);
}

void stream_clear(Stream *s) {
        free(s->out);
        s->out = NULL;
        s->out_start = s->out_len = s->out_allocated = 0;
}

void stream_close(Stream *s) {
        if (s->fd >= 0)
                close(s->fd);
        s->fd = -EBADF;
        stream_clear(s);
}
