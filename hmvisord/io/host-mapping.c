/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a process has its memory: /proc/PID/maps and numa_maps of one mapping. Never writes, keeps nothing.
 */
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>

#include "io/host.h"

typedef struct Mapping {
        uint64_t start, end;
        unsigned major, minor;
        uint64_t inode;
} Mapping;

static FILE *proc_open(const char *root, pid_t pid, const char *name, int *ret_error) {
        char path[PATH_MAX];
        FILE *f;

        snprintf(path, sizeof(path), "%s/proc/%d/%s", streq(root, "/") ? "" : root, (int) pid, name);
        f = fopen(path, "re");
        if (!f)
                *ret_error = errno == EPERM ? -EACCES : errno == ENOENT ? -ESRCH : -errno;
        return f;
}

static bool mapping_parse(const char *line, Mapping *ret) {
        return sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*x %x:%x %" SCNu64, &ret->start, &ret->end,
                      &ret->major, &ret->minor, &ret->inode) == 5;
}

/* Two pieces of one mapping: the kernel splits it where parts have different policies or advice. */
static bool mapping_is_same(const Mapping *a, const Mapping *b) {
        return a->start == b->start ||
               (a->inode != 0 && a->inode == b->inode && a->major == b->major && a->minor == b->minor);
}

/* Adds "N0=12 N1=3 ... kernelpagesize_kB=4" to bytes. */
static void numa_line_add(char *line, uint64_t *bytes) {
        uint64_t pages[HOST_NODES_MAX] = {}, page = 4;
        char *save = NULL;

        for (char *word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
                uint64_t n, value;

                if (sscanf(word, "kernelpagesize_kB=%" SCNu64, &value) == 1)
                        page = value;
                else if (*word == 'N' && isdigit((unsigned char) word[1]) &&
                         sscanf(word, "N%" SCNu64 "=%" SCNu64, &n, &value) == 2 && n < HOST_NODES_MAX)
                        pages[n] = value;
        }
        for (size_t i = 0; i < HOST_NODES_MAX; i++)
                bytes[i] += pages[i] * page * 1024;
}

static int mapping_find(const char *root, pid_t pid, uint64_t hva, Mapping *ret) {
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        size_t size = 0;
        int r = 0;

        f = proc_open(root, pid, "maps", &r);
        if (!f)
                return r;
        while (getline(&line, &size, f) > 0) {
                Mapping m;

                if (mapping_parse(line, &m) && m.start <= hva && hva < m.end) {
                        *ret = m;
                        return 0;
                }
        }
        return ferror(f) ? -EIO : -ENOENT;
}

int host_mapping_node_bytes(const char *root, pid_t pid, uint64_t hva, uint64_t *ret_bytes) {
        _cleanup_fclose_ FILE *maps = NULL, *numa = NULL;
        _cleanup_free_ char *map_line = NULL, *numa_line = NULL;
        uint64_t bytes[HOST_NODES_MAX] = {}, address;
        size_t map_size = 0, numa_size = 0;
        Mapping wanted = {}, m = {};
        bool have_map, found = false;
        int r;

        r = mapping_find(root, pid, hva, &wanted);
        if (r < 0)
                return r;
        maps = proc_open(root, pid, "maps", &r);
        if (!maps)
                return r;
        numa = proc_open(root, pid, "numa_maps", &r);
        if (!numa)
                return r;
        /* Both are ascending; numa_maps names only the start, so walk them side by side. */
        have_map = getline(&map_line, &map_size, maps) > 0;
        while (getline(&numa_line, &numa_size, numa) > 0) {
                if (sscanf(numa_line, "%" SCNx64, &address) != 1)
                        continue;
                while (have_map && (!mapping_parse(map_line, &m) || m.start < address))
                        have_map = getline(&map_line, &map_size, maps) > 0;
                if (have_map && m.start == address && mapping_is_same(&m, &wanted)) {
                        numa_line_add(numa_line, bytes);
                        found = true;
                }
        }
        if (ferror(numa) || ferror(maps))
                return -EIO;
        if (!found)
                return -ENOENT;
        memcpy(ret_bytes, bytes, sizeof(bytes));
        return 0;
}
