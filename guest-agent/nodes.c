/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest's NUMA nodes: see nodes.h. Owns no state.
 */
#include "nodes.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>

#include "sysfile.h"

#define ZONEINFO_MAX (1024 * 1024)
#define IOMEM_MAX (256 * 1024)
#define PAGE_SHIFT 12

typedef struct Zone {
        int node;
        uint64_t start, spanned, managed;
        uint64_t free, high, protection;
        uint64_t unlisted; /* what the CPUs' lists of free pages may still take */
} Zone;

/* /proc/zoneinfo as an array. The caller frees it. */
static int zones_read(int root, Zone **ret_zones, size_t *ret_n) {
        _cleanup_free_ char *text = malloc(ZONEINFO_MAX);
        _cleanup_free_ Zone *zones = NULL;
        size_t n = 0;
        char *save = NULL;
        uint64_t count = 0;
        ssize_t r;

        if (!text)
                return -ENOMEM;
        r = sysfile_read(root, text, ZONEINFO_MAX, "proc/zoneinfo");
        if (r < 0)
                return (int) r;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                uint64_t v;
                int node;

                if (sscanf(line, "Node %d, zone", &node) == 1) {
                        Zone *more = realloc(zones, (n + 1) * sizeof(Zone));

                        if (!more)
                                return -ENOMEM;
                        zones = more;
                        zones[n++] = (Zone) { .node = node };
                        continue;
                }
                if (n == 0)
                        continue;
                if (sscanf(line, " pages free %" SCNu64, &v) == 1)
                        zones[n - 1].free = v;
                else if (sscanf(line, " count: %" SCNu64, &v) == 1)
                        count = v;
                else if (sscanf(line, " high: %" SCNu64, &v) == 1) /* of the CPU whose count was above */
                        zones[n - 1].unlisted += v - MIN(v, count);
                else if (sscanf(line, " high %" SCNu64, &v) == 1)
                        zones[n - 1].high = v; /* not "high:", which each CPU's list has */
                else if (sscanf(line, " spanned %" SCNu64, &v) == 1)
                        zones[n - 1].spanned = v;
                else if (sscanf(line, " managed %" SCNu64, &v) == 1)
                        zones[n - 1].managed = v;
                else if (sscanf(line, " start_pfn: %" SCNu64, &v) == 1)
                        zones[n - 1].start = v;
                else if (strstr(line, "protection:")) {
                        const char *last = strrchr(line, ',');

                        if (last)
                                zones[n - 1].protection = strtoull(last + 1, NULL, 10);
                }
        }
        *ret_zones = TAKE_PTR(zones);
        *ret_n = n;
        return 0;
}

static int64_t zone_room(const Zone *z) {
        return (int64_t) z->free - (int64_t) (z->high + z->protection);
}

int node_room_read(int root, int node, NodeRoom *ret) {
        _cleanup_free_ Zone *zones = NULL;
        uint64_t largest = 0, unlisted = 0;
        int64_t room = 0, lack = 0;
        size_t n;
        int r;

        r = zones_read(root, &zones, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                int64_t extra = zone_room(&zones[i]);

                if (zones[i].node != node || zones[i].managed == 0)
                        continue;
                if (extra > 0)
                        room += extra;
                if (zones[i].managed > largest) { /* that is where what is freed comes from */
                        largest = zones[i].managed;
                        lack = extra;
                        unlisted = zones[i].unlisted;
                }
        }
        if (largest == 0)
                return -ENXIO;
        *ret = (NodeRoom) { .pages = room + MIN(lack, 0), .unlisted = unlisted };
        return 0;
}

static int span_compare(const void *a, const void *b) {
        const NodeSpan *x = a, *y = b;

        if (x->start != y->start)
                return x->start < y->start ? -1 : 1;
        return x->node < y->node ? -1 : x->node > y->node;
}

static int span_add(NodeMap *map, size_t *allocated, NodeSpan span) {
        if (map->n_spans == *allocated) {
                size_t want = *allocated ? *allocated * 2 : 64;
                NodeSpan *more = realloc(map->spans, want * sizeof(NodeSpan));

                if (!more)
                        return -ENOMEM;
                map->spans = more;
                *allocated = want;
        }
        map->spans[map->n_spans++] = span;
        return 0;
}

/* The blocks of one node. */
static int node_blocks_read(int root, int node, uint64_t block_pages, NodeMap *map, size_t *allocated) {
        struct dirent *entry;
        char path[64];
        DIR *dir;
        int r;

        snprintf(path, sizeof(path), "sys/devices/system/node/node%d", node);
        r = sysfile_opendir(root, path, &dir);
        if (r < 0)
                return r;
        while (r >= 0 && (entry = readdir(dir))) {
                uint64_t block;
                int used = 0;

                if (sscanf(entry->d_name, "memory%" SCNu64 "%n", &block, &used) != 1 ||
                    entry->d_name[used] != '\0')
                        continue;
                r = span_add(map, allocated,
                             (NodeSpan){ block * block_pages, (block + 1) * block_pages, node });
        }
        closedir(dir);
        return r;
}

