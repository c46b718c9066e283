/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Finding a verb and checking its arguments against the table. Knows no verb by name.
 */
#include "verb.h"

#include "base/units.h"
#include "client.h"
#include "help.h"
#include "words.h"

const VerbGroup verb_groups[] = {
        { "domain", "Domains", verbs_domain },
        { "observe", "What happens", verbs_observe },
        { "policy", "Policy", verbs_policy },
        { "market", "Market", verbs_market },
        { "host", "Host and daemon", verbs_host },
        { "self", "hmvctl itself", verbs_self },
        { 0 },
};

const Option option_json = { "json", OPTION_FLAG, 0, "print JSON" };

static const struct {
        const char *value_name, *what;
} types[_OPTION_TYPE_MAX] = {
        [OPTION_FLAG] = { NULL, NULL },
        [OPTION_DOMAIN] = { "DOMAIN", "a domain's name, id or UUID" },
        [OPTION_SIZE] = { "SIZE", "a size such as 512M or 4G" },
        [OPTION_NUMBER] = { "N", "a whole number from 1 to 1000000" },
        [OPTION_TIME] = { "TIME", "a time such as 10s, 500ms or 2min" },
        [OPTION_KIND] = { "KIND", "a kind of event" },
        [OPTION_SWITCH] = { "on|off", "on or off" },
        [OPTION_NAME] = { "NAME", "a name" },
        [OPTION_FILE] = { "PATH", "a path" },
        [OPTION_KEYS] = { "KEY", "keys" },
        [OPTION_SETTINGS] = { "KEY=VALUE", "settings such as RateCap=64M" },
        [OPTION_TOPIC] = { "VERB|GROUP", "a verb or a group" },
        [OPTION_RAW] = { "WORD", "words" },
};

const char *option_value_name(OptionType type) {
        return types[type].value_name;
}

static bool name_matches(const char *name, char *const *words, size_t n, size_t *ret_used) {
        const char *space = strchr(name, ' ');

        if (!space) {
                *ret_used = 1;
                return n >= 1 && streq(name, words[0]);
        }
        *ret_used = 2;
        return n >= 2 && strlen(words[0]) == (size_t) (space - name) &&
               strncmp(name, words[0], strlen(words[0])) == 0 && streq(space + 1, words[1]);
}

const Verb *verb_find(char *const *words, size_t n, size_t *ret_used) {
        for (const VerbGroup *g = verb_groups; g->keyword; g++)
                for (const Verb *v = g->verbs; v->name; v++)
                        if (name_matches(v->name, words, n, ret_used))
                                return v;
        return NULL;
}

static int number_parse(const char *text, uint64_t *ret) {
        char *end;

        errno = 0;
        *ret = strtoull(text, &end, 10);
        return errno != 0 || *text < '0' || *text > '9' || *end || *ret < 1 || *ret > 1000000 ? -EINVAL : 0;
}

static int value_check(const Option *option, const char *value, Outcome *o) {
        uint64_t ignored;
        bool good;

        switch (option->type) {
        case OPTION_SIZE:
                good = size_parse(value, &ignored) >= 0;
                break;
        case OPTION_NUMBER:
                good = number_parse(value, &ignored) >= 0;
                break;
        case OPTION_TIME:
                good = time_parse(value, &ignored) >= 0;
                break;
        case OPTION_SWITCH:
                good = streq(value, "on") || streq(value, "off");
                break;
        case OPTION_SETTINGS:
                good = strchr(value, '=') && *value != '=' && !strpbrk(value, " \t\n");
                break;
        case OPTION_NAME:
                good = true;   /* empty for none; hmvisord knows what makes a name */
                break;
        default:
                good = *value != 0;
        }
        if (good)
                return 0;
        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s%s: '%s' is not %s",
                           option_takes_words(option->type) ? "" : "--",
                           option_takes_words(option->type) ? "argument" : option->name, value,
                           types[option->type].what);
}

/* The option that "--name" or "--name=value" names: its index, or -1. */
static int option_index(const Verb *verb, const char *word, size_t len) {
        for (int i = 0; i < OPTIONS_MAX && verb->options[i].name; i++)
                if (strlen(verb->options[i].name) == len && strncmp(verb->options[i].name, word, len) == 0)
                        return i;
        return -1;
}

static int next_positional(const Args *a) {
        for (int i = 0; i < OPTIONS_MAX && a->verb->options[i].name; i++)
                if ((a->verb->options[i].flags & OPTION_POSITIONAL) && !a->values[i])
                        return i;
        return -1;
}

