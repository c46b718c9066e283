/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A TCG plugin for the QEMU that emulates the lab host. It counts, for each physical NUMA node, every load
 * and store that an emulated CPU makes, be it the host's or a nested guest's, and all instructions. It
 * counts CPU accesses, and no device's DMA. On demand it counts them for each 4 KiB frame as well, and what
 * a write-back cache between the CPU and its memory would make of them. Asked to, it makes what misses that
 * cache take longer, by node: nothing else in the machine that it watches is changed.
 *
 * Counting costs much, so it is switched at run time: while it is off the translated code holds next to no
 * trace of it. The switch is a set of flags in the shared page. A vCPU looks at it when it goes idle or
 * resumes, and with each return from an interrupt, which every kernel has hundreds of in a second. (A stop
 * and cont of the machine would do, but QEMU 10.0 can wait for ever for a busy vCPU to stop.)
 *
 * The cache model: physically indexed, 8 ways of lines of 64 bytes, least recently used goes, a store
 * allocates; one for each vCPU, and they know nothing of each other. It is empty when counting begins.
 *
 *     -plugin file=meter.so,page=PATH,nodes=2147483648:2147483648,cache=2097152
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "meter.h"
#include "plugin-api.h"

PLUGIN_EXPORT int qemu_plugin_version = PLUGIN_VERSION;
PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

/* How QEMU's q35 board lays out RAM (hw/i386/pc_q35.c): from this size on only 2 GiB lie below 4 GiB. */
#define Q35_SPLIT_FROM UINT64_C(0xb0000000)
#define Q35_LOW_RAM    UINT64_C(0x80000000)
#define HIGH_RAM_BASE  UINT64_C(0x100000000)

#define LINE_SHIFT    6
#define WAYS          8
#define DIRTY         UINT64_C(1)       /* in a way; the rest is the line's number plus one, shifted */
#define CACHE_DEFAULT (UINT64_C(2) << 20)

static qemu_plugin_id_t plugin_id;
static MeterPage *page;
static MeterFrame *frames;
static uint64_t *cache_ways[METER_VCPUS_MAX];   /* of each set, the most recently used first */
static uint64_t cache_sets;
static uint64_t low_ram;                        /* bytes of RAM below 4 GiB */
static uint64_t node_end[METER_NODES_MAX];      /* running sum of the nodes' sizes */
static unsigned n_nodes;
static qemu_plugin_u64 instructions;
static uint64_t *vcpu_instructions[METER_VCPUS_MAX];

/* Offset into all nodes' memory, or UINT64_MAX when the address is no RAM. */
static uint64_t offset_of_address(uint64_t address) {
        if (address >= HIGH_RAM_BASE)
                address = address - HIGH_RAM_BASE + low_ram;
        else if (address >= low_ram)
                return UINT64_MAX;
        return address < node_end[n_nodes - 1] ? address : UINT64_MAX;
}

static unsigned node_of_offset(uint64_t offset) {
        unsigned n = 0;

        while (offset >= node_end[n])
                n++;
        return n;
}

/* Counts what the access makes the cache do, and returns what the memory takes for it, in ns. */
static uint64_t cache_access(MeterCounters *c, uint64_t *cache, uint64_t offset, unsigned node, bool store) {
        uint64_t line = offset >> LINE_SHIFT, tag = (line + 1) << 1, evicted;
        uint64_t *way = cache + line % cache_sets * WAYS, found = 0, ns = 0;
        unsigned i = 0, to;

        while (i < WAYS && (way[i] & ~DIRTY) != tag)
                i++;
        if (i < WAYS)
                found = way[i];
        else {
                c->fills[node]++;
                ns += page->delays[node].fill_ns;
                evicted = way[--i];
                if (evicted & DIRTY) {
                        to = node_of_offset(((evicted >> 1) - 1) << LINE_SHIFT);
                        c->write_backs[to]++;
                        ns += page->delays[to].write_back_ns;
                }
                found = tag;
        }
        memmove(way + 1, way, i * sizeof(*way));
        way[0] = found | (store ? DIRTY : 0);
        return ns;
}

