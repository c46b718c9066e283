/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's own functions, as the extension uses them: declared here by hand,
 * so that no QEMU source is needed to build, and found by name at load.
 * One table for all QEMU versions known; what is missing is a refusal, never
 * a guess.  Owns no state of QEMU and calls nothing but its version.
 */
#ifndef HMVISOR_QEMU_SYMBOLS_H
#define HMVISOR_QEMU_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opaque to us: only pointers travel */
typedef struct Error Error;
typedef struct MemoryRegion MemoryRegion;
typedef struct RAMBlock RAMBlock;
typedef struct Monitor Monitor;
typedef struct QemuObject QemuObject;
typedef struct QDict QDict;
typedef struct QDictEntry QDictEntry;
typedef struct QList QList;
typedef struct QmpCommandList QmpCommandList;

/* qobject/qobject.h: the head of every QObject, unchanged since QEMU 2.12 */
typedef struct QObject {
    int type;
    size_t refcnt;
} QObject;

enum { QTYPE_QNUM = 2, QTYPE_QSTRING = 3, QTYPE_QDICT = 4 };

/* exec/memory.h, with room behind for fields that later versions add */
typedef struct MemoryRegionSection {
    __uint128_t size;
    MemoryRegion *mr;
    void *fv;
    uint64_t offset_within_region;
    uint64_t offset_within_address_space;
    uint64_t room[8];
} MemoryRegionSection;

/* system/physmem.c; start and end are checked at every use */
typedef struct DirtyBitmapSnapshot {
    uint64_t start;
    uint64_t end;
    unsigned long dirty[];
} DirtyBitmapSnapshot;

/* qemu/notify.h: Notifier (7.2) and NotifierWithReturn, with room behind */
typedef struct QemuNotifier {
    void *notify;
    void *link[7];
} QemuNotifier;

/* qapi-types-control.h */
typedef struct QemuVersion {
    struct {
        int64_t major;
        int64_t minor;
        int64_t micro;
    } *qemu;
    char *package;
} QemuVersion;

/* exec/memory.h: users of dirty tracking, bits of global_dirty_tracking */
#define GLOBAL_DIRTY_DIRTY_RATE (1u << 1)
/* exec/memory.h: the bitmap that all of them share */
#define DIRTY_MEMORY_MIGRATION 2

typedef int (*RamBlockFunc)(RAMBlock *rb, void *opaque);
typedef int (*MigrationFunc)(QemuNotifier *notifier, void *event,
                             Error **errp);
typedef void (*QmpFunc)(QDict *args, QObject **ret, Error **errp);

typedef struct QemuSymbols {
    char version[32];
    bool has_start_error; /* memory_global_dirty_log_start returns success */

    /* QMP: enough of it to say why the rest is missing */
    QmpCommandList *qmp_commands;
    void (*qmp_register_command)(QmpCommandList *cmds, const char *name,
                                 QmpFunc fn, int options, uint64_t features);
    void (*error_setg_internal)(Error **errp, const char *src, int line,
                                const char *func, const char *fmt, ...);
    QDict *(*qdict_new)(void);
    void (*qdict_put_str)(QDict *dict, const char *key, const char *value);
    void (*qdict_put_int)(QDict *dict, const char *key, int64_t value);
    void (*qdict_put_obj)(QDict *dict, const char *key, QObject *value);
    QObject *(*qdict_get)(const QDict *dict, const char *key);
    const char *(*qdict_get_try_str)(const QDict *dict, const char *key);
    int64_t (*qdict_get_try_int)(const QDict *dict, const char *key,
                                 int64_t otherwise);
    const QDictEntry *(*qdict_first)(const QDict *dict);
    const QDictEntry *(*qdict_next)(const QDict *dict,
                                    const QDictEntry *entry);
    void (*qobject_destroy)(QObject *obj);
    QList *(*qlist_new)(void);
    void (*qlist_append_obj)(QList *list, QObject *value);

    /* The rest */
    bool (*qnum_get_try_int)(const QObject *num, int64_t *ret);
    const char *(*error_get_pretty)(const Error *err);
    void (*error_free)(Error *err);
    Monitor *(*monitor_cur)(void);
    int (*monitor_get_fd)(Monitor *mon, const char *name, Error **errp);
    bool (*runstate_is_running)(void);
    bool (*bql_locked)(void);

    unsigned int *global_dirty_tracking;
    bool (*memory_global_dirty_log_start)(unsigned int flags, Error **errp);
    void (*memory_global_dirty_log_stop)(unsigned int flags);
    void (*memory_global_dirty_log_sync)(bool last_stage);
    DirtyBitmapSnapshot *(*snapshot_and_clear_dirty)(MemoryRegion *mr,
                                                     uint64_t offset,
                                                     uint64_t length,
                                                     unsigned int client);
    bool (*kvm_dirty_ring_enabled)(void);
    bool *kvm_allowed;
    bool (*migration_is_running)(void); /* 10.0 and later */
    bool (*migration_is_idle)(void);    /* 7.2: running takes an argument */
    void (*migration_add_notifier)(QemuNotifier *notifier, MigrationFunc fn);
    void (*add_migration_state_change_notifier)(QemuNotifier *notifier);
    void (*qmp_marshal_query_dirty_rate)(QDict *args, QObject **ret,
                                         Error **errp);

    MemoryRegion *(*get_system_memory)(void);
    MemoryRegionSection (*memory_region_find)(MemoryRegion *mr, uint64_t addr,
                                              uint64_t size);
    void (*memory_region_unref)(MemoryRegion *mr);
    MemoryRegion *(*memory_region_from_host)(void *host, uint64_t *ret_offset);
    QemuObject *(*memory_region_owner)(MemoryRegion *mr);
    QemuObject *(*object_dynamic_cast)(QemuObject *obj, const char *type);
    int (*qemu_ram_foreach_block)(RamBlockFunc fn, void *opaque);
    const char *(*qemu_ram_get_idstr)(RAMBlock *rb);
    void *(*qemu_ram_get_host_addr)(RAMBlock *rb);
    uint64_t (*qemu_ram_get_offset)(RAMBlock *rb);
    uint64_t (*qemu_ram_get_used_length)(RAMBlock *rb);
} QemuSymbols;

/*
 * Looks all symbols up in the running QEMU.  Returns 0; -ENOENT where
 * tracking cannot work, with one line in ret_reason; -ENOSYS where not even
 * the QMP commands can be registered to say so, with the line.
 */
int qemu_symbols_load(QemuSymbols *ret, char *ret_reason, size_t reason_size);

/* The plugin API version that a plugin must declare to this QEMU. */
int qemu_plugin_api(void);

/* Whether writes are logged by KVM's dirty ring; else by a bitmap. */
bool log_is_ring(const QemuSymbols *q);

/* Drops one reference, as qobject_unref(), which is inline in QEMU. */
void qobject_unref(const QemuSymbols *q, void *obj);

#define error_setg(q, errp, ...)                                              \
    (q)->error_setg_internal((errp), __FILE__, __LINE__, __func__, __VA_ARGS__)

#endif
