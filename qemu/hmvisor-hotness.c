/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisor-hotness.so: the extension of QEMU that counts how often each page
 * of the guest is written.  QEMU loads it by -plugin before the board is
 * made, whatever the accelerator.
 *
 * Owns the entry point and the three QMP commands (docs/protocol.md): their
 * arguments, errors and answers.  Samples are the sampler's.  It never stops
 * QEMU from starting: where it cannot work, the commands say why.
 */
#include "config.h"
#include "sampler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* qemu-plugin.h: qemu_info_t begins with the name of the target */
typedef struct PluginInfo {
    const char *target_name;
} PluginInfo;

/* qemu-plugin.h: QEMU looks for it, and exits where it is wrong */
__attribute__((visibility("default"))) int qemu_plugin_version = 2;

__attribute__((visibility("default"))) int
qemu_plugin_install(uint64_t id, const PluginInfo *info, int argc, char **argv);

static QemuSymbols symbols;
static Sampler sampler;
static QemuNotifier migration_notifier;
/* Why tracking is not possible in this QEMU at all; empty: it is */
static char refusal[256];

__attribute__((constructor)) static void plugin_api_choose(void)
{
    /* We use none of that API: whatever QEMU wants is right */
    qemu_plugin_version = qemu_plugin_api();
}

/* One argument of hotness-start */
typedef struct Argument {
    const char *name;
    int64_t min;
    int64_t max;
    bool is_required;
    size_t field; /* of SamplerSettings */
} Argument;

static const Argument arguments[] = {
    { "interval-ms", 20, 60000, true, offsetof(SamplerSettings, interval_ms) },
    { "on-ms", 20, 3600000, false, offsetof(SamplerSettings, on_ms) },
    { "off-ms", 0, 3600000, false, offsetof(SamplerSettings, off_ms) },
    { "lease-ms", 1000, 600000, true, offsetof(SamplerSettings, lease_ms) },
};
enum { N_ARGUMENTS = sizeof(arguments) / sizeof(arguments[0]) };

/* QDictEntry begins with its key */
static const char *entry_key(const QDictEntry *entry)
{
    return *(char *const *)entry;
}

static bool argument_is_known(const char *name)
{
    for (size_t i = 0; i < N_ARGUMENTS; i++) {
        if (strcmp(arguments[i].name, name) == 0) {
            return true;
        }
    }
    return strcmp(name, "table") == 0;
}

/* Refuses every argument but ours; none are ours where has_any is false. */
static bool arguments_check_names(const QDict *args, bool has_any,
                                  const char *command, Error **errp)
{
    const QDictEntry *entry;

    for (entry = symbols.qdict_first(args); entry;
         entry = symbols.qdict_next(args, entry)) {
        if (!has_any || !argument_is_known(entry_key(entry))) {
            error_setg(&symbols, errp,
                       "%s has no argument '%s': leave it out", command,
                       entry_key(entry));
            return false;
        }
    }
    return true;
}

static bool argument_read(const QDict *args, const Argument *arg,
                          SamplerSettings *settings, Error **errp)
{
    QObject *obj = symbols.qdict_get(args, arg->name);
    int64_t value;

    if (!obj) {
        if (arg->is_required) {
            error_setg(&symbols, errp,
                       "'%s' is missing: give it, %" PRId64 " to %" PRId64,
                       arg->name, arg->min, arg->max);
        }
        return !arg->is_required;
    }
    if (obj->type != QTYPE_QNUM || !symbols.qnum_get_try_int(obj, &value)) {
        error_setg(&symbols, errp,
                   "'%s' is not an integer: give %" PRId64 " to %" PRId64,
                   arg->name, arg->min, arg->max);
        return false;
    }
    if (value < arg->min || value > arg->max) {
        error_setg(&symbols, errp,
                   "'%s' is %" PRId64 ": give %" PRId64 " to %" PRId64,
                   arg->name, value, arg->min, arg->max);
        return false;
    }
    *(int64_t *)(void *)((char *)settings + arg->field) = value;
    return true;
}

static bool arguments_read(const QDict *args, const char **ret_table,
                           SamplerSettings *ret, Error **errp)
{
    const char *table;

    if (!arguments_check_names(args, true, "hotness-start", errp)) {
        return false;
    }
    table = symbols.qdict_get_try_str(args, "table");
    if (!table) {
        error_setg(&symbols, errp,
                   "'table' is missing or not a string: give the name of a "
                   "file descriptor passed with getfd");
        return false;
    }
    for (size_t i = 0; i < N_ARGUMENTS; i++) {
        if (!argument_read(args, &arguments[i], ret, errp)) {
            return false;
        }
    }
    if (ret->off_ms && !ret->on_ms) {
        error_setg(&symbols, errp,
                   "'off-ms' is %" PRId64 " without 'on-ms': give both or "
                   "none", ret->off_ms);
        return false;
    }
    if (ret->off_ms && ret->on_ms < ret->interval_ms) {
        error_setg(&symbols, errp,
                   "'on-ms' is %" PRId64 ": give at least 'interval-ms', "
                   "%" PRId64, ret->on_ms, ret->interval_ms);
        return false;
    }
    *ret_table = table;
    return true;
}

