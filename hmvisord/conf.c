/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reads the configuration: the vendor's file, the administrator's, and drop-ins by name, each over the last.
 * Never logs: the first problem ends it, named with file, line and remedy. An empty value means the default.
 */
#include "conf.h"

#include <dirent.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <syslog.h>

#include "base/units.h"
#include "conf-value.h"
#include "config.h"

#define DROPINS_MAX 256
#define MARKET(field) offsetof(Conf, host) + offsetof(HostPolicy, market) + offsetof(MarketPolicy, field)

static const ConfKey conf_keys[] = {
        { "Daemon", "LibvirtURI", CONF_STRING, offsetof(Conf, libvirt_uri), 0, 0 },
        { "Daemon", "LogLevel", CONF_LOG_LEVEL, offsetof(Conf, log_level), 0, 0 },
        { "Daemon", "ManageBound", CONF_BOOL, offsetof(Conf, manage_bound), 0, 0 },
        { "Daemon", "DryRun", CONF_BOOL, offsetof(Conf, host) + offsetof(HostPolicy, dry_run), 0, 0 },
        { "Tiers", "DramNodes", CONF_NODES, offsetof(Conf, dram_nodes), 0, 0 },
        { "Tiers", "SlowNodes", CONF_NODES, offsetof(Conf, slow_nodes), 0, 0 },
        /* bounds: docs/protocol.md, section 1 */
        { "Tracking", "SampleInterval", CONF_TIME, offsetof(Conf, sample_usec), 20 * USEC_PER_MSEC,
          60 * USEC_PER_SEC },
        { "Tracking", "DutyOn", CONF_TIME, offsetof(Conf, duty_on_usec), 0, 3600 * USEC_PER_SEC },
        { "Tracking", "DutyOff", CONF_TIME, offsetof(Conf, duty_off_usec), 0, 3600 * USEC_PER_SEC },
        { "Tracking", "CostLimit", CONF_TIME, offsetof(Conf, cost_limit_usec), 0, USEC_PER_SEC },
        { "Tracking", "WatchCostLimit", CONF_TIME, offsetof(Conf, watch_cost_limit_usec), 0, USEC_PER_SEC },
        { "Tracking", "FaultCost", CONF_TIME, offsetof(Conf, fault_cost_usec), 0, USEC_PER_MSEC },
        { "Tracking", "Lease", CONF_TIME, offsetof(Conf, lease_usec), USEC_PER_SEC, 600 * USEC_PER_SEC },
        { "Tracking", "DirtyRing", CONF_U32, offsetof(Conf, dirty_ring_size), 0, 65536 },
        { "Tracking", "ExtensionPath", CONF_PATH, offsetof(Conf, extension_path), 0, 0 },
        { "Policy", "Epoch", CONF_TIME, offsetof(Conf, host) + offsetof(HostPolicy, epoch_usec),
          100 * USEC_PER_MSEC, 600 * USEC_PER_SEC },
        { "Policy", "HostRateCap", CONF_SIZE,
          offsetof(Conf, host) + offsetof(HostPolicy, migrate_bytes_per_sec), 4096, UINT64_C(1) << 40 },
        { "Market", "Enabled", CONF_BOOL, MARKET(enabled), 0, 0 },
        { "Market", "DramPrice", CONF_U32, MARKET(dram_price), 1, 1000000 },
        { "Market", "SlowPrice", CONF_U32, MARKET(slow_price), 1, 1000000 },
        { "Market", "MinTrade", CONF_SIZE, MARKET(min_trade_bytes), MARKET_BLOCK_BYTES, UINT64_C(1) << 40 },
        { "Market", "MaxTrade", CONF_SIZE, MARKET(max_trade_bytes), MARKET_BLOCK_BYTES, UINT64_C(1) << 46 },
        { "Market", "Step", CONF_SIZE, MARKET(step_bytes), MARKET_BLOCK_BYTES, UINT64_C(1) << 46 },
        { "Market", "Epoch", CONF_TIME, MARKET(epoch_usec), USEC_PER_SEC, 3600 * USEC_PER_SEC },
        { "Market", "CoolDown", CONF_TIME, MARKET(cooldown_usec), 0, 24 * 3600 * USEC_PER_SEC },
        { "Market", "Dwell", CONF_TIME, MARKET(dwell_usec), 0, 24 * 3600 * USEC_PER_SEC },
        { "Market", "SettleTime", CONF_TIME, MARKET(settle_usec), USEC_PER_SEC, 3600 * USEC_PER_SEC },
        { "Market", "Pool", CONF_BOOL, MARKET(use_pool), 0, 0 },
        { "Market", "HostReserveDram", CONF_SIZE, offsetof(Conf, reserve_bytes[TIER_DRAM]), 0,
          UINT64_C(1) << 46 },
        { "Market", "HostReserveSlow", CONF_SIZE, offsetof(Conf, reserve_bytes[TIER_SLOW]), 0,
          UINT64_C(1) << 46 },
        { "Market", "MovingPrice", CONF_BOOL, MARKET(moving_price), 0, 0 },
        { "Market", "DramPriceMin", CONF_U32, MARKET(dram_price_min), 1, 1000000 },
        { "Market", "DramPriceMax", CONF_U32, MARKET(dram_price_max), 1, 1000000 },
        { "Market", "JournalPath", CONF_PATH, offsetof(Conf, journal_path), 0, 0 },
};