static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static void wait_ns(uint64_t ns) {
        uint64_t start = now_ns();

        while (now_ns() - start < ns)
                ;
}

static void on_access(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *userdata) {
        MeterCounters *c = page->vcpu + vcpu;
        struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(info, vaddr);
        bool store = qemu_plugin_mem_is_store(info);
        uint64_t offset = UINT64_MAX;
        uint32_t active = page->active;
        uint64_t ns = 0;
        unsigned node;

        c->instructions = *vcpu_instructions[vcpu];
        if (hw && !qemu_plugin_hwaddr_is_io(hw))
                offset = offset_of_address(qemu_plugin_hwaddr_phys_addr(hw));
        if (offset == UINT64_MAX) {
                c->other_accesses++;
                return;
        }
        node = node_of_offset(offset);
        if (store) {
                c->stores[node]++;
                c->store_bytes[node] += UINT64_C(1) << qemu_plugin_mem_size_shift(info);
        } else {
                c->loads[node]++;
                c->load_bytes[node] += UINT64_C(1) << qemu_plugin_mem_size_shift(info);
        }
        if (active & METER_FRAMES) {
                MeterFrame *f = frames + offset / METER_FRAME;

                if (store)
                        f->stores++;
                else
                        f->loads++;
        }
        if (active & METER_CACHE)
                ns = cache_access(c, cache_ways[vcpu], offset, node, store);
        if (active & METER_DELAYS)
                wait_ns(ns);
}

/* Without accesses nobody copies the count of instructions: it is done where a block begins. */
static void on_block(unsigned int vcpu, void *userdata) {
        page->vcpu[vcpu].instructions = *vcpu_instructions[vcpu];
}

static void register_callbacks(qemu_plugin_id_t id);

/* Reset runs with every vCPU stopped, drops all translated code, and then calls us back; QEMU itself ignores
 * a second request while one is on its way. */
static void follow_switch(qemu_plugin_id_t id, unsigned int vcpu) {
        uint32_t wanted = __atomic_load_n(&page->wanted, __ATOMIC_ACQUIRE);

        if (wanted != __atomic_load_n(&page->active, __ATOMIC_ACQUIRE))
                qemu_plugin_reset(id, register_callbacks);
}

static void on_interrupt_return(unsigned int vcpu, void *userdata) {
        follow_switch(plugin_id, vcpu);
}

static bool is_iretq(const struct qemu_plugin_insn *insn) {
        static const uint8_t iretq[] = { 0x48, 0xcf };
        uint8_t bytes[sizeof(iretq)];

        return qemu_plugin_insn_size(insn) == sizeof(iretq) &&
               qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) == sizeof(bytes) &&
               memcmp(bytes, iretq, sizeof(iretq)) == 0;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
        size_t n = qemu_plugin_tb_n_insns(tb);
        uint32_t active = page->active;
        bool accesses = active & METER_ACCESSES;

        if (active && !accesses)
                qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, NULL);
        for (size_t i = 0; i < n; i++) {
                struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

                if (is_iretq(insn))
                        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_interrupt_return,
                                                               QEMU_PLUGIN_CB_NO_REGS, NULL);
                if (!active)
                        continue;
                qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64,
                                                                    instructions, 1);
                if (accesses)
                        qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
                                                         QEMU_PLUGIN_MEM_RW, NULL);
        }
}

static void on_vcpu_init(qemu_plugin_id_t id, unsigned int vcpu) {
        /* Adding a vCPU may move the scoreboard, so every pointer is taken anew. */
        for (unsigned v = 0; v <= vcpu && v < METER_VCPUS_MAX; v++)
                vcpu_instructions[v] = qemu_plugin_scoreboard_find(instructions.score, v);
}

