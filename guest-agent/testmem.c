/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Memory on chosen nodes: see testmem.h.
 */
#include "testmem.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MPOL_BIND 2
#define MPOL_MF_MOVE (1 << 1)
#define HUGE_BYTES (UINT64_C(2) << 20)

void testmem_die(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(1);
}

char *testmem_map(size_t n, int node, bool huge) {
        unsigned long mask[16] = { 0 };
        size_t bytes = n * TESTMEM_PAGE;
        char *raw, *memory;

        raw = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw == MAP_FAILED)
                testmem_die("mmap of %zu pages: %m", n);
        memory = (char *) (((uintptr_t) raw + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
        if (memory > raw)
                munmap(raw, (size_t) (memory - raw));
        munmap(memory + bytes, (size_t) (raw + HUGE_BYTES - memory));
        mask[node / 64] = 1UL << (node % 64);
        if (syscall(SYS_mbind, memory, bytes, MPOL_BIND, mask, 1024UL, 0) < 0)
                testmem_die("mbind to node %d: %m", node);
        madvise(memory, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        for (size_t i = 0; i < n; i++)
                memset(memory + i * TESTMEM_PAGE, (int) (i % 251 + 1), TESTMEM_PAGE);
        /* Where a page goes from now on is not the policy's business. */
        if (syscall(SYS_mbind, memory, bytes, 0, NULL, 0UL, 0) < 0)
                testmem_die("mbind to default: %m");
        return memory;
}

void testmem_unmap(char *memory, size_t n) {
        munmap(memory, n * TESTMEM_PAGE);
}

void testmem_pfns(pid_t pid, const char *memory, size_t n, uint64_t ret_pfns[]) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/pagemap", pid ? (int) pid : (int) getpid());
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, ret_pfns, n * sizeof(uint64_t),
                            (off_t) ((uintptr_t) memory / TESTMEM_PAGE * sizeof(uint64_t))) !=
                              (ssize_t) (n * sizeof(uint64_t)))
                testmem_die("%s: %m", path);
        for (size_t i = 0; i < n; i++)
                ret_pfns[i] = ret_pfns[i] >> 63 ? ret_pfns[i] & ((UINT64_C(1) << 55) - 1) : 0;
}

size_t testmem_count(const char *memory, size_t n, int node) {
        _cleanup_free_ const void **pages = malloc(n * sizeof(void *));
        _cleanup_free_ int *status = malloc(n * sizeof(int));
        size_t count = 0;

        if (!pages || !status)
                testmem_die("out of memory");
        for (size_t i = 0; i < n; i++)
                pages[i] = memory + i * TESTMEM_PAGE;
        if (syscall(SYS_move_pages, 0, (unsigned long) n, pages, NULL, status, 0) < 0)
                testmem_die("move_pages query: %m");
        for (size_t i = 0; i < n; i++)
                count += status[i] == node;
        return count;
}

long testmem_move(pid_t pid, char *memory, const size_t pages[], size_t n, int node) {
        _cleanup_free_ void **addresses = malloc(n * sizeof(void *));
        _cleanup_free_ int *nodes = malloc(n * sizeof(int)), *status = malloc(n * sizeof(int));

        if (!addresses || !nodes || !status)
                testmem_die("out of memory");
        for (size_t i = 0; i < n; i++) {
                addresses[i] = memory + pages[i] * TESTMEM_PAGE;
                nodes[i] = node;
        }
        return syscall(SYS_move_pages, pid, (unsigned long) n, addresses, nodes, status, MPOL_MF_MOVE);
}
