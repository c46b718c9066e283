/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The way to the stock qemu-ga: see passthrough.h.
 */
#include "passthrough.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"

void passthrough_init(Passthrough *p, const char *path, PassthroughEdit edit, PassthroughSink sink,
                      void *userdata) {
        *p = (Passthrough){
                .path = path, .stream = STREAM_CLOSED, .edit = edit, .sink = sink, .userdata = userdata
        };
}

void passthrough_done(Passthrough *p) {
        stream_close(&p->stream);
        free(p->held);
        p->held = NULL;
}

static void sink_write(Passthrough *p, const char *bytes, size_t n) {
        if (n == 0)
                return;
        p->mid_line = bytes[n - 1] != '\n';
        p->sink(p->userdata, bytes, n);
}

static void held_release(Passthrough *p) {
        size_t n = p->held_len;

        p->held_len = 0;
        sink_write(p, p->held, n);
}

/* Ends what it was saying: the host must not take our next answer for its rest. */
static void passthrough_lost(Passthrough *p, int error) {
        log_info("The stock qemu-ga on \"%s\" went away%s%s.", p->path, error ? ": " : "",
                 error ? strerror(error) : "");
        stream_close(&p->stream);
        p->editing = 0;
        held_release(p);
        if (p->mid_line)
                sink_write(p, "\n", 1);
}

static int passthrough_connect(Passthrough *p) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;

        if (stream_is_open(&p->stream))
                return 0;
        if (strlen(p->path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, p->path, strlen(p->path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        p->stream.fd = TAKE_FD(fd);
        return 0;
}

int passthrough_send(Passthrough *p, const char *bytes, size_t n, bool edit_answer) {
        int r = passthrough_connect(p);

        if (r < 0)
                return r;
        r = stream_write(&p->stream, bytes, n);
        if (r < 0) { /* it was restarted: the old connection is dead, a new one may live */
                passthrough_lost(p, -r);
                r = passthrough_connect(p);
                if (r >= 0)
                        r = stream_write(&p->stream, bytes, n);
                if (r < 0) {
                        stream_close(&p->stream);
                        return r;
                }
        }
        if (edit_answer)
                p->editing++;
        return 0;
}

void passthrough_forget(Passthrough *p) {
        p->editing = 0;
        p->held_len = 0;
        p->mid_line = false;
}

void passthrough_poll(const Passthrough *p, bool want_input, struct pollfd *ret) {
        *ret = (struct pollfd) { .fd = stream_is_open(&p->stream) ? p->stream.fd : -1 };
        if (want_input)
                ret->events |= POLLIN;
        if (p->stream.out_len > 0)
                ret->events |= POLLOUT;
        if (!ret->events)
                ret->fd = -1; /* or a hang-up would spin while its last words cannot be taken */
}

/* A whole line is held: is it the answer to guest-info? */
static void held_line_finish(Passthrough *p) {
        _cleanup_free_ char *edited = NULL;

        p->held[p->held_len] = '\0';
        edited = p->edit(p->held);
        if (!edited) {
                held_release(p);
                return;
        }
        p->editing--;
        p->held_len = 0;
        sink_write(p, edited, strlen(edited));
}

static int held_append(Passthrough *p, const char *bytes, size_t n) {
        if (p->held_len + n + 1 > p->held_allocated) {
                size_t want = MAX(p->held_allocated * 2, p->held_len + n + 1);
                char *more = realloc(p->held, want);

                if (!more)
                        return -ENOMEM;
                p->held = more;
                p->held_allocated = want;
        }
        memcpy(p->held + p->held_len, bytes, n);
        p->held_len += n;
        return 0;
}

static void bytes_take(Passthrough *p, const char *bytes, size_t n) {
        while (n > 0) {
                const char *end = memchr(bytes, '\n', n);
                size_t part = end ? (size_t) (end - bytes) + 1 : n;

                if (p->editing > 0 && !p->mid_line && p->held_len + part <= PASSTHROUGH_HOLD_MAX &&
                    held_append(p, bytes, part) >= 0) {
                        if (end)
                                held_line_finish(p);
                } else {
                        held_release(p);
                        sink_write(p, bytes, part);
                }
                bytes += part;
                n -= part;
        }
}

void passthrough_dispatch(Passthrough *p, short revents) {
        char buf[65536];
        ssize_t n;
        int r;

        if (!stream_is_open(&p->stream))
                return;
        if (revents & POLLOUT) {
                r = stream_flush(&p->stream);
                if (r < 0) {
                        passthrough_lost(p, -r);
                        return;
                }
        }
        if (!(revents & (POLLIN | POLLHUP | POLLERR)))
                return;
        n = read(p->stream.fd, buf, sizeof(buf));
        if (n > 0)
                bytes_take(p, buf, (size_t) n);
        else if (n == 0)
                passthrough_lost(p, 0);
        else if (errno != EAGAIN && errno != EINTR)
                passthrough_lost(p, errno);
}