static int args_parse_option(Ctl *ctl, Args *a, char *const *words, size_t n, size_t *i, Outcome *o) {
        const char *name = words[*i] + 2, *value = strchr(name, '=');
        size_t len = value ? (size_t) (value - name) : strlen(name);
        int k = option_index(a->verb, name, len);
        const Option *option;

        if (k < 0 && len == strlen("help") && strncmp(name, "help", len) == 0) {
                a->help = true;
                return 0;
        }
        if (k < 0 && streq(name, option_json.name) && !(a->verb->flags & VERB_NO_JSON)) {
                ctl->json = true;
                return 0;
        }
        if (k < 0 || option_takes_words(a->verb->options[k].type))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "'%s' has no option '%s'; see 'hmvctl help %s'",
                                   a->verb->name, words[*i], a->verb->name);
        option = &a->verb->options[k];
        if (a->values[k])
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "--%s is given twice", option->name);
        if (option->type == OPTION_FLAG) {
                if (value)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "--%s takes no value", option->name);
                a->values[k] = "";
                return 0;
        }
        if (!value && *i + 1 >= n)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "--%s wants %s", option->name,
                                   types[option->type].what);
        a->values[k] = value ? value + 1 : words[++*i];
        return value_check(option, a->values[k], o);
}

static int args_parse_positional(Args *a, char *const *words, size_t n, size_t *i, Outcome *o) {
        int k = next_positional(a);
        const Option *option;
        int r;

        if (k < 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "'%s' has no use for '%s'; see 'hmvctl help %s'",
                                   a->verb->name, words[*i], a->verb->name);
        option = &a->verb->options[k];
        a->values[k] = words[*i];
        r = value_check(option, words[*i], o);
        if (r < 0 || !option_takes_words(option->type))
                return r;

        a->words = words + *i;
        a->n_words = 1;
        while (*i + 1 < n && (option->type == OPTION_RAW || words[*i + 1][0] != '-')) {
                r = value_check(option, words[++*i], o);
                if (r < 0)
                        return r;
                a->n_words++;
        }
        return 0;
}

int args_parse(Ctl *ctl, const Verb *verb, char *const *words, size_t n, Args *ret, Outcome *o) {
        bool raw = verb->options[0].name && verb->options[0].type == OPTION_RAW, options = !raw;
        Args a = { .verb = verb };
        int r;

        for (size_t i = 0; i < n; i++) {
                if ((options || i == 0) && streq(words[i], "--")) {
                        options = false;
                        continue;
                }
                if (options && words[i][0] == '-' && words[i][1] == '-')
                        r = args_parse_option(ctl, &a, words, n, &i, o);
                else if (options && words[i][0] == '-' && words[i][1])
                        r = outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                        "'%s' has no option '%s'; see 'hmvctl help %s'", verb->name,
                                        words[i], verb->name);
                else if (raw) {
                        a.words = words + i;
                        a.n_words = n - i;
                        break;
                } else
                        r = args_parse_positional(&a, words, n, &i, o);
                if (r < 0)
                        return r;
        }
        for (int i = 0; !a.help && i < OPTIONS_MAX && verb->options[i].name; i++)
                if ((verb->options[i].flags & OPTION_REQUIRED) && !a.values[i])
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "'%s' wants %s%s (%s); see 'hmvctl help %s'", verb->name,
                                           verb->options[i].flags & OPTION_POSITIONAL ? "" : "--",
                                           verb->options[i].flags & OPTION_POSITIONAL
                                                   ? option_value_name(verb->options[i].type)
                                                   : verb->options[i].name,
                                           types[verb->options[i].type].what, verb->name);
        *ret = a;
        return 0;
}

const char *args_text(const Args *a, const char *name) {
        int k = option_index(a->verb, name, strlen(name));

        return k < 0 ? NULL : a->values[k];
}

bool args_flag(const Args *a, const char *name) {
        return args_text(a, name) != NULL;
}

uint64_t args_size(const Args *a, const char *name) {
        const char *text = args_text(a, name);
        uint64_t v = 0;

        return text && size_parse(text, &v) >= 0 ? v : 0;
}

uint64_t args_number(const Args *a, const char *name) {
        const char *text = args_text(a, name);
        uint64_t v = 0;

        return text && number_parse(text, &v) >= 0 ? v : 0;
}

usec_t args_time(const Args *a, const char *name) {
        const char *text = args_text(a, name);
        usec_t v = 0;

        return text && time_parse(text, &v) >= 0 ? v : 0;
}

int verb_run(Ctl *ctl, char *const *words, size_t n, Outcome *o) {
        bool json = ctl->json;
        const Verb *verb;
        size_t used;
        Args args;
        int r;

        verb = verb_find(words, n, &used);
        if (!verb)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "'%s' is no command; 'hmvctl help' lists them",
                                   words[0]);
        r = args_parse(ctl, verb, words + used, n - used, &args, o);
        if (r >= 0 && args.help)
                help_print_verb(ctl->out, verb);
        else if (r >= 0 && ctl->readonly && (verb->flags & VERB_CHANGES))
                r = outcome_set(o, OUTCOME_DENIED, "'%s' changes something, which -r forbids", verb->name);
        else if (r >= 0)
                r = verb->run(ctl, &args, o);
        ctl->json = json;   /* --json behind a verb is for that command alone */
        return r;
}

int verb_run_text(Ctl *ctl, const char *text, Outcome *o) {
        int r = 0;

        while (r >= 0 && !ctl->quit) {
                _cleanup_(word_list_done) WordList w = { 0 };

                r = words_next(&text, &w, o);
                if (r == 0)
                        break;
                if (r > 0 && w.n > 0)
                        r = verb_run(ctl, w.words, w.n, o);
        }
        return MIN(r, 0);
}
