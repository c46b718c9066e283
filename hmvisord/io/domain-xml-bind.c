/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Rewrites a domain into two cells, DRAM and slow, each bound to its tier's host nodes. First checks
 * everything that could stand in the way, then writes; a refused domain is not touched.
 */
#include <inttypes.h>

#include "base/units.h"
#include "io/domain-xml-internal.h"

/* QEMU refuses a cell of 0, and very small nodes crashed old guest kernels. */
#define CELL_MIN_BYTES (128 * MIB)
#define BLOCK_MIN_BYTES (2 * MIB)              /* a transparent huge page; virtio-mem's least block on x86 */
#define SIZE_MAX_BYTES (64 * GIB * 1024)
#define MEMORY_SLOTS 16

/* What a guest is told when the host does not know: usual figures of local DRAM and of a CXL expander. */
#define DRAM_LATENCY_NS 100
#define DRAM_BANDWIDTH_MIBS 20480
#define SLOW_LATENCY_NS 300
#define SLOW_BANDWIDTH_MIBS 5120
#define SLOW_DISTANCE 20

typedef struct Figures {
        uint32_t latency_ns[_TIER_MAX], bandwidth_mibs[_TIER_MAX];
        uint32_t distance;
} Figures;

static const char *alias_of(Tier t) {
        return t == TIER_DRAM ? XML_ALIAS_PREFIX "dram" : XML_ALIAS_PREFIX "slow";
}

/* ---- what must hold ---- */

static int check_size(const char *what, uint64_t min, uint64_t bytes, uint64_t max, uint64_t block,
                      Outcome *o) {
        const uint64_t sizes[] = { min, bytes, max };
        char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

        size_format(a, bytes);
        if (min < CELL_MIN_BYTES)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the %s size %s is too small; it must be at least %s", what,
                                   size_format(a, min), size_format(b, CELL_MIN_BYTES));
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                if (sizes[i] % block != 0)
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "the %s size %s is no multiple of the block of %s", what,
                                           size_format(a, sizes[i]), size_format(b, block));
        if (min > bytes)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the least %s size %s is above the size %s that it starts with", what,
                                   size_format(b, min), a);
        if (max < bytes)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the largest %s size %s is below the size %s that it starts with", what,
                                   size_format(b, max), a);
        if (max > SIZE_MAX_BYTES)
                return outcome_set(o, OUTCOME_NO_ROOM, "the %s size %s is larger than any host; at most %s",
                                   what, size_format(a, max), size_format(b, SIZE_MAX_BYTES));
        return 0;
}

static int options_complete(const BindOptions *given, BindOptions *ret, Outcome *o) {
        BindOptions b = *given;
        int r;

        if (b.block_bytes == 0)
                b.block_bytes = BLOCK_MIN_BYTES;
        if (b.block_bytes < BLOCK_MIN_BYTES || (b.block_bytes & (b.block_bytes - 1)) != 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the block size must be a power of two of at least 2 MiB");
        if (!dirty_ring_size_is_valid(b.dirty_ring_size))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the dirty ring size %" PRIu32
                                   " is not possible; it must be a power of two from 1024 "
                                   "to 65536",
                                   b.dirty_ring_size);
        if (b.dram_bytes > SIZE_MAX_BYTES || b.slow_bytes > SIZE_MAX_BYTES)
                return outcome_set(o, OUTCOME_NO_ROOM, "a size is larger than any host");
        if (b.max_dram_bytes == 0)
                b.max_dram_bytes = b.dram_bytes + b.slow_bytes;
        if (b.max_slow_bytes == 0)
                b.max_slow_bytes = b.dram_bytes + b.slow_bytes;
        if (b.min_dram_bytes == 0)
                b.min_dram_bytes = b.dram_bytes;
        if (b.min_slow_bytes == 0)
                b.min_slow_bytes = b.slow_bytes;
        r = check_size("DRAM", b.min_dram_bytes, b.dram_bytes, b.max_dram_bytes, b.block_bytes, o);
        if (r >= 0)
                r = check_size("slow", b.min_slow_bytes, b.slow_bytes, b.max_slow_bytes, b.block_bytes, o);
        if (r < 0)
                return r;
        for (Tier t = 0; t < _TIER_MAX; t++)
                if (!*b.tiers[t].nodes)
                        return outcome_set(o, OUTCOME_NO_TIER,
                                           "the host has no %s nodes; name them in [Tiers] of "
                                           "hmvisord.conf",
                                           tier_to_string(t));
        if (streq(b.tiers[TIER_DRAM].nodes, b.tiers[TIER_SLOW].nodes))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "both tiers are host nodes '%s'; name them in [Tiers] of "
                                   "hmvisord.conf",
                                   b.tiers[TIER_DRAM].nodes);
        /* a comma would begin another option of QEMU's -plugin */
        if (!b.extension_path || *b.extension_path != '/' || strchr(b.extension_path, ','))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the path of the QEMU extension '%s' must be absolute and without "
                                   "a comma; see ExtensionPath in hmvisord.conf",
                                   b.extension_path ?: "");
        *ret = b;
        return 0;
}

