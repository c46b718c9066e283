/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See doctor.h. Reads small files of /proc, /sys and the like below a root, and asks libvirt's and QEMU's
 * programs for their versions.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "config.h"
#include "doctor.h"

#define PROGRAM_MSEC 5000
#define VERSION(major, minor) ((major) * 1000U + (minor))

/* The floors that README.md states; of the kernel, the first one whose dirty log need not protect all memory
 * when it starts (KVM_DIRTY_LOG_INITIALLY_SET). The extension knows no QEMU from CEILING on. */
#define LIBVIRT_FLOOR VERSION(10, 1)
#define QEMU_FLOOR VERSION(10, 0)
#define QEMU_CEILING VERSION(12, 0)
#define KERNEL_FLOOR VERSION(5, 7)

/* A configuration file of hmvisor-qemu; the folder is read by libvirt's own rules for QEMU. */
#define APPARMOR_RULES "/etc/apparmor.d/abstractions/libvirt-qemu.d/hmvisor"

typedef struct Place {
        Findings *findings;
        const char *root;
} Place;

static bool path_of(const Place *p, char buf[static PATH_MAX], const char *path) {
        return snprintf(buf, PATH_MAX, "%s%s", p->root, path) < PATH_MAX;
}

/* The first line of a small file, without its newline; -errno. */
static int line_read(const Place *p, const char *path, char *buf, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        char full[PATH_MAX];
        ssize_t n;

        if (!path_of(p, full, path))
                return -ENAMETOOLONG;
        fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        n = fd < 0 ? -1 : read(fd, buf, size - 1);
        if (n < 0)
                return -errno;
        buf[n] = 0;
        buf[strcspn(buf, "\n")] = 0;
        return 0;
}

/* The first "N.N" of a text as VERSION(); 0: none. */
static unsigned version_of(const char *text) {
        for (const char *s = text; *s; s++) {
                unsigned major, minor;

                if (*s >= '0' && *s <= '9' && (s == text || s[-1] == ' ') &&
                    sscanf(s, "%4u.%3u", &major, &minor) == 2)
                        return VERSION(major, minor);
        }
        return 0;
}

/* ---- programs ---- */

static void program_exec(const char *path, int output) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        sigset_t none;

        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0 &&
            dup2(output, STDOUT_FILENO) >= 0)
                execl(path, path, "--version", (char *) NULL);
        _exit(127);
}

/* What "PROGRAM --version" says first; -ENOENT where there is no such program. */
static int program_version(const Place *p, const char *path, char *buf, size_t size) {
        char full[PATH_MAX];
        size_t used = 0;
        int fds[2];
        ssize_t n = 1;
        pid_t pid;

        if (!path_of(p, full, path) || access(full, X_OK) < 0)
                return -ENOENT;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0)
                program_exec(full, fds[1]);
        (void) close(fds[1]);
        while (pid > 0 && n > 0 && used < size - 1) {
                struct pollfd ready = { .fd = fds[0], .events = POLLIN };

                n = poll(&ready, 1, PROGRAM_MSEC) > 0 ? read(fds[0], buf + used, size - 1 - used) : 0;
                used += n > 0 ? (size_t) n : 0;
        }
        (void) close(fds[0]);
        if (pid > 0) {
                (void) kill(pid, SIGKILL);   /* has ended, or will not */
                (void) waitpid(pid, NULL, 0);
        }
        buf[used] = 0;
        buf[strcspn(buf, "\n")] = 0;
        return used > 0 ? 0 : -EIO;
}

static int first_version(const Place *p, const char *const *paths, size_t n, char *buf, size_t size) {
        int r = -ENOENT;

        for (size_t i = 0; i < n && r < 0; i++)
                r = program_version(p, paths[i], buf, size);
        return r;
}

