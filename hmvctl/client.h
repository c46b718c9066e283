/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon, as the verbs see it: calls that give JSON or an Outcome. The only file that speaks D-Bus, but
 * for the signals in events.c.
 */
#pragma once

#include <json-c/json.h>

#include "verb.h"

#define CLIENT_NAME "org.hmvisor1"
#define CLIENT_PATH "/org/hmvisor1"
#define CLIENT_MANAGER CLIENT_NAME ".Manager"
#define CLIENT_DOMAIN CLIENT_NAME ".Domain"
#define CLIENT_MARKET CLIENT_NAME ".Market"

static inline void json_putp(json_object **j) {
        json_object_put(*j);
}
#define _cleanup_json_ _cleanup_(json_putp)
#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)

/* Opens ctl->bus when it is not open. NO_DAEMON when there is no bus. */
int client_open(Ctl *ctl, Outcome *o);
void client_close(Ctl *ctl);

/* Calls a method with arguments as sd_bus_message_append() takes them. *ret (may be NULL) is the answer: of
 * one value that value, of none null. */
int client_call(Ctl *ctl, const char *path, const char *interface, const char *member, Outcome *o,
                json_object **ret, const char *types, ...);
/* The same in steps, for arguments that need containers. */
int client_new_call(Ctl *ctl, const char *path, const char *interface, const char *member,
                    sd_bus_message **ret, Outcome *o);
int client_send(Ctl *ctl, sd_bus_message *call, Outcome *o, json_object **ret);

/* The object path of a domain by name, id or UUID; the caller frees. */
int client_find_domain(Ctl *ctl, const char *name, char **ret_path, Outcome *o);
/* All properties of the entry object, by one of its interfaces; of a domain. */
int client_get_all(Ctl *ctl, const char *interface, json_object **ret, Outcome *o);
int client_get_domain(Ctl *ctl, const char *path, json_object **ret, Outcome *o);
/* An array of the properties of all domains, by name. */
int client_list_domains(Ctl *ctl, json_object **ret, Outcome *o);

/* Fills o from a failed call. */
int client_error(Ctl *ctl, const sd_bus_error *error, int r, Outcome *o);

/* The contents of a message from where it is read, as client_call() gives it. */
int client_message_to_json(sd_bus_message *m, json_object **ret);

/* Members of an object; "" and 0 when there are none. */
const char *json_text(json_object *object, const char *key);
uint64_t json_number(json_object *object, const char *key);
int64_t json_signed(json_object *object, const char *key);
bool json_flag(json_object *object, const char *key);
json_object *json_member(json_object *object, const char *key);
