/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See complete.h.
 */
#include "complete.h"

#include "client.h"

typedef struct Completion {
        const char *prefix;      /* what the last word has so far */
        const char *before;      /* of that word, kept in front of candidates: "--domain=" */
        WordList *list;
} Completion;

static const char *const event_kinds[] = { "phase",     "order",        "bind",  "unbind", "policy",
                                           "connected", "disconnected", "trade", "resize", "market" };

static void offer(Completion *c, const char *candidate) {
        size_t prefix = strlen(c->prefix);
        char **bigger, *word;

        if (strncmp(candidate, c->prefix, prefix) != 0)
                return;
        for (size_t i = 0; i < c->list->n; i++)
                if (streq(c->list->words[i] + strlen(c->before), candidate))
                        return;
        bigger = reallocarray(c->list->words, c->list->n + 2, sizeof(*bigger));
        if (!bigger)
                return;
        c->list->words = bigger;
        if (asprintf(&word, "%s%s", c->before, candidate) < 0)
                return;
        c->list->words[c->list->n++] = word;
        c->list->words[c->list->n] = NULL;
}

static void offer_domains(Completion *c, Ctl *ctl) {
        _cleanup_json_ json_object *domains = NULL;

        if (client_list_domains(ctl, &domains, NULL) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(domains); i++)
                offer(c, json_text(json_object_array_get_idx(domains, i), "Name"));
}

/* Keys of the domain's policy; for settings with the = behind. */
static void offer_keys(Completion *c, Ctl *ctl, const char *domain, bool settings) {
        _cleanup_json_ json_object *words = NULL;
        _cleanup_free_ char *path = NULL, *copy = NULL;
        char *word, *rest;

        if (!domain || client_find_domain(ctl, domain, &path, NULL) < 0 ||
            client_call(ctl, path, CLIENT_DOMAIN, "GetPolicy", NULL, &words, "") < 0)
                return;
        rest = copy = strdup(json_object_get_string(words) ?: "");
        while (rest && (word = strsep(&rest, " "))) {
                char *end = strchr(word, '=');

                if (end)
                        end[settings ? 1 : 0] = 0;
                if (*word)
                        offer(c, word);
        }
}

/* The first words of all verbs, or the second ones of those that begin with `first`. */
static void offer_verbs(Completion *c, const char *first, bool whole) {
        for (const VerbGroup *g = verb_groups; g->keyword; g++)
                for (const Verb *v = g->verbs; v->name; v++) {
                        size_t len = strcspn(v->name, " ");
                        char word[32];

                        if (v->flags & VERB_HIDDEN)
                                continue;
                        if (first) {
                                if (v->name[len] && strlen(first) == len &&
                                    strncmp(v->name, first, len) == 0)
                                        offer(c, v->name + len + 1);
                                continue;
                        }
                        snprintf(word, sizeof(word), "%.*s", (int) (whole ? strlen(v->name) : len), v->name);
                        offer(c, word);
                }
}

static void offer_topics(Completion *c) {
        offer_verbs(c, NULL, false);
        for (const VerbGroup *g = verb_groups; g->keyword; g++)
                offer(c, g->keyword);
}

static void offer_value(Completion *c, Ctl *ctl, OptionType type, const char *domain) {
        switch (type) {
        case OPTION_DOMAIN:
                offer_domains(c, ctl);
                break;
        case OPTION_KIND:
                for (size_t i = 0; i < ELEMENTSOF(event_kinds); i++)
                        offer(c, event_kinds[i]);
                break;
        case OPTION_KEYS:
        case OPTION_SETTINGS:
                offer_keys(c, ctl, domain, type == OPTION_SETTINGS);
                break;
        case OPTION_SWITCH:
                offer(c, "on");
                offer(c, "off");
                break;
        case OPTION_TOPIC:
                offer_topics(c);
                break;
        default:
                break;   /* sizes, times and numbers: nothing to suggest */
        }
}

static const Option *option_named(const Verb *verb, const char *word) {
        size_t len = strcspn(word, "=");

        for (int i = 0; i < OPTIONS_MAX && verb->options[i].name; i++)
                if (strlen(verb->options[i].name) == len && strncmp(verb->options[i].name, word, len) == 0)
                        return &verb->options[i];
        return NULL;
}

