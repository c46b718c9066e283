/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Finds the host's memory nodes and which tier each is. Sources in order: configuration, hwloc, the kernel's
 * memory tiers, and distance as a suggestion. Reads sysfs below a root; never writes, keeps nothing.
 */
#include "io/host.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>

#include "io/host-internal.h"

#define NODE_DIR "/sys/devices/system/node"
#define TIERING_DIR "/sys/devices/virtual/memory_tiering"
#define DISTANCE_MAX 255

typedef struct NodeSet {
        bool has[HOST_NODES_MAX];
} NodeSet;

/* ---- small files ---- */

static int file_read(char *buf, size_t size, const char *format, ...) _printf_(3, 4);
static int file_read(char *buf, size_t size, const char *format, ...) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];
        ssize_t n;
        va_list ap;

        va_start(ap, format);
        if (vsnprintf(path, sizeof(path), format, ap) >= (int) sizeof(path)) {
                va_end(ap);
                return -ENAMETOOLONG;
        }
        va_end(ap);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = read(fd, buf, size - 1);
        if (n < 0)
                return -errno;
        while (n > 0 && isspace((unsigned char) buf[n - 1]))
                n--;
        buf[n] = '\0';
        return 0;
}

static uint32_t file_read_u32(const char *root, uint32_t node, const char *file) {
        char buf[32];
        unsigned long v;

        if (file_read(buf, sizeof(buf), "%s" NODE_DIR "/node%" PRIu32 "/%s", root, node, file) < 0)
                return 0;
        v = strtoul(buf, NULL, 10);
        return v > UINT32_MAX ? 0 : (uint32_t) v;
}

/* Calls member() for each number of "0,2-3". Returns -EINVAL when it is no list, or what member() returned <
 * 0. */
static int list_parse(const char *text, int (*member)(unsigned long n, void *userdata), void *userdata) {
        const char *p = text;

        while (*p) {
                unsigned long from, to;
                char *end;

                if (!isdigit((unsigned char) *p))
                        return -EINVAL;
                from = to = strtoul(p, &end, 10);
                if (*end == '-') {
                        if (!isdigit((unsigned char) end[1]))
                                return -EINVAL;
                        to = strtoul(end + 1, &end, 10);
                }
                if (to < from || to - from > 65536 || (*end && *end != ','))
                        return -EINVAL;
                for (unsigned long n = from; n <= to; n++) {
                        int r = member(n, userdata);

                        if (r < 0)
                                return r;
                }
                if (*end == ',' && !end[1])
                        return -EINVAL;
                p = end + (*end == ',');
        }
        return 0;
}

static int add_node(unsigned long n, void *userdata) {
        NodeSet *set = userdata;

        if (n >= HOST_NODES_MAX)
                return -ERANGE;
        set->has[n] = true;
        return 0;
}

static int count_member(unsigned long n, void *userdata) {
        ++*(uint32_t *) userdata;
        return 0;
}

/* ---- nodes ---- */

static uint64_t meminfo_bytes(const char *meminfo, const char *key) {
        const char *p = strstr(meminfo, key);

        return p ? strtoull(p + strlen(key), NULL, 10) * 1024 : 0;
}

/* Fills all but tier, source and distance. */
static int node_read(const char *root, uint32_t node, HostNode *ret) {
        HostNode h = { .node = node };
        char buf[4096];
        int r;

        r = file_read(buf, sizeof(buf), "%s" NODE_DIR "/node%" PRIu32 "/meminfo", root, node);
        if (r < 0)
                return r;
        h.total_bytes = meminfo_bytes(buf, "MemTotal:");
        h.free_bytes = meminfo_bytes(buf, "MemFree:");
        r = file_read(buf, sizeof(buf), "%s" NODE_DIR "/node%" PRIu32 "/cpulist", root, node);
        if (r < 0)
                return r;
        if (list_parse(buf, count_member, &h.n_cpus) < 0)
                return -EINVAL;
        /* A list that does not fit is cut at a comma: it is used to pin threads, and any of the CPUs will
         * do. */
        if (strlen(buf) >= sizeof(h.cpus)) {
                buf[sizeof(h.cpus) - 1] = '\0';
                if (strrchr(buf, ','))
                        *strrchr(buf, ',') = '\0';
        }
        snprintf(h.cpus, sizeof(h.cpus), "%.*s", (int) sizeof(h.cpus) - 1, buf);
        /* access1 is seen from CPUs only, access0 from any initiator; each is of the best one. */
        h.latency_ns = file_read_u32(root, node, "access1/initiators/read_latency") ?:
                file_read_u32(root, node, "access0/initiators/read_latency");
        h.bandwidth_mibs = file_read_u32(root, node, "access1/initiators/read_bandwidth") ?:
                file_read_u32(root, node, "access0/initiators/read_bandwidth");
        *ret = h;
        return 0;
}

