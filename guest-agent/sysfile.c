/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Small files of /proc, /sys and /run: see sysfile.h. Owns no state.
 */
#include "sysfile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <time.h>

#define SYSFILE_PATH(path, format)                                       \
        char path[PATH_MAX];                                             \
        do {                                                             \
                va_list _ap;                                             \
                va_start(_ap, format);                                   \
                int _n = vsnprintf(path, sizeof(path), format, _ap);     \
                va_end(_ap);                                             \
                if (_n < 0 || (size_t) _n >= sizeof(path))               \
                        return -ENAMETOOLONG;                            \
        } while (0)

static int path_open(int root, int flags, const char *path) {
        int fd = openat(root, path, flags | O_CLOEXEC | O_NOCTTY);

        return fd < 0 ? -errno : fd;
}

static ssize_t path_read(int root, char *buf, size_t size, const char *path) {
        _cleanup_close_ int fd = path_open(root, O_RDONLY, path);
        size_t have = 0;

        if (fd < 0)
                return fd;
        while (have < size - 1) {
                ssize_t n = read(fd, buf + have, size - 1 - have);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t) n;
        }
        buf[have] = '\0';
        return (ssize_t) have;
}

int sysfile_open(int root, int flags, const char *format, ...) {
        SYSFILE_PATH(path, format);
        return path_open(root, flags, path);
}

int sysfile_opendir(int root, const char *path, DIR **ret) {
        _cleanup_close_ int fd = sysfile_open(root, O_RDONLY | O_DIRECTORY, "%s", path);
        DIR *dir;

        if (fd < 0)
                return fd;
        dir = fdopendir(fd);
        if (!dir)
                return -errno;
        (void) TAKE_FD(fd);   /* closedir() closes it */
        *ret = dir;
        return 0;
}

ssize_t sysfile_read(int root, char *buf, size_t size, const char *format, ...) {
        SYSFILE_PATH(path, format);
        return path_read(root, buf, size, path);
}

int sysfile_read_u64(int root, uint64_t *ret, const char *format, ...) {
        char buf[64], *end;
        unsigned long long v;
        ssize_t n;

        SYSFILE_PATH(path, format);
        n = path_read(root, buf, sizeof(buf), path);
        if (n < 0)
                return (int) n;
        errno = 0;
        v = strtoull(buf, &end, 0);
        if (errno || end == buf || (*end != '\0' && *end != '\n'))
                return -EINVAL;
        *ret = v;
        return 0;
}

int sysfile_pwrite(int fd, const char *text) {
        size_t len = strlen(text);
        ssize_t n;

        do
                n = pwrite(fd, text, len, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        return (size_t) n == len ? 0 : -EIO;
}

int sysfile_write(int root, const char *text, const char *format, ...) {
        _cleanup_close_ int fd = -EBADF;

        SYSFILE_PATH(path, format);
        fd = path_open(root, O_WRONLY | O_TRUNC, path);
        return fd < 0 ? fd : sysfile_pwrite(fd, text);
}

int text_find_u64(const char *text, const char *key, uint64_t *ret) {
        size_t len = strlen(key);

        for (const char *line = text; line; line = strchr(line, '\n')) {
                const char *p = line + strspn(line, "\n \t");

                if (strncmp(p, key, len) == 0 && p[len] != '\0' && strchr(" \t:=", p[len])) {
                        char *end;
                        unsigned long long v;

                        p += len + strspn(p + len, " \t:=");
                        v = strtoull(p, &end, 10);
                        if (end != p) {
                                *ret = v;
                                return 0;
                        }
                }
                line = p;
        }
        return -ENOENT;
}

usec_t now_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (usec_t) ts.tv_sec * USEC_PER_SEC + (usec_t) ts.tv_nsec / 1000;
}

void array_sort(void *array, size_t n, size_t size, int (*compare)(const void *, const void *)) {
        const char *p = array;

        for (size_t i = 1; i < n; i++)
                if (compare(p + (i - 1) * size, p + i * size) > 0) {
                        qsort(array, n, size, compare);
                        return;
                }
}
