/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Requests from bytes: see frame.h.
 */
#include "frame.h"

#define FRAME_KEEP (64 * 1024) /* a larger buffer is given back after use */

void frame_reset(Frame *f) {
        if (f->allocated > FRAME_KEEP) {
                free(f->data);
                f->data = NULL;
                f->allocated = 0;
        }
        f->len = 0;
        f->depth = 0;
        f->in_string = f->escaped = f->ended = false;
}

void frame_done(Frame *f) {
        free(f->data);
        *f = (Frame) { 0 };
}

static int frame_append(Frame *f, char c) {
        if (f->len + 1 >= f->allocated) {
                size_t want = MAX(f->allocated * 2, (size_t) 4096);
                char *more = realloc(f->data, want);

                if (!more)
                        return -ENOMEM;
                f->data = more;
                f->allocated = want;
        }
        f->data[f->len++] = c;
        f->data[f->len] = '\0';
        return 0;
}

/* What one more byte of JSON means. */
static FrameEvent frame_step(Frame *f, char c) {
        if (f->in_string) {
                if (c == '\n')
                        return FRAME_BROKEN;
                if (f->escaped)
                        f->escaped = false;
                else if (c == '\\')
                        f->escaped = true;
                else if (c == f->quote)
                        f->in_string = false;
                return FRAME_NONE;
        }
        switch (c) {
        case '"':
        case '\'':
                f->in_string = true;
                f->quote = c;
                return FRAME_NONE;
        case '{':
        case '[':
                f->depth++;
                return FRAME_NONE;
        case '}':
        case ']':
                if (f->depth == 0)
                        return FRAME_BROKEN;
                f->depth--;
                return f->depth == 0 ? FRAME_REQUEST : FRAME_NONE;
        case '\n':
                if (f->depth > 0)
                        return FRAME_LINE_END;
                return f->len == strspn(f->data, " \t\r\n") ? FRAME_BLANK : FRAME_BROKEN;
        default:
                return FRAME_NONE;
        }
}

int frame_feed(Frame *f, const char *bytes, size_t n, size_t *ret_used) {
        if (f->ended)
                frame_reset(f);
        for (size_t i = 0; i < n; i++) {
                FrameEvent event;

                *ret_used = i + 1;
                if (bytes[i] == '\xff') {
                        frame_reset(f);
                        f->dropping = false;
                        return FRAME_SENTINEL;
                }
                if (f->dropping) {
                        f->dropping = bytes[i] != '\n';
                        continue;
                }
                if (f->len == FRAME_MAX) {
                        frame_reset(f);
                        f->dropping = bytes[i] != '\n';
                        return FRAME_TOO_LONG;
                }
                if (frame_append(f, bytes[i]) < 0)
                        return -ENOMEM;
                event = frame_step(f, bytes[i]);
                if (event == FRAME_NONE)
                        continue;
                if (event == FRAME_BROKEN)
                        f->dropping = bytes[i] != '\n';
                if (event != FRAME_LINE_END)
                        f->ended = true;
                return event;
        }
        *ret_used = n;
        return FRAME_NONE;
}