/* Everything in a domain that cannot live beside two bound cells. */
static int check_domain(xmlNodePtr root, const char *name, Outcome *o) {
        static const struct {
                const char *path, *attribute, *value;    /* attribute NULL: the element must not be there */
                const char *why;
        } refused[] = {
                { "memoryBacking/hugepages", NULL, NULL,
                  "uses <hugepages>, which QEMU cannot place on a node without CPUs" },
                { "memoryBacking/locked", NULL, NULL, "has <locked/> memory, which excludes virtio-mem" },
                { "cpu/numa", NULL, NULL, "has NUMA cells of its own (<cpu><numa>)" },
                { "devices/memory", NULL, NULL, "has memory devices of its own (<memory> in <devices>)" },
                { "vcpu", "placement", "auto", "has <vcpu placement='auto'>, which excludes bound cells" },
                { "numatune/memory", "placement", "auto",
                  "has <numatune> with placement='auto', which excludes bound cells" },
                { "launchSecurity", NULL, NULL,
                  "has encrypted memory (<launchSecurity>), which cannot be moved" },
        };
        xmlNodePtr type = xml_find(root, "os/type");
        char machine[128], text[64];

        if (!xml_attr_is(root, "type", "kvm"))
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "domain '%s' is not of type 'kvm'; only KVM domains can be bound", name);
        if (!xml_text_copy(type, text, sizeof(text)) || !streq(text, "hvm") ||
            (xml_attr_copy(type, "arch", text, sizeof(text)) && !streq(text, "x86_64")))
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "domain '%s' is no x86_64 machine; others cannot be bound yet", name);
        (void) xml_attr_copy(type, "machine", machine, sizeof(machine));
        if (!streq(machine, "pc") && !streq(machine, "q35") && strncmp(machine, "pc-", 3) != 0)
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "domain '%s' has machine type '%s', which has no virtio-mem; "
                                   "use q35 or pc",
                                   name, machine);
        if (!xml_find(root, "features/acpi"))
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "domain '%s' has no ACPI, by which its guest learns of the cells; "
                                   "add <acpi/> to <features> with 'virsh edit'",
                                   name);
        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                xmlNodePtr n = xml_find(root, refused[i].path);

                if (n && (!refused[i].attribute || xml_attr_is(n, refused[i].attribute, refused[i].value)))
                        return outcome_set(o, OUTCOME_UNSUPPORTED,
                                           "domain '%s' %s; remove that with 'virsh edit', then bind", name,
                                           refused[i].why);
        }
        return 0;
}

/* ---- writing ---- */

/* What the memory is made of stays as it is: anonymous memory, libvirt's default, is the one that the kernel
 * makes of huge pages, with which a rest of tracking costs next to nothing. But pages that are shared with
 * other machines are on one node for all of them. */
static int write_backing(xmlNodePtr root, xmlNodePtr record) {
        return part_replace(root, record, "memoryBacking/nosharepages") ? 0 : -ENOMEM;
}

static int write_sizes(xmlNodePtr root, xmlNodePtr record, const BindOptions *b) {
        xmlNodePtr memory, current, max;
        uint64_t boot = b->min_dram_bytes + b->min_slow_bytes;

        /* currentMemory is the balloon's target: as large as what there is at boot, devices apart */
        memory = part_replace(root, record, "memory");
        current = part_replace(root, record, "currentMemory");
        max = part_replace(root, record, "maxMemory");
        if (xml_set_bytes(memory, boot) < 0 || xml_set_bytes(current, boot) < 0 || !max)
                return -ENOMEM;
        if (b->max_dram_bytes == b->min_dram_bytes && b->max_slow_bytes == b->min_slow_bytes) {
                xmlUnlinkNode(max);   /* nothing to plug */
                xmlFreeNode(max);
                return 0;
        }
        if (xml_set_bytes(max, b->max_dram_bytes + b->max_slow_bytes) < 0)
                return -ENOMEM;
        return xml_set(max, "slots", "%u", MEMORY_SLOTS);
}

