/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What all answers have in common: libvirt hands on {"return": ...} or {"error": {"class", "desc"}} of QEMU
 * and of the guest's agent. Bounded readers of single members, as whatever they hold may come from a hostile
 * guest.
 */
#pragma once

#include <json-c/json.h>

#include "base/cleanup.h"

/* libvirt passes on 4 MiB, of which JSON of many small values makes 150 MiB and holds the daemon up for a
 * second. No answer of ours is that long: the longest has 64 ranges of less than 256 bytes. */
#define REPLY_TEXT_MAX (64 * 1024)
#define REPLY_NUMBER_MAX                                                                                    \
        (UINT64_C(1) << 53) /* more is no count of anything, and JSON readers disagree on it */

static inline void json_object_putp(json_object **o) {
        if (*o)
                json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(json_object_putp)

/* What QEMU answers instead of a result. */
typedef struct ReplyError {
        char class[64];
        char text[256];
} ReplyError;

/* Reads a whole answer. Returns 0 with *ret_root (the caller's, put it) and *ret_value, the member "return"
 * of it; -EREMOTEIO with ret_error filled when the answer is an error; -EBADMSG when it is no answer;
 * -ENOMEM. */
int reply_parse(const char *text, json_object **ret_root, json_object **ret_value, ReplyError *ret_error);

/* Members of an object, or -EBADMSG when one has the wrong type or is out of bounds, -ENODATA when it is
 * absent. */
int reply_get_number(json_object *o, const char *key, uint64_t max, uint64_t *ret);
/* Control characters become '?'; a text that is too long is cut between characters. */
int reply_get_text(json_object *o, const char *key, char *buf, size_t size);
int reply_get_list(json_object *o, const char *key, size_t max, json_object **ret, size_t *ret_n);

/* Copies a text of others as reply_get_text() does. */
void reply_copy_text(char *buf, size_t size, const char *text);

/* The text of a request; takes over `request`, which may be NULL (out of memory). The caller frees *ret. */
int request_to_text(json_object *request, char **ret);
/* {"execute": command, "arguments": arguments}; takes over arguments, which may be NULL. */
int request_new(const char *command, json_object *arguments, char **ret);
