/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reads a scenario. The first thing that is wrong ends it, named with file and line.
 */
#include "scenario.h"

#include <ini.h>
#include <stdarg.h>

#include "base/units.h"

#define DISK_OPERATIONS 10000 /* a flash drive: 100 us a page */

typedef enum KeyKind {
        KEY_SIZE,    /* uint64_t, whole blocks where it is memory of a VM */
        KEY_TIME,    /* usec_t */
        KEY_NUMBER,  /* uint32_t, at least 1 */
        KEY_PERCENT, /* uint32_t permyriad */
        KEY_BOOL,
        KEY_BEHAVIOUR,
} KeyKind;

typedef struct Key {
        const char *name;
        KeyKind kind;
        size_t offset;
} Key;

static const Key scenario_keys[] = {
        { "duration", KEY_TIME, offsetof(Scenario, duration) },
        { "free-dram", KEY_SIZE, offsetof(Scenario, free_bytes[0]) },
        { "free-slow", KEY_SIZE, offsetof(Scenario, free_bytes[1]) },
        { "host-rate-cap", KEY_SIZE, offsetof(Scenario, policy.migrate_bytes_per_sec) },
};

#define MARKET_KEY(field) offsetof(Scenario, policy.market) + offsetof(MarketPolicy, field)
static const Key market_keys[] = {
        { "enabled", KEY_BOOL, MARKET_KEY(enabled) },
        { "dram-price", KEY_NUMBER, MARKET_KEY(dram_price) },
        { "slow-price", KEY_NUMBER, MARKET_KEY(slow_price) },
        { "block", KEY_SIZE, MARKET_KEY(block_bytes) },
        { "min-trade", KEY_SIZE, MARKET_KEY(min_trade_bytes) },
        { "max-trade", KEY_SIZE, MARKET_KEY(max_trade_bytes) },
        { "step", KEY_SIZE, MARKET_KEY(step_bytes) },
        { "epoch", KEY_TIME, MARKET_KEY(epoch_usec) },
        { "cool-down", KEY_TIME, MARKET_KEY(cooldown_usec) },
        { "dwell", KEY_TIME, MARKET_KEY(dwell_usec) },
        { "settle", KEY_TIME, MARKET_KEY(settle_usec) },
        { "pool", KEY_BOOL, MARKET_KEY(use_pool) },
};

static const Key group_keys[] = {
        { "count", KEY_NUMBER, offsetof(Group, n_vms) },
        { "dram", KEY_SIZE, offsetof(Group, start_bytes[0]) },
        { "slow", KEY_SIZE, offsetof(Group, start_bytes[1]) },
        { "dram-max", KEY_SIZE, offsetof(Group, most_bytes[0]) },
        { "slow-max", KEY_SIZE, offsetof(Group, most_bytes[1]) },
        { "dram-boot", KEY_SIZE, offsetof(Group, boot_bytes[0]) },
        { "slow-boot", KEY_SIZE, offsetof(Group, boot_bytes[1]) },
        { "trading", KEY_BOOL, offsetof(Group, trading) },
        { "behaviour", KEY_BEHAVIOUR, offsetof(Group, behaviour) },
        { "stagger", KEY_TIME, offsetof(Group, stagger) },
        { "disk-operations", KEY_NUMBER, offsetof(Group, disk_operations) },
};

static const Key phase_keys[] = {
        { "used", KEY_SIZE, offsetof(Phase, used_bytes) },
        { "hot", KEY_SIZE, offsetof(Phase, hot_bytes) },
        { "written", KEY_PERCENT, offsetof(Phase, permyriad) },
        { "touched", KEY_SIZE, offsetof(Phase, touched_bytes) },
};

const char *behaviour_to_string(Behaviour b) {
        static const char *const names[_BEHAVIOUR_MAX] = {
                [BEHAVE_HONEST] = "honest",     [BEHAVE_REFUSES] = "refuses",   [BEHAVE_LIES] = "lies",
                [BEHAVE_OVERASKS] = "overasks", [BEHAVE_VANISHES] = "vanishes", [BEHAVE_FREEZES] = "freezes",
                [BEHAVE_GRABS] = "grabs",
        };

        return (unsigned) b < _BEHAVIOUR_MAX ? names[b] : "unknown";
}

typedef struct Reading {
        const char *path;
        FILE *f;
        unsigned line;
        Scenario *scenario;
        Outcome *o;
        bool failed;
} Reading;

static int _printf_(2, 3) reading_fail(Reading *r, const char *format, ...) {
        char text[300];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (!r->failed)
                (void) outcome_set(r->o, OUTCOME_BAD_ARGUMENT, "%s:%u: %s", r->path, r->line, text);
        r->failed = true;
        return -EINVAL;
}

