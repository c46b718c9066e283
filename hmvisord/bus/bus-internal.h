/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of this folder share: the connection, how methods are declared, and how answers are
 * written. Nobody else includes it.
 */
#pragma once

#include <systemd/sd-bus.h>

#include "bus/bus.h"

#define BUS_NAME "org.hmvisor1"
#define BUS_PATH "/org/hmvisor1"
#define BUS_DOMAIN_PATH BUS_PATH "/domain"
#define BUS_MANAGER BUS_NAME ".Manager"
#define BUS_DOMAIN BUS_NAME ".Domain"
#define BUS_MARKET BUS_NAME ".Market"

/* Of strings that callers send. libvirt's own limit of a name is far above what it accepts in practice. */
#define BUS_DOMAIN_NAME_MAX 255
#define BUS_WORDS_MAX 4096
#define BUS_EXPLAIN_MAX 1000

typedef struct Request Request;

struct Bus {
        sd_event *event;
        Manager *manager;
        sd_bus *bus;                  /* NULL while there is no connection */
        sd_event_source *reconnect;
        usec_t backoff_usec;
        bool outage_logged;
        bool libvirt_connected;       /* as last told on the bus */
        DomainView view;              /* of the object that sd-bus is dealing with: see bus_find_domain() */
        Request *requests;            /* waiting for polkit */
};

#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)

/* What a method does once it is allowed: replies to m now, or keeps a reference and replies later. uuid is
 * "" for the entry object. A negative return becomes an error reply. */
typedef int (*MethodRun)(Bus *b, sd_bus_message *m, const char *uuid);

typedef struct Method {
        const char *member;
        const char *action;           /* of polkit; NULL: open to all, as the properties are */
        MethodRun run;
} Method;

extern const Method manager_methods[], domain_methods[], market_methods[];   /* end with a NULL member */
extern const sd_bus_vtable manager_vtable[], domain_vtable[], market_vtable[];

/* The vtables' handler of every method: authorizes by the tables above, then runs. userdata is the Bus. */
int bus_method(sd_bus_message *m, void *userdata, sd_bus_error *ret_error);
void bus_drop_requests(Bus *b);

/* bus-metrics.c, of the entry object. */
int bus_run_get_metrics(Bus *b, sd_bus_message *m, const char *unused);

/* Fill b->view from an object path; sd-bus calls it before it asks for properties. */
int bus_find_domain(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                    sd_bus_error *ret_error);
int bus_domain_path(const char *uuid, char **ret);

void bus_emit_domain_changed(Bus *b, const char *uuid);
void bus_emit_counters_changed(Bus *b, const char *uuid);
void bus_emit_market_event(Bus *b, const ManagerEvent *event);

/* Texts come from guests and from callers: what goes out is UTF-8 without control characters. */
int message_append_text(sd_bus_message *m, const char *text);
int message_append_entry(sd_bus_message *m, const char *key, const char *type, ...); /* {sv}, s is cleaned */
int reply_outcome(sd_bus_message *m, const Outcome *o);
int reply_text(sd_bus_message *m, const char *text);

/* Reads one string of at most max bytes; o says what is wrong with it, by the name of the argument. */
int message_read_text(sd_bus_message *m, const char *argument, size_t max, const char **ret, Outcome *o);

/* ManagerReply: answer the message (whose reference they take) with the text, or with nothing. */
void reply_with_text(const Outcome *o, const char *text, void *userdata);
void reply_with_nothing(const Outcome *o, const char *text, void *userdata);
