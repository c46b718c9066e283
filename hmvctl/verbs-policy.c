/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verbs of group "policy": the settings of one domain. Their names and values are the daemon's business.
 */
#include "client.h"
#include "table.h"

/* "Managed=yes RateCap=64M" into an object of texts. */
static json_object *policy_to_json(const char *words) {
        _cleanup_free_ char *copy = strdup(words);
        json_object *policy = json_object_new_object();
        char *word, *rest = copy;

        while (copy && (word = strsep(&rest, " "))) {
                char *value = strchr(word, '=');

                if (!value)
                        continue;
                *value++ = 0;
                json_object_object_add(policy, word, json_object_new_string(value));
        }
        return policy;
}

static int run_get(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_json_ json_object *words = NULL, *all = NULL, *shown = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
        if (r >= 0)
                r = client_call(ctl, path, CLIENT_DOMAIN, "GetPolicy", o, &words, "");
        if (r < 0)
                return r;
        all = policy_to_json(json_object_get_string(words) ?: "");
        shown = args->n_words > 0 ? json_object_new_object() : json_object_get(all);
        for (size_t i = 0; i < args->n_words; i++) {
                json_object *value = json_member(all, args->words[i]);

                if (!value)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "'%s' is no key of a policy; there are: %s", args->words[i],
                                           json_object_get_string(words));
                json_object_object_add(shown, args->words[i], json_object_get(value));
        }
        if (ctl->json) {
                json_print(shown, ctl->out);
                return 0;
        }
        json_object_object_foreach(shown, key, value)
                fprintf(ctl->out, "%s=%s\n", key, json_object_get_string(value));
        return 0;
}

static int run_set(Ctl *ctl, const Args *args, Outcome *o) {
        bool live = args_flag(args, "live"), config = args_flag(args, "config");
        _cleanup_json_ json_object *d = NULL;
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t size = 1;
        int r;

        for (size_t i = 0; i < args->n_words; i++)
                size += strlen(args->words[i]) + 1;
        text = calloc(1, size);
        for (size_t i = 0; text && i < args->n_words; i++)
                sprintf(text + strlen(text), "%s%s", i > 0 ? " " : "", args->words[i]);
        if (!text)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");

        r = client_find_domain(ctl, args_text(args, "domain"), &path, o);
        if (r >= 0)
                r = client_get_domain(ctl, path, &d, o);
        if (r < 0)
                return r;
        if (!live && !config) {
                config = true;
                live = json_object_get_int(json_member(d, "Id")) >= 0;
        }
        r = client_call(ctl, path, CLIENT_DOMAIN, "SetPolicy", o, NULL, "sbb", text, live, config);
        if (r < 0)
                return r;
        if (ctl->json) {
                _cleanup_json_ json_object *j = json_object_new_object();

                json_object_object_add(j, "Domain", json_object_new_string(args_text(args, "domain")));
                json_object_object_add(j, "Set", policy_to_json(text));
                json_object_object_add(j, "Live", json_object_new_boolean(live));
                json_object_object_add(j, "Config", json_object_new_boolean(config));
                json_print(j, ctl->out);
        } else if (!ctl->quiet)
                fprintf(ctl->out, "Policy of domain '%s' is set %s.\n", args_text(args, "domain"),
                        live && config ? "now and for later starts"
                        : live         ? "until it stops"
                                       : "for later starts");
        return 0;
}

const Verb verbs_policy[] = {
        {
                "policy get",
                "show a domain's policy",
                "Shows the policy in effect for a domain, its own settings over those of the configuration. "
                "hmvisord.conf(5) explains each key.",
                {
                        { "domain", OPTION_DOMAIN, OPTION_REQUIRED | OPTION_POSITIONAL, "name, id or UUID" },
                        { "key", OPTION_KEYS, OPTION_POSITIONAL, "show these only" },
                },
                run_get,
                0,
        },
        {
                "policy set",
                "change a domain's policy",
                "Changes settings of a domain; those not named stay. hmvisord.conf(5) explains each key. "
                "Without --live "
                "and --config: both, or --config alone when the domain is off.",
                {
                        { "domain", OPTION_DOMAIN, OPTION_REQUIRED | OPTION_POSITIONAL, "name, id or UUID" },
                        { "setting", OPTION_SETTINGS, OPTION_REQUIRED | OPTION_POSITIONAL,
                          "what to change" },
                        { "live", OPTION_FLAG, 0, "for the running domain only" },
                        { "config", OPTION_FLAG, 0, "for later starts of the domain only" },
                },
                run_set,
                VERB_CHANGES,
        },
        { 0 },
};