static int parse_number(const char *text, double least, double most, double *ret) {
        char *end;
        double v = strtod(text, &end);

        if (end == text || (*end != '\0' && !streq(end, "%")) || !(v >= least && v <= most))
                return -EINVAL;
        *ret = v;
        return 0;
}

static int value_parse(const Key *key, const char *text, void *to) {
        double number;
        int r;

        switch (key->kind) {
        case KEY_SIZE:
                return size_parse(text, to);
        case KEY_TIME:
                return time_parse(text, to);
        case KEY_NUMBER:
                r = parse_number(text, 1, GROUP_VMS_MAX, &number);
                if (r < 0 || number != (double) (uint32_t) number)
                        return -EINVAL;
                *(uint32_t *) to = (uint32_t) number;
                return 0;
        case KEY_PERCENT:
                r = parse_number(text, 0, 100, &number);
                if (r < 0)
                        return r;
                *(uint32_t *) to = (uint32_t) (number * 100 + 0.5);
                return 0;
        case KEY_BOOL:
                if (!streq(text, "yes") && !streq(text, "no"))
                        return -EINVAL;
                *(bool *) to = streq(text, "yes");
                return 0;
        case KEY_BEHAVIOUR:
                for (Behaviour b = 0; b < _BEHAVIOUR_MAX; b++)
                        if (streq(text, behaviour_to_string(b))) {
                                *(Behaviour *) to = b;
                                return 0;
                        }
                return -EINVAL;
        }
        return -EINVAL;
}

/* Returns 1 if the key is one of these, 0 if it is not, or -EINVAL. */
static int keys_set(Reading *r, const Key *keys, size_t n, const char *name, const char *value, void *base) {
        for (size_t i = 0; i < n; i++)
                if (streq(keys[i].name, name)) {
                        if (value_parse(&keys[i], value, (char *) base + keys[i].offset) < 0)
                                return reading_fail(r, "%s: '%s' is no value for it; see hmvsim(1)", name,
                                                    value);
                        return 1;
                }
        return 0;
}

static Group *group_get(Reading *r, const char *name, size_t n) {
        Scenario *s = r->scenario;
        Group *g;

        for (size_t i = 0; i < s->n_groups; i++)
                if (strlen(s->groups[i].name) == n && strncmp(s->groups[i].name, name, n) == 0)
                        return &s->groups[i];
        if (n == 0 || n >= GROUP_NAME_SIZE || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") < n) {
                (void) reading_fail(r, "a group's name is up to %d small letters, digits and '-'",
                                    GROUP_NAME_SIZE - 1);
                return NULL;
        }
        if (s->n_groups == GROUPS_MAX) {
                (void) reading_fail(r, "more than %d groups", GROUPS_MAX);
                return NULL;
        }
        g = &s->groups[s->n_groups++];
        *g = (Group){ .n_vms = 1, .trading = true, .n_phases = 1, .disk_operations = DISK_OPERATIONS };
        memcpy(g->name, name, n);
        return g;
}

/* A phase begins as a copy of the last one. */
static Phase *phase_get(Reading *r, Group *g, usec_t at) {
        Phase *last = &g->phases[g->n_phases - 1];

        if (at == last->at)
                return last;
        if (at < last->at || g->n_phases == PHASES_MAX) {
                (void) reading_fail(r, "phases of a group are at most %d, in order of time", PHASES_MAX);
                return NULL;
        }
        g->phases[g->n_phases] = *last;
        g->phases[g->n_phases].at = at;
        return &g->phases[g->n_phases++];
}

/* [group NAME] or [group NAME at TIME] */
static int on_group(Reading *r, const char *section, const char *name, const char *value) {
        const char *at = strchr(section, ' ');
        size_t n = at ? (size_t) (at - section) : strlen(section);
        Group *g = group_get(r, section, n);
        usec_t when = 0;
        Phase *phase;
        int known;

        if (!g)
                return -EINVAL;
        if (at && (strncmp(at, " at ", 4) != 0 || time_parse(at + 4, &when) < 0))
                return reading_fail(r, "[group %s]: a phase is [group NAME at TIME]", section);
        phase = phase_get(r, g, when);
        if (!phase)
                return -EINVAL;
        known = keys_set(r, phase_keys, ELEMENTSOF(phase_keys), name, value, phase);
        if (known == 0 && !at)
                known = keys_set(r, group_keys, ELEMENTSOF(group_keys), name, value, g);
        return known;
}