static QList *ranges_report(const RamLayout *layout, bool can_skip)
{
    QList *list = symbols.qlist_new();

    for (size_t i = 0; i < layout->n_ranges; i++) {
        const RamRange *range = &layout->ranges[i];
        QDict *dict = symbols.qdict_new();

        symbols.qdict_put_str(dict, "block",
                              layout->blocks[range->block].name);
        symbols.qdict_put_int(dict, "gpa", (int64_t)range->gpa);
        symbols.qdict_put_int(dict, "pages", (int64_t)range->n_pages);
        symbols.qdict_put_int(dict, "offset", (int64_t)range->offset);
        if (can_skip) {
            symbols.qdict_put_int(dict, "skip-bit", (int64_t)range->block);
        }
        symbols.qlist_append_obj(list, (QObject *)dict);
    }
    return list;
}

static QObject *report(void)
{
    const Sampler *s = &sampler;
    bool is_able = !*refusal;
    bool is_ring = is_able && log_is_ring(&symbols);
    QDict *dict = symbols.qdict_new();
    QList *ranges;

    if (is_able) {
        sampler_refresh_layout(&sampler);
    }
    ranges = ranges_report(&s->layout, !is_ring);

    symbols.qdict_put_str(dict, "version", HMV_VERSION);
    symbols.qdict_put_str(dict, "qemu", symbols.version);
    symbols.qdict_put_str(dict, "state",
                          is_able ? hotness_state_to_string(s->state)
                                  : "failed");
    symbols.qdict_put_str(dict, "reason", is_able ? s->reason : refusal);
    symbols.qdict_put_str(dict, "log", is_ring ? "ring" : "bitmap");
    symbols.qdict_put_int(dict, "generation", (int64_t)s->generation);
    symbols.qdict_put_int(dict, "epochs", (int64_t)s->epochs);
    symbols.qdict_put_int(dict, "dropped", (int64_t)s->dropped);
    symbols.qdict_put_int(dict, "cost-ns", (int64_t)s->cost_ns);
    symbols.qdict_put_int(dict, "last-cost-ns", (int64_t)s->last_cost_ns);
    symbols.qdict_put_int(dict, "counters", (int64_t)s->layout.n_counters);
    symbols.qdict_put_obj(dict, "ranges", (QObject *)ranges);
    return (QObject *)dict;
}

static void qmp_start(QDict *args, QObject **ret, Error **errp)
{
    SamplerSettings settings = { 0 };
    static RamLayout layout;
    char reason[256];
    Table table;
    const char *name;
    int fd, r;

    if (*refusal) {
        error_setg(&symbols, errp, "%s", refusal);
        return;
    }
    if (!arguments_read(args, &name, &settings, errp)) {
        return;
    }
    fd = symbols.monitor_get_fd(symbols.monitor_cur(), name, errp);
    if (fd < 0) {
        return;
    }
    if (ram_layout_read(&symbols, &layout) < 0) {
        close(fd);
        error_setg(&symbols, errp,
                   "tracking not possible: the guest's RAM has more blocks "
                   "or ranges than a table can tell");
        return;
    }
    r = table_map(fd, layout.n_counters, &table, reason, sizeof(reason));
    close(fd);
    if (r < 0) {
        error_setg(&symbols, errp, "%s", reason);
        return;
    }
    if (!sampler_start(&sampler, &table, &settings)) {
        error_setg(&symbols, errp, "%s", sampler.reason);
        return;
    }
    *ret = report();
}

static void qmp_stop(QDict *args, QObject **ret, Error **errp)
{
    if (!arguments_check_names(args, false, "hotness-stop", errp)) {
        return;
    }
    if (!*refusal) {
        sampler_stop(&sampler);
    }
    *ret = report();
}

static void qmp_query(QDict *args, QObject **ret, Error **errp)
{
    if (!arguments_check_names(args, false, "hotness-query", errp)) {
        return;
    }
    *ret = report();
}

static int on_migration(QemuNotifier *notifier, void *event, Error **errp)
{
    if (symbols.bql_locked()) {
        sampler_yield(&sampler);
    }
    return 0;
}

static void migration_watch(void)
{
    if (symbols.migration_add_notifier) {
        symbols.migration_add_notifier(&migration_notifier, on_migration);
    } else {
        migration_notifier.notify = (void *)on_migration;
        symbols.add_migration_state_change_notifier(&migration_notifier);
    }
}

int qemu_plugin_install(uint64_t id, const PluginInfo *info, int argc,
                        char **argv)
{
    int r = qemu_symbols_load(&symbols, refusal, sizeof(refusal));

    /* The dirty bitmap has a bit per page of the target: 4 KiB must be it */
    if (r == 0 && strcmp(info->target_name, "x86_64") != 0) {
        snprintf(refusal, sizeof(refusal),
                 "the guest is '%s': use a guest of type x86_64",
                 info->target_name);
        r = -ENOENT;
    }
    if (r < 0) {
        fprintf(stderr,
                "hmvisor-hotness: %s. The VM runs, without tracking.\n",
                refusal);
    }
    if (r == -ENOSYS) {
        return 0;
    }
    if (r == 0) {
        sampler_init(&sampler, &symbols);
        migration_watch();
    }
    symbols.qmp_register_command(symbols.qmp_commands,
                                 "__org.hmvisor_hotness-start", qmp_start, 0,
                                 0);
    symbols.qmp_register_command(symbols.qmp_commands,
                                 "__org.hmvisor_hotness-stop", qmp_stop, 0, 0);
    symbols.qmp_register_command(symbols.qmp_commands,
                                 "__org.hmvisor_hotness-query", qmp_query, 0,
                                 0);
    return 0;
}
