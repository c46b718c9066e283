/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Mapping of the counter table and the atomics on its header.
 */
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int fail(int error, char *ret_reason, size_t reason_size,
                const char *what, const char *remedy)
{
    snprintf(ret_reason, reason_size, "bad table: %s: %s", what, remedy);
    return error;
}

int table_map(int fd, uint64_t n_needed, Table *ret, char *ret_reason,
              size_t reason_size)
{
    HotnessTableHeader *header;
    uint64_t n_counters;
    struct stat st;
    void *map;
    int seals;

    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
        return fail(-EINVAL, ret_reason, reason_size,
                    "it can shrink while it is mapped",
                    "pass a memfd with F_SEAL_SHRINK");
    }
    if (fstat(fd, &st) < 0) {
        return fail(-errno, ret_reason, reason_size, strerror(errno),
                    "pass a memfd");
    }
    if (st.st_size < HOTNESS_TABLE_HEADER_SIZE) {
        return fail(-EINVAL, ret_reason, reason_size,
                    "it is smaller than its header",
                    "give it its size before sealing it");
    }
    map = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        return fail(-errno, ret_reason, reason_size, strerror(errno),
                    "pass a memfd that can be mapped for writing");
    }
    header = map;
    n_counters = __atomic_load_n(&header->n_counters, __ATOMIC_SEQ_CST);

    if (header->magic != HOTNESS_TABLE_MAGIC ||
        header->layout != HOTNESS_TABLE_LAYOUT ||
        header->header_size != HOTNESS_TABLE_HEADER_SIZE) {
        munmap(map, st.st_size);
        return fail(-EINVAL, ret_reason, reason_size,
                    "its magic, layout or header size is not ours",
                    "use a daemon of the extension's version");
    }
    if (n_counters > (uint64_t)st.st_size - HOTNESS_TABLE_HEADER_SIZE) {
        munmap(map, st.st_size);
        return fail(-EINVAL, ret_reason, reason_size,
                    "its memfd is smaller than its header says",
                    "give it 4096 bytes and one for each counter");
    }
    if (n_counters < n_needed) {
        munmap(map, st.st_size);
        snprintf(ret_reason, reason_size,
                 "table too small: it has %" PRIu64 " counters, the guest's "
                 "RAM needs %" PRIu64, n_counters, n_needed);
        return -ENOSPC;
    }
    *ret = (Table){
        .header = header,
        .counters = (uint8_t *)map + HOTNESS_TABLE_HEADER_SIZE,
        .n_counters = n_counters,
        .map_size = st.st_size,
    };
    return 0;
}

void table_unmap(Table *table)
{
    if (table->header) {
        munmap(table->header, table->map_size);
    }
    *table = (Table){ 0 };
}

bool table_enter(Table *table)
{
    HotnessTableHeader *header = table->header;

    __atomic_store_n(&header->busy, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&header->hold, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&header->busy, 0, __ATOMIC_SEQ_CST);
        return false;
    }
    return true;
}

void table_leave(Table *table)
{
    __atomic_store_n(&table->header->busy, 0, __ATOMIC_SEQ_CST);
}

uint32_t table_get_hold(const Table *table)
{
    return __atomic_load_n(&table->header->hold, __ATOMIC_SEQ_CST);
}

uint64_t table_get_renew(const Table *table)
{
    return __atomic_load_n(&table->header->renew, __ATOMIC_SEQ_CST);
}

uint64_t table_get_skip(const Table *table)
{
    return __atomic_load_n(&table->header->skip, __ATOMIC_SEQ_CST);
}

void table_set_generation(Table *table, uint64_t generation)
{
    __atomic_store_n(&table->header->generation, generation,
                     __ATOMIC_SEQ_CST);
}

void table_set_epoch(Table *table, uint64_t epoch)
{
    __atomic_store_n(&table->header->epoch, epoch, __ATOMIC_SEQ_CST);
}
