/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See client.h.
 */
#include "client.h"

#include <stdarg.h>

/* A person may have to type a password for polkit first. */
#define CALL_TIMEOUT_USEC (150 * USEC_PER_SEC)

int client_open(Ctl *ctl, Outcome *o) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        if (ctl->bus)
                return 0;
        if (ctl->host)
                r = sd_bus_open_system_remote(&bus, ctl->host);
        else if (ctl->address) {
                r = sd_bus_new(&bus);
                if (r >= 0)
                        r = sd_bus_set_address(bus, ctl->address);
                if (r >= 0)
                        r = sd_bus_set_bus_client(bus, true);
                if (r >= 0)
                        r = sd_bus_start(bus);
        } else
                r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT_USEC);
        if (r >= 0)
                r = sd_bus_set_allow_interactive_authorization(bus, true);
        if (r == -EINVAL && (ctl->address || ctl->host))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "'%s' is no %s", ctl->host ?: ctl->address,
                                   ctl->host ? "host" : "D-Bus address such as unix:path=/run/dbus/bus");
        if (r < 0) {
                const char *what = ctl->host      ? "system bus of host "
                                   : ctl->address ? "bus at "
                                                  : "system bus";

                return outcome_set(o, OUTCOME_NO_DAEMON,
                                   "cannot reach the %s%s: %s; is D-Bus running there?",
                                   what, ctl->host ?: ctl->address ?: "", strerror(-r));
        }
        ctl->bus = TAKE_PTR(bus);
        return 0;
}

void client_close(Ctl *ctl) {
        ctl->bus = sd_bus_flush_close_unref(ctl->bus);
}