/* Cuts the frames of a block that several nodes share along their zones. */
static int block_divide(NodeMap *map, size_t *allocated, uint64_t start, uint64_t end, const Zone *zones,
                        size_t n) {
        uint64_t at = start;

        while (at < end) {
                uint64_t next = end;
                int node = -ENOENT, r;

                for (size_t i = 0; i < n; i++) {
                        uint64_t zs = zones[i].start, ze = zs + zones[i].spanned;

                        if (zones[i].managed == 0)
                                continue;
                        if (zs <= at && at < ze) {
                                node = node == -ENOENT || node == zones[i].node ? zones[i].node : -ENOTUNIQ;
                                next = MIN(next, ze);
                        } else if (zs > at)
                                next = MIN(next, zs);
                }
                if (node != -ENOENT) {
                        r = span_add(map, allocated, (NodeSpan) { at, next, node });
                        if (r < 0)
                                return r;
                }
                at = next;
        }
        return 0;
}

int node_map_read(int root, NodeMap *ret) {
        _cleanup_(node_map_done) NodeMap raw = { 0 }, map = { 0 };
        size_t raw_allocated = 0, allocated = 0, n_zones = 0;
        _cleanup_free_ Zone *zones = NULL;
        int nodes[NODES_MAX], n_nodes, r;
        uint64_t block_bytes;
        char buf[64];
        ssize_t len;

        len = sysfile_read(root, buf, sizeof(buf), "sys/devices/system/memory/block_size_bytes");
        if (len < 0)
                return (int) len;
        block_bytes = strtoull(buf, NULL, 16);
        if (block_bytes < (UINT64_C(1) << 20))
                return -EINVAL;
        n_nodes = node_list_read(root, nodes, NODES_MAX);
        if (n_nodes < 0)
                return n_nodes;
        for (int i = 0; i < n_nodes; i++) {
                r = node_blocks_read(root, nodes[i], block_bytes >> PAGE_SHIFT, &raw, &raw_allocated);
                if (r < 0)
                        return r;
        }
        array_sort(raw.spans, raw.n_spans, sizeof(NodeSpan), span_compare);
        for (size_t i = 0; i < raw.n_spans;) {
                size_t same = i + 1;

                while (same < raw.n_spans && raw.spans[same].start == raw.spans[i].start)
                        same++;
                if (same == i + 1) {
                        NodeSpan *last = map.n_spans ? &map.spans[map.n_spans - 1] : NULL;

                        if (last && last->node == raw.spans[i].node && last->end == raw.spans[i].start) {
                                last->end = raw.spans[i].end;
                                r = 0;
                        } else
                                r = span_add(&map, &allocated, raw.spans[i]);
                } else {
                        r = zones ? 0 : zones_read(root, &zones, &n_zones);
                        if (r >= 0)
                                r = block_divide(&map, &allocated, raw.spans[i].start, raw.spans[i].end,
                                                 zones, n_zones);
                }
                if (r < 0)
                        return r;
                i = same;
        }
        *ret = map;
        map = (NodeMap) { 0 };
        return 0;
}

void node_map_done(NodeMap *map) {
        free(map->spans);
        *map = (NodeMap) { 0 };
}

int node_map_find(const NodeMap *map, uint64_t pfn) {
        size_t low = 0, high = map->n_spans;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (pfn < map->spans[mid].start)
                        high = mid;
                else if (pfn >= map->spans[mid].end)
                        low = mid + 1;
                else
                        return map->spans[mid].node;
        }
        return -ENOENT;
}

bool node_map_has(const NodeMap *map, int node) {
        for (size_t i = 0; i < map->n_spans; i++)
                if (map->spans[i].node == node)
                        return true;
        return false;
}

int node_of_kernel(int root) {
        _cleanup_free_ char *text = malloc(IOMEM_MAX);
        _cleanup_(node_map_done) NodeMap map = { 0 };
        const char *line;
        uint64_t start;
        ssize_t len;
        int r;

        if (!text)
                return -ENOMEM;
        len = sysfile_read(root, text, IOMEM_MAX, "proc/iomem");
        if (len < 0)
                return (int) len;
        line = strstr(text, " : Kernel data\n");
        if (!line)
                return -ENODATA;
        while (line > text && line[-1] != '\n')
                line--;
        /* 0 to everybody who may not know */
        if (sscanf(line, " %" SCNx64 "-", &start) != 1 || start == 0)
                return -ENODATA;
        r = node_map_read(root, &map);
        return r < 0 ? r : node_map_find(&map, start >> PAGE_SHIFT);
}

int node_list_read(int root, int nodes[], size_t max) {
        char buf[1024], *p = buf;
        size_t n = 0;
        ssize_t len;

        len = sysfile_read(root, buf, sizeof(buf), "sys/devices/system/node/has_memory");
        if (len < 0)
                return (int) len;
        while (isdigit((unsigned char) *p)) { /* "0-1,4" */
                unsigned long first = strtoul(p, &p, 10), last = first;

                if (*p == '-')
                        last = strtoul(p + 1, &p, 10);
                for (; first <= last && first < NODES_MAX && n < max; first++)
                        nodes[n++] = (int) first;
                if (*p == ',')
                        p++;
        }
        return (int) n;
}