static int conf_default(Conf *ret) {
        Conf c = {
                .host = host_policy_default(),
                .domain = domain_policy_default(),
                /* Each page that is written costs a fault per sample: two an epoch tell a page written once
                   from one that stays hot. */
                .sample_usec = 500 * USEC_PER_MSEC,
                /* A twentieth of a guest's time while there are pages to move, which pays for itself soon; a
                   hundredth to see that nothing has changed, as that may be for ever. */
                .cost_limit_usec = 50 * USEC_PER_MSEC,
                .watch_cost_limit_usec = 10 * USEC_PER_MSEC,
                /* Long enough for a restart of the daemon, short enough that a dead one costs the guests
                   little. */
                .lease_usec = 30 * USEC_PER_SEC,
                .log_level = LOG_INFO,
                .extension_path = strdup(HMV_EXTENSION_PATH),
                .journal_path = strdup(HMV_MARKET_JOURNAL),
                /* The host's own kernel and services live in DRAM; nothing else needs slow memory. */
                .reserve_bytes = { [TIER_DRAM] = UINT64_C(512) << 20 },
        };

        if (!c.extension_path || !c.journal_path) {
                conf_done(&c);
                return -ENOMEM;
        }
        *ret = c;
        return 0;
}

void conf_done(Conf *c) {
        for (size_t i = 0; i < ELEMENTSOF(conf_keys); i++)
                if (conf_kind_is_string(conf_keys[i].kind)) {
                        char **s = (void *) ((char *) c + conf_keys[i].offset);

                        free(*s);
                        *s = NULL;
                }
}

/* ---- one file ---- */

typedef struct Reading {
        const char *path;
        FILE *f;
        Conf *conf;
        const Conf *defaults;
        unsigned line;
        bool failed;
        Outcome *o;
} Reading;

static void _printf_(2, 3) reading_fail(Reading *r, const char *format, ...) {
        char text[400];
        va_list ap;

        if (r->failed)
                return;
        r->failed = true;
        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        (void) outcome_set(r->o, OUTCOME_BAD_ARGUMENT, "%s:%u: %s", r->path, r->line, text);
}

/* inih would take the rest of a line that is too long, or one that is indented, for more of the last value.
 */
static char *on_line(char *buf, int size, void *userdata) {
        Reading *r = userdata;
        size_t n;

        if (r->failed || !fgets(buf, size, r->f))
                return NULL;
        r->line++;
        n = strlen(buf);
        if (n + 1 == (size_t) size && buf[n - 1] != '\n') {
                reading_fail(r, "the line is longer than %d characters", size - 2);
                return NULL;
        }
        if ((*buf == ' ' || *buf == '\t') && !strchr("#;\r\n", buf[strspn(buf, " \t")])) {
                reading_fail(r,
                             "the line is indented; write each setting as Key=Value at the start of a line");
                return NULL;
        }
        return buf;
}

