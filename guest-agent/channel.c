/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The host's end: see channel.h. A virtio port without a host reports POLLHUP at all times and reads as end
 * of file, so it is left alone then and looked at five times a second.
 */
#include "channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"

#define REOPEN_USEC (500 * USEC_PER_MSEC)
#define AWAY_USEC (200 * USEC_PER_MSEC)

void channel_init(Channel *c, const char *path) {
        *c = (Channel) { .path = path, .stream = STREAM_CLOSED };
}

void channel_done(Channel *c) {
        stream_close(&c->stream);
}

static int socket_connect(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

void channel_tend(Channel *c, usec_t now) {
        struct stat st;
        int fd;

        if (now < c->retry_at)
                return;
        c->host_away = false;
        if (stream_is_open(&c->stream))
                return;
        c->is_socket = stat(c->path, &st) == 0 && S_ISSOCK(st.st_mode);
        if (c->is_socket)
                fd = socket_connect(c->path);
        else {
                fd = open(c->path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
                if (fd < 0)
                        fd = -errno;
        }
        if (fd < 0) {
                if (!c->complained)
                        log_error_errno(fd, "Cannot open channel \"%s\"%s; trying again", c->path,
                                        fd == -EBUSY
                                                ? ", another program has it (is qemu-guest-agent.service "
                                                  "restarted since hmvisor-ga was installed?)"
                                                : "");
                c->complained = true;
                c->retry_at = now + REOPEN_USEC;
                return;
        }
        if (c->complained)
                log_info("Channel \"%s\" is open now.", c->path);
        c->complained = false;
        c->stream.fd = fd;
}

usec_t channel_poll(const Channel *c, bool want_input, struct pollfd *ret) {
        bool usable = stream_is_open(&c->stream) && !c->host_away;

        *ret = (struct pollfd) { .fd = usable ? c->stream.fd : -1 };
        if (want_input)
                ret->events |= POLLIN;
        if (c->stream.out_len > 0)
                ret->events |= POLLOUT;
        return usable ? USEC_INFINITY : c->retry_at;
}

/* The host hung up, or (away == false) the device went. */
static void channel_lost(Channel *c, bool away, usec_t now) {
        if (away && !c->is_socket) {
                c->host_away = true;
                stream_clear(&c->stream);
                c->retry_at = now + AWAY_USEC;
        } else {
                stream_close(&c->stream);
                c->retry_at = now + (c->is_socket ? AWAY_USEC : REOPEN_USEC);
        }
}

ssize_t channel_read(Channel *c, char *buf, size_t size, usec_t now) {
        ssize_t n = read(c->stream.fd, buf, size);

        if (n > 0)
                return n;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        channel_lost(c, n == 0, now);
        return -ENOTCONN;
}

static void channel_wrote(Channel *c, int r, usec_t now) {
        if (r < 0 && r != -ENOTCONN) {
                log_error_errno(r, "Cannot write to channel \"%s\", opening it again", c->path);
                channel_lost(c, false, now);
        }
}

void channel_write(Channel *c, const char *bytes, size_t n, usec_t now) {
        if (!c->host_away)
                channel_wrote(c, stream_write(&c->stream, bytes, n), now);
}

void channel_flush(Channel *c, usec_t now) {
        channel_wrote(c, stream_flush(&c->stream), now);
}

void channel_reopen(Channel *c, usec_t now) {
        channel_lost(c, false, now);
}
