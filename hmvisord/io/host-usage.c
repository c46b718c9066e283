/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much of each node a machine's QEMU keeps in use, as the kernel accounts it to the machine's cgroup:
 * one small file, however large the machine. Never writes, keeps nothing.
 */
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>

#include "base/units.h"
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

/* Adds "N0=12 N1=3 ..." to sums. */
static void nodes_add(char *words, uint64_t factor, uint64_t *sums) {
        char *save = NULL;

        for (char *word = strtok_r(words, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
                uint64_t node, value;

                if (*word == 'N' && isdigit((unsigned char) word[1]) &&
                    sscanf(word, "N%" SCNu64 "=%" SCNu64, &node, &value) == 2 && node < HOST_NODES_MAX)
                        sums[node] += value * factor;
        }
}

int host_machine_bytes(const char *root, pid_t pid, uint64_t *ret_bytes) {
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        uint64_t bytes[HOST_NODES_MAX] = {};
        char cgroup[PATH_MAX];
        size_t size = 0;
        unsigned found = 0;
        int r;

        r = cgroup_of(root, pid, cgroup, sizeof(cgroup));
        if (r < 0)
                return r;
        f = numa_stat_open(root, cgroup);
        if (!f)
                return -ENODATA;
        while (getline(&line, &size, f) > 0)
                if (strncmp(line, "anon ", 5) == 0 || strncmp(line, "shmem ", 6) == 0) {
                        nodes_add(strchr(line, ' '), 1, bytes);
                        found++;
                }
        if (found < 2)
                return -ENODATA;
        memcpy(ret_bytes, bytes, sizeof(bytes));
        return 0;
}

/* A line of numa_maps: "ADDRESS POLICY [file=PATH] [heap] [anon=N] ... N0=12 N1=3 kernelpagesize_kB=4". */
int host_machine_own_bytes(const char *root, pid_t pid, uint64_t *ret_bytes) {
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        uint64_t bytes[HOST_NODES_MAX] = {};
        char path[PATH_MAX];
        size_t size = 0;

        snprintf(path, sizeof(path), "%s/proc/%d/numa_maps", root_prefix(root), (int) pid);
        f = fopen(path, "re");
        if (!f)
                return errno == ENOENT ? -ESRCH : errno == EPERM ? -EACCES : -errno;
        while (getline(&line, &size, f) > 0) {
                const char *page = strstr(line, " kernelpagesize_kB=");
                uint64_t kib = page ? strtoull(page + strlen(" kernelpagesize_kB="), NULL, 10) : 4;
                char *policy = strchr(line, ' ');

                if (policy && strncmp(policy, " bind:", 6) != 0 && strstr(policy, " anon=") &&
                    !strstr(policy, " file="))
                        nodes_add(policy, kib * KIB, bytes);
        }
        if (ferror(f))
                return -EIO;
        memcpy(ret_bytes, bytes, sizeof(bytes));
        return 0;
}

/* /proc/PID/stat, proc_pid_stat(5): the name, field 2, may hold anything and ends at the last ')'; utime and
 * stime are fields 14 and 15, in ticks. */
int host_process_cpu_usec(const char *root, pid_t pid, usec_t *ret) {
        _cleanup_fclose_ FILE *f = NULL;
        unsigned long long user, system;
        long ticks = sysconf(_SC_CLK_TCK);
        char path[PATH_MAX], text[1024];
        const char *fields;
        size_t n;

        snprintf(path, sizeof(path), "%s/proc/%d/stat", root_prefix(root), (int) pid);
        f = fopen(path, "re");
        if (!f)
                return errno == ENOENT ? -ESRCH : -errno;
        n = fread(text, 1, sizeof(text) - 1, f);
        text[n] = '\0';
        fields = strrchr(text, ')');
        if (!fields || ticks <= 0 ||
            sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) !=
                    2)
                return -EBADMSG;
        *ret = (user + system) * (USEC_PER_SEC / (usec_t) ticks);
        return 0;
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
