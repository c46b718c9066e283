/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Runs as root inside a VM with two memory nodes (0 small, 1 larger) and moves real pages by the agent's own
 * executor, with each mover: prints "ok NAME" or "not ok NAME: why" for each check. "vm-check hold NODE
 * PAGES" instead keeps memory on a node, prints its frames, and says once a second how much of it is on node
 * 0.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "vm-check.h"

int root;
static Executor *executor;
static const char *mover;
static bool failed;

void verdict(bool ok, const char *name, const char *format, ...) {
        va_list ap;

        printf("%s %s (%s): ", ok ? "ok" : "not ok", name, mover ? mover : "auto");
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        printf("\n");
        fflush(stdout);
        failed = failed || !ok;
}

static void progress_ignore(void *userdata, const OrderResult *so_far) {
}

OrderList list_of(int node, const uint64_t pfns[], size_t n) {
        OrderList list = { .node = node, .ranges = calloc(n + 1, sizeof(PageRange)), .n_ranges = n };

        for (size_t i = 0; i < n; i++)
                list.ranges[i] = (PageRange) { pfns[i], 1 };
        return list;
}

int order(OrderList promote, OrderList demote, usec_t deadline, OrderResult *ret) {
        OrderRequest request = { .id = 1, .promote = promote, .demote = demote, .deadline = deadline };
        Stop stop = { now_usec() + deadline, NULL };
        int r = executor_run(executor, &request, &stop, progress_ignore, NULL, ret);

        order_request_done(&request);
        return r;
}

const OrderList none = { .node = -1 };

bool contents_ok(const char *memory, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (memory[i * TESTMEM_PAGE] != (char) (i % 251 + 1) ||
                    memory[i * TESTMEM_PAGE + 4095] != (char) (i % 251 + 1))
                        return false;
        return true;
}

/* Named scattered pages move, and only those. */
static void check_scattered(int from, int to) {
        enum { TOTAL = 8192, NAMED = TOTAL / 8 };
        _cleanup_free_ uint64_t *pfns = calloc(TOTAL, sizeof(uint64_t)),
                                *named = calloc(NAMED, sizeof(uint64_t));
        char *memory = testmem_map(TOTAL, from, false);
        OrderResult result;
        size_t wrong = 0, there;
        int r;

        testmem_pfns(0, memory, TOTAL, pfns);
        for (size_t i = 0; i < NAMED; i++)
                named[i] = pfns[i * 8 + 3];
        r = order(list_of(to, named, NAMED), none, USEC_PER_SEC * 60, &result);
        there = testmem_count(memory, TOTAL, to);
        for (size_t i = 0; i < TOTAL; i++)
                wrong += testmem_count(memory + i * TESTMEM_PAGE, 1, to) != (i % 8 == 3);
        verdict(r == 0 && result.promoted == NAMED && there == NAMED && wrong == 0 &&
                        contents_ok(memory, TOTAL),
                from < to ? "scattered to the slow node" : "scattered to the fast node",
                "result %d, promoted %" PRIu64 " of %d, there %zu, wrong %zu, pinned %" PRIu64
                " other %" PRIu64 " no-room %" PRIu64,
                r, result.promoted, NAMED, there, wrong, result.skipped[PAGE_PINNED],
                result.skipped[PAGE_OTHER], result.skipped[PAGE_NO_ROOM]);
        testmem_unmap(memory, TOTAL);
}

static void check_demote_all(void) {
        enum { N = 6000 };
        _cleanup_free_ uint64_t *pfns = calloc(N, sizeof(uint64_t));
        char *memory = testmem_map(N, 0, false);
        OrderResult result;
        int r;

        testmem_pfns(0, memory, N, pfns);
        r = order(none, list_of(1, pfns, N), USEC_PER_SEC * 60, &result);
        verdict(r == 0 && result.demoted == N && testmem_count(memory, N, 1) == N && contents_ok(memory, N),
                "demote alone", "demoted %" PRIu64 " of %d", result.demoted, N);
        testmem_unmap(memory, N);
}

static void check_huge(void) {
        enum { HUGE = 12, N = HUGE * 512 };
        _cleanup_free_ uint64_t *pfns = calloc(N, sizeof(uint64_t));
        char *memory = testmem_map(N, 1, true);
        uint64_t named[HUGE + 1];
        OrderResult result;
        int r;

        testmem_pfns(0, memory, N, pfns);
        for (size_t i = 0; i < HUGE; i++)
                named[i] = pfns[i * 512 + 100 + i];
        named[HUGE] = pfns[7]; /* the first once more, by another of its pages */
        r = order(list_of(0, named, HUGE + 1), none, USEC_PER_SEC * 60, &result);
        verdict(r == 0 && result.promoted == N && testmem_count(memory, N, 0) == N && contents_ok(memory, N),
                "huge pages", "promoted %" PRIu64 " of %d by naming %d", result.promoted, N, HUGE + 1);
        testmem_unmap(memory, N);
}