static void check_libvirt(const Place *p) {
        static const char *const paths[] = { "/usr/sbin/virtqemud", "/usr/sbin/libvirtd" };
        char text[256];

        if (first_version(p, paths, ELEMENTSOF(paths), text, sizeof(text)) < 0)
                finding_add(p->findings, FINDING_PROBLEM, "libvirt", "install libvirt-daemon-system",
                            "no libvirtd or virtqemud that tells its version");
        else if (version_of(text) < LIBVIRT_FLOOR)
                finding_add(p->findings, FINDING_PROBLEM, "libvirt", "install libvirt 10.1 or newer",
                            "%.100s is older than 10.1", text);
        else
                finding_add(p->findings, FINDING_OK, "libvirt", NULL, "%.100s", text);
}

static void check_qemu(const Place *p) {
        static const char *const paths[] = { "/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm" };
        unsigned version;
        char text[256];

        if (first_version(p, paths, ELEMENTSOF(paths), text, sizeof(text)) < 0) {
                finding_add(p->findings, FINDING_PROBLEM, "qemu", "install qemu-system-x86",
                            "no QEMU that tells its version");
                return;
        }
        version = version_of(text);
        if (version < QEMU_FLOOR)
                finding_add(p->findings, FINDING_PROBLEM, "qemu", "install QEMU 10.0 or newer",
                            "%.100s is older than 10.0", text);
        else if (version >= QEMU_CEILING)
                finding_add(p->findings, FINDING_PROBLEM, "qemu",
                            "use QEMU 10 or 11, or a newer hmvisor-qemu",
                            "%.100s is not known to the extension, which will not load", text);
        else
                finding_add(p->findings, FINDING_OK, "qemu", NULL, "%.100s", text);
}

/* QEMU runs as another user, who has to be able to read it. */
static void check_extension(const Place *p) {
        char full[PATH_MAX];
        struct stat st;

        if (!path_of(p, full, HMV_EXTENSION_PATH) || stat(full, &st) < 0)
                finding_add(p->findings, FINDING_PROBLEM, "extension",
                            "install hmvisor-qemu, or see ExtensionPath= in hmvisord.conf(5)",
                            "'%s' is missing", HMV_EXTENSION_PATH);
        else if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))
                finding_add(p->findings, FINDING_PROBLEM, "extension", "reinstall hmvisor-qemu",
                            "'%s' cannot be read by QEMU's user", HMV_EXTENSION_PATH);
        else
                finding_add(p->findings, FINDING_OK, "extension", NULL, "%s", HMV_EXTENSION_PATH);
}

/* ---- the kernel ---- */

static void check_kernel(const Place *p) {
        char text[128];
        int r = line_read(p, "/proc/sys/kernel/osrelease", text, sizeof(text));
        unsigned version = r < 0 ? 0 : version_of(text);

        if (r < 0)
                finding_add(p->findings, FINDING_WARNING, "kernel", NULL, "its version cannot be read: %s",
                            strerror(-r));
        else if (version < KERNEL_FLOOR)
                finding_add(p->findings, FINDING_WARNING, "kernel", "boot a kernel from 5.7 on",
                            "Linux %s write-protects all of a guest's memory whenever tracking begins",
                            text);
        else
                finding_add(p->findings, FINDING_OK, "kernel", NULL, "Linux %s", text);
}

static void check_kvm(const Place *p) {
        char full[PATH_MAX];

        if (!path_of(p, full, "/dev/kvm") || access(full, F_OK) < 0)
                finding_add(p->findings, FINDING_PROBLEM, "kvm",
                            "load kvm_intel or kvm_amd, and switch virtualization on in the firmware",
                            "there is no /dev/kvm: guests would be emulated");
        else
                finding_add(p->findings, FINDING_OK, "kvm", NULL, "/dev/kvm is there");
}

/* The kernel's own demotion goes by tiers alone: Documentation/ABI/testing/sysfs-kernel-mm-numa says that it
 * can move data out of where its process may have it. */
static void check_demotion(const Place *p) {
        char text[16];

        if (line_read(p, "/sys/kernel/mm/numa/demotion_enabled", text, sizeof(text)) < 0)
                return;
        if (streq(text, "true") || streq(text, "1"))
                finding_add(p->findings, FINDING_WARNING, "demotion",
                            "echo 0 > /sys/kernel/mm/numa/demotion_enabled, also at boot",
                            "the host's kernel moves memory to slow nodes when DRAM runs out, that of DRAM "
                            "cells too");
        else
                finding_add(p->findings, FINDING_OK, "demotion", NULL,
                            "the host's kernel leaves memory on its tier");
}