/* Walks over a verb's complete arguments: which options are used, and which one wants the last word as
 * value. */
static void complete_argument(Completion *c, Ctl *ctl, const Verb *verb, char *const *words, size_t n) {
        bool used[OPTIONS_MAX] = { 0 };
        const Option *wants = NULL;
        const char *domain = NULL, *equals;

        for (size_t i = 0; i + 1 < n; i++) {
                const Option *option = NULL;
                const char *value = words[i];

                if (wants) {
                        option = wants;
                        wants = NULL;
                } else if (strncmp(words[i], "--", 2) == 0) {
                        option = option_named(verb, words[i] + 2);
                        value = strchr(words[i], '=');
                        value = value ? value + 1 : NULL;
                        if (option && option->type != OPTION_FLAG && !value)
                                wants = option;
                } else
                        for (int k = 0; k < OPTIONS_MAX && verb->options[k].name && !option; k++)
                                if ((verb->options[k].flags & OPTION_POSITIONAL) && !used[k])
                                        option = &verb->options[k];
                if (!option)
                        continue;
                used[option - verb->options] = !option_takes_words(option->type);
                if (option->type == OPTION_DOMAIN && value)
                        domain = value;
        }

        equals = strchr(c->prefix, '=');
        if (wants) {
                offer_value(c, ctl, wants->type, domain);
                return;
        }
        if (strncmp(c->prefix, "--", 2) == 0 && equals) {   /* --domain=na… */
                const Option *option = option_named(verb, c->prefix + 2);
                _cleanup_free_ char *before = strndup(c->prefix, (size_t) (equals - c->prefix) + 1);

                if (!option || !before)
                        return;
                c->before = before;
                c->prefix = equals + 1;
                offer_value(c, ctl, option->type, domain);
                return;
        }
        if (*c->prefix != '-')
                for (int k = 0; k < OPTIONS_MAX && verb->options[k].name; k++)
                        if ((verb->options[k].flags & OPTION_POSITIONAL) && !used[k]) {
                                offer_value(c, ctl, verb->options[k].type, domain);
                                break;
                        }
        if (*c->prefix == '-' || c->list->n == 0)
                for (int k = 0; k < OPTIONS_MAX && verb->options[k].name; k++) {
                        char word[40];

                        snprintf(word, sizeof(word), "--%s", verb->options[k].name);
                        if (!used[k] && !option_takes_words(verb->options[k].type))
                                offer(c, word);
                }
        if (*c->prefix == '-' && !(verb->flags & VERB_NO_JSON))
                offer(c, "--json");
}

/* hmvctl's own options in front of the verb; returns how many words they take. */
static size_t skip_global_options(char *const *words, size_t n) {
        static const char *const with_value[] = { "-c", "--connect", "-H", "--host" };
        size_t i = 0;

        while (i + 1 < n && words[i][0] == '-') {
                bool value = false;

                for (size_t k = 0; k < ELEMENTSOF(with_value); k++)
                        value |= streq(words[i], with_value[k]);
                i += value ? 2 : 1;
        }
        return MIN(i, n);
}

void complete_words(Ctl *ctl, char *const *words, size_t n, WordList *ret) {
        static const char *const global[] = { "--connect",  "--host",    "--json", "--quiet",
                                              "--readonly", "--version", "--help" };
        Completion c = { .before = "", .list = ret };
        const Verb *verb;
        size_t used, skip = skip_global_options(words, n);

        *ret = (WordList) { 0 };
        if (skip >= n)
                return;
        words += skip;
        n -= skip;
        c.prefix = words[n - 1];

        verb = verb_find(words, n - 1, &used);
        if (verb && !(verb->flags & VERB_HIDDEN))
                complete_argument(&c, ctl, verb, words + used, n - used);
        else if (n == 1 && *c.prefix == '-')
                for (size_t i = 0; i < ELEMENTSOF(global); i++)
                        offer(&c, global[i]);
        else if (n == 1)
                offer_verbs(&c, NULL, false);
        else if (n == 2)
                offer_verbs(&c, words[0], false);
}