static void known_in_section(const char *section, char *buf, size_t size) {
        size_t used = 0;

        *buf = '\0';
        for (size_t i = 0; i < ELEMENTSOF(conf_keys) && used < size; i++)
                if (streq(conf_keys[i].section, section))
                        used += (size_t) snprintf(buf + used, size - used, "%s%s", used > 0 ? ", " : "",
                                                  conf_keys[i].key);
        for (size_t i = 0; i < n_conf_policy_keys && used < size; i++)
                if (streq(conf_policy_keys[i].section, section))
                        used += (size_t) snprintf(buf + used, size - used, "%s%s", used > 0 ? ", " : "",
                                                  conf_policy_keys[i].key);
}

/* Returns whether the table has the key. */
static bool key_set(Reading *r, const ConfKey *keys, size_t n, const char *section, const char *key,
                    const char *value, void *owner, const void *defaults) {
        char allowed[CONF_ALLOWED_MAX];

        for (size_t i = 0; i < n; i++) {
                const ConfKey *k = keys + i;

                if (!streq(k->section, section) || !streq(k->key, key))
                        continue;
                if (!*value) {
                        if (conf_value_copy(k, defaults, owner) < 0)
                                reading_fail(r, "out of memory");
                } else if (conf_value_parse(k, value, owner, allowed) < 0)
                        reading_fail(r, "%s=%.100s is not possible; allowed is %s", key, value, allowed);
                return true;
        }
        return false;
}

static int on_value(void *userdata, const char *section, const char *key, const char *value) {
        Reading *r = userdata;
        char known[400];

        if (r->failed)
                return 0;
        if (!key_set(r, conf_keys, ELEMENTSOF(conf_keys), section, key, value ?: "", r->conf, r->defaults) &&
            !key_set(r, conf_policy_keys, n_conf_policy_keys, section, key, value ?: "", &r->conf->domain,
                     &r->defaults->domain)) {
                known_in_section(section, known, sizeof(known));
                if (*known)
                        reading_fail(r, "unknown key '%.60s' in [%s]; known are %s", key, section, known);
                else
                        reading_fail(r,
                                     "unknown section [%.60s]; known are [Daemon], [Tiers], [Tracking], "
                                     "[Policy], "
                                     "[Market]",
                                     section);
        }
        return !r->failed;
}

static int file_load(const char *path, Conf *c, const Conf *defaults, Outcome *o) {
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        Reading reading = { .path = path, .f = f, .conf = c, .defaults = defaults, .o = o };
        int r;

        if (!f) {
                if (errno == ENOENT || errno == ENOTDIR)
                        return 0;
                (void) outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s cannot be read: %s", path, strerror(errno));
                return -EINVAL;
        }
        r = ini_parse_stream(on_line, &reading, on_value, &reading);
        if (ferror(f))
                reading_fail(&reading, "reading it failed: %s", strerror(errno));
        if (r > 0) {
                reading.line = (unsigned) r;
                reading_fail(&reading, "this is neither [Section] nor Key=Value");
        } else if (r < 0)
                reading_fail(&reading, "out of memory");
        return reading.failed ? -EINVAL : 0;
}

static int is_dropin(const struct dirent *d) {
        size_t n = strlen(d->d_name);

        return *d->d_name != '.' && n > strlen(".conf") && streq(d->d_name + n - strlen(".conf"), ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);   /* not alphasort(): that depends on the locale */
}

static int dropins_load(const char *dir, Conf *c, const Conf *defaults, Outcome *o) {
        struct dirent **names = NULL;
        int n = scandir(dir, &names, is_dropin, by_name), r = 0;

        if (n < 0) {
                if (errno == ENOENT || errno == ENOTDIR)
                        return 0;
                (void) outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s cannot be read: %s", dir, strerror(errno));
                return -EINVAL;
        }
        if (n > DROPINS_MAX) {
                (void) outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s has more than %d drop-ins", dir,
                                   DROPINS_MAX);
                r = -EINVAL;
        }
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX + 256];

                if (r >= 0) {
                        snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
                        r = file_load(path, c, defaults, o);
                }
                free(names[i]);
        }
        free(names);
        return r;
}

