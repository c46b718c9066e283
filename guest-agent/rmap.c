/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The reverse map by /proc/PID/pagemap: see rmap.h. Owns nothing beyond the Rmap handed out.
 */
#include "rmap.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>

#define PAGE_SHIFT 12
#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_PFN ((UINT64_C(1) << 55) - 1)
#define SCAN_ENTRIES 65536     /* a pread of 512 KiB; larger ones gain nothing */
#define REVALIDATE_ENTRIES 4096
#define REVALIDATE_GAP 16
#define USER_ADDRESS_END (UINT64_C(1) << 56) /* above lies the kernel's own (vsyscall) */

typedef struct Process {
        pid_t pid;
        uint64_t resident;
} Process;

static int process_compare(const void *a, const void *b) {
        const Process *x = a, *y = b;

        return x->resident > y->resident ? -1 : x->resident < y->resident;
}

/* All processes that have memory: hinted ones first, then the largest. */
static int processes_list(int root, const RmapScratch *scratch, Process **ret, size_t *ret_n) {
        _cleanup_free_ Process *list = NULL;
        size_t n = 0, allocated = 0;
        struct dirent *entry;
        DIR *dir;
        int r;

        r = sysfile_opendir(root, "proc", &dir);
        if (r < 0)
                return r;
        while ((entry = readdir(dir))) {
                Process p = { 0 };
                char buf[128];

                if (!isdigit((unsigned char) entry->d_name[0]))
                        continue;
                p.pid = (pid_t) strtol(entry->d_name, NULL, 10);
                if (sysfile_read(root, buf, sizeof(buf), "proc/%d/statm", (int) p.pid) < 0 ||
                    sscanf(buf, "%*u %" SCNu64, &p.resident) != 1 || p.resident == 0)
                        continue;
                for (size_t i = 0; i < ELEMENTSOF(scratch->pids); i++)
                        if (scratch->pids[i] == p.pid)
                                p.resident += UINT64_C(1) << (62 - i);
                if (n == allocated) {
                        Process *more = realloc(list, (allocated * 2 + 64) * sizeof(Process));

                        if (!more) {
                                r = -ENOMEM;
                                break;
                        }
                        list = more;
                        allocated = allocated * 2 + 64;
                }
                list[n++] = p;
        }
        closedir(dir);
        if (r < 0)
                return r;
        array_sort(list, n, sizeof(Process), process_compare);
        *ret = TAKE_PTR(list);
        *ret_n = n;
        return 0;
}

static bool bitmap_has(const Rmap *map, uint64_t pfn) {
        uint64_t bit = pfn - map->base;

        return bit < map->bits && (map->bitmap[bit / 64] >> (bit % 64) & 1);
}

/* The entry whose folio covers this frame. */
static RmapEntry *entry_find(const Rmap *map, uint64_t pfn) {
        size_t low = 0, high = map->n_entries;

        while (low < high) {
                size_t mid = (low + high) / 2;
                const Unit *u = map->entries[mid].unit;

                if (pfn < u->pfn)
                        high = mid;
                else if (pfn >= u->pfn + u->pages)
                        low = mid + 1;
                else
                        return &map->entries[mid];
        }
        return NULL;
}

static void pagemap_match(Rmap *map, pid_t pid, uint64_t address, const uint64_t *entries, size_t n) {
        for (size_t i = 0; i < n; i++) {
                RmapEntry *found;

                if (!(entries[i] & PM_PRESENT) || !bitmap_has(map, entries[i] & PM_PFN))
                        continue;
                found = entry_find(map, entries[i] & PM_PFN);
                if (found && found->pid == 0) {
                        found->pid = pid;
                        found->address = address + ((uint64_t) i << PAGE_SHIFT);
                        map->n_found++;
                }
        }
}

static int process_scan(int root, Rmap *map, pid_t pid, uint64_t *buf, const Stop *stop) {
        _cleanup_close_ int pagemap = -EBADF;
        _cleanup_fclose_ FILE *maps = NULL;
        char line[4096];
        int fd, r = 0;

        pagemap = sysfile_open(root, O_RDONLY, "proc/%d/pagemap", (int) pid);
        if (pagemap < 0)
                return 0; /* it has ended */
        fd = sysfile_open(root, O_RDONLY, "proc/%d/maps", (int) pid);
        if (fd < 0)
                return 0;
        maps = fdopen(fd, "r");
        if (!maps) {
                close(fd);
                return -ENOMEM;
        }
        while (r >= 0 && map->n_found < map->n_entries && fgets(line, sizeof(line), maps)) {
                uint64_t start, end;

                if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2 || end > USER_ADDRESS_END)
                        continue;
                while (start < end && map->n_found < map->n_entries) {
                        size_t want = (size_t) MIN((end - start) >> PAGE_SHIFT, (uint64_t) SCAN_ENTRIES);
                        ssize_t got = pread(pagemap, buf, want * sizeof(uint64_t),
                                            (off_t) ((start >> PAGE_SHIFT) * sizeof(uint64_t)));

                        if (got < (ssize_t) sizeof(uint64_t))
                                break; /* it has ended, or the area has no page tables */
                        pagemap_match(map, pid, start, buf, (size_t) got / sizeof(uint64_t));
                        map->scanned += (uint64_t) got / sizeof(uint64_t);
                        start += ((uint64_t) got / sizeof(uint64_t)) << PAGE_SHIFT;
                        r = stop_check(stop);
                        if (r < 0)
                                break;
                }
        }
        return r;
}