static int write_numatune(xmlNodePtr root, xmlNodePtr record, const BindOptions *b) {
        xmlNodePtr numatune = part_replace(root, record, "numatune"), n;
        int r;

        /* Memory devices inherit their cell's nodes; what belongs to no cell may be on either tier. */
        n = xml_add(numatune, "memory", NULL);
        r = xml_set(n, "mode", "strict");
        if (r >= 0)
                r = xml_set(n, "nodeset", "%s,%s", b->tiers[TIER_DRAM].nodes, b->tiers[TIER_SLOW].nodes);
        for (Tier t = 0; r >= 0 && t < _TIER_MAX; t++) {
                n = xml_add(numatune, "memnode", NULL);
                r = xml_set(n, "cellid", "%u", (unsigned) t);
                if (r >= 0)
                        r = xml_set(n, "mode", "strict");
                if (r >= 0)
                        r = xml_set(n, "nodeset", "%s", b->tiers[t].nodes);
        }
        return r;
}

/* QEMU's own threads allocate huge and preallocated memory: they must be allowed on nodes that have CPUs. */
static int write_emulatorpin(xmlNodePtr root, xmlNodePtr record, const BindOptions *b) {
        if (xml_find(root, "cputune/emulatorpin") || !*b->tiers[TIER_DRAM].cpus)
                return 0;
        return xml_set(part_replace(root, record, "cputune/emulatorpin"), "cpuset", "%s",
                       b->tiers[TIER_DRAM].cpus);
}

static int write_dirty_ring(xmlNodePtr root, xmlNodePtr record, const BindOptions *b) {
        xmlNodePtr ring;
        int r;

        if (b->dirty_ring_size == 0)
                return 0;
        ring = part_replace(root, record, "features/kvm/dirty-ring");
        r = xml_set(ring, "state", "on");
        return r < 0 ? r : xml_set(ring, "size", "%" PRIu32, b->dirty_ring_size);
}

/* The guest's kernel puts the cells into different tiers only when latency / bandwidth of the slow one is
 * clearly worse: by more than a fifth (MEMTIER_CHUNK_SIZE against MEMTIER_ADISTANCE_DRAM,
 * include/linux/memory-tiers.h). Figures that are missing or too much alike are replaced by usual ones. */
static Figures figures_choose(const BindOptions *b) {
        const BindTier *dram = b->tiers + TIER_DRAM, *slow = b->tiers + TIER_SLOW;
        Figures f = {
                .latency_ns = { dram->latency_ns, slow->latency_ns },
                .bandwidth_mibs = { dram->bandwidth_mibs, slow->bandwidth_mibs },
                .distance = slow->distance > 10 && slow->distance < 255 ? slow->distance : SLOW_DISTANCE,
        };
        uint32_t unit = 1;

        if (!dram->latency_ns || !slow->latency_ns || !dram->bandwidth_mibs || !slow->bandwidth_mibs ||
            (unsigned __int128) slow->latency_ns * dram->bandwidth_mibs * 2 <
                    (unsigned __int128) dram->latency_ns * slow->bandwidth_mibs * 3)
                f = (Figures){ .latency_ns = { DRAM_LATENCY_NS, SLOW_LATENCY_NS },
                               .bandwidth_mibs = { DRAM_BANDWIDTH_MIBS, SLOW_BANDWIDTH_MIBS },
                               .distance = f.distance };
        /* An HMAT entry has 16 bits; QEMU takes the largest common unit and refuses what does not fit. */
        while (MAX(f.bandwidth_mibs[TIER_DRAM], f.bandwidth_mibs[TIER_SLOW]) / unit > 65534)
                unit *= 2;
        for (Tier t = 0; t < _TIER_MAX; t++) {
                f.bandwidth_mibs[t] = MAX(f.bandwidth_mibs[t] / unit, 1u) * unit;
                f.latency_ns[t] = MIN(f.latency_ns[t], 65534u);
        }
        return f;
}