static void register_callbacks(qemu_plugin_id_t id) {
        uint32_t wanted = __atomic_load_n(&page->wanted, __ATOMIC_ACQUIRE);

        qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
        qemu_plugin_register_vcpu_idle_cb(id, follow_switch);
        qemu_plugin_register_vcpu_resume_cb(id, follow_switch);
        qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
        for (unsigned v = 0; v < page->n_vcpus; v++)
                memset(cache_ways[v], 0, cache_sets * WAYS * sizeof(uint64_t));
        page->switches++;
        __atomic_store_n(&page->active, wanted, __ATOMIC_RELEASE);
}

/* The page and the frames behind it; sets both. */
static int page_map(const char *path) {
        uint64_t n_frames = node_end[n_nodes - 1] / METER_FRAME;
        uint64_t offset = (sizeof(MeterPage) + METER_FRAME - 1) / METER_FRAME * METER_FRAME;
        uint64_t size = offset + n_frames * sizeof(MeterFrame);
        int fd;

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, (off_t) size) < 0) {
                fprintf(stderr, "meter: cannot make the page '%s': %m\n", path);
                if (fd >= 0)
                        close(fd);
                return -1;
        }
        page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (page == MAP_FAILED) {
                fprintf(stderr, "meter: cannot map the page '%s': %m\n", path);
                return -1;
        }
        frames = (void*) page + offset;
        page->frames_offset = offset;
        page->n_frames = n_frames;
        return 0;
}

static int caches_make(uint64_t bytes, unsigned n) {
        cache_sets = bytes >> LINE_SHIFT;
        cache_sets /= WAYS;
        if (cache_sets == 0)
                return -1;
        for (unsigned v = 0; v < n; v++) {
                cache_ways[v] = calloc(cache_sets * WAYS, sizeof(uint64_t));
                if (!cache_ways[v])
                        return -1;
        }
        return 0;
}

static int nodes_parse(const char *text) {
        uint64_t total = 0;
        char *end;

        for (;; text = end + 1) {
                uint64_t size = strtoull(text, &end, 10);

                if (n_nodes == METER_NODES_MAX || end == text || size == 0 || (*end != ':' && *end != '\0'))
                        return -1;
                total += size;
                node_end[n_nodes++] = total;
                if (*end == '\0')
                        break;
        }
        low_ram = total >= Q35_SPLIT_FROM ? Q35_LOW_RAM : total;
        return 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
        const char *path = NULL, *nodes = NULL;
        uint64_t cache = CACHE_DEFAULT;

        for (int i = 0; i < argc; i++)
                if (strncmp(argv[i], "page=", 5) == 0)
                        path = argv[i] + 5;
                else if (strncmp(argv[i], "nodes=", 6) == 0)
                        nodes = argv[i] + 6;
                else if (strncmp(argv[i], "cache=", 6) == 0)
                        cache = strtoull(argv[i] + 6, NULL, 10);

        if (!path || !nodes || nodes_parse(nodes) < 0) {
                fprintf(stderr, "meter: needs page=PATH and nodes=BYTES:BYTES, at most %d nodes\n",
                        METER_NODES_MAX);
                return -1;
        }
        if (!info->system_emulation || info->system.max_vcpus > METER_VCPUS_MAX) {
                fprintf(stderr, "meter: watches whole machines of at most %d CPUs\n", METER_VCPUS_MAX);
                return -1;
        }
        if (caches_make(cache, (unsigned) info->system.max_vcpus) < 0) {
                fprintf(stderr, "meter: no memory for caches of %llu bytes; a cache has %d lines or more\n",
                        (unsigned long long) cache, WAYS);
                return -1;
        }
        if (page_map(path) < 0)
                return -1;

        plugin_id = id;
        instructions.score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
        page->n_nodes = n_nodes;
        page->cache_bytes = cache;
        page->n_vcpus = (uint32_t) info->system.max_vcpus;
        register_callbacks(id);
        page->switches = 0;
        __atomic_store_n(&page->magic, METER_MAGIC, __ATOMIC_RELEASE);
        return 0;
}
