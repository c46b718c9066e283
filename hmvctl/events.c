/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verb "events": the only one that listens.
 */
#include "events.h"

#include <signal.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "client.h"
#include "table.h"

typedef struct Listener {
        Ctl *ctl;
        sd_event *event;
        const char *uuid, *kind;      /* NULL: all */
        bool loop;
        size_t seen;
        bool daemon_gone;
} Listener;

/* SIGINT and SIGTERM are blocked while they are sources of the loop; the shell wants them back. */
static int add_signals(sd_event *event, sigset_t *ret_before) {
        sigset_t set;
        int r;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &set, ret_before) < 0)
                return -errno;
        r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);   /* NULL: leaves the loop with 0 */
        return r < 0 ? r : sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(s), 1);
}

/* Returns 1 when the time has passed, 0 on a signal of add_signals(), or -errno. */
static int sleep_or_signal(usec_t usec) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        sigset_t ignored;
        int r;

        r = sd_event_new(&event);
        if (r >= 0)
                r = add_signals(event, &ignored);
        if (r >= 0)
                r = sd_event_add_time_relative(event, NULL, CLOCK_MONOTONIC, usec, 0, on_timeout, NULL);
        return r < 0 ? r : sd_event_loop(event);
}

int events_repeat(usec_t interval, int (*step)(void *userdata), void *userdata) {
        sigset_t set, before;
        int r;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &set, &before) < 0)
                return -errno;
        do {
                r = step(userdata);
                if (r >= 0)
                        r = sleep_or_signal(interval);
        } while (r > 0);
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}

static void print_event(Listener *l, uint64_t realtime, const char *domain, const char *uuid,
                        const char *kind, const char *message) {
        char when[64];
        time_t t = (time_t) (realtime / USEC_PER_SEC);
        struct tm tm;

        if (l->ctl->json) {
                _cleanup_json_ json_object *j = json_object_new_object();

                json_object_object_add(j, "RealtimeUSec", json_object_new_uint64(realtime));
                json_object_object_add(j, "Domain", json_object_new_string(domain));
                json_object_object_add(j, "UUID", json_object_new_string(uuid));
                json_object_object_add(j, "Kind", json_object_new_string(kind));
                json_object_object_add(j, "Message", json_object_new_string(message));
                json_print_line(j, l->ctl->out);
        } else {
                if (!localtime_r(&t, &tm) || strftime(when, sizeof(when), "%F %T", &tm) == 0)
                        snprintf(when, sizeof(when), "?");
                fprintf(l->ctl->out, "%s %s%s%s: %s\n", when, kind, *domain ? " " : "", domain, message);
        }
        fflush(l->ctl->out);   /* somebody may be reading along */
}

static int on_event_signal(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const char *domain, *uuid, *kind, *message;
        Listener *l = userdata;
        uint64_t realtime;

        if (sd_bus_message_read(m, "tssss", &realtime, &domain, &uuid, &kind, &message) < 0)
                return 0;
        if ((l->uuid && !streq(l->uuid, uuid)) || (l->kind && !streq(l->kind, kind)))
                return 0;
        print_event(l, realtime, domain, uuid, kind, message);
        l->seen++;
        return l->loop ? 0 : sd_event_exit(l->event, 0);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const char *name, *before, *after;
        Listener *l = userdata;

        if (sd_bus_message_read(m, "sss", &name, &before, &after) < 0 || !*before || *after)
                return 0;
        if (l->loop) {   /* whoever listens for ever wants to hear of its next life, too */
                fprintf(stderr, "hmvisord stopped; waiting for it\n");
                return 0;
        }
        l->daemon_gone = true;
        return sd_event_exit(l->event, 0);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        Listener *l = userdata;

        l->daemon_gone = true;
        return sd_event_exit(l->event, 0);
}

/* Adds what ends the loop or feeds it. */
static int listen_all(Listener *l, usec_t timeout) {
        sd_bus *bus = l->ctl->bus;
        int r;

        r = sd_bus_match_signal(bus, NULL, CLIENT_NAME, CLIENT_PATH, CLIENT_MANAGER, "Event",
                                on_event_signal, l);
        if (r >= 0)
                r = sd_bus_add_match(bus, NULL,
                                     "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
                                     "arg0='" CLIENT_NAME "'",
                                     on_owner_changed, l);
        if (r >= 0)
                r = sd_bus_match_signal(bus, NULL, "org.freedesktop.DBus.Local", NULL,
                                        "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, l);
        if (r >= 0 && timeout > 0)
                r = sd_event_add_time_relative(l->event, NULL, CLOCK_MONOTONIC, timeout, 0, on_timeout, l);
        if (r >= 0)
                r = sd_bus_attach_event(bus, l->event, SD_EVENT_PRIORITY_NORMAL);
        return r;
}

int run_events(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_json_ json_object *domain = NULL;
        _cleanup_free_ char *path = NULL;
        Listener l = { .ctl = ctl, .loop = args_flag(args, "loop"), .kind = args_text(args, "event") };
        sigset_t before;
        int r;

        if (args_flag(args, "domain")) {
                r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
                if (r >= 0)
                        r = client_get_domain(ctl, path, &domain, o);
                l.uuid = json_text(domain, "UUID");
        } else   /* also finds out whether the daemon is there */
                r = client_call(ctl, CLIENT_PATH, "org.freedesktop.DBus.Peer", "Ping", o, NULL, "");
        if (r < 0)
                return r;

        r = sd_event_new(&event);
        l.event = event;
        if (r >= 0)
                r = add_signals(event, &before);
        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "cannot wait: %s", strerror(-r));
        r = listen_all(&l, args_time(args, "timeout"));
        if (r >= 0 && !ctl->quiet && isatty(STDERR_FILENO))
                fputs("Waiting for events; Ctrl-C ends it.\n", stderr);
        if (r >= 0)
                r = sd_event_loop(event);
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        client_close(ctl);   /* and with it all matches */

        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "cannot wait for events: %s", strerror(-r));
        if (l.daemon_gone)
                return outcome_set(o, OUTCOME_NO_DAEMON,
                                   "hmvisord or the bus went away; see 'journalctl -u hmvisord'");
        if (r == 1 && l.seen == 0)
                return outcome_set(o, OUTCOME_TIMED_OUT, "no event within %s", args_text(args, "timeout"));
        return 0;
}
