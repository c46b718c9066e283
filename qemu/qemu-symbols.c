/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The table of QEMU's symbols by QEMU version, and the look-up.  Changes
 * nothing in QEMU; the only function of QEMU it calls is its version.
 */
#include "qemu-symbols.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

/* A test builds the extension with a name that no QEMU has */
#ifndef HOTNESS_SYMBOL_SYNC
#define HOTNESS_SYMBOL_SYNC "memory_global_dirty_log_sync"
#endif

/* QEMU versions as one number: 10.0 is 1000 */
enum { V7_2 = 702, V8_0 = 800, V9_0 = 900, V10_0 = 1000, V11_0 = 1100,
       V12_0 = 1200 };

typedef struct Row {
    size_t field;            /* of QemuSymbols */
    const char *name;
    const char *other_name;  /* what another version calls it, or NULL */
    int since;               /* first and ... */
    int before;              /* ... first version without; 0: no bound */
} Row;

#define ROW(member) { offsetof(QemuSymbols, member), #member, NULL, 0, 0 }

static const Row qmp_rows[] = {
    ROW(qmp_commands),
    ROW(qmp_register_command),
    ROW(error_setg_internal),
    ROW(qdict_new),
    ROW(qdict_put_str),
    ROW(qdict_put_int),
    ROW(qdict_put_obj),
    ROW(qdict_get),
    ROW(qdict_get_try_str),
    ROW(qdict_get_try_int),
    ROW(qdict_first),
    ROW(qdict_next),
    ROW(qobject_destroy),
    ROW(qlist_new),
    ROW(qlist_append_obj),
};

static const Row tracking_rows[] = {
    ROW(qnum_get_try_int),
    ROW(error_get_pretty),
    ROW(error_free),
    ROW(monitor_cur),
    ROW(monitor_get_fd),
    ROW(runstate_is_running),
    { offsetof(QemuSymbols, bql_locked), "bql_locked",
      "qemu_mutex_iothread_locked", 0, 0 },
    ROW(global_dirty_tracking),
    /* Up to 9.0 it returns nothing; the argument errp is then ignored */
    ROW(memory_global_dirty_log_start),
    ROW(memory_global_dirty_log_stop),
    /* 7.2 takes no argument and ignores ours */
    { offsetof(QemuSymbols, memory_global_dirty_log_sync), HOTNESS_SYMBOL_SYNC,
      NULL, 0, 0 },
    { offsetof(QemuSymbols, snapshot_and_clear_dirty),
      "cpu_physical_memory_snapshot_and_clear_dirty",
      "physical_memory_snapshot_and_clear_dirty", 0, 0 },
    ROW(kvm_dirty_ring_enabled),
    /* 7.2's kvm_dirty_ring_enabled() must not be called without KVM */
    { offsetof(QemuSymbols, kvm_allowed), "kvm_allowed", NULL, 0, V8_0 },
    { offsetof(QemuSymbols, migration_is_idle), "migration_is_idle", NULL, 0,
      V8_0 },
    { offsetof(QemuSymbols, migration_is_running), "migration_is_running",
      NULL, V10_0, 0 },
    { offsetof(QemuSymbols, add_migration_state_change_notifier),
      "add_migration_state_change_notifier", NULL, 0, V8_0 },
    { offsetof(QemuSymbols, migration_add_notifier), "migration_add_notifier",
      NULL, V10_0, 0 },
    ROW(qmp_marshal_query_dirty_rate),
    ROW(get_system_memory),
    ROW(memory_region_find),
    ROW(memory_region_unref),
    ROW(memory_region_from_host),
    ROW(memory_region_owner),
    ROW(object_dynamic_cast),
    ROW(qemu_ram_foreach_block),
    ROW(qemu_ram_get_idstr),
    ROW(qemu_ram_get_host_addr),
    ROW(qemu_ram_get_offset),
    ROW(qemu_ram_get_used_length),
};

/* Returns the name of the first symbol missing, or NULL. */
static const char *rows_load(const Row *rows, size_t n_rows, int version,
                             QemuSymbols *ret)
{
    for (size_t i = 0; i < n_rows; i++) {
        const Row *row = &rows[i];
        void *symbol;

        if ((row->since && version < row->since) ||
            (row->before && version >= row->before)) {
            continue;
        }
        symbol = dlsym(RTLD_DEFAULT, row->name);
        if (!symbol && row->other_name) {
            symbol = dlsym(RTLD_DEFAULT, row->other_name);
        }
        if (!symbol) {
            return row->name;
        }
        *(void **)(void *)((char *)ret + row->field) = symbol;
    }
    return NULL;
}

static int version_load(QemuSymbols *ret)
{
    QemuVersion *(*query)(Error **errp);
    void (*version_free)(QemuVersion *version);
    QemuVersion *v;
    int number;

    *(void **)&query = dlsym(RTLD_DEFAULT, "qmp_query_version");
    *(void **)&version_free = dlsym(RTLD_DEFAULT, "qapi_free_VersionInfo");
    if (!query || !version_free) {
        return 0;
    }
    v = query(NULL);
    if (!v) {
        return 0;
    }
    number = (int)v->qemu->major * 100 + (int)v->qemu->minor;
    snprintf(ret->version, sizeof(ret->version), "%d.%d.%d",
             (int)v->qemu->major, (int)v->qemu->minor, (int)v->qemu->micro);
    version_free(v);
    return number;
}

int qemu_symbols_load(QemuSymbols *ret, char *ret_reason, size_t reason_size)
{
    const char *missing;
    int version;

    *ret = (QemuSymbols){ .version = "unknown" };
    version = version_load(ret);

    missing = rows_load(qmp_rows, sizeof(qmp_rows) / sizeof(qmp_rows[0]),
                        version, ret);
    if (missing) {
        snprintf(ret_reason, reason_size,
                 "QEMU %s does not export '%s': use a QEMU built with modules",
                 ret->version, missing);
        return -ENOSYS;
    }
    if (version < V7_2 || (version >= V8_0 && version < V10_0) ||
        version >= V12_0) {
        snprintf(ret_reason, reason_size,
                 "QEMU %s is none of the versions known (7.2, 10.x, 11.x): "
                 "use one of them, or a newer hmvisor", ret->version);
        return -ENOENT;
    }
    missing = rows_load(tracking_rows,
                        sizeof(tracking_rows) / sizeof(tracking_rows[0]),
                        version, ret);
    if (missing) {
        snprintf(ret_reason, reason_size,
                 "QEMU %s does not export '%s': use the distribution's QEMU, "
                 "or a newer hmvisor", ret->version, missing);
        return -ENOENT;
    }
    ret->has_start_error = version >= V10_0;
    return 0;
}

int qemu_plugin_api(void)
{
    QemuSymbols symbols;
    int version = version_load(&symbols);

    /* 10.0 takes 2 to 4, 11.1 takes 7 only */
    if (version >= V11_0) {
        return 7;
    }
    return version >= V9_0 ? 2 : 1;
}

bool log_is_ring(const QemuSymbols *q)
{
    if (q->kvm_allowed && !*q->kvm_allowed) {
        return false;
    }
    return q->kvm_dirty_ring_enabled();
}

void qobject_unref(const QemuSymbols *q, void *obj)
{
    QObject *head = obj;

    if (head && --head->refcnt == 0) {
        q->qobject_destroy(head);
    }
}
