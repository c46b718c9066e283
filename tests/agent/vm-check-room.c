/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Checks of room: what an order does with a node that is full, and one that makes room for pages to come.
 * Runs as part of vm-check.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/mman.h>

#include "vm-check.h"

/* Has the kernel take n pages of a file as not read; those behind them, up to 2 * n, are read. */
static void cache_refer(int fd, size_t n) {
        char *memory = mmap(NULL, n * TESTMEM_PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        char page[TESTMEM_PAGE];

        if (sysfile_write(root, "1", "proc/self/clear_refs") < 0)
                testmem_die("clear_refs: %m");
        munmap(memory, n * TESTMEM_PAGE);
        for (size_t i = n; i < 2 * n; i++)
                if (pread(fd, page, sizeof(page), (off_t) (i * TESTMEM_PAGE)) != sizeof(page))
                        testmem_die("/tmp/cache: %m");
}

/* Room for pages to come: as many as are wanted and no more, page cache before what processes use, and what
 * is not read before what is. */
void check_room(void) {
        enum { N = 1024, UNREAD = N / 2, MOST = UNREAD + 100 };
        uint64_t pfns[2 * N];
        char *memory = testmem_map(N, 0, false), *cache;
        int fd = cache_make(N, 0, pfns + N), r;
        bool reachable = cache_is_reachable();
        size_t anon_gone, read_gone;
        OrderResult result;
        OrderList list;

        cache_refer(fd, UNREAD);
        testmem_pfns(0, memory, N, pfns);
        list = list_of(1, pfns, ELEMENTSOF(pfns));
        for (size_t i = 0; i < UNREAD; i++) { /* what is read first */
                list.ranges[N + i].pfn = pfns[N + UNREAD + i];
                list.ranges[N + UNREAD + i].pfn = pfns[N + i];
        }
        list.most = MOST;
        r = order(none, list, USEC_PER_SEC * 60, &result);
        anon_gone = testmem_count(memory, N, 1);
        cache = mmap(NULL, N * TESTMEM_PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        read_gone = testmem_count(cache + UNREAD * TESTMEM_PAGE, N - UNREAD, 1);
        verdict(r == 0 && result.demoted == MOST && anon_gone == (reachable ? 0 : MOST) &&
                        read_gone == (reachable ? MOST - UNREAD : 0) && result.skipped[PAGE_NO_ROOM] == 0 &&
                        contents_ok(memory, N) && contents_ok(cache, N),
                "room", "demoted %" PRIu64 " of %d, of processes' memory %zu, of what is read %zu",
                result.demoted, MOST, anon_gone, read_gone);
        munmap(cache, N * TESTMEM_PAGE);
        cache_drop(fd);
        testmem_unmap(memory, N);
}

/* Fills node 0 up to so many pages above its high watermark. */
static char *fill(int64_t leave, size_t *ret_n) {
        NodeRoom room = { 0 };

        if (node_room_read(root, 0, &room) < 0 || room.pages < leave)
                testmem_die("node 0 has only %" PRId64 " pages of room", room.pages);
        *ret_n = (size_t) (room.pages - leave);
        return testmem_map(*ret_n, 0, false);
}

/* The room at which the largest zone is at a watermark: at "low" the kernel begins to reclaim in the
 * background, at "min" whoever asks for memory must wait. An order that keeps to the room it sees may end
 * below none, since a CPU whose list of free pages is empty takes up to 32 batches from the zone at once;
 * one that spent those lists, too, ended 1,600 to 1,700 pages below. */
static int64_t room_at_watermark(const char *name) {
        _cleanup_fclose_ FILE *f = fopen("/proc/zoneinfo", "re");
        int64_t mark = 0, pages, most = 0;
        char line[256], word[16];
        int node = -1;

        while (f && fgets(line, sizeof(line), f)) {
                (void) sscanf(line, "Node %d", &node);
                if (sscanf(line, " %15s %" SCNd64, word, &pages) != 2)
                        continue;
                if (strcmp(word, name) == 0)
                        mark = pages;
                else if (node == 0 && strcmp(word, "high") == 0)
                        most = MAX(most, pages - mark);
        }
        return -most;
}

void check_full(void) {
        enum { N = 12288 };
        _cleanup_free_ uint64_t *pfns = calloc(N, sizeof(uint64_t));
        size_t n_filler, there;
        char *filler = fill(2000, &n_filler), *memory = testmem_map(N, 1, false);
        OrderResult result;
        NodeRoom room;
        int r;

        testmem_pfns(0, memory, N, pfns);
        r = order(list_of(0, pfns, N), none, USEC_PER_SEC * 60, &result);
        there = testmem_count(memory, N, 0);
        (void) node_room_read(root, 0, &room);
        verdict(r == 0 && there >= result.promoted && there - result.promoted <= 16 && there >= 1000 &&
                        there <= 9000 &&
                        result.promoted + result.skipped[PAGE_NO_ROOM] >= N - 64 &&
                        room.pages > room_at_watermark("low") && contents_ok(memory, N),
                "full target", "promoted %" PRIu64 ", there %zu, no-room %" PRIu64 ", room left %" PRId64
                " (low watermark %" PRId64 ")",
                result.promoted, there, result.skipped[PAGE_NO_ROOM], room.pages, room_at_watermark("low"));
        testmem_unmap(memory, N);
        testmem_unmap(filler, n_filler);
}

static atomic_bool watch_stop;
static int64_t watch_least;

static void *watch(void *userdata) {
        NodeRoom room;

        while (!atomic_load(&watch_stop)) {
                if (node_room_read(root, 0, &room) >= 0)
                        watch_least = MIN(watch_least, room.pages);
                usleep(1000);
        }
        return NULL;
}

/* A full node 0: room is made by demoting, no more than that and the CPUs' lists take, and the node never
 * runs dry. */
void check_exchange(void) {
        enum { N = 12288 };
        _cleanup_free_ uint64_t *hot = calloc(N, sizeof(uint64_t)), *cold = NULL;
        size_t n_filler, hot_there, cold_gone;
        char *filler = fill(1500, &n_filler), *memory = testmem_map(N, 1, false);
        size_t n_cold = MIN(n_filler, (size_t) 30000);
        OrderResult result;
        NodeRoom before;
        pthread_t thread;
        int r;

        cold = calloc(n_cold, sizeof(uint64_t));
        testmem_pfns(0, memory, N, hot);
        testmem_pfns(0, filler, n_cold, cold);
        if (node_room_read(root, 0, &before) < 0)
                testmem_die("node 0 does not say its room");
        watch_least = INT64_MAX;
        atomic_store(&watch_stop, false);
        pthread_create(&thread, NULL, watch, NULL);
        r = order(list_of(0, hot, N), list_of(1, cold, n_cold), USEC_PER_SEC * 60, &result);
        atomic_store(&watch_stop, true);
        pthread_join(thread, NULL);
        hot_there = testmem_count(memory, N, 0);
        cold_gone = testmem_count(filler, n_cold, 1);
        verdict(r == 0 && result.promoted == hot_there && hot_there >= N * 98 / 100 &&
                        result.demoted == cold_gone && result.demoted <= N + before.unlisted &&
                        watch_least > room_at_watermark("min") &&
                        contents_ok(memory, N) && contents_ok(filler, n_filler),
                "exchange",
                "promoted %" PRIu64 " of %d, there %zu, demoted %" PRIu64 ", gone %zu, no-room %" PRIu64
                ", least room %" PRId64 " (min watermark %" PRId64 ")",
                result.promoted, N, hot_there, result.demoted, cold_gone, result.skipped[PAGE_NO_ROOM],
                watch_least, room_at_watermark("min"));
        testmem_unmap(memory, N);
        testmem_unmap(filler, n_filler);
}
