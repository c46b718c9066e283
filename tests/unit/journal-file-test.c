/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The journal's file: whole or not at all, one process at a time, and words that help when a disk does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "io/journal-file.h"
#include "temp-root.h"

static char path[128], path_new[128];

static int setup(void **state) {
        root_make();
        snprintf(path, sizeof(path), "%s/market.journal", root);
        snprintf(path_new, sizeof(path_new), "%s/market.journal.new", root);
        return 0;
}

static int teardown(void **state) {
        return root_remove();
}

static JournalFile *opened(void) {
        JournalFile *f = NULL;

        assert_return_code(journal_file_open(path, &f, NULL), 0);
        return f;
}

static void assert_text(JournalFile *f, const char *expected) {
        _cleanup_free_ char *text = NULL;
        Outcome o = {};
        size_t size;

        assert_return_code(journal_file_read(f, &text, &size, &o), 0);
        assert_string_equal(text, expected);
        assert_int_equal(size, strlen(expected));
}

static void test_write_and_read(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened();
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t size;

        assert_string_equal(journal_file_path(f), path);
        assert_int_equal(journal_file_read(f, &text, &size, NULL), -ENOENT);
        assert_return_code(journal_file_write(f, "first", 5, NULL), 0);
        assert_text(f, "first");
        assert_return_code(journal_file_write(f, "2nd", 3, NULL), 0);
        assert_text(f, "2nd");
        assert_return_code(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(access(path_new, F_OK), -1);
        f = journal_file_free(f);
        f = opened(); /* the next life */
        assert_text(f, "2nd");
}

static void test_relative_path(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = NULL;

        assert_return_code(chdir(root), 0);
        assert_return_code(journal_file_open("market.journal", &f, NULL), 0);
        assert_return_code(chdir("/"), 0); /* the folder is the one of then */
        assert_return_code(journal_file_write(f, "text", 4, NULL), 0);
        assert_return_code(access(path, F_OK), 0);
}

/* The former life died while it wrote: the old text counts, and the torn one is thrown away. */
static void test_torn_next_version(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = NULL;

        put("/market.journal", "whole");
        put("/market.journal.new", "wh");
        f = opened();
        assert_int_equal(access(path_new, F_OK), -1);
        assert_text(f, "whole");
        put("/market.journal.new", "put there since, and longer than what is written now");
        assert_return_code(journal_file_write(f, "next", 4, NULL), 0);
        assert_text(f, "next");
        assert_int_equal(access(path_new, F_OK), -1);
}

/* Nothing is written through a link that somebody laid there. */
static void test_links(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened();
        char other[128], *text = NULL;
        Outcome o = {};
        size_t size;

        put("/other", "precious");
        snprintf(other, sizeof(other), "%s/other", root);
        assert_return_code(symlink(other, path_new), 0);
        assert_return_code(symlink(other, path), 0);
        assert_int_equal(journal_file_read(f, &text, &size, &o), -ELOOP);
        assert_non_null(strstr(o.text, "it is a symbolic link"));
        assert_return_code(journal_file_write(f, "text", 4, NULL), 0);
        assert_text(f, "text");
        f = journal_file_free(f);
        assert_return_code(rename(other, path), 0);
        f = opened();
        assert_text(f, "precious");
}

static void test_one_at_a_time(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened(), *other = NULL;
        char expected[512];
        Outcome o = {};

        assert_int_equal(journal_file_open(path, &other, &o), -EBUSY);
        snprintf(expected, sizeof(expected),
                 "another hmvisord uses the market's journal '%s'; stop that one, or give this one another "
                 "JournalPath=",
                 path);
        assert_string_equal(o.text, expected);
        assert_null(other);
        assert_return_code(journal_file_write(f, "text", 4, NULL),
                           0); /* which replaces the file, not the lock */
        assert_int_equal(journal_file_open(path, &other, NULL), -EBUSY);
        f = journal_file_free(f);
        assert_return_code(journal_file_open(path, &other, NULL), 0);
}

static void test_not_the_journal(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened();
        char *text = NULL;
        Outcome o = {};
        size_t size;

        assert_return_code(mkdir(path, 0700), 0);
        assert_int_equal(journal_file_read(f, &text, &size, &o), -EINVAL);
        assert_non_null(strstr(o.text, "it is no file"));
        assert_int_equal(journal_file_write(f, "text", 4, &o), -EISDIR);
        assert_non_null(strstr(o.text, "'market.journal' in its folder is a folder itself; move that away"));
        assert_int_equal(access(path_new, F_OK), -1);
        assert_return_code(rmdir(path), 0);
        assert_return_code(mkfifo(path, 0600), 0); /* nobody writes to it: it must not wait */
        assert_int_equal(journal_file_read(f, &text, &size, &o), -EINVAL);
        assert_return_code(unlink(path), 0);

        put("/market.journal", "");
        assert_return_code(truncate(path, JOURNAL_FILE_MAX + 1), 0);
        assert_int_equal(journal_file_read(f, &text, &size, &o), -EFBIG);
        assert_non_null(strstr(o.text, "(it is far too large); remove it, or give another JournalPath="));
        assert_null(text);
}

static void test_next_version_in_the_way(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = NULL;
        Outcome o = {};

        put("/market.journal", "former");
        assert_return_code(mkdir(path_new, 0700), 0);
        f = opened();
        assert_int_equal(journal_file_write(f, "text", 4, &o), -EEXIST);
        assert_non_null(
                strstr(o.text, "'market.journal.new' in its folder is a folder itself; move that away"));
        assert_text(f, "former");
        assert_return_code(rmdir(path_new), 0);
        assert_return_code(journal_file_write(f, "text", 4, &o), 0);
}

static void test_no_folder(void **state) {
        JournalFile *f = NULL;
        Outcome o = {};

        strcat(path, "/none/journal");
        assert_int_equal(journal_file_open(path, &f, &o), -ENOENT);
        assert_non_null(strstr(o.text, "cannot be opened: No such file or directory; make its folder"));
        put("/market.journal", "a file");
        assert_int_equal(journal_file_open(path, &f, &o), -ENOTDIR);
        assert_null(f);
}

/* In a process of its own, as a limit on the size of files holds for all of them. */
static int child_full(void) {
        const struct rlimit limit = { 1000, 1000 };
        _cleanup_(journal_file_freep) JournalFile *f = NULL;
        _cleanup_free_ char *text = NULL, *large = calloc(1, 4000);
        Outcome o = {};
        size_t size;

        signal(SIGXFSZ, SIG_IGN);
        if (!large || journal_file_open(path, &f, NULL) < 0 || journal_file_write(f, "old", 3, NULL) < 0 ||
            setrlimit(RLIMIT_FSIZE, &limit) < 0)
                return 1;
        memset(large, 'x', 4000);
        if (journal_file_write(f, large, 4000, &o) != -EFBIG || !strstr(o.text, "cannot be written") ||
            !strstr(o.text, "make room there"))
                return 2;
        if (access(path_new, F_OK) == 0)
                return 3;
        if (journal_file_read(f, &text, &size, NULL) < 0 || size != 3 || !streq(text, "old"))
                return 4;
        return journal_file_write(f, large, 900, NULL) < 0 ? 5 : 0;
}

/* Mounts that only this process sees: root may have them, others in a user namespace, where that is allowed.
 */
static int own_mounts(void) {
        _cleanup_fclose_ FILE *f = NULL;
        uid_t uid = geteuid();

        if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0)
                return -errno;
        if (uid != 0) {
                f = fopen("/proc/self/uid_map", "we");
                if (!f || fprintf(f, "0 %u 1\n", uid) < 0 || fflush(f) != 0)
                        return -EPERM;
        }
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

/* A file system of its own, where we may have one: full, then read-only. */
static int child_mounted(void) {
        _cleanup_(journal_file_freep) JournalFile *f = NULL;
        _cleanup_free_ char *text = NULL, *large = calloc(1, 200000);
        Outcome o = {};
        size_t size;

        if (own_mounts() < 0 || mount("none", root, "tmpfs", 0, "size=64k") < 0)
                return 77;
        if (!large || journal_file_open(path, &f, NULL) < 0 || journal_file_write(f, "old", 3, NULL) < 0)
                return 1;
        if (journal_file_write(f, large, 200000, &o) != -ENOSPC || !strstr(o.text, "make room there"))
                return 2;
        if (journal_file_read(f, &text, &size, NULL) < 0 || !streq(text, "old"))
                return 3;
        if (journal_file_write(f, "new", 3, NULL) < 0) /* nothing of the failed one is in its way */
                return 4;
        f = journal_file_free(f);
        if (mount("none", root, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
                return 77;
        if (journal_file_open(path, &f, &o) != -EROFS ||
            !strstr(o.text, "mount its file system for writing"))
                return 5;
        return 0;
}

/* ---- what the disk is told, and in which order (the linker puts these in between) ---- */

static char calls[16]; /* one letter each; as many as fit */
static int failing_sync; /* the how many-th one fails; 0: none */
static bool short_writes;

static void call_note(char what) {
        size_t n = strlen(calls);

        if (n < sizeof(calls) - 1)
                calls[n] = what;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_renameat(int from, const char *old, int to, const char *name);
int __wrap_renameat(int from, const char *old, int to, const char *name);

int __wrap_fsync(int fd) {
        struct stat st;

        call_note(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'd' : 'f');
        if (failing_sync > 0 && --failing_sync == 0) {
                errno = EIO;
                return -1;
        }
        return __real_fsync(fd);
}

int __wrap_renameat(int from, const char *old, int to, const char *name) {
        call_note('r');
        return __real_renameat(from, old, to, name);
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

/* At most two bytes at a time, and a signal before each. */
ssize_t __wrap_write(int fd, const void *data, size_t size) {
        static bool interrupted;

        if (!short_writes)
                return __real_write(fd, data, size);
        interrupted = !interrupted;
        if (interrupted) {
                errno = EINTR;
                return -1;
        }
        return __real_write(fd, data, MIN(size, 2U));
}

static void test_written_in_pieces(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened();
        int r;

        short_writes = true;
        r = journal_file_write(f, "a text of some length", 21, NULL);
        short_writes = false;
        assert_return_code(r, 0);
        assert_text(f, "a text of some length");
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static bool no_memory;

void *__wrap_malloc(size_t size) {
        return no_memory ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return no_memory ? NULL : __real_calloc(n, size);
}

static void test_no_memory(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened();
        JournalFile *other = NULL;
        char *text = NULL;
        Outcome o = {}, o_read = {};
        int r, r_read;
        size_t size;

        put("/market.journal", "text");
        no_memory = true;
        r = journal_file_open(path, &other, &o);
        r_read = journal_file_read(f, &text, &size, &o_read);
        no_memory = false;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(r_read, -ENOMEM);
        assert_non_null(strstr(o.text, "cannot be opened: Cannot allocate memory; see what uses up"));
        assert_non_null(strstr(o_read.text, "cannot be read: Cannot allocate memory; see what uses up"));
}

static void test_on_disk_before_it_counts(void **state) {
        _cleanup_(journal_file_freep) JournalFile *f = opened();
        Outcome o = {};

        memset(calls, 0, sizeof(calls));
        assert_return_code(journal_file_write(f, "old", 3, NULL), 0);
        assert_string_equal(calls, "frd"); /* the text, its name, the folder */
        memset(calls, 0, sizeof(calls));
        failing_sync = 1;
        assert_int_equal(journal_file_write(f, "new", 3, &o), -EIO);
        assert_non_null(strstr(o.text, "the disk may be failing"));
        assert_string_equal(calls, "f");
        assert_int_equal(access(path_new, F_OK), -1);
        assert_text(f, "old");
        failing_sync = 2;
        memset(calls, 0, sizeof(calls));
        assert_int_equal(journal_file_write(f, "new", 3, &o), -EIO);
        assert_string_equal(calls, "frd");
}

static int in_child(int (*what)(void)) {
        int status;
        pid_t pid;

        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(what());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void test_full(void **state) {
        assert_int_equal(in_child(child_full), 0);
}

static void test_full_and_read_only_mount(void **state) {
        int r = in_child(child_mounted);

        if (r == 77)
                skip();
        assert_int_equal(r, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(test_write_and_read),
                TEST(test_relative_path),
                TEST(test_torn_next_version),
                TEST(test_links),
                TEST(test_one_at_a_time),
                TEST(test_not_the_journal),
                TEST(test_next_version_in_the_way),
                TEST(test_no_folder),
                TEST(test_written_in_pieces),
                TEST(test_no_memory),
                TEST(test_on_disk_before_it_counts),
                TEST(test_full),
                TEST(test_full_and_read_only_mount),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