/* The nodes that have memory, ascending; `online` gets those of which the distance tables have a column. */
static int nodes_read(const char *root, HostTiers *t, NodeSet *online, Outcome *o) {
        char buf[4096];
        int r;

        r = file_read(buf, sizeof(buf), "%s" NODE_DIR "/online", root);
        if (r >= 0)
                r = list_parse(buf, add_node, online);
        if (r < 0) {
                (void) outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "the host's NUMA nodes cannot be read from %s" NODE_DIR "/online (%s); "
                                   "a kernel with NUMA and at most %d nodes is needed",
                                   root, strerror(-r), HOST_NODES_MAX);
                return r;
        }
        for (uint32_t n = 0; n < HOST_NODES_MAX; n++) {
                HostNode *h = t->nodes + t->n_nodes;

                if (!online->has[n])
                        continue;
                r = node_read(root, n, h);
                if (r < 0) {
                        (void) outcome_set(o, OUTCOME_FAILED,
                                           "host node %" PRIu32 " cannot be read from %s" NODE_DIR " (%s)",
                                           n, root, strerror(-r));
                        return r;
                }
                if (h->total_bytes > 0)
                        t->n_nodes++;
        }
        return 0;
}

/* The distance from node `from` to node `to`; DISTANCE_MAX when not known. */
static uint32_t distance_read(const char *root, const NodeSet *online, uint32_t from, uint32_t to) {
        char buf[1024], *p = buf;

        if (file_read(buf, sizeof(buf), "%s" NODE_DIR "/node%" PRIu32 "/distance", root, from) < 0)
                return DISTANCE_MAX;
        for (uint32_t n = 0; n <= to; n++) {
                unsigned long d;

                if (!online->has[n])
                        continue;
                d = strtoul(p, &p, 10);
                if (n == to)
                        return d >= 10 && d < DISTANCE_MAX ? (uint32_t) d : DISTANCE_MAX;
        }
        return DISTANCE_MAX;
}

/* ---- tiers ---- */

static int conf_nodes(const HostTiers *t, const char *key, const char *list, NodeSet *ret, Outcome *o) {
        char have[256];
        size_t i;

        if (list && (list_parse(list, add_node, ret) < 0 || !*list)) {
                outcome_set(o, OUTCOME_BAD_ARGUMENT,
                            "%s='%s' is no list of nodes; write for example %s=0,2-3", key, list, key);
                return -EINVAL;
        }
        for (uint32_t n = 0; n < HOST_NODES_MAX; n++) {
                if (!ret->has[n])
                        continue;
                for (i = 0; i < t->n_nodes && t->nodes[i].node != n; i++)
                        ;
                if (i < t->n_nodes)
                        continue;
                host_tiers_nodelist(t, TIER_DRAM, true, have, sizeof(have));   /* all are still DRAM here */
                (void) outcome_set(o, OUTCOME_NO_TIER,
                                   "%s names node %" PRIu32
                                   ", which the host does not have with memory online; it "
                                   "has %s. See 'daxctl reconfigure-device' for memory that is not online",
                                   key, n, have);
                return -ENODEV;
        }
        return 0;
}

/* The kernel's memory tiers: a larger number is slower. Those of nodes with CPUs are DRAM; hints only for
 * nodes that are in a tier behind all of them. A node without a figure is put into DRAM's tier by the
 * kernel, so being there says nothing. */
static void kernel_hints(const char *root, const HostTiers *t, NodeHint *hints) {
        long tier_of[HOST_NODES_MAX], dram = -1;
        char path[PATH_MAX], buf[1024];
        struct dirent *d;
        DIR *dir;

        memset(tier_of, -1, sizeof(tier_of));
        snprintf(path, sizeof(path), "%s" TIERING_DIR, root);
        dir = opendir(path);
        if (!dir)
                return;
        while ((d = readdir(dir))) {
                NodeSet set = {};
                long number;

                if (sscanf(d->d_name, "memory_tier%ld", &number) != 1 ||
                    file_read(buf, sizeof(buf), "%s" TIERING_DIR "/%s/nodelist", root, d->d_name) < 0 ||
                    list_parse(buf, add_node, &set) < 0)
                        continue;
                for (uint32_t n = 0; n < HOST_NODES_MAX; n++)
                        if (set.has[n])
                                tier_of[n] = number;
        }
        closedir(dir);
        for (size_t i = 0; i < t->n_nodes; i++)
                if (t->nodes[i].n_cpus > 0)
                        dram = MAX(dram, tier_of[t->nodes[i].node]);
        for (size_t i = 0; i < t->n_nodes; i++) {
                long tier = tier_of[t->nodes[i].node];

                if (dram >= 0 && tier > dram)
                        hints[t->nodes[i].node] = (NodeHint){ .known = true, .tier = TIER_SLOW };
                else if (tier >= 0 && tier < dram)   /* faster than DRAM */
                        hints[t->nodes[i].node] = (NodeHint){ .known = true, .tier = TIER_DRAM };
        }
}

