/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much of each node a machine's QEMU keeps in use, as the kernel accounts it to the machine's cgroup:
 * one small file, however large the machine. Never writes, keeps nothing.
 */
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>

#include "io/host.h"

static const char *root_prefix(const char *root) {
        return streq(root, "/") ? "" : root;
}

/* The cgroup of the unified hierarchy: the line "0::PATH". */
static int cgroup_of(const char *root, pid_t pid, char *ret, size_t size) {
        _cleanup_fclose_ FILE *f = NULL;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/proc/%d/cgroup", root_prefix(root), (int) pid);
        f = fopen(path, "re");
        if (!f)
                return errno == ENOENT ? -ESRCH : -errno;
        while (fgets(path, sizeof(path), f))
                if (strncmp(path, "0::/", 4) == 0 && strcspn(path, "\n") < size) {
                        snprintf(ret, size, "%.*s", (int) strcspn(path + 3, "\n"), path + 3);
                        return 0;
                }
        return -ENODATA;
}

/* Up to the machine's own cgroup and not beyond it: those above are shared by all machines. */
static bool is_machine(const char *cgroup) {
        const char *last = strrchr(cgroup, '/');

        return last && strncmp(last, "/machine-qemu", strlen("/machine-qemu")) == 0;
}

static FILE *numa_stat_open(const char *root, char *cgroup) {
        for (;;) {
                bool machine = is_machine(cgroup);
                char path[PATH_MAX + 64];
                FILE *f;

                snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.numa_stat", root_prefix(root),
                         cgroup);
                f = fopen(path, "re");
                if (f)
                        return strstr(cgroup, "/machine-qemu") ? f : (fclose(f), NULL);
                if (machine || !strrchr(cgroup, '/') || strrchr(cgroup, '/') == cgroup)
                        return NULL;
                *strrchr(cgroup, '/') = '\0';
        }
}

int host_machine_shared_bytes(const char *root, pid_t pid, uint64_t *ret_bytes) {
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        uint64_t bytes[HOST_NODES_MAX] = {};
        char cgroup[PATH_MAX];
        size_t size = 0;
        int r;

        r = cgroup_of(root, pid, cgroup, sizeof(cgroup));
        if (r < 0)
                return r;
        f = numa_stat_open(root, cgroup);
        if (!f)
                return -ENODATA;
        while (getline(&line, &size, f) > 0) {
                char *save = NULL, *word = strtok_r(line, " \n", &save);

                if (!word || !streq(word, "shmem"))
                        continue;
                while ((word = strtok_r(NULL, " \n", &save))) {
                        uint64_t node, value;

                        if (sscanf(word, "N%" SCNu64 "=%" SCNu64, &node, &value) == 2 &&
                            node < HOST_NODES_MAX)
                                bytes[node] = value;
                }
                memcpy(ret_bytes, bytes, sizeof(bytes));
                return 0;
        }
        return -ENODATA;
}

bool host_nodelist_has(const char *list, unsigned node) {
        for (const char *p = list; isdigit((unsigned char) *p);) {
                char *end;
                unsigned long first = strtoul(p, &end, 10), last = first;

                if (*end == '-')
                        last = strtoul(end + 1, &end, 10);
                if (node >= first && node <= last)
                        return true;
                p = *end == ',' ? end + 1 : end;
        }
        return false;
}
