/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The host's end: a virtio serial port (or, for tests, a unix socket to connect to). Opens it, opens it
 * again after it went away, notices when the host hangs up. Knows nothing of what the bytes mean.
 */
#pragma once

#include <poll.h>

#include "stream.h"

typedef struct Channel {
        const char *path;
        Stream stream;
        bool is_socket, host_away, complained;
        usec_t retry_at; /* when to open, or to look whether the host came back */
} Channel;

void channel_init(Channel *c, const char *path);
void channel_done(Channel *c);

/* Opens the channel if it is time to. */
void channel_tend(Channel *c, usec_t now);

/* What to poll for; fd is -1 while there is nothing to. Returns the time of the next channel_tend(). */
usec_t channel_poll(const Channel *c, bool want_input, struct pollfd *ret);

/* Returns the bytes read, 0 when there are none now, -ENOTCONN when the host hung up: what was half received
 * and half sent is void. */
ssize_t channel_read(Channel *c, char *buf, size_t size, usec_t now);
void channel_write(Channel *c, const char *bytes, size_t n, usec_t now);
void channel_flush(Channel *c, usec_t now);

/* Closes it, which the host sees, and opens it again soon. */
void channel_reopen(Channel *c, usec_t now);