int cache_make(size_t n, int node, uint64_t ret_pfns[]) {
        unsigned long mask = 1UL << node;
        char page[TESTMEM_PAGE], *memory;
        int fd;

        fd = open("/tmp/cache", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        (void) syscall(SYS_set_mempolicy, 2, &mask, 1024UL);
        for (size_t i = 0; i < n; i++) {
                memset(page, (int) (i % 251 + 1), sizeof(page));
                if (write(fd, page, sizeof(page)) != sizeof(page))
                        testmem_die("/tmp/cache: %m");
        }
        (void) syscall(SYS_set_mempolicy, 0, NULL, 0UL);
        memory = mmap(NULL, n * TESTMEM_PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        testmem_pfns(0, memory, n, ret_pfns);
        munmap(memory, n * TESTMEM_PAGE);
        return fd;
}

void cache_drop(int fd) {
        close(fd);
        unlink("/tmp/cache");
}

bool cache_is_reachable(void) {
        return streq_ptr(mover, "damon") || (!mover && mover_damon_available(root));
}

static void check_unmapped_cache(void) {
        enum { N = 512 };
        uint64_t pfns[N];
        OrderResult result;
        char *memory;
        bool reachable = cache_is_reachable();
        size_t there;
        int fd = cache_make(N, 1, pfns), r;

        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        memory = mmap(NULL, N * TESTMEM_PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        there = testmem_count(memory, N, 0);
        verdict(r == 0 && result.promoted == (reachable ? N : 0) && there == result.promoted &&
                        result.skipped[PAGE_OTHER] == (reachable ? 0 : N) && contents_ok(memory, N),
                "unmapped page cache", "promoted %" PRIu64 " of %d, there %zu, other %" PRIu64,
                result.promoted, N, there, result.skipped[PAGE_OTHER]);
        munmap(memory, N * TESTMEM_PAGE);
        cache_drop(fd);
}

static void check_pinned(void) {
        enum { N = 64, PINNED = 8 };
        char *memory = testmem_map(N, 1, false);
        struct iovec iov = { memory + 16 * TESTMEM_PAGE, PINNED * TESTMEM_PAGE };
        uint64_t pfns[N];
        OrderResult result;
        size_t there;
        int fds[2], r;

        if (pipe(fds) < 0 || vmsplice(fds[1], &iov, 1, 0) != PINNED * TESTMEM_PAGE)
                testmem_die("vmsplice: %m");
        testmem_pfns(0, memory, N, pfns);
        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        there = testmem_count(memory, N, 0);
        verdict(r == 0 && result.promoted == N - PINNED && there == N - PINNED &&
                        result.skipped[PAGE_PINNED] == PINNED,
                "pinned pages", "promoted %" PRIu64 ", there %zu, pinned %" PRIu64, result.promoted, there,
                result.skipped[PAGE_PINNED]);
        close(fds[0]);
        close(fds[1]);
        testmem_unmap(memory, N);
}

static void check_shared(void) {
        enum { N = 256 };
        char *memory = testmem_map(N, 1, false);
        uint64_t pfns[N];
        OrderResult result;
        int fds[2], r;
        pid_t pid;

        if (pipe(fds) < 0)
                testmem_die("pipe: %m");
        pid = fork();
        if (pid == 0) {
                char c;

                close(fds[1]);
                _exit(read(fds[0], &c, 1) < 0);
        }
        testmem_pfns(0, memory, N, pfns);
        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        verdict(r == 0 && result.promoted == N && testmem_count(memory, N, 0) == N, "shared with a child",
                "promoted %" PRIu64 " of %d", result.promoted, N);
        close(fds[0]);
        close(fds[1]);
        waitpid(pid, NULL, 0);
        testmem_unmap(memory, N);
}

static void check_skips(void) {
        char *memory = testmem_map(4, 0, false);
        uint64_t pfns[4], named[4];
        OrderResult result;
        int r;

        testmem_pfns(0, memory, 4, pfns);
        named[0] = pfns[0];              /* there already */
        named[1] = UINT64_C(1) << 40;    /* no memory */
        named[2] = 0;                    /* reserved */
        named[3] = pfns[0];              /* twice: counts once */
        r = order(list_of(0, named, 4), none, USEC_PER_SEC * 60, &result);
        verdict(r == 0 && result.promoted == 0 && result.skipped[PAGE_ALREADY_THERE] == 1 &&
                        result.skipped[PAGE_NOT_RAM] == 1 && result.skipped[PAGE_UNMOVABLE] == 1,
                "what cannot be moved", "already-there %" PRIu64 ", not-ram %" PRIu64 ", unmovable %" PRIu64,
                result.skipped[PAGE_ALREADY_THERE], result.skipped[PAGE_NOT_RAM],
                result.skipped[PAGE_UNMOVABLE]);
        testmem_unmap(memory, 4);
}

static void check_free(void) {
        enum { N = 1024 };
        char *memory = testmem_map(N, 1, false);
        uint64_t pfns[N];
        OrderResult result;
        int r;

        testmem_pfns(0, memory, N, pfns);
        testmem_unmap(memory, N);
        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        verdict(r == 0 && result.promoted == 0 &&
                        result.skipped[PAGE_FREE] + result.skipped[PAGE_UNMOVABLE] > N * 9 / 10,
                "freed pages", "promoted %" PRIu64 ", free %" PRIu64 ", unmovable %" PRIu64, result.promoted,
                result.skipped[PAGE_FREE], result.skipped[PAGE_UNMOVABLE]);
}

static void check_hugetlb(void) {
        enum { HUGE = 4, N = HUGE * 512 };
        bool reachable = !mover || streq(mover, "pagemap");
        unsigned long mask = 1UL << 1;
        _cleanup_free_ uint64_t *pfns = calloc(N, sizeof(uint64_t));
        OrderResult result;
        char *memory;
        size_t there;
        int r;

        for (int node = 0; node < 2; node++)
                if (sysfile_write(root, "8",
                                  "sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages",
                                  node) < 0)
                        testmem_die("nr_hugepages of node %d: %m", node);
        memory = mmap(NULL, N * TESTMEM_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
        if (memory == MAP_FAILED)
                testmem_die("hugetlb: %m");
        (void) syscall(SYS_mbind, memory, N * TESTMEM_PAGE, 2, &mask, 1024UL, 0);
        for (size_t i = 0; i < N; i++)
                memset(memory + i * TESTMEM_PAGE, (int) (i % 251 + 1), TESTMEM_PAGE);
        testmem_pfns(0, memory, N, pfns);
        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        there = testmem_count(memory, N, 0);
        verdict(r == 0 && result.promoted == (reachable ? N : 0) && there == result.promoted &&
                        contents_ok(memory, N),
                "hugetlb", "promoted %" PRIu64 " of %d, there %zu, other %" PRIu64 " pinned %" PRIu64,
                result.promoted, N, there, result.skipped[PAGE_OTHER], result.skipped[PAGE_PINNED]);
        munmap(memory, N * TESTMEM_PAGE);
        for (int node = 0; node < 2; node++)
                (void) sysfile_write(
                        root, "0", "sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages",
                        node);
}

static void check_deadline(void) {
        enum { N = 4096 };
        char *memory = testmem_map(N, 1, false);
        _cleanup_free_ uint64_t *pfns = calloc(N, sizeof(uint64_t));
        OrderResult result;
        size_t there;
        int r;

        testmem_pfns(0, memory, N, pfns);
        r = order(list_of(0, pfns, N), none, 1, &result);
        there = testmem_count(memory, N, 0);
        verdict(r == -ETIME && result.promoted == there && there < N, "deadline", "result %d, there %zu", r,
                there);
        testmem_unmap(memory, N);
}

/* Where another process has its n pages of testmem_map(): the area of just this size. */
static char *process_find(pid_t pid, size_t n) {
        char path[64], line[512], *found = NULL;
        _cleanup_fclose_ FILE *maps = NULL;
        uint64_t start, end;

        snprintf(path, sizeof(path), "/proc/%d/maps", (int) pid);
        maps = fopen(path, "re");
        while (maps && !found && fgets(line, sizeof(line), maps))
                if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 &&
                    end - start == n * TESTMEM_PAGE && !strstr(line, "zero"))
                        found = (char *) (uintptr_t) start;
        if (!found)
                testmem_die("no area of %zu pages in process %d", n, (int) pid);
        return found;
}

/* While the owner drops and touches its pages at random, orders name frames that are somebody else's by
 * then. */
static void check_churn(void) {
        enum { N = 8192, ORDERS = 6 };
        _cleanup_free_ uint64_t *pfns = calloc(N, sizeof(uint64_t)), *there = calloc(N, sizeof(uint64_t));
        char *memory =
                     mmap(NULL, N * TESTMEM_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
             *own;
        atomic_bool *stop = (atomic_bool *) memory;
        uint64_t moved = 0;
        int status = -1;
        pid_t pid;

        pid = fork();
        if (pid == 0) {
                unsigned seed = 1;

                own = testmem_map(N, 1, false);
                while (!atomic_load(stop)) {
                        size_t i = (size_t) rand_r(&seed) % N;

                        if (own[i * TESTMEM_PAGE + 77] != (char) (i % 251 + 1))
                                _exit(1);
                        madvise(own + i * TESTMEM_PAGE, TESTMEM_PAGE, MADV_DONTNEED);
                        memset(own + i * TESTMEM_PAGE, (int) (i % 251 + 1), TESTMEM_PAGE);
                        if (i == 0)
                                sched_yield();
                }
                _exit(contents_ok(own, N) ? 0 : 1);
        }
        for (int i = 0; i < ORDERS; i++) {
                OrderResult result;
                size_t n = 0;

                usleep(200000);
                own = process_find(pid, N);
                testmem_pfns(pid, own, N, pfns);
                for (size_t k = 0; k < N; k++)
                        if (pfns[k] > 0)
                                there[n++] = pfns[k];
                (void) order(list_of(i % 2, there, n), none, USEC_PER_SEC * 60, &result);
                moved += result.promoted;
        }
        atomic_store(stop, true);
        waitpid(pid, &status, 0);
        verdict(status == 0 && moved > 0, "churn", "status %d, moved %" PRIu64, status, moved);
        munmap(memory, N * TESTMEM_PAGE);
}

/* DAMON is somebody else's: left alone, and the order is carried out all the same. */
static void check_foreign_damon(void) {
        enum { N = 1024 };
        char *memory = testmem_map(N, 1, false);
        uint64_t pfns[N], kdamonds = 0;
        OrderResult result;
        int r;

        if (sysfile_write(root, "2", "sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds") < 0)
                testmem_die("nr_kdamonds: %m");
        testmem_pfns(0, memory, N, pfns);
        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        (void) sysfile_read_u64(root, &kdamonds, "sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds");
        verdict(r == 0 && result.promoted == N && streq(result.mover, "pagemap") && kdamonds == 2,
                "DAMON in other hands", "promoted %" PRIu64 " by %s, nr_kdamonds %" PRIu64, result.promoted,
                result.mover, kdamonds);
        (void) sysfile_write(root, "0", "sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds");
        testmem_unmap(memory, N);
}

static void hold(int node, size_t n) {
        uint64_t *pfns = calloc(n, sizeof(uint64_t));
        char *memory = testmem_map(n, node, false);

        testmem_pfns(0, memory, n, pfns);
        printf("HOLD [");
        for (size_t i = 0; i < n; i++)
                printf("%s%" PRIu64 ",1", i ? "," : "", pfns[i]);
        printf("]\n");
        for (;;) {
                printf("HELD %zu\n", testmem_count(memory, n, 0));
                fflush(stdout);
                sleep(1);
        }
}

int main(int argc, char *argv[]) {
        static const char *const movers[] = { "damon", "pagemap", NULL };
        uint64_t kdamonds = 0;

        if (argc == 4 && streq(argv[1], "hold"))
                hold(atoi(argv[2]), (size_t) atol(argv[3]));
        root = open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (executor_new(root, &executor) < 0)
                testmem_die("cannot set up the movers");
        for (size_t i = 0; i < ELEMENTSOF(movers); i++) {
                mover = movers[i];
                if (streq_ptr(mover, "damon") && !mover_damon_available(root))
                        continue;
                executor_force(executor, mover);
                check_scattered(1, 0);
                check_scattered(0, 1);
                check_demote_all();
                check_room();
                check_huge();
                check_unmapped_cache();
                check_pinned();
                check_shared();
                check_skips();
                check_free();
                check_full();
                check_exchange();
                check_deadline();
                check_churn();
                check_hugetlb();
        }
        executor = executor_free(executor);
        mover = NULL;
        if (mover_damon_available(root)) {
                if (executor_new(root, &executor) < 0)
                        testmem_die("cannot set up the movers");
                check_foreign_damon();
                executor = executor_free(executor);
        }
        if (mover_damon_available(root))
                verdict(sysfile_read_u64(root, &kdamonds,
                                         "sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds") == 0 &&
                                kdamonds == 0,
                        "no kdamond left", "nr_kdamonds %" PRIu64, kdamonds);
        printf("vm-check: %s\n", failed ? "FAILED" : "PASSED");
        return failed;
}