static int on_value(void *userdata, const char *section, const char *name, const char *value) {
        Reading *r = userdata;
        Scenario *s = r->scenario;
        int known = 0;

        if (r->failed || !name || !value)
                return 1;
        if (strncmp(section, "group ", 6) == 0)
                known = on_group(r, section + 6, name, value);
        else if (streq(section, "simulation"))
                known = keys_set(r, scenario_keys, ELEMENTSOF(scenario_keys), name, value, s);
        else if (streq(section, "market"))
                known = keys_set(r, market_keys, ELEMENTSOF(market_keys), name, value, s);
        if (known == 0)
                (void) reading_fail(r, "there is no '%s' in [%s]; see hmvsim(1)", name, section);
        return 1;
}

static char *on_line(char *buf, int size, void *userdata) {
        Reading *r = userdata;

        if (r->failed || !fgets(buf, size, r->f))
                return NULL;
        r->line++;
        if (strlen(buf) + 1 == (size_t) size) {
                (void) reading_fail(r, "the line is longer than %d characters", size - 2);
                return NULL;
        }
        return buf;
}

static int group_check(const Group *g, uint64_t block, Outcome *o) {
        for (unsigned t = 0; t < 2; t++) {
                if (g->start_bytes[t] % block || g->most_bytes[t] % block || g->boot_bytes[t] % block)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "group '%s': memory comes in whole blocks", g->name);
                if (g->boot_bytes[t] == 0 || g->boot_bytes[t] > g->start_bytes[t] ||
                    g->start_bytes[t] > g->most_bytes[t] || g->most_bytes[t] > UINT64_C(1) << 40)
                        return outcome_set(
                                o, OUTCOME_BAD_ARGUMENT,
                                "group '%s': of each tier, boot memory is above 0, and not above the "
                                "start, which is not above the maximum (1 TiB at most)",
                                g->name);
        }
        for (size_t i = 0; i < g->n_phases; i++)
                if (g->phases[i].used_bytes < 4096 || g->phases[i].used_bytes > UINT64_C(1) << 41 ||
                    g->phases[i].hot_bytes > g->phases[i].used_bytes ||
                    g->phases[i].touched_bytes > g->phases[i].used_bytes)
                        return outcome_set(
                                o, OUTCOME_BAD_ARGUMENT,
                                "group '%s': hot and touched are within used, which is a page at least",
                                g->name);
        return 0;
}

static int scenario_finish(const char *path, Scenario *s, Outcome *o) {
        Terms terms;

        if (s->duration < USEC_PER_SEC || s->duration > 24 * 3600 * USEC_PER_SEC)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: 'duration' in [simulation] is 1 s to 24 h",
                                   path);
        if (s->n_groups == 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: there is no [group NAME]", path);
        if (terms_make(&s->policy.market, &terms) < 0 || s->policy.market.epoch_usec == 0)
                return outcome_set(
                        o, OUTCOME_BAD_ARGUMENT,
                        "%s: [market] makes no sense: trades and steps are whole blocks, a block is a "
                        "power of two from 4 KiB on, and a lot at this price is not above max-trade",
                        path);
        for (size_t i = 0; i < s->n_groups; i++) {
                Group *g = &s->groups[i];
                int r;

                for (unsigned t = 0; t < 2; t++) {
                        g->most_bytes[t] = g->most_bytes[t] ? g->most_bytes[t] : g->start_bytes[t];
                        g->boot_bytes[t] = g->boot_bytes[t] ? g->boot_bytes[t] : g->start_bytes[t];
                }
                r = group_check(g, s->policy.market.block_bytes, o);
                if (r < 0)
                        return r;
        }
        return 0;
}

int scenario_read(const char *path, Scenario *ret, Outcome *o) {
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        _cleanup_free_ Scenario *s = calloc(1, sizeof(*s));
        Reading reading = { .path = path, .f = f, .scenario = s, .o = o };
        int r;

        if (!s)
                return -ENOMEM;
        if (!f) {
                r = -errno;
                (void) outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: %s", path, strerror(-r));
                return r;
        }
        s->policy = host_policy_default();
        s->policy.market.enabled = true;
        r = ini_parse_stream(on_line, &reading, on_value, &reading);
        if (r > 0) {
                reading.line = (unsigned) r;
                (void) reading_fail(&reading, "this is neither [section] nor key = value");
        }
        if (reading.failed || r < 0)
                return reading.failed ? -EINVAL : -ENOMEM;
        r = scenario_finish(path, s, o);
        if (r >= 0)
                *ret = *s;
        return r;
}