static int write_cell(xmlNodePtr numa, Tier t, uint64_t bytes, uint32_t n_vcpus, const Figures *f) {
        xmlNodePtr cell = xml_add(numa, "cell", NULL), distances;
        int r;

        r = xml_set(cell, "id", "%u", (unsigned) t);
        if (r >= 0 && t == TIER_DRAM)   /* the slow cell has no CPUs */
                r = n_vcpus == 1 ? xml_set(cell, "cpus", "0")
                                 : xml_set(cell, "cpus", "0-%" PRIu32, n_vcpus - 1);
        if (r >= 0)
                r = xml_set(cell, "memory", "%" PRIu64, bytes / KIB);
        if (r >= 0)
                r = xml_set(cell, "unit", "KiB");
        distances = r >= 0 ? xml_add(cell, "distances", NULL) : NULL;
        for (Tier s = 0; r >= 0 && s < _TIER_MAX; s++) {
                xmlNodePtr sibling = xml_add(distances, "sibling", NULL);

                r = xml_set(sibling, "id", "%u", (unsigned) s);
                if (r >= 0)
                        r = xml_set(sibling, "value", "%" PRIu32, s == t ? 10 : f->distance);
        }
        return r;
}

static int write_figure(xmlNodePtr parent, const char *name, Tier target, uint64_t value, const char *unit) {
        xmlNodePtr n = xml_add(parent, name, NULL);
        int r;

        r = xml_set(n, "initiator", "0");
        if (r >= 0)
                r = xml_set(n, "target", "%u", (unsigned) target);
        if (r >= 0)
                r = xml_set(n, "type", "access");   /* both read and write */
        if (r >= 0)
                r = xml_set(n, "value", "%" PRIu64, value);
        return r >= 0 && unit ? xml_set(n, "unit", "%s", unit) : r;
}

static int write_cells(xmlNodePtr root, xmlNodePtr record, const BindOptions *b, uint32_t n_vcpus) {
        xmlNodePtr numa = part_replace(root, record, "cpu/numa"), interconnects;
        Figures f = figures_choose(b);
        int r;

        r = numa ? 0 : -ENOMEM;
        if (r >= 0)
                r = write_cell(numa, TIER_DRAM, b->min_dram_bytes, n_vcpus, &f);
        if (r >= 0)
                r = write_cell(numa, TIER_SLOW, b->min_slow_bytes, n_vcpus, &f);
        interconnects = r >= 0 ? xml_add(numa, "interconnects", NULL) : NULL;
        for (Tier t = 0; r >= 0 && t < _TIER_MAX; t++)
                r = write_figure(interconnects, "latency", t, f.latency_ns[t], NULL);
        for (Tier t = 0; r >= 0 && t < _TIER_MAX; t++)
                r = write_figure(interconnects, "bandwidth", t, f.bandwidth_mibs[t] * KIB, "KiB");
        return r;
}

static int write_memory_device(xmlNodePtr devices, Tier t, uint64_t bytes, uint64_t requested,
                               uint64_t block) {
        xmlNodePtr memory, target, node;
        char number[16];
        int r;

        memory = xml_add(devices, "memory", NULL);
        r = xml_set(memory, "model", "virtio-mem");
        if (r < 0)
                return r;
        target = xml_add(memory, "target", NULL);
        snprintf(number, sizeof(number), "%u", (unsigned) t);
        if (xml_set_bytes(xml_add(target, "size", NULL), bytes) < 0)
                return -ENOMEM;
        node = xml_add(target, "node", number);
        if (!node || xml_set_bytes(xml_add(target, "block", NULL), block) < 0 ||
            xml_set_bytes(xml_add(target, "requested", NULL), requested) < 0)
                return -ENOMEM;
        return xml_set(xml_add(memory, "alias", NULL), "name", "%s", alias_of(t));
}

static int write_devices(xmlNodePtr root, xmlNodePtr record, const BindOptions *b, bool has_agent) {
        xmlNodePtr devices = xml_child(root, "devices"), channel, target;
        int r = 0;

        if (!has_agent) {
                channel = xml_add(devices, "channel", NULL);
                r = xml_set(channel, "type", "unix");
                target = r >= 0 ? xml_add(channel, "target", NULL) : NULL;
                if (r >= 0)
                        r = xml_set(target, "type", "virtio");
                if (r >= 0)
                        r = xml_set(target, "name", XML_AGENT_CHANNEL);
                if (r >= 0)
                        r = record_add(record, "agent-channel", NULL);
        }
        if (r >= 0 && b->max_dram_bytes > b->min_dram_bytes)
                r = write_memory_device(devices, TIER_DRAM, b->max_dram_bytes - b->min_dram_bytes,
                                        b->dram_bytes - b->min_dram_bytes, b->block_bytes);
        if (r >= 0 && b->max_slow_bytes > b->min_slow_bytes)
                r = write_memory_device(devices, TIER_SLOW, b->max_slow_bytes - b->min_slow_bytes,
                                        b->slow_bytes - b->min_slow_bytes, b->block_bytes);
        return r;
}

