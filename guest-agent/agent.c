/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The agent's loop: see agent.h. One thread here, one for the orders (order.c).
 */
#include "agent.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "channel.h"
#include "commands.h"
#include "config.h"
#include "execute.h"
#include "frame.h"
#include "hearing.h"
#include "passthrough.h"

#define CHANNEL_DEFAULT "/dev/virtio-ports/org.qemu.guest_agent.0"
#define STOCK_DEFAULT "/run/hmvisor-ga/qemu-ga.sock"
#define LINE_CHECK_MAX (64 * 1024) /* longer unfinished requests are not parsed at each end of line */

typedef struct Agent {
        Channel channel;
        Passthrough stock;
        Frame frame;
        Hearing hearing;
        Commands commands;
        bool last_to_stock; /* the last request went there: so does the rest of its line */
        Stream late; /* our answers that wait for the end of a line of the stock agent's (no descriptor) */
} Agent;

static void late_append(Agent *a, const char *line) {
        size_t n = strlen(line);
        char *more = realloc(a->late.out, a->late.out_len + n);

        if (!more)
                return;
        memcpy(more + a->late.out_len, line, n);
        a->late.out = more;
        a->late.out_len += n;
}

static void say(Agent *a, const char *bytes, size_t n) {
        hearing_said(&a->hearing);
        channel_write(&a->channel, bytes, n, now_usec());
}

static void late_release(Agent *a) {
        if (a->late.out_len == 0 || a->stock.mid_line)
                return;
        say(a, a->late.out, a->late.out_len);
        stream_clear(&a->late);
}

/* Our own answers never break into a line of the stock agent. */
static void answer(Agent *a, char *line) {
        if (!line)
                return;
        if (a->stock.mid_line)
                late_append(a, line);
        else
                say(a, line, strlen(line));
        free(line);
}

static void stock_says(void *userdata, const char *bytes, size_t n) {
        Agent *a = userdata;

        say(a, bytes, n);
        late_release(a);
}

/* The next host starts afresh. */
static void host_forget(Agent *a) {
        frame_done(&a->frame);
        passthrough_forget(&a->stock);
        stream_clear(&a->late);
        a->last_to_stock = false;
        hearing_forget(&a->hearing);
}

static void request_take(Agent *a, usec_t now) {
        char *reply = NULL;
        int kind = commands_handle(&a->commands, a->frame.data, a->frame.len, now, &reply);

        a->last_to_stock = false;
        hearing_asked(&a->hearing, kind == COMMAND_SYNC, now);
        if (kind == COMMAND_OURS)
                answer(a, reply);
        else if (kind < 0)
                answer(a, commands_error("GenericError", "out of memory"));
        else if (passthrough_send(&a->stock, a->frame.data, a->frame.len, kind == COMMAND_INFO) < 0)
                answer(a, commands_answer_alone(a->frame.data, a->frame.len));
        else
                a->last_to_stock = true;
}

static void bytes_take(Agent *a, const char *bytes, size_t n, usec_t now) {
        while (n > 0) {
                size_t used = 0;
                int event = frame_feed(&a->frame, bytes, n, &used);

                if (event < 0) {
                        frame_reset(&a->frame);
                        answer(a, commands_error("GenericError", "out of memory"));
                        return;
                }
                bytes += used;
                n -= used;
                switch ((FrameEvent) event) {
                case FRAME_NONE:
                        break;
                case FRAME_REQUEST:
                        request_take(a, now);
                        break;
                case FRAME_BLANK:
                        if (a->last_to_stock)
                                (void) passthrough_send(&a->stock, a->frame.data, a->frame.len, false);
                        break;
                case FRAME_SENTINEL:
                        (void) passthrough_send(&a->stock, "\xff", 1, false);
                        break;
                case FRAME_LINE_END:
                        if (a->frame.len > LINE_CHECK_MAX ||
                            commands_may_continue(a->frame.data, a->frame.len))
                                break;
                        frame_reset(&a->frame);
                        answer(a, commands_error("GenericError", "malformed JSON"));
                        break;
                case FRAME_BROKEN:
                        answer(a, commands_error("GenericError", "malformed JSON"));
                        break;
                case FRAME_TOO_LONG:
                        answer(a,
                               commands_error("GenericError", "request of more than %d bytes", FRAME_MAX));
                        break;
                }
        }
}

static void channel_dispatch(Agent *a, short revents, usec_t now) {
        char buf[65536];
        ssize_t n;

        if (revents & POLLOUT)
                channel_flush(&a->channel, now);
        if (!stream_is_open(&a->channel.stream) || !(revents & (POLLIN | POLLHUP | POLLERR)))
                return;
        n = channel_read(&a->channel, buf, sizeof(buf), now);
        if (n == -ENOTCONN)
                host_forget(a);
        else if (n > 0)
                bytes_take(a, buf, (size_t) n, now);
        if (hearing_is_lost(&a->hearing)) {
                log_notice("The host has not heard %u answers to guest-sync: opening channel \"%s\" again.",
                           a->hearing.unheard, a->channel.path);
                hearing_reopened(&a->hearing);
                channel_reopen(&a->channel, now);
                host_forget(a);
        }
}

