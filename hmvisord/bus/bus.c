/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The connection to the system bus: the name, the objects, reconnecting, and the manager's news as signals.
 * It logs once when the bus goes away and once when it is back, as there is nobody to return that to.
 */
#include "bus/bus-internal.h"

#include "base/log.h"

#define BACKOFF_FIRST_USEC (500 * USEC_PER_MSEC)
#define BACKOFF_MAX_USEC (30 * USEC_PER_SEC)
/* The bus driver answers at once or is broken; the daemon's watchdog must not bark meanwhile. */
#define CALL_TIMEOUT_USEC (5 * USEC_PER_SEC)

int bus_domain_path(const char *uuid, char **ret) {
        return sd_bus_path_encode(BUS_DOMAIN_PATH, uuid, ret);
}

int bus_find_domain(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                    sd_bus_error *ret_error) {
        _cleanup_free_ char *uuid = NULL;
        Bus *b = userdata;
        int r;

        r = sd_bus_path_decode(path, BUS_DOMAIN_PATH, &uuid);
        if (r <= 0)
                return r;
        if (manager_get_domain(b->manager, uuid, &b->view, NULL) < 0)
                return 0;
        *ret = b;
        return 1;
}

static int bus_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                         sd_bus_error *ret_error) {
        _cleanup_free_ char (*uuids)[37] = NULL;
        Bus *b = userdata;
        size_t n, done;
        char **paths;

        n = manager_list_domains(b->manager, &uuids);
        paths = calloc(n + 1, sizeof(*paths));
        if (!paths)
                return -ENOMEM;
        for (done = 0; done < n; done++)
                if (bus_domain_path(uuids[done], &paths[done]) < 0)
                        break;
        if (done < n) {
                while (done > 0)
                        free(paths[--done]);
                free(paths);
                return -ENOMEM;
        }
        *ret = paths;   /* sd-bus frees it */
        return 0;
}

static void bus_schedule_connect(Bus *b);

static int on_bus_gone(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        Bus *b = userdata;

        if (!b->outage_logged)
                log_warning("The system bus closed the connection; hmvctl cannot reach this daemon until it "
                            "is back");
        b->outage_logged = true;
        b->backoff_usec = BACKOFF_FIRST_USEC;
        bus_schedule_connect(b);
        return 0;
}

static void bus_close(Bus *b) {
        bus_drop_requests(b);
        b->bus = sd_bus_close_unref(b->bus);
}

static int bus_publish(Bus *b, sd_bus *bus) {
        int r;

        r = sd_bus_add_object_vtable(bus, NULL, BUS_PATH, BUS_MANAGER, manager_vtable, b);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, BUS_PATH, BUS_MARKET, market_vtable, b);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(bus, NULL, BUS_DOMAIN_PATH, BUS_DOMAIN, domain_vtable,
                                               bus_find_domain, b);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(bus, NULL, BUS_DOMAIN_PATH, bus_enumerate, b);
        if (r >= 0)
                r = sd_bus_add_object_manager(bus, NULL, BUS_PATH);
        if (r >= 0)
                r = sd_bus_match_signal(bus, NULL, "org.freedesktop.DBus.Local",
                                        "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                        "Disconnected", on_bus_gone, b);
        return r;
}

static int bus_connect(Bus *b) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int r;

        r = sd_bus_open_system_with_description(&bus, "hmvisord");
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT_USEC);
        if (r >= 0)
                r = bus_publish(b, bus);
        if (r >= 0)
                r = sd_bus_request_name(bus, BUS_NAME, 0);
        if (r >= 0)
                r = sd_bus_attach_event(bus, b->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;

        b->libvirt_connected = manager_is_connected(b->manager);
        b->bus = TAKE_PTR(bus);
        return 0;
}

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata) {
        Bus *b = userdata;
        int r;

        bus_close(b);
        r = bus_connect(b);
        if (r >= 0) {
                log_notice("Connected to the system bus");
                b->outage_logged = false;
                return 0;
        }
        if (!b->outage_logged)
                log_warning_errno(r, "Cannot offer '%s' on the system bus, trying on: %s", BUS_NAME,
                                  strerror(-r));
        b->outage_logged = true;
        bus_schedule_connect(b);
        return 0;
}