int client_error(Ctl *ctl, const sd_bus_error *error, int r, Outcome *o) {
        const char *name = error->name ?: "";
        bool gone =
                streq(name, SD_BUS_ERROR_DISCONNECTED) || r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE;

        if (gone)
                client_close(ctl);   /* the next command of a shell tries anew */
        if (streq(name, SD_BUS_ERROR_SERVICE_UNKNOWN) || streq(name, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                return outcome_set(o, OUTCOME_NO_DAEMON,
                                   "hmvisord does not run%s%s; start it with 'systemctl start hmvisord'",
                                   ctl->host ? " on " : "", ctl->host ?: "");
        if (streq(name, SD_BUS_ERROR_NO_REPLY))
                return outcome_set(o, OUTCOME_NO_DAEMON,
                                   "hmvisord went away before it answered; see 'journalctl -u hmvisord'");
        if (gone)
                return outcome_set(o, OUTCOME_NO_DAEMON,
                                   "the bus closed the connection%s%s: %s; is D-Bus running there?",
                                   ctl->host ? " to " : "", ctl->host ?: "", strerror(-r));
        if (streq(name, SD_BUS_ERROR_TIMEOUT) || r == -ETIMEDOUT)
                return outcome_set(o, OUTCOME_TIMED_OUT,
                                   "hmvisord did not answer in time; see 'journalctl -u hmvisord'");
        if (streq(name, SD_BUS_ERROR_ACCESS_DENIED))
                return outcome_set(o, OUTCOME_DENIED, "the bus does not allow it: %s", error->message);
        if (streq(name, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return outcome_set(o, OUTCOME_NO_DOMAIN, "the domain is gone; 'hmvctl list' shows all");
        if (streq(name, SD_BUS_ERROR_UNKNOWN_METHOD) || streq(name, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
            streq(name, SD_BUS_ERROR_INVALID_ARGS))
                return outcome_set(o, OUTCOME_FAILED,
                                   "hmvisord is of another version than hmvctl ('hmvctl version'): %s",
                                   error->message);
        return outcome_set(o, outcome_from_bus_name(name), "%s", error->message ?: strerror(-r));
}

static int read_value(sd_bus_message *m, json_object **ret);

static int read_basic(sd_bus_message *m, char type, json_object **ret) {
        union {
                uint8_t y;
                int b;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
                double d;
                const char *s;
        } v;
        int r;

        r = sd_bus_message_read_basic(m, type, &v);
        if (r < 0)
                return r;
        switch (type) {
        case 'y': *ret = json_object_new_int(v.y); break;
        case 'b': *ret = json_object_new_boolean(v.b); break;
        case 'n': *ret = json_object_new_int(v.n); break;
        case 'q': *ret = json_object_new_int(v.q); break;
        case 'i': *ret = json_object_new_int(v.i); break;
        case 'u': *ret = json_object_new_int64(v.u); break;
        case 'x': *ret = json_object_new_int64(v.x); break;
        case 't': *ret = json_object_new_uint64(v.t); break;
        case 'd': *ret = json_object_new_double(v.d); break;
        case 's': case 'o': case 'g': *ret = json_object_new_string(v.s); break;
        default: return -EOPNOTSUPP;
        }
        return *ret ? 0 : -ENOMEM;
}

static int read_dictionary(sd_bus_message *m, const char *contents, json_object *into) {
        int r;

        while ((r = sd_bus_message_enter_container(m, 'e', contents)) > 0) {
                json_object *value = NULL;
                const char *key;

                r = sd_bus_message_read_basic(m, contents[0], &key);
                if (r >= 0)
                        r = read_value(m, &value);
                if (r >= 0 && json_object_object_add(into, key, value) < 0)
                        r = -ENOMEM;
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

static int read_list(sd_bus_message *m, json_object *into) {
        while (sd_bus_message_at_end(m, false) == 0) {
                json_object *value = NULL;
                int r;

                r = read_value(m, &value);
                if (r >= 0 && json_object_array_add(into, value) < 0)
                        r = -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Any D-Bus value with text keys: dictionaries become objects, arrays and structs arrays, variants what they
 * hold. */
static int read_value(sd_bus_message *m, json_object **ret) {
        _cleanup_json_ json_object *object = NULL;
        _cleanup_free_ char *inner = NULL;
        const char *contents;
        bool dictionary;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (!strchr("arv", type))
                return read_basic(m, type, ret);

        inner = strdup(contents);
        if (!inner)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, type, inner);
        if (r < 0)
                return r;
        dictionary = type == 'a' && inner[0] == '{';
        if (type == 'v')
                r = read_value(m, &object);
        else if (dictionary) {
                inner[strlen(inner) - 1] = 0;
                if (!strchr("sog", inner[1]))
                        return -EOPNOTSUPP;
                object = json_object_new_object();
                r = object ? read_dictionary(m, inner + 1, object) : -ENOMEM;
        } else {
                object = json_object_new_array();
                r = object ? read_list(m, object) : -ENOMEM;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}

int client_message_to_json(sd_bus_message *m, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();
        int r;

        if (!list)
                return -ENOMEM;
        r = read_list(m, list);
        if (r < 0)
                return r;
        if (json_object_array_length(list) > 1)
                *ret = TAKE_PTR(list);
        else   /* one value, or none: null */
                *ret = json_object_get(json_object_array_get_idx(list, 0));
        return 0;
}

int client_new_call(Ctl *ctl, const char *path, const char *interface, const char *member,
                    sd_bus_message **ret, Outcome *o) {
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = client_open(ctl, o);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(ctl->bus, &m, CLIENT_NAME, path, interface, member);
        if (r >= 0)   /* who stopped the daemon wants it stopped */
                r = sd_bus_message_set_auto_start(m, false);
        if (r < 0)
                return client_error(ctl, &SD_BUS_ERROR_NULL, r, o);
        *ret = TAKE_PTR(m);
        return 0;
}

int client_send(Ctl *ctl, sd_bus_message *call, Outcome *o, json_object **ret) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_call(ctl->bus, call, 0, &error, &reply);
        if (r < 0)
                return client_error(ctl, &error, r, o);
        if (ret)
                r = client_message_to_json(reply, ret);
        return r < 0 ? outcome_set(o, OUTCOME_FAILED, "hmvisord's answer cannot be read: %s", strerror(-r))
                     : 0;
}

int client_call(Ctl *ctl, const char *path, const char *interface, const char *member, Outcome *o,
                json_object **ret, const char *types, ...) {
        _cleanup_message_ sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = client_new_call(ctl, path, interface, member, &m, o);
        if (r < 0)
                return r;
        va_start(ap, types);
        r = *types ? sd_bus_message_appendv(m, types, ap) : 0;
        va_end(ap);
        if (r < 0)   /* text that is no UTF-8, as a rule */
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "an argument cannot be sent by D-Bus: %s",
                                   strerror(-r));
        return client_send(ctl, m, o, ret);
}

int client_find_domain(Ctl *ctl, const char *name, char **ret_path, Outcome *o) {
        _cleanup_json_ json_object *path = NULL;
        int r;

        r = client_call(ctl, CLIENT_PATH, CLIENT_MANAGER, "FindDomain", o, &path, "s", name);
        if (r < 0)
                return r;
        *ret_path = strdup(json_object_get_string(path) ?: "");
        return *ret_path ? 0 : outcome_set(o, OUTCOME_FAILED, "out of memory");
}

static int get_all(Ctl *ctl, const char *path, const char *interface, json_object **ret, Outcome *o) {
        return client_call(ctl, path, "org.freedesktop.DBus.Properties", "GetAll", o, ret, "s", interface);
}

int client_get_all(Ctl *ctl, const char *interface, json_object **ret, Outcome *o) {
        return get_all(ctl, CLIENT_PATH, interface, ret, o);
}

int client_get_domain(Ctl *ctl, const char *path, json_object **ret, Outcome *o) {
        return get_all(ctl, path, CLIENT_DOMAIN, ret, o);
}

static int by_name(const void *a, const void *b) {
        return strcmp(json_text(*(json_object *const *) a, "Name"),
                      json_text(*(json_object *const *) b, "Name"));
}

int client_list_domains(Ctl *ctl, json_object **ret, Outcome *o) {
        _cleanup_json_ json_object *objects = NULL, *list = json_object_new_array();
        int r;

        r = client_call(ctl, CLIENT_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", o,
                        &objects, "");
        if (r < 0)
                return r;
        json_object_object_foreach(objects, path, interfaces) {
                json_object *domain = json_member(interfaces, CLIENT_DOMAIN);

                (void) path;
                if (domain && json_object_array_add(list, json_object_get(domain)) < 0)
                        return outcome_set(o, OUTCOME_FAILED, "out of memory");
        }
        json_object_array_sort(list, by_name);
        *ret = TAKE_PTR(list);
        return 0;
}

json_object *json_member(json_object *object, const char *key) {
        json_object *value = NULL;

        return json_object_is_type(object, json_type_object) &&
                               json_object_object_get_ex(object, key, &value)
                       ? value
                       : NULL;
}

const char *json_text(json_object *object, const char *key) {
        json_object *value = json_member(object, key);

        return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

uint64_t json_number(json_object *object, const char *key) {
        return json_object_get_uint64(json_member(object, key));
}

int64_t json_signed(json_object *object, const char *key) {
        return json_object_get_int64(json_member(object, key));
}

bool json_flag(json_object *object, const char *key) {
        return json_object_get_boolean(json_member(object, key));
}