static int loop_run(Agent *a, int signals) {
        for (;;) {
                usec_t now = now_usec(), wake;
                struct pollfd fds[3];
                bool full = stream_is_full(&a->channel.stream);
                int timeout = -1;

                channel_tend(&a->channel, now);
                commands_tend(&a->commands, now);
                wake = channel_poll(&a->channel, !full && !stream_is_full(&a->stock.stream), &fds[0]);
                passthrough_poll(&a->stock, !full, &fds[1]);
                fds[2] = (struct pollfd) { .fd = signals, .events = POLLIN };
                wake = MIN(wake, a->commands.lease_until);
                if (wake != USEC_INFINITY)
                        timeout = wake <= now
                                          ? 0
                                          : (int) MIN((wake - now) / USEC_PER_MSEC + 1, (usec_t) INT32_MAX);
                if (poll(fds, ELEMENTSOF(fds), timeout) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                now = now_usec();
                if (fds[2].revents)
                        return 0;
                if (fds[1].revents)
                        passthrough_dispatch(&a->stock, fds[1].revents);
                if (fds[0].revents)
                        channel_dispatch(a, fds[0].revents, now);
        }
}

static int signals_take(void) {
        sigset_t set;
        int fd;

        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

int agent_run(const AgentOptions *options, const OrderRunner *runner) {
        _cleanup_(executor_freep) Executor *executor = NULL;
        _cleanup_(order_queue_freep) OrderQueue *orders = NULL;
        _cleanup_close_ int root = -EBADF, signals = -EBADF;
        OrderRunner real;
        Agent a = { .late = STREAM_CLOSED };
        int r;

        if (options->debug)
                log_set_max_level(LOG_DEBUG);
        root = open(options->root, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (root < 0)
                return log_error_errno(errno, "Cannot open \"%s\"", options->root);
        signals = signals_take();
        if (signals < 0)
                return log_error_errno(signals, "Cannot take signals");
        mover_damon_cleanup_stale(root);
        if (!runner) {
                r = executor_new(root, &executor);
                if (r < 0)
                        return log_error_errno(r, "Cannot set up the movers");
                real = executor_runner(executor);
                runner = &real;
        }
        r = order_queue_new(runner, &orders);
        if (r < 0)
                return log_error_errno(r, "Cannot start the worker thread");
        a.commands = (Commands) {
                .root = root, .orders = orders, .lease = options->lease, .lease_until = USEC_INFINITY
        };
        prepare_init(&a.commands.prepare, root);
        channel_init(&a.channel, options->channel);
        passthrough_init(&a.stock, options->stock, commands_edit_info, stock_says, &a);
        (void) sd_notify(0, "READY=1");

        r = loop_run(&a, signals);

        (void) sd_notify(0, "STOPPING=1");
        orders = order_queue_free(orders); /* nothing moves any more when tiering comes back */
        (void) prepare_stop(&a.commands.prepare);
        channel_done(&a.channel);
        passthrough_done(&a.stock);
        frame_done(&a.frame);
        stream_clear(&a.late);
        return r;
}

static void usage(void) {
        printf("usage: hmvisor-ga [--channel PATH] [--stock PATH] [--root DIR] [--lease-ms N] [--debug]\n"
               "\n"
               "Moves pages between this guest's memory nodes at the word of HMvisor on the host, and "
               "passes\n"
               "everything else on to the stock qemu-ga.\n"
               "\n"
               "  --channel PATH   virtio port or unix socket of the host (%s)\n"
               "  --stock PATH     unix socket of the stock qemu-ga (%s)\n"
               "  --root DIR       use DIR/proc, DIR/sys and DIR/run (for tests)\n"
               "  --lease-ms N     put the kernel's own tiering back after N ms without the host (120000)\n"
               "  --debug          say more\n"
               "  --version, --help\n",
               CHANNEL_DEFAULT, STOCK_DEFAULT);
}

int agent_options_parse(int argc, char *argv[], AgentOptions *ret) {
        static const struct option options[] = {
                { "channel", required_argument, NULL, 'c' }, { "stock", required_argument, NULL, 's' },
                { "root", required_argument, NULL, 'r' },    { "lease-ms", required_argument, NULL, 'l' },
                { "debug", no_argument, NULL, 'd' },         { "version", no_argument, NULL, 'V' },
                { "help", no_argument, NULL, 'h' },          { 0 },
        };
        AgentOptions o = { CHANNEL_DEFAULT, STOCK_DEFAULT, "/", PREPARE_LEASE, false };
        unsigned long ms;
        char *end;
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'c':
                        o.channel = optarg;
                        break;
                case 's':
                        o.stock = optarg;
                        break;
                case 'r':
                        o.root = optarg;
                        break;
                case 'l':
                        ms = strtoul(optarg, &end, 10);
                        if (*end != '\0' || ms == 0 || ms > 86400000) {
                                fprintf(stderr,
                                        "hmvisor-ga: --lease-ms wants a number from 1 to 86400000\n");
                                return -EINVAL;
                        }
                        o.lease = ms * USEC_PER_MSEC;
                        break;
                case 'd':
                        o.debug = true;
                        break;
                case 'V':
                        printf("hmvisor-ga %s\n", HMV_VERSION);
                        return 1;
                case 'h':
                        usage();
                        return 1;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                fprintf(stderr, "hmvisor-ga: unexpected argument \"%s\"; see --help\n", argv[optind]);
                return -EINVAL;
        }
        *ret = o;
        return 0;
}
