/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One value of the configuration or of a policy, as text: its kind, its bounds, and where it is kept. The
 * tables of conf.c and conf-policy.c are made of these; parsing, checking, printing and the manual's bounds
 * come from them.
 */
#pragma once

#include "base/outcome.h"

typedef enum ConfKind {
        CONF_BOOL,        /* bool: yes/no */
        CONF_SIZE,        /* uint64_t, bytes */
        CONF_TIME,        /* usec_t */
        CONF_U32,
        CONF_U64,
        CONF_STRING,      /* char *, NULL when empty */
        CONF_PATH,        /* char *, absolute */
        CONF_NODES,       /* char *, "0,2-3" */
        CONF_LOG_LEVEL,   /* int */
        CONF_NAME,        /* char[POLICY_NAME_SIZE], letters and digits, "" when empty */
} ConfKind;

typedef struct ConfKey {
        const char *section;
        const char *key;
        ConfKind kind;
        size_t offset;
        uint64_t min, max;
} ConfKey;

/* Sets the field of `owner`. On -EINVAL (or -ENOMEM) it is unchanged and `allowed` says what would have been
 * taken. */
#define CONF_ALLOWED_MAX 128
int conf_value_parse(const ConfKey *k, const char *text, void *owner, char allowed[static CONF_ALLOWED_MAX]);
/* Writes the text that conf_value_parse() reads back to the same value. */
void conf_value_print(const ConfKey *k, const void *owner, FILE *f);
bool conf_value_equal(const ConfKey *k, const void *a, const void *b);
/* A copy of the value; 0 or -ENOMEM. */
int conf_value_copy(const ConfKey *k, const void *from, void *to);
bool conf_kind_is_string(ConfKind kind);

/* The keys of a domain's policy (conf-policy.c); offsets are in DomainPolicy. */
extern const ConfKey conf_policy_keys[];
extern const size_t n_conf_policy_keys;
