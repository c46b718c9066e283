/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Who may call a method: root always, everybody else when polkit says so; without polkit only root. Asks
 * both the bus (for the caller's user) and polkit asynchronously, so a slow answer holds nobody up. Knows
 * the methods' actions from their tables only.
 */
#include "bus/bus-internal.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_ALLOW_INTERACTION 1U   /* CheckAuthorizationFlags of polkit's D-Bus interface */
/* A person may have to type a password. */
#define POLKIT_TIMEOUT_USEC (120 * USEC_PER_SEC)
/* A caller with more waiting is at fault, and others need room too. */
#define REQUESTS_PER_CALLER 16
#define REQUESTS_MAX 512

struct Request {
        Bus *bus;
        sd_bus_message *message;
        sd_bus_slot *slot;
        const Method *method;
        Request *next;
};

static void request_free(Request *r) {
        for (Request **p = &r->bus->requests; *p; p = &(*p)->next)
                if (*p == r) {
                        *p = r->next;
                        break;
                }
        sd_bus_slot_unref(r->slot);
        sd_bus_message_unref(r->message);
        free(r);
}

void bus_drop_requests(Bus *b) {
        while (b->requests)
                request_free(b->requests);
}

static void request_deny(Request *r, const char *why) {
        Outcome o;

        (void) outcome_set(&o, OUTCOME_DENIED, "'%s' is not allowed: %s", r->method->member, why);
        (void) reply_outcome(r->message, &o);
        request_free(r);
}

static int method_run(Bus *b, const Method *method, sd_bus_message *m) {
        _cleanup_free_ char *uuid = NULL;
        int r;

        r = sd_bus_path_decode(sd_bus_message_get_path(m), BUS_DOMAIN_PATH, &uuid);
        if (r >= 0)
                r = method->run(b, m, uuid ?: "");
        if (r < 0)
                r = sd_bus_reply_method_errnof(m, r, "'%s' failed inside the daemon: %s", method->member,
                                               strerror(-r));
        return r < 0 ? r : 1;
}

static void request_run(Request *r) {
        (void) method_run(r->bus, r->method, r->message);
        request_free(r);
}

static int on_polkit_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Request *r = userdata;
        int authorized = false, challenge = false;

        if (sd_bus_message_is_method_error(reply, NULL)) {
                request_deny(
                        r, "polkit does not answer, and without it only root may; start polkit or use sudo");
                return 0;
        }
        if (sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(reply, "bb", &authorized, &challenge) < 0)
                request_deny(r, "polkit's answer makes no sense");
        else if (authorized)
                request_run(r);
        else if (challenge)
                request_deny(r, "polkit wants a password and nobody could be asked; use sudo, or a session "
                                "with a polkit agent");
        else
                request_deny(r, "polkit says no to this user; use sudo, or allow it in a polkit rule");
        return 0;
}

static int polkit_ask(Request *r) {
        _cleanup_message_ sd_bus_message *call = NULL;
        bool interactive = sd_bus_message_get_allow_interactive_authorization(r->message) > 0;
        int k;

        k = sd_bus_message_new_method_call(r->bus->bus, &call, POLKIT_NAME,
                                           "/org/freedesktop/PolicyKit1/Authority", POLKIT_NAME ".Authority",
                                           "CheckAuthorization");
        if (k >= 0)
                k = sd_bus_message_append(call, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                          sd_bus_message_get_sender(r->message), r->method->action, 0,
                                          interactive ? POLKIT_ALLOW_INTERACTION : 0, "");
        if (k < 0)
                return k;
        return sd_bus_call_async(r->bus->bus, &r->slot, call, on_polkit_answer, r, POLKIT_TIMEOUT_USEC);
}

static int on_caller_uid(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Request *r = userdata;
        uint32_t uid;

        r->slot = sd_bus_slot_unref(r->slot);
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "u", &uid) < 0)
                request_deny(r, "the bus does not know the caller");
        else if (uid == 0)
                request_run(r);
        else if (polkit_ask(r) < 0)
                request_deny(r, "polkit could not be asked");
        return 0;
}

static const Method *method_find(const char *interface, const char *member) {
        const Method *methods = streq_ptr(interface, BUS_DOMAIN)   ? domain_methods
                                : streq_ptr(interface, BUS_MARKET) ? market_methods
                                                                   : manager_methods;

        for (; methods->member; methods++)
                if (streq_ptr(methods->member, member))
                        return methods;
        return NULL;
}

int bus_method(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const char *sender = sd_bus_message_get_sender(m);
        const Method *method;
        size_t all = 0, own = 0;
        Bus *b = userdata;
        Request *r;
        int k;

        method = method_find(sd_bus_message_get_interface(m), sd_bus_message_get_member(m));
        if (!method)
                return -EOPNOTSUPP;
        if (!method->action)
                return method_run(b, method, m);

        for (r = b->requests; r; r = r->next) {
                all++;
                own += streq_ptr(sd_bus_message_get_sender(r->message), sender);
        }
        if (own >= REQUESTS_PER_CALLER || all >= REQUESTS_MAX)
                return sd_bus_error_set(ret_error, outcome_bus_name(OUTCOME_DENIED),
                                        "too many requests wait for polkit; wait for answers first");

        r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        *r = (Request) { .bus = b, .message = sd_bus_message_ref(m), .method = method, .next = b->requests };
        b->requests = r;

        k = sd_bus_call_method_async(b->bus, &r->slot, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                     "org.freedesktop.DBus", "GetConnectionUnixUser", on_caller_uid, r, "s",
                                     sender);
        if (k < 0) {
                request_free(r);
                return k;
        }
        return 1;
}