static void node_classify(HostNode *h, const NodeSet *dram, const NodeSet *slow, const NodeHint *hwloc,
                          const NodeHint *kernel) {
        h->latency_ns = h->latency_ns ?: hwloc->latency_ns;
        h->bandwidth_mibs = h->bandwidth_mibs ?: hwloc->bandwidth_mibs;
        if (dram->has[h->node] || slow->has[h->node]) {
                h->source = TIER_FROM_CONF;
                h->tier = slow->has[h->node] ? TIER_SLOW : TIER_DRAM;
        } else if (hwloc->known) {
                h->source = TIER_FROM_HWLOC;
                h->tier = hwloc->tier;
        } else if (kernel->known || h->n_cpus > 0) {
                h->source = TIER_FROM_KERNEL;
                h->tier = kernel->known ? kernel->tier : TIER_DRAM;
        } else {
                h->source = TIER_FROM_DISTANCE;
                h->tier = TIER_SLOW;
        }
}

int host_tiers_discover(const char *root, const char *dram_nodes, const char *slow_nodes, HostTiers *ret,
                        Outcome *o) {
        NodeHint hwloc[HOST_NODES_MAX] = {}, kernel[HOST_NODES_MAX] = {};
        NodeSet online = {}, dram = {}, slow = {};
        HostTiers t = {};
        size_t n = 0;
        int r;

        if (streq(root, "/")) {
                root = "";
                host_hwloc_hints(hwloc);
        }
        r = nodes_read(root, &t, &online, o);
        if (r >= 0)
                r = conf_nodes(&t, "DramNodes", dram_nodes, &dram, o);
        if (r >= 0)
                r = conf_nodes(&t, "SlowNodes", slow_nodes, &slow, o);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < HOST_NODES_MAX; i++)
                if (dram.has[i] && slow.has[i]) {
                        (void) outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                           "node %" PRIu32
                                           " is in both DramNodes and SlowNodes; leave it in "
                                           "one",
                                           i);
                        return -EINVAL;
                }
        kernel_hints(root, &t, kernel);
        for (size_t i = 0; i < t.n_nodes; i++) {
                uint32_t node = t.nodes[i].node;

                /* Where both lists are given, a node in neither is not ours to use. */
                if (dram_nodes && slow_nodes && !dram.has[node] && !slow.has[node])
                        continue;
                t.nodes[n] = t.nodes[i];
                node_classify(t.nodes + n, &dram, &slow, hwloc + node, kernel + node);
                n++;
        }
        t.n_nodes = n;
        for (size_t i = 0; i < t.n_nodes; i++) {
                HostNode *h = t.nodes + i;

                h->distance_from_dram = DISTANCE_MAX;
                for (size_t j = 0; j < t.n_nodes; j++)
                        if (t.nodes[j].tier == TIER_DRAM)
                                h->distance_from_dram =
                                        MIN(h->distance_from_dram,
                                            distance_read(root, &online, t.nodes[j].node, h->node));
        }
        *ret = t;
        return 0;
}

void host_tiers_nodelist(const HostTiers *t, Tier tier, bool suggested, char *buf, size_t size) {
        size_t used = 0;

        *buf = '\0';
        for (size_t i = 0; i < t->n_nodes;) {
                const HostNode *h = t->nodes + i;
                uint32_t last = h->node;
                int n;

                i++;
                if (h->tier != tier || (h->source == TIER_FROM_DISTANCE && !suggested))
                        continue;
                while (i < t->n_nodes && t->nodes[i].node == last + 1 && t->nodes[i].tier == tier &&
                       (t->nodes[i].source != TIER_FROM_DISTANCE || suggested))
                        last = t->nodes[i++].node;
                n = snprintf(buf + used, size - used,
                             last > h->node ? "%s%" PRIu32 "-%" PRIu32 : "%s%" PRIu32, used > 0 ? "," : "",
                             h->node, last);
                if (n < 0 || (size_t) n >= size - used) {
                        buf[used] = '\0';
                        return;
                }
                used += (size_t) n;
        }
}

const char *tier_source_to_string(TierSource s) {
        static const char *const names[_TIER_SOURCE_MAX] = {
                [TIER_FROM_CONF] = "configuration",
                [TIER_FROM_HWLOC] = "hwloc",
                [TIER_FROM_KERNEL] = "kernel",
                [TIER_FROM_DISTANCE] = "distance",
        };

        return s < _TIER_SOURCE_MAX ? names[s] : "unknown";
}
