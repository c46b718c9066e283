/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which host process a running domain is. libvirt has no call that tells it, so: libvirt's own pid file
 * /run/libvirt/qemu/NAME.pid, and where we may not read it, a process that says "-name guest=NAME" in its
 * command line. Anybody can start a process with such a command line, so it counts only inside a control
 * group that libvirt made under machine.slice, which takes root. Never trusts a pid further than these two
 * checks.
 */
#include "io/virt.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>

#define CMDLINE_MAX 65536

/* Reads at most size - 1 bytes, ends them with NUL; returns the length or -errno. */
static ssize_t file_read(const char *path, char *buf, size_t size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        size_t n = 0;

        if (fd < 0)
                return -errno;
        while (n < size - 1) {
                ssize_t r = read(fd, buf + n, size - 1 - n);

                if (r < 0)
                        return -errno;
                if (r == 0)
                        break;
                n += (size_t) r;
        }
        buf[n] = '\0';
        return (ssize_t) n;
}

/* Does the command line hold "-name" and then "guest=NAME" (up to a comma)? libvirt writes commas in a name
 * twice. */
static bool cmdline_is_guest(const char *cmdline, size_t size, const char *name) {
        bool next = false;

        for (const char *p = cmdline; p < cmdline + size; p += strlen(p) + 1) {
                const char *q = p + strlen("guest="), *n = name;

                if (!next || strncmp(p, "guest=", strlen("guest=")) != 0) {
                        next = streq(p, "-name");
                        continue;
                }
                for (; *n && *q == *n; n++, q++)
                        if (*n == ',' && *++q != ',')
                                return false;
                return *n == '\0' && (*q == '\0' || (*q == ',' && q[1] != ','));
        }
        return false;
}

/* cmdline and cgroup: the contents of /proc/PID/cmdline and /proc/PID/cgroup. */
bool virt_process_is_guest(const char *cmdline, size_t cmdline_size, const char *cgroup, const char *name) {
        return strstr(cgroup, "/machine.slice/machine-qemu") &&
               cmdline_is_guest(cmdline, cmdline_size, name);
}

static int pid_from_file(const char *name) {
        char path[512], text[32];
        ssize_t n;
        long pid;

        if (strchr(name, '/') ||
            snprintf(path, sizeof(path), "/run/libvirt/qemu/%s.pid", name) >= (int) sizeof(path))
                return -EINVAL;
        n = file_read(path, text, sizeof(text));
        if (n < 0)
                return (int) n;
        pid = strtol(text, NULL, 10);
        return pid > 1 && pid < INT32_MAX ? (int) pid : -ESRCH;
}

static int pid_from_proc(const char *name) {
        _cleanup_free_ char *cmdline = malloc(CMDLINE_MAX);
        char path[64], cgroup[4096];
        DIR *proc = opendir("/proc");
        struct dirent *d;
        int pid = -ESRCH;

        while (proc && cmdline && pid < 0 && (d = readdir(proc))) {
                ssize_t n;

                if (!isdigit((unsigned char) *d->d_name) || strlen(d->d_name) > 10)
                        continue;
                snprintf(path, sizeof(path), "/proc/%.10s/cgroup", d->d_name);
                if (file_read(path, cgroup, sizeof(cgroup)) <= 0 || !strstr(cgroup, "machine-qemu"))
                        continue;
                snprintf(path, sizeof(path), "/proc/%.10s/cmdline", d->d_name);
                n = file_read(path, cmdline, CMDLINE_MAX);
                if (n > 0 && virt_process_is_guest(cmdline, (size_t) n, cgroup, name))
                        pid = atoi(d->d_name);
        }
        if (proc)
                closedir(proc);
        return pid;
}

int virt_domain_pid(Virt *v, const char *name) {
        int pid = pid_from_file(name);

        return pid > 0 || pid == -EINVAL ? pid : pid_from_proc(name);
}