/* QEMU loads it like a plugin before the board is made, whatever the accelerator. */
static int write_extension(xmlNodePtr root, xmlNodePtr record, const BindOptions *b) {
        xmlNodePtr cmd = xml_child_ns(root, XML_QEMU_NS, "commandline"), a, v;
        char value[512];
        xmlNsPtr ns;

        if (snprintf(value, sizeof(value), "file=%s", b->extension_path) >= (int) sizeof(value))
                return -ENAMETOOLONG;
        ns = xmlSearchNsByHref(root->doc, root, XML(XML_QEMU_NS));
        if (!ns)
                ns = xmlNewNs(root, XML(XML_QEMU_NS), XML("qemu"));
        if (!ns)
                return -ENOMEM;
        if (!cmd)
                cmd = xmlNewChild(root, ns, XML("commandline"), NULL);
        a = cmd ? xmlNewChild(cmd, ns, XML("arg"), NULL) : NULL;
        v = cmd ? xmlNewChild(cmd, ns, XML("arg"), NULL) : NULL;
        if (xml_set(a, "value", "-plugin") < 0 || xml_set(v, "value", "%s", value) < 0)
                return -ENOMEM;
        return record_add(record, "extension", value);
}

static xmlNodePtr write_record(xmlNodePtr root) {
        _cleanup_free_ char *controllers = controllers_list(root);
        xmlNodePtr metadata = xml_child(root, "metadata"), record, cell;
        xmlNsPtr ns;

        if (!controllers)
                return NULL;
        if (!metadata) {
                metadata = xmlNewDocNode(root->doc, NULL, XML("metadata"), NULL);
                if (!metadata)
                        return NULL;
                part_insert(root, metadata);
        }
        record = xmlNewChild(metadata, NULL, XML("domain"), NULL);
        ns = record ? xmlNewNs(record, XML(DOMAIN_XML_NS), XML(DOMAIN_XML_PREFIX)) : NULL;
        if (!ns)
                return NULL;
        xmlSetNs(record, ns);
        if (xml_set(record, "version", RECORD_VERSION) < 0 ||
            !xmlSetProp(record, XML("controllers"), XML(controllers)))
                return NULL;
        for (Tier t = 0; t < _TIER_MAX; t++) {
                cell = xmlNewChild(record, ns, XML("cell"), NULL);
                if (xml_set(cell, "id", "%u", (unsigned) t) < 0 ||
                    xml_set(cell, "tier", "%s", tier_to_string(t)) < 0)
                        return NULL;
        }
        return record;
}

int domain_xml_bind(const char *xml, const BindOptions *options, char **ret_xml, Outcome *o) {
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        xmlNodePtr root, record;
        BindOptions b;
        DomainInfo info;
        uint32_t n_vcpus;
        int r;

        r = xml_parse_domain(xml, &doc, &root, o);
        if (r >= 0)
                r = domain_xml_read(xml, &info, o);
        if (r < 0)
                return r;
        if (info.hmvisor_bound)
                return outcome_set(o, OUTCOME_ALREADY_BOUND,
                                   "domain '%s' is bound already; 'hmvctl unbind' first", info.name);
        r = check_domain(root, info.name, o);
        if (r >= 0)
                r = options_complete(options, &b, o);
        if (r < 0)
                return r;
        if (!xml_child(root, "devices") || !xml_text_u32(xml_child(root, "vcpu"), &n_vcpus) ||
            n_vcpus == 0 || n_vcpus > 4096)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "domain '%s' has no <devices> or no <vcpu>; take its XML from "
                                   "'virsh dumpxml --inactive'",
                                   info.name);

        record = write_record(root);
        r = record ? 0 : -ENOMEM;
        if (r >= 0)
                r = write_backing(root, record);
        if (r >= 0)
                r = write_sizes(root, record, &b);
        if (r >= 0)
                r = write_numatune(root, record, &b);
        if (r >= 0)
                r = write_emulatorpin(root, record, &b);
        if (r >= 0)
                r = write_dirty_ring(root, record, &b);
        if (r >= 0)
                r = write_cells(root, record, &b, n_vcpus);
        if (r >= 0)
                r = write_devices(root, record, &b, info.has_agent_channel);
        if (r >= 0 && !info.has_extension)
                r = write_extension(root, record, &b);
        if (r >= 0)
                r = xml_print(doc, root, true, ret_xml);
        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "domain '%s' was not bound: %s", info.name,
                                   strerror(-r));
        return 0;
}
