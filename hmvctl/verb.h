/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a verb is: data. Parsing, help, completion and the check of the manual all read the same tables,
 * which the verbs-*.c files hold, one per group. Owns no state beyond the Ctl that main() makes.
 */
#pragma once

#include <systemd/sd-bus.h>

#include "base/outcome.h"

/* One run of hmvctl. */
typedef struct Ctl {
        const char *address, *host;    /* -c, -H; NULL: the system bus */
        bool quiet, readonly, json;    /* -q, -r, -j */
        bool interactive;              /* in the shell */
        bool quit;                     /* the shell shall end */
        FILE *out;
        sd_bus *bus;                   /* opened on first use; client.c */
} Ctl;

typedef enum OptionType {
        OPTION_FLAG,
        OPTION_DOMAIN,
        OPTION_SIZE,
        OPTION_NUMBER,
        OPTION_TIME,
        OPTION_KIND,       /* of an event */
        OPTION_SWITCH,     /* on or off */
        OPTION_NAME,
        OPTION_FILE,
        OPTION_KEYS,       /* words, names of policy keys */
        OPTION_SETTINGS,   /* words, KEY=VALUE */
        OPTION_TOPIC,      /* words, a verb or a group */
        OPTION_RAW,        /* words, taken as they are, also those with dashes */
        _OPTION_TYPE_MAX,
} OptionType;

enum {
        OPTION_REQUIRED = 1 << 0,
        OPTION_POSITIONAL = 1 << 1,   /* may also be given as --name VALUE */
};

typedef struct Option {
        const char *name;
        OptionType type;
        unsigned flags;
        const char *help;
} Option;

#define OPTIONS_MAX 12

typedef struct Args Args;
typedef struct Verb Verb;

enum {
        VERB_CHANGES = 1 << 0,   /* refused with -r */
        VERB_HIDDEN = 1 << 1,
        VERB_NO_JSON = 1 << 2,   /* has no result that JSON could hold */
};

/* run returns 0, or < 0 with o filled. */
struct Verb {
        const char *name;        /* may be two words, as "policy set" */
        const char *summary;     /* one line */
        const char *description;
        Option options[OPTIONS_MAX];   /* ends with a NULL name */
        int (*run)(Ctl *ctl, const Args *args, Outcome *o);
        unsigned flags;
};

typedef struct VerbGroup {
        const char *keyword, *title;
        const Verb *verbs;       /* ends with a NULL name */
} VerbGroup;

extern const VerbGroup verb_groups[];   /* ends with a NULL keyword */
extern const Verb verbs_domain[], verbs_observe[], verbs_policy[], verbs_market[], verbs_host[],
        verbs_self[];

/* A verb's arguments, checked against its options. Strings belong to the words that were parsed. */
struct Args {
        const Verb *verb;
        const char *values[OPTIONS_MAX];   /* by option; NULL: not given; flags: "" */
        char *const *words;                /* of the option that takes words */
        size_t n_words;
        bool help;                         /* --help was given */
};

/* An option that all verbs have but those with VERB_NO_JSON. */
extern const Option option_json;

/* The verb that the words begin with, and how many words its name takes; NULL when there is none. */
const Verb *verb_find(char *const *words, size_t n, size_t *ret_used);

/* Checks the words behind the verb's name. ctl->json may be set. BAD_ARGUMENT says what is wrong. */
int args_parse(Ctl *ctl, const Verb *verb, char *const *words, size_t n, Args *ret, Outcome *o);

/* By name, which must be one of the verb's options. Numbers were checked by args_parse(); absent is 0. */
const char *args_text(const Args *a, const char *name);
bool args_flag(const Args *a, const char *name);
uint64_t args_size(const Args *a, const char *name);
uint64_t args_number(const Args *a, const char *name);
usec_t args_time(const Args *a, const char *name);

/* "SIZE", "DOMAIN", ...; NULL for a flag. */
const char *option_value_name(OptionType type);
static inline bool option_takes_words(OptionType type) {
        return type >= OPTION_KEYS;
}

/* Runs one command: words as typed. Prints nothing of errors: o has them. */
int verb_run(Ctl *ctl, char *const *words, size_t n, Outcome *o);
/* Runs commands separated by ; or newlines, until one fails. */
int verb_run_text(Ctl *ctl, const char *text, Outcome *o);
