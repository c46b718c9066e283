/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A domain's policy as words, "Managed=yes RateCap=64M", from the same table as the [Policy] section. Owns
 * no state.
 */
#include "conf-value.h"
#include "conf.h"

#define WORD_MAX 256
#define SIZE_KEY(name, field, tier)                                                                         \
        { "Policy", name, CONF_SIZE, offsetof(DomainPolicy, field) + (tier) * sizeof(uint64_t), 0,          \
          UINT64_C(1) << 46 }

const ConfKey conf_policy_keys[] = {
        { "Policy", "Managed", CONF_BOOL, offsetof(DomainPolicy, managed), 0, 0 },
        { "Policy", "DryRun", CONF_BOOL, offsetof(DomainPolicy, dry_run), 0, 0 },
        { "Policy", "RateCap", CONF_SIZE, offsetof(DomainPolicy, migrate_bytes_per_sec), 4096,
          UINT64_C(1) << 40 },
        { "Policy", "HotHeat", CONF_U32, offsetof(DomainPolicy, hot_heat), 0, 255 },
        { "Policy", "Hysteresis", CONF_U32, offsetof(DomainPolicy, hysteresis), 0, 255 },
        { "Policy", "WarmupEpochs", CONF_U32, offsetof(DomainPolicy, warmup_epochs), 0, 3600 },
        { "Policy", "SettleEpochs", CONF_U32, offsetof(DomainPolicy, settle_epochs), 0, 3600 },
        { "Policy", "MinOrderPages", CONF_U64, offsetof(DomainPolicy, min_order_pages), 1, 65536 },
        { "Policy", "Trading", CONF_BOOL, offsetof(DomainPolicy, trading), 0, 0 },
        SIZE_KEY("EntitledDram", entitled_bytes, TIER_DRAM),
        SIZE_KEY("EntitledSlow", entitled_bytes, TIER_SLOW),
        SIZE_KEY("FloorDram", floor_bytes, TIER_DRAM),
        SIZE_KEY("FloorSlow", floor_bytes, TIER_SLOW),
        SIZE_KEY("CeilingDram", ceiling_bytes, TIER_DRAM),
        SIZE_KEY("CeilingSlow", ceiling_bytes, TIER_SLOW),
        { "Policy", "SwapDevice", CONF_NAME, offsetof(DomainPolicy, swap_device), 0, 0 },
};
const size_t n_conf_policy_keys = ELEMENTSOF(conf_policy_keys);

static void known_keys(char *buf, size_t size) {
        size_t used = 0;

        for (size_t i = 0; i < n_conf_policy_keys && used < size; i++)
                used += (size_t) snprintf(buf + used, size - used, "%s%s", i > 0 ? ", " : "",
                                          conf_policy_keys[i].key);
}

static int word_parse(const char *word, DomainPolicy *p, Outcome *o) {
        const char *equals = strchr(word, '=');
        char allowed[CONF_ALLOWED_MAX], known[384];

        if (!equals)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "'%s' is no policy setting; write KEY=VALUE, such as RateCap=64M", word);
        for (size_t i = 0; i < n_conf_policy_keys; i++) {
                const ConfKey *k = conf_policy_keys + i;

                if (strlen(k->key) != (size_t) (equals - word) || strncmp(word, k->key, strlen(k->key)) != 0)
                        continue;
                if (conf_value_parse(k, equals + 1, p, allowed) < 0)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s='%s' is not possible; allowed is %s",
                                           k->key, equals + 1, allowed);
                return 0;
        }
        known_keys(known, sizeof(known));
        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "unknown policy key '%.*s'; known are %s",
                           (int) (equals - word), word, known);
}

/* What no single word can say. 0 stands for what the domain has, which its owner need not know. */
static int policy_check(const DomainPolicy *p, Outcome *o) {
        for (Tier t = 0; t < _TIER_MAX; t++) {
                uint64_t entitled = p->entitled_bytes[t], floor = p->floor_bytes[t],
                         most = p->ceiling_bytes[t];
                const char *name = t == TIER_DRAM ? "Dram" : "Slow";

                if (entitled % MARKET_BLOCK_BYTES || floor % MARKET_BLOCK_BYTES || most % MARKET_BLOCK_BYTES)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "Entitled%s, Floor%s and Ceiling%s must be multiples of 2M, the "
                                           "block of memory devices", name, name, name);
                if (most > 0 && floor > most)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "Floor%s is above Ceiling%s; lower the one or raise the other",
                                           name, name);
                if (entitled > 0 && (entitled < floor || (most > 0 && entitled > most)))
                        return outcome_set(
                                o, OUTCOME_BAD_ARGUMENT,
                                "Entitled%s is not between Floor%s and Ceiling%s, so the domain could "
                                "never hold it",
                                name, name, name);
        }
        if ((p->entitled_bytes[TIER_DRAM] == 0) != (p->entitled_bytes[TIER_SLOW] == 0))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "EntitledDram and EntitledSlow go together; give both");
        return 0;
}

int policy_parse(const char *text, DomainPolicy *p, Outcome *o) {
        DomainPolicy copy = *p;
        char word[WORD_MAX];

        for (const char *s = text + strspn(text, " \t\n"); *s; s += strspn(s, " \t\n")) {
                size_t n = strcspn(s, " \t\n");
                int r;

                if (n >= sizeof(word))
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "a policy setting has more than %d characters", WORD_MAX - 1);
                memcpy(word, s, n);
                word[n] = '\0';
                r = word_parse(word, &copy, o);
                if (r < 0)
                        return r;
                s += n;
        }
        if (policy_check(&copy, o) < 0)
                return -EINVAL;
        *p = copy;
        return 0;
}

int policy_format(const DomainPolicy *p, const DomainPolicy *defaults, char **ret_text) {
        char *text = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t i = 0; i < n_conf_policy_keys; i++) {
                const ConfKey *k = conf_policy_keys + i;

                if (defaults && conf_value_equal(k, p, defaults))
                        continue;
                fprintf(f, "%s%s=", ftell(f) > 0 ? " " : "", k->key);
                conf_value_print(k, p, f);
        }
        if (fclose(f) != 0) {
                free(text);
                return -ENOMEM;
        }
        *ret_text = text;
        return 0;
}