static void bus_schedule_connect(Bus *b) {
        int r;

        b->reconnect = sd_event_source_disable_unref(b->reconnect);
        r = sd_event_add_time_relative(b->event, &b->reconnect, CLOCK_MONOTONIC, b->backoff_usec, 0,
                                       on_reconnect, b);
        if (r < 0)
                log_error_errno(r, "No timer for the system bus, staying off it: %s", strerror(-r));
        b->backoff_usec = MIN(b->backoff_usec * 2, BACKOFF_MAX_USEC);
}

/* One signal of the entry object or of ObjectManager cannot be repeated: a failure means no memory or no
 * bus, and clients see the name vanish in the latter case. */
static void emit_interfaces(Bus *b, const char *uuid, bool added) {
        _cleanup_free_ char *path = NULL;

        if (!b->bus || bus_domain_path(uuid, &path) < 0)
                return;
        if (added)
                (void) sd_bus_emit_interfaces_added(b->bus, path, BUS_DOMAIN, NULL);
        else
                (void) sd_bus_emit_interfaces_removed(b->bus, path, BUS_DOMAIN, NULL);
}

static void on_domain_added(const char *uuid, void *userdata) {
        emit_interfaces(userdata, uuid, true);
}

static void on_domain_removed(const char *uuid, void *userdata) {
        emit_interfaces(userdata, uuid, false);
}

static void on_domain_changed(const char *uuid, void *userdata) {
        bus_emit_domain_changed(userdata, uuid);
}

static void on_counters_changed(const char *uuid, void *userdata) {
        bus_emit_counters_changed(userdata, uuid);
}

static void on_event(const ManagerEvent *event, void *userdata) {
        _cleanup_message_ sd_bus_message *m = NULL;
        Bus *b = userdata;
        bool connected;
        int r;

        if (!b->bus)
                return;

        connected = manager_is_connected(b->manager);
        if (connected != b->libvirt_connected)
                (void) sd_bus_emit_properties_changed(b->bus, BUS_PATH, BUS_MANAGER, "Connected", NULL);
        b->libvirt_connected = connected;

        r = sd_bus_message_new_signal(b->bus, &m, BUS_PATH, BUS_MANAGER, "Event");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 't', &event->realtime);
        if (r >= 0)
                r = message_append_text(m, event->name);
        if (r >= 0)
                r = message_append_text(m, event->uuid);
        if (r >= 0)
                r = message_append_text(m, event->kind);
        if (r >= 0)
                r = message_append_text(m, event->message);
        if (r >= 0)
                (void) sd_bus_send(b->bus, m, NULL);
        if (streq(event->kind, "trade") || streq(event->kind, "market"))
                bus_emit_market_event(b, event);
}

int bus_new(sd_event *event, Manager *m, Bus **ret) {
        _cleanup_(bus_freep) Bus *b = NULL;
        int r;

        b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->event = sd_event_ref(event);
        b->manager = m;
        b->backoff_usec = BACKOFF_FIRST_USEC;

        r = bus_connect(b);
        if (r == -EEXIST || r == -ENOMEM)
                return r;
        if (r < 0) {
                log_warning_errno(r, "Cannot reach the system bus, trying on: %s", strerror(-r));
                b->outage_logged = true;
                bus_schedule_connect(b);
        }

        manager_set_hooks(m, &(ManagerHooks) {
                .domain_added = on_domain_added,
                .domain_removed = on_domain_removed,
                .domain_changed = on_domain_changed,
                .counters_changed = on_counters_changed,
                .event = on_event,
                .userdata = b,
        });
        *ret = TAKE_PTR(b);
        return 0;
}

Bus *bus_free(Bus *b) {
        if (!b)
                return NULL;
        manager_set_hooks(b->manager, &(ManagerHooks) { 0 });
        sd_event_source_disable_unref(b->reconnect);
        bus_drop_requests(b);
        b->bus = sd_bus_flush_close_unref(b->bus);
        sd_event_unref(b->event);
        free(b);
        return NULL;
}
