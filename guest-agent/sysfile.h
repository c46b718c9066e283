/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Small files of /proc, /sys and /run, read and written below a root directory that tests can replace. Paths
 * have no leading slash. Never caches and never logs.
 */
#pragma once

#include <dirent.h>

#include "base/cleanup.h"

/* Opens a path below root. Returns the descriptor or -errno. */
int sysfile_open(int root, int flags, const char *format, ...) _printf_(3, 4);

/* Opens a folder below root; *ret is for closedir(). Returns 0 or -errno. */
int sysfile_opendir(int root, const char *path, DIR **ret);

/* Reads a whole small file as a string; what does not fit is cut off. Returns its length or -errno. */
ssize_t sysfile_read(int root, char *buf, size_t size, const char *format, ...) _printf_(4, 5);

/* Reads a file of one number, in decimal or with 0x. Returns 0, -EINVAL or -errno. */
int sysfile_read_u64(int root, uint64_t *ret, const char *format, ...) _printf_(3, 4);

/* Writes a text in one write(), as sysfs wants it; the file must exist. Returns 0 or -errno. */
int sysfile_write(int root, const char *text, const char *format, ...) _printf_(3, 4);

/* Writes to a file that is open already, from its start: the cheap way for a file written often. */
int sysfile_pwrite(int fd, const char *text);

/* Value of the line "KEY  123 ..." or "KEY: 123 kB" in text; the key must be at the start of a line (blanks
 * before it are skipped) and followed by a blank, a colon or an equals sign. Returns 0 or -ENOENT. */
int text_find_u64(const char *text, const char *key, uint64_t *ret);

usec_t now_usec(void);

/* qsort() that first looks whether there is anything to do: often there is not. */
void array_sort(void *array, size_t n, size_t size, int (*compare)(const void *, const void *));