/* libvirt's profile of each QEMU is made when its domain starts, with what packages add to it. */
static void check_apparmor(const Place *p) {
        char full[PATH_MAX];

        if (path_of(p, full, APPARMOR_RULES) && access(full, F_OK) == 0)
                finding_add(p->findings, FINDING_OK, "apparmor", NULL,
                            "it is on, and lets QEMU load the extension");
        else
                finding_add(
                        p->findings, FINDING_WARNING, "apparmor",
                        "apt reinstall -o Dpkg::Options::=--force-confmiss hmvisor-qemu",
                        "it is on, and '%s' is missing: QEMU can load the extension only where the rules "
                        "for libraries let it",
                        APPARMOR_RULES);
}

static void check_confinement(const Place *p) {
        char text[16] = "";

        if (line_read(p, "/sys/fs/selinux/enforce", text, sizeof(text)) >= 0 && streq(text, "1"))
                finding_add(p->findings, FINDING_WARNING, "selinux",
                            "if a domain is degraded, see 'ausearch -m avc', and allow what QEMU was denied",
                            "it is enforced, under which HMvisor has not been tested");
        else if (line_read(p, "/sys/module/apparmor/parameters/enabled", text, sizeof(text)) >= 0 &&
                 streq(text, "Y"))
                check_apparmor(p);
        else
                finding_add(p->findings, FINDING_OK, "confinement", NULL,
                            "neither AppArmor nor SELinux confines QEMU");
}

/* ---- without the daemon ---- */

static void check_nodes(const Place *p) {
        char memory[256], cpus[256];
        int r = line_read(p, "/sys/devices/system/node/has_memory", memory, sizeof(memory));

        if (r >= 0)
                r = line_read(p, "/sys/devices/system/node/has_cpu", cpus, sizeof(cpus));
        if (r < 0)
                finding_add(p->findings, FINDING_PROBLEM, "tiers", "boot a kernel with NUMA",
                            "the kernel shows no memory nodes: %s", strerror(-r));
        else if (!strpbrk(memory, ",-"))
                finding_add(p->findings, FINDING_PROBLEM, "tiers",
                            "make CXL memory or NVDIMMs a node by daxctl-reconfigure-device(1)",
                            "all memory is on node %s, so there is no slow tier", memory);
        else
                finding_add(p->findings, FINDING_WARNING, "tiers", "start hmvisord, which finds the tiers",
                            "memory is on nodes %s, processors are on %s; which node is slow is not known",
                            memory, cpus);
}

static void check_state(const Place *p) {
        char full[PATH_MAX];
        struct statvfs st;

        if (!path_of(p, full, "/var/lib/hmvisor") || statvfs(full, &st) < 0) {
                if (errno != ENOENT)   /* hmvisord's start makes it */
                        finding_add(p->findings, FINDING_PROBLEM, "journal", NULL,
                                    "'/var/lib/hmvisor' cannot be looked at: %s", strerror(errno));
                return;
        }
        if (st.f_flag & ST_RDONLY)
                finding_add(p->findings, FINDING_PROBLEM, "journal", "mount it to be written to",
                            "the file system of '/var/lib/hmvisor' is read-only, so nothing can be traded");
        else if (st.f_bavail == 0)
                finding_add(p->findings, FINDING_PROBLEM, "journal", "make room there",
                            "the file system of '/var/lib/hmvisor' is full, so nothing can be traded");
        else
                finding_add(p->findings, FINDING_OK, "journal", NULL, "'/var/lib/hmvisor' has room");
}

void doctor_check_host(Findings *f, const char *root, bool nodes) {
        Place p = { .findings = f, .root = root };

        check_kernel(&p);
        check_kvm(&p);
        check_libvirt(&p);
        check_qemu(&p);
        check_extension(&p);
        check_demotion(&p);
        check_confinement(&p);
        check_state(&p);
        if (nodes)
                check_nodes(&p);
}