static void hint_add(RmapScratch *scratch, pid_t pid) {
        size_t at = ELEMENTSOF(scratch->pids) - 1;

        for (size_t i = 0; i < ELEMENTSOF(scratch->pids); i++)
                if (scratch->pids[i] == pid)
                        at = i;
        memmove(&scratch->pids[1], &scratch->pids[0], at * sizeof(pid_t));
        scratch->pids[0] = pid;
}

static int entry_compare_pfn(const void *a, const void *b) {
        const RmapEntry *x = a, *y = b;

        return x->unit->pfn < y->unit->pfn ? -1 : x->unit->pfn > y->unit->pfn;
}

int rmap_build(int root, Unit *const units[], size_t n, RmapScratch *scratch, const Stop *stop, Rmap *ret) {
        _cleanup_(rmap_done) Rmap map = { .n_entries = n };
        _cleanup_free_ Process *processes = NULL;
        size_t n_processes = 0;
        uint64_t end = 0;
        int r = 0;

        if (n == 0) {
                *ret = map;
                return 0;
        }
        map.entries = calloc(n, sizeof(RmapEntry));
        if (!scratch->buf)
                scratch->buf = malloc(SCAN_ENTRIES * sizeof(uint64_t));
        if (!map.entries || !scratch->buf)
                return -ENOMEM;
        map.base = UINT64_MAX;
        for (size_t i = 0; i < n; i++) {
                map.entries[i].unit = units[i];
                map.base = MIN(map.base, units[i]->pfn);
                end = MAX(end, units[i]->pfn + units[i]->pages);
        }
        array_sort(map.entries, n, sizeof(RmapEntry), entry_compare_pfn);
        map.bits = end - map.base;
        map.bitmap = calloc((size_t) (map.bits / 64 + 1), sizeof(uint64_t));
        if (!map.bitmap)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                for (uint64_t bit = units[i]->pfn - map.base, k = 0; k < units[i]->pages; k++, bit++)
                        map.bitmap[bit / 64] |= UINT64_C(1) << (bit % 64);
        r = processes_list(root, scratch, &processes, &n_processes);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_processes && r >= 0 && map.n_found < n; i++) {
                size_t before = map.n_found;

                r = process_scan(root, &map, processes[i].pid, scratch->buf, stop);
                if (map.n_found > before)
                        hint_add(scratch, processes[i].pid);
        }
        if (r < 0)
                return r;
        *ret = map;
        map = (Rmap) { 0 };
        return 0;
}

void rmap_scratch_free(RmapScratch *scratch) {
        free(scratch->buf);
        *scratch = (RmapScratch) { 0 };
}

void rmap_done(Rmap *map) {
        free(map->entries);
        free(map->bitmap);
        *map = (Rmap) { 0 };
}

RmapEntry *rmap_find(const Rmap *map, const Unit *unit) {
        RmapEntry *found = map->entries ? entry_find(map, unit->pfn) : NULL;

        return found && found->unit == unit && found->pid != 0 ? found : NULL;
}

static int entry_compare_address(const void *a, const void *b) {
        const RmapEntry *x = *(RmapEntry *const *) a, *y = *(RmapEntry *const *) b;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        return x->address < y->address ? -1 : x->address > y->address;
}

size_t rmap_revalidate(int root, RmapEntry *entries[], size_t n) {
        uint64_t buf[REVALIDATE_ENTRIES];
        size_t kept = 0;

        array_sort(entries, n, sizeof(RmapEntry *), entry_compare_address);
        for (size_t i = 0; i < n;) {
                _cleanup_close_ int fd =
                        sysfile_open(root, O_RDONLY, "proc/%d/pagemap", (int) entries[i]->pid);
                pid_t pid = entries[i]->pid;

                while (i < n && entries[i]->pid == pid) {
                        uint64_t first = entries[i]->address >> PAGE_SHIFT;
                        size_t last = i;
                        ssize_t got = 0;

                        while (last + 1 < n && entries[last + 1]->pid == pid &&
                               entries[last + 1]->address - entries[last]->address <=
                                       REVALIDATE_GAP << PAGE_SHIFT &&
                               (entries[last + 1]->address >> PAGE_SHIFT) - first < REVALIDATE_ENTRIES)
                                last++;
                        if (fd >= 0)
                                got = pread(fd, buf,
                                            ((size_t) ((entries[last]->address >> PAGE_SHIFT) - first) + 1) *
                                                    sizeof(uint64_t),
                                            (off_t) (first * sizeof(uint64_t)));
                        for (; i <= last; i++) {
                                size_t at = (size_t) ((entries[i]->address >> PAGE_SHIFT) - first);
                                Unit *u = entries[i]->unit;
                                uint64_t pfn;

                                if (got > 0 && at < (size_t) got / sizeof(uint64_t) &&
                                    (buf[at] & PM_PRESENT)) {
                                        pfn = buf[at] & PM_PFN;
                                        if (pfn >= u->pfn && pfn < u->pfn + u->pages) {
                                                entries[kept++] = entries[i];
                                                continue;
                                        }
                                }
                                u->result = PAGE_UNREACHED;
                        }
                }
        }
        return kept;
}
