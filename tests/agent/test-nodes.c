/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * guest-agent/nodes.c and the text helpers, on files below a made-up root.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "nodes.h"
#include "sysfile.h"

typedef struct Tree {
        char path[64];
        int fd;
} Tree;

static void put(const Tree *t, const char *path, const char *text) {
        char part[256];
        int fd;

        for (size_t i = 0; path[i]; i++)
                if (path[i] == '/') {
                        snprintf(part, sizeof(part), "%.*s", (int) i, path);
                        (void) mkdirat(t->fd, part, 0700);
                }
        fd = openat(t->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
}

static int tree_make(void **state) {
        Tree *t = calloc(1, sizeof(Tree));

        strcpy(t->path, "/tmp/hmvisor-nodes-XXXXXX");
        if (!mkdtemp(t->path))
                return -1;
        t->fd = open(t->path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        put(t, "sys/devices/system/memory/block_size_bytes", "8000000\n");
        *state = t;
        return 0;
}

static int tree_remove(void **state) {
        Tree *t = *state;
        char command[128];

        snprintf(command, sizeof(command), "rm -rf %s", t->path);
        close(t->fd);
        free(t);
        return system(command);
}

static const char zone_text[] =
        "Node 0, zone      DMA\n"
        "  per-node stats\n"
        "      nr_inactive_anon 7\n"
        "  pages free     3000\n"
        "        boost    0\n"
        "        min      10\n"
        "        low      20\n"
        "        high     30\n"
        "        promo    40\n"
        "        spanned  4095\n"
        "        present  3998\n"
        "        managed  3840\n"
        "        protection: (0, 5000, 5000)\n"
        "  pagesets\n"
        "    cpu: 0\n"
        "              count:    1\n"
        "              high:     900\n"
        "  start_pfn:           1\n"
        "Node 0, zone    DMA32\n"
        "  pages free     %u\n"
        "        min      100\n"
        "        low      200\n"
        "        high     300\n"
        "        spanned  45056\n"
        "        present  45056\n"
        "        managed  44000\n"
        "        protection: (0, 0, 0)\n"
        "  start_pfn:           4096\n"
        "Node 0, zone  Movable\n"
        "  pages free     0\n"
        "        high     0\n"
        "        spanned  0\n"
        "        managed  0\n"
        "Node 1, zone    DMA32\n"
        "  pages free     9000\n"
        "        high     50\n"
        "        spanned  81920\n"
        "        managed  81000\n"
        "        protection: (0, 0, 7)\n"
        "  start_pfn:           49152\n";

static void zones_put(const Tree *t, unsigned free_pages) {
        char text[sizeof(zone_text) + 16];

        snprintf(text, sizeof(text), zone_text, free_pages);
        put(t, "proc/zoneinfo", text);
}

__attribute__((format(printf, 2, 3)))
static NodeRoom room_of_node_0(const Tree *t, const char *format, ...) {
        char text[512];
        NodeRoom room;
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        put(t, "proc/zoneinfo", text);
        assert_int_equal(node_room_read(t->fd, 0, &room), 0);
        return room;
}

/* A zone counts with what it has over its high watermark and its reserve; the lists of the CPUs also have a
 * "high:", which says when they are full. */
static void test_room(void **state) {
        const Tree *t = *state;
        NodeRoom room;

        zones_put(t, 1300);
        assert_int_equal(node_room_read(t->fd, 0, &room), 0);
        assert_int_equal(room.pages, 1000);
        assert_int_equal(node_room_read(t->fd, 1, &room), 0);
        assert_int_equal(room.pages, 9000 - 57);
        zones_put(t, 100);
        assert_int_equal(node_room_read(t->fd, 0, &room), 0);
        assert_int_equal(room.pages, -200); /* so many have to be freed before anything fits */
        /* A small zone that lacks less, or has a little, does not hide what the large one lacks. */
        static const char two_zones[] =
                "Node 0, zone      DMA\n  pages free     %u\n        high     284\n        managed  3840\n"
                "        protection: (0, 235, 235, 235, 235)\n"
                "Node 0, zone    DMA32\n  pages free     3444\n        high     4488\n"
                "        managed  60237\n        protection: (0, 0, 0, 0, 0)\n";
        assert_int_equal(room_of_node_0(t, two_zones, 447).pages, -1044);
        assert_int_equal(room_of_node_0(t, two_zones, 529).pages, -1034);
        static const char two_cpus[] =
                "Node 0, zone    DMA32\n  pages free     %u\n        min      2992\n        high     4488\n"
                "        managed  60237\n        protection: (0, 0)\n  pagesets\n    cpu: 0\n"
                "              count: 48\n              high:  1870\n    cpu: 1\n"
                "              count:    2000\n              high:  1975\n";
        room = room_of_node_0(t, two_cpus, 2992);
        assert_int_equal(room.pages, 2992 - 4488);
        assert_int_equal(room.unlisted, 1870 - 48);
        put(t, "proc/zoneinfo", zone_text);
        assert_int_equal(node_room_read(t->fd, 2, &room), -ENXIO);
}

static void test_map(void **state) {
        const Tree *t = *state;
        _cleanup_(node_map_done) NodeMap map = { 0 };

        zones_put(t, 1300);
        put(t, "sys/devices/system/node/has_memory", "0-1\n");
        /* 192 MiB and 320 MiB with blocks of 128 MiB: the second block is of both. Then a hole, and a
         * hot-plugged block of node 1. */
        put(t, "sys/devices/system/node/node0/memory0", "");
        put(t, "sys/devices/system/node/node0/memory1", "");
        put(t, "sys/devices/system/node/node0/memory_failure", "");
        put(t, "sys/devices/system/node/node1/memory1", "");
        put(t, "sys/devices/system/node/node1/memory2", "");
        put(t, "sys/devices/system/node/node1/memory3", "");
        put(t, "sys/devices/system/node/node1/memory32", "");
        assert_int_equal(node_map_read(t->fd, &map), 0);
        assert_int_equal(node_map_find(&map, 0), 0);
        assert_int_equal(node_map_find(&map, 32768), 0);
        assert_int_equal(node_map_find(&map, 49151), 0);
        assert_int_equal(node_map_find(&map, 49152), 1);
        assert_int_equal(node_map_find(&map, 65536), 1);
        assert_int_equal(node_map_find(&map, 131071), 1);
        assert_int_equal(node_map_find(&map, 131072), -ENOENT);
        assert_int_equal(node_map_find(&map, 32 * 32768), 1);
        assert_int_equal(node_map_find(&map, 33 * 32768), -ENOENT);
        assert_int_equal(node_map_find(&map, UINT64_MAX), -ENOENT);
        assert_true(node_map_has(&map, 1));
        assert_false(node_map_has(&map, 2));
}

static void test_kernel(void **state) {
        const Tree *t = *state;

        zones_put(t, 1300);
        put(t, "sys/devices/system/node/has_memory", "0-1\n");
        put(t, "sys/devices/system/node/node0/memory0", "");
        put(t, "sys/devices/system/node/node1/memory2", "");
        put(t, "sys/devices/system/node/node1/memory3", "");
        assert_int_equal(node_of_kernel(t->fd), -ENOENT); /* no such file */
        put(t, "proc/iomem",
            "00001000-0009fbff : System RAM\n00100000-1fffffff : System RAM\n"
            "  15600000-165fffff : Kernel code\n  17200000-17472a7f : Kernel data\n"
            "  17cdc000-181fffff : Kernel bss\n");
        assert_int_equal(node_of_kernel(t->fd), 1);
        put(t, "proc/iomem", "  01000000-01ffffff : Kernel code\n  02c00000-02e72a7f : Kernel data\n");
        assert_int_equal(node_of_kernel(t->fd), 0);
        put(t, "proc/iomem", "  00000000-00000000 : Kernel code\n  00000000-00000000 : Kernel data\n");
        assert_int_equal(node_of_kernel(t->fd), -ENODATA);
        put(t, "proc/iomem", "00001000-0009fbff : System RAM\n");
        assert_int_equal(node_of_kernel(t->fd), -ENODATA);
}

static void test_list(void **state) {
        const Tree *t = *state;
        int nodes[4];

        put(t, "sys/devices/system/node/has_memory", "0,2-3,7,9\n");
        assert_int_equal(node_list_read(t->fd, nodes, 4), 4);
        assert_int_equal(nodes[0], 0);
        assert_int_equal(nodes[1], 2);
        assert_int_equal(nodes[2], 3);
        assert_int_equal(nodes[3], 7);
        put(t, "sys/devices/system/node/has_memory", "\n");
        assert_int_equal(node_list_read(t->fd, nodes, 4), 0);
        put(t, "sys/devices/system/node/has_memory", "3-1\n");
        assert_int_equal(node_list_read(t->fd, nodes, 4), 0);
}

static void test_text(void **state) {
        const char *text = "pswpin 5\nMemFree:   77 kB\nNode 0 MemFree: 9 kB\n  numa_hit 4\nlast";
        uint64_t v = 0;

        assert_int_equal(text_find_u64(text, "pswpin", &v), 0);
        assert_int_equal(v, 5);
        assert_int_equal(text_find_u64(text, "MemFree", &v), 0);
        assert_int_equal(v, 77);
        assert_int_equal(text_find_u64(text, "numa_hit", &v), 0);
        assert_int_equal(v, 4);
        assert_int_equal(text_find_u64(text, "Node 0 MemFree", &v), 0);
        assert_int_equal(v, 9);
        assert_int_equal(text_find_u64(text, "swpin", &v), -ENOENT);
        assert_int_equal(text_find_u64(text, "Mem", &v), -ENOENT);
        assert_int_equal(text_find_u64(text, "last", &v), -ENOENT);
        assert_int_equal(text_find_u64("", "x", &v), -ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_room, tree_make, tree_remove),
                cmocka_unit_test_setup_teardown(test_map, tree_make, tree_remove),
                cmocka_unit_test_setup_teardown(test_kernel, tree_make, tree_remove),
                cmocka_unit_test_setup_teardown(test_list, tree_make, tree_remove),
                cmocka_unit_test(test_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
