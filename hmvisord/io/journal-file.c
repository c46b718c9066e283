/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See journal-file.h. All is done relative to the folder, which stays open: the file cannot move away
 * between a write and its sync.
 */
#include "io/journal-file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

struct JournalFile {
        char *path;
        char *name, *name_new, *name_lock; /* within the folder */
        int folder, lock;
};

static int fail_at(const char *path, Outcome *o, int error, const char *what) {
        const char *remedy = "see that it can be read and written by root";

        if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG)
                remedy = "make room there";
        else if (error == -EROFS)
                remedy = "mount its file system for writing, or give another JournalPath=";
        else if (error == -ENOENT || error == -ENOTDIR)
                remedy = "make its folder, or give another JournalPath=";
        else if (error == -EIO)
                remedy = "see the kernel's log: the disk may be failing";
        else if (error == -ENOMEM)
                remedy = "see what uses up the host's memory";
        else if (error == -ELOOP)
                remedy =
                        "it is a symbolic link, which is not followed: give the file itself as JournalPath=";
        (void) outcome_set(o, OUTCOME_FAILED, "the market's journal '%s' cannot be %s: %s; %s", path, what,
                           strerror(-error), remedy);
        return error;
}

static int fail(const JournalFile *f, Outcome *o, int error, const char *what) {
        return fail_at(f->path, o, error, what);
}

JournalFile *journal_file_free(JournalFile *f) {
        if (!f)
                return NULL;
        if (f->lock >= 0)
                close(f->lock); /* and with it the lock */
        if (f->folder >= 0)
                close(f->folder);
        free(f->path);
        free(f->name);
        free(f->name_new);
        free(f->name_lock);
        free(f);
        return NULL;
}

static int file_name(JournalFile *f, const char *path, char **ret_folder) {
        const char *slash = strrchr(path, '/');

        f->path = strdup(path);
        f->name = strdup(slash ? slash + 1 : path);
        if (!f->path || !f->name || asprintf(&f->name_new, "%s.new", f->name) < 0)
                return -ENOMEM;
        if (asprintf(&f->name_lock, "%s.lock", f->name) < 0)
                return -ENOMEM;
        *ret_folder = !slash          ? strdup(".")
                      : slash == path ? strdup("/")
                                      : strndup(path, (size_t) (slash - path));
        return *ret_folder ? 0 : -ENOMEM;
}

int journal_file_open(const char *path, JournalFile **ret, Outcome *o) {
        _cleanup_(journal_file_freep) JournalFile *f = calloc(1, sizeof(*f));
        _cleanup_free_ char *folder = NULL;

        if (!f)
                return fail_at(path, o, -ENOMEM, "opened");
        f->folder = f->lock = -EBADF;
        if (file_name(f, path, &folder) < 0)
                return fail_at(path, o, -ENOMEM, "opened");
        f->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (f->folder < 0)
                return fail(f, o, -errno, "opened");
        f->lock = openat(f->folder, f->name_lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (f->lock < 0)
                return fail(f, o, -errno, "locked");
        if (flock(f->lock, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK)
                        return fail(f, o, -errno, "locked");
                (void) outcome_set(
                        o, OUTCOME_FAILED,
                        "another hmvisord uses the market's journal '%s'; stop that one, or give this one "
                        "another JournalPath=",
                        path);
                return -EBUSY;
        }
        (void) unlinkat(f->folder, f->name_new, 0); /* of a life that ended while it wrote */
        *ret = TAKE_PTR(f);
        return 0;
}

const char *journal_file_path(const JournalFile *f) {
        return f->path;
}

/* Returns the bytes that there are, up to size, or -errno. */
static ssize_t read_all(int fd, char *buf, size_t size) {
        size_t n = 0;

        while (n < size) {
                ssize_t r = read(fd, buf + n, size - n);

                if (r == 0)
                        break;
                if (r < 0 && errno != EINTR)
                        return -errno;
                n += r > 0 ? (size_t) r : 0;
        }
        return (ssize_t) n;
}

int journal_file_read(JournalFile *f, char **ret_text, size_t *ret_size, Outcome *o) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        ssize_t n;

        fd = openat(f->folder, f->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return -ENOENT;
        if (fd < 0 || fstat(fd, &st) < 0)
                return fail(f, o, -errno, "read");
        if (!S_ISREG(st.st_mode) || st.st_size > JOURNAL_FILE_MAX) {
                (void) outcome_set(
                        o, OUTCOME_FAILED,
                        "'%s' is not the market's journal (%s); remove it, or give another JournalPath=",
                        f->path, S_ISREG(st.st_mode) ? "it is far too large" : "it is no file");
                return S_ISREG(st.st_mode) ? -EFBIG : -EINVAL;
        }
        text = malloc((size_t) st.st_size + 1);
        if (!text)
                return fail(f, o, -ENOMEM, "read");
        n = read_all(fd, text, (size_t) st.st_size);
        if (n < 0)
                return fail(f, o, (int) n, "read");
        text[n] = '\0';
        *ret_size = (size_t) n;
        *ret_text = TAKE_PTR(text);
        return 0;
}

static int write_all(int fd, const char *text, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, text, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                text += n;
                size -= (size_t) n;
        }
        return 0;
}

/* Its own name, as nobody else has the lock; O_EXCL, so that it is a file of ours whatever lay there. */
static int write_new(const JournalFile *f, const char *text, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        (void) unlinkat(f->folder, f->name_new, 0);
        fd = openat(f->folder, f->name_new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_all(fd, text, size);
        if (r < 0)
                return r;
        return fsync(fd) < 0 ? -errno : 0;
}

/* A folder lies where a file should be, which no other remedy would mend. */
static bool is_folder(const JournalFile *f, const char *name) {
        struct stat st;

        return fstatat(f->folder, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISDIR(st.st_mode);
}

static int fail_written(const JournalFile *f, Outcome *o, int error) {
        const char *in_the_way = is_folder(f, f->name)       ? f->name
                                 : is_folder(f, f->name_new) ? f->name_new
                                                             : NULL;

        if (!in_the_way)
                return fail(f, o, error, "written");
        (void) outcome_set(
                o, OUTCOME_FAILED,
                "the market's journal '%s' cannot be written: '%s' in its folder is a folder itself; "
                "move that away, or give another JournalPath=",
                f->path, in_the_way);
        return error;
}

int journal_file_write(JournalFile *f, const char *text, size_t size, Outcome *o) {
        int r = size > JOURNAL_FILE_MAX ? -EFBIG : write_new(f, text, size);

        if (r >= 0 && renameat(f->folder, f->name_new, f->folder, f->name) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlinkat(f->folder, f->name_new, 0); /* it holds room that the next one may need */
                return fail_written(f, o, r);
        }
        return fsync(f->folder) < 0 ? fail(f, o, -errno, "written") : 0;
}