static int check_market(const MarketPolicy *p, Outcome *o) {
        if (p->min_trade_bytes % p->block_bytes || p->max_trade_bytes % p->block_bytes ||
            p->step_bytes % p->block_bytes)
                return outcome_set(
                        o, OUTCOME_BAD_ARGUMENT,
                        "MinTrade=, MaxTrade= and Step= must be multiples of 2M, the block of memory "
                        "devices");
        if (p->min_trade_bytes > p->max_trade_bytes)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "MinTrade= is above MaxTrade=; nothing could be traded");
        if (p->moving_price && (p->dram_price < p->dram_price_min || p->dram_price > p->dram_price_max))
                return outcome_set(
                        o, OUTCOME_BAD_ARGUMENT,
                        "DramPrice= is not between DramPriceMin= and DramPriceMax=, as MovingPrice= "
                        "needs");
        return 0;
}

/* What no single value can say. */
static int check_whole(const Conf *c, Outcome *o) {
        if (c->sample_usec > c->host.epoch_usec)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "SampleInterval= is longer than Epoch=; each epoch needs a sample");
        if (c->duty_off_usec > 0 && c->duty_on_usec < 2 * c->sample_usec)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "DutyOn= must be at least twice SampleInterval= when DutyOff= is set, as "
                                   "the first sample after each rest is thrown away");
        if (c->lease_usec < 2 * c->host.epoch_usec)
                return outcome_set(
                        o, OUTCOME_BAD_ARGUMENT,
                        "Lease= must be at least twice Epoch=, or tracking ends between two epochs");
        if (!dirty_ring_size_is_valid(c->dirty_ring_size))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "DirtyRing= must be 0, or a power of two from 1024 to 65536");
        return check_market(&c->host.market, o);
}

int conf_load(const char *root, Conf *ret, Outcome *o) {
        _cleanup_(conf_done) Conf c = {}, defaults = {};
        char path[PATH_MAX];
        int r;

        r = conf_default(&c);
        if (r >= 0)
                r = conf_default(&defaults);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%s%s", root, HMV_VENDOR_CONF);
        r = file_load(path, &c, &defaults, o);
        if (r >= 0) {
                snprintf(path, sizeof(path), "%s%s", root, HMV_SYS_CONF);
                r = file_load(path, &c, &defaults, o);
        }
        if (r >= 0) {
                snprintf(path, sizeof(path), "%s%s", root, HMV_SYS_CONF_DIR);
                r = dropins_load(path, &c, &defaults, o);
        }
        if (r >= 0)
                r = check_whole(&c, o);
        if (r < 0)
                return r;
        *ret = c;
        c = (Conf){};
        return 0;
}

int conf_dump(const Conf *c, char **ret_text) {
        static const char *const sections[] = { "Daemon", "Tiers", "Tracking", "Policy", "Market" };
        char *text = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t s = 0; s < ELEMENTSOF(sections); s++) {
                fprintf(f, "%s[%s]\n", s > 0 ? "\n" : "", sections[s]);
                for (size_t i = 0; i < ELEMENTSOF(conf_keys); i++)
                        if (streq(conf_keys[i].section, sections[s])) {
                                fprintf(f, "%s=", conf_keys[i].key);
                                conf_value_print(conf_keys + i, c, f);
                                fputc('\n', f);
                        }
                for (size_t i = 0; i < n_conf_policy_keys; i++)
                        if (streq(conf_policy_keys[i].section, sections[s])) {
                                fprintf(f, "%s=", conf_policy_keys[i].key);
                                conf_value_print(conf_policy_keys + i, &c->domain, f);
                                fputc('\n', f);
                        }
        }
        if (fclose(f) != 0) {
                free(text);
                return -ENOMEM;
        }
        *ret_text = text;
        return 0;
}
