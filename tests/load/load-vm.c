/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See load-vm.h.
 */
#include "load-vm.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/units.h"
#include "hotness-table.h"
#include "io/domain-xml.h"

/* Boot memory, the least that bind makes, and plugged memory. */
#define BOOT (128 * MIB)
#define DRAM (64 * MIB)
#define SLOW (128 * MIB)
#define DRAM_MAX (256 * MIB)
#define SLOW_MAX (512 * MIB)
#define PAGES(bytes) ((uint64_t) (bytes) / 4096)
/* The table: both boot memories, then the devices; where the slow one begins. */
#define SLOT_SLOW (PAGES(BOOT) + PAGES(DRAM_MAX))
#define COUNTERS (PAGES(DRAM_MAX) + PAGES(SLOW_MAX))

#define MOVED_PAGES 4096   /* that a guest says it moved: more than it was told to, mostly */

/* Ten domains in a row play these. */
static const Script scripts[] = {
        { "Managed=yes Trading=yes SwapDevice=vdb", AGENT_OURS, 256, .swaps = true },
        { "Managed=yes Trading=yes", AGENT_OURS, 40960 },      /* most of its DRAM */
        { "Managed=yes Trading=yes SwapDevice=vdb", AGENT_OURS, 256, .swaps = true },
        { "Managed=yes Trading=yes", AGENT_OURS, 65536 },      /* more than its DRAM */
        { "Managed=yes", AGENT_OURS, 1024 },
        { "Managed=yes Trading=yes", AGENT_OURS, 65536, .refuses = true },
        { "Managed=no", AGENT_OURS, 1024 },
        { "Managed=yes", AGENT_NONE, 1024 },
        { "Managed=yes Trading=yes", AGENT_OURS, 1024, .comes_and_goes = true },
        { "Managed=yes", AGENT_STOCK, 1024 },
};
#define SILENT_EVERY 100   /* one of so many has an agent that never answers */

/* ---- XML: that of bind, with a mark where a domain's own words go ---- */

#define MARK '\1'
static const char mark_uuid[] = "\1u", mark_name[] = "\1n", mark_agent[] = "\1a";
static const char *const mark_sizes[_TIER_MAX] = { "\1d", "\1s" };

/* The text with `old`, which is there, replaced from `from` on; up to `until` in it or, NULL, the word
 * alone. */
static char *substitute(char *text, const char *from, const char *old, const char *until, const char *new) {
        char *at = strstr(text, from), *end, *result;

        at = at ? strstr(at, old) : NULL;
        end = at && until ? strstr(at, until) : at;
        if (!end ||
            asprintf(&result, "%.*s%s%s", (int) (at - text), text, new, end + strlen(until ?: old)) < 0)
                abort();
        free(text);
        return result;
}

static char *xml_make(const Script *s) {
        static const char uuid[] = "00000000-0000-4000-8000-000000000000";
        const BindOptions bind = { .dram_bytes = BOOT + DRAM,
                                   .slow_bytes = BOOT + SLOW,
                                   .min_dram_bytes = BOOT,
                                   .min_slow_bytes = BOOT,
                                   .max_dram_bytes = DRAM_MAX,
                                   .max_slow_bytes = SLOW_MAX,
                                   .extension_path = "/x.so",
                                   .tiers = { { .nodes = "0", .cpus = "0-1", .distance = 10 },
                                              { .nodes = "1", .distance = 28 } } };
        static const char channel[] = "name=\"org.qemu.guest_agent.0\"";
        _cleanup_free_ char *plain = NULL;
        char *xml = NULL, agent[64];
        Outcome o = {};

        if (asprintf(&plain,
                     "<domain type='kvm'><name>load-vm</name><uuid>%s</uuid><metadata><p:policy "
                     "xmlns:p='" DOMAIN_XML_POLICY_NS
                     "' text='%s'/></metadata><memory unit='MiB'>448</memory>"
                     "<vcpu>2</vcpu><os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>"
                     "<features><acpi/></features><cpu mode='host-passthrough'/><devices>"
                     "<emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>",
                     uuid, s->policy) < 0 ||
            domain_xml_bind(plain, &bind, &xml, &o) < 0) {
                fprintf(stderr, "load-host: %s\n", o.text);
                abort();
        }
        snprintf(agent, sizeof(agent), "%s%s", channel, mark_agent);
        xml = substitute(xml, channel, channel, NULL, agent);
        xml = substitute(xml, "<uuid>", uuid, NULL, mark_uuid);
        xml = substitute(xml, "<name>", "load-vm", NULL, mark_name);
        for (Tier t = 0; t < _TIER_MAX; t++)
                xml = substitute(xml, "<requested", "<requested", "</requested>", mark_sizes[t]);
        return xml;
}

static char *templates[ELEMENTSOF(scripts)];

static const char *template_of(const Script *s) {
        char **t = &templates[s - scripts];

        return *t ?: (*t = xml_make(s));
}

void vm_scripts_done(void) {
        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                free(templates[i]);
                templates[i] = NULL;
        }
}

static char *xml_of(const Vm *vm) {
        const char *p = template_of(vm->script), *mark;
        char *xml = NULL;
        size_t size;
        FILE *f = open_memstream(&xml, &size);

        for (; f && (mark = strchr(p, MARK)); p = mark + 2) {
                Tier t = mark[1] == *(mark_sizes[TIER_DRAM] + 1) ? TIER_DRAM : TIER_SLOW;

                fwrite(p, 1, (size_t) (mark - p), f);
                if (mark[1] == 'u')
                        fputs(vm->uuid, f);
                else if (mark[1] == 'n')
                        fputs(vm->name, f);
                else if (mark[1] == 'a')
                        fputs(vm->id >= 0 && vm->agent != AGENT_NONE ? " state=\"connected\"" : "", f);
                else
                        fprintf(f,
                                "<requested unit='KiB'>%" PRIu64 "</requested><current unit='KiB'>%" PRIu64
                                "</current>",
                                vm->requested[t] / 1024, vm->current[t] / 1024);
        }
        if (!f || fputs(p, f) < 0 || fclose(f) != 0)
                abort();
        return xml;
}

/* ---- answers ---- */


/* QEMU: "off" until it was told to start, which it is with a table. */
static char *answer_qmp(Vm *vm, const char *request, int *fd) {
        char *text;

        if (strstr(request, "getfd") && *fd >= 0) {
                if (vm->table >= 0)
                        close(vm->table);
                vm->table = *fd;
                *fd = -EBADF;
        }
        if (strstr(request, "hotness-start") && vm->table >= 0)
                vm->tracking = true;
        if (strstr(request, "hotness-stop"))
                vm->tracking = false;
        if (strstr(request, "getfd") || strstr(request, "hotness-stop"))
                return strdup("{\"return\":{}}");
        if (asprintf(&text,
                     "{\"return\":{\"version\":\"1\",\"qemu\":\"10.0.2\",\"state\":\"%s\",\"log\":\"ring\","
                     "\"epochs\":%" PRIu64 ",\"generation\":0,\"counters\":%" PRIu64 ",\"ranges\":["
                     "{\"block\":\"ram-node0\",\"gpa\":0,\"pages\":%" PRIu64 ",\"offset\":0},"
                     "{\"block\":\"ram-node1\",\"gpa\":%" PRIu64 ",\"pages\":%" PRIu64 ",\"offset\":%" PRIu64
                     "},"
                     "{\"block\":\"/objects/memua-hmvisor-dram\",\"gpa\":%" PRIu64 ",\"pages\":%" PRIu64
                     ",\"offset\":%" PRIu64 "},"
                     "{\"block\":\"/objects/memua-hmvisor-slow\",\"gpa\":%" PRIu64 ",\"pages\":%" PRIu64
                     ",\"offset\":%" PRIu64 "}]}}",
                     vm->tracking ? "tracking" : "off", vm->epoch, COUNTERS, PAGES(BOOT), (uint64_t) BOOT,
                     PAGES(BOOT), PAGES(BOOT), 4 * GIB, PAGES(DRAM_MAX - BOOT), 2 * PAGES(BOOT), 8 * GIB,
                     PAGES(SLOW_MAX - BOOT), SLOT_SLOW) < 0)
                abort();
        return text;
}

/* A guest that is asked to move pages takes until it is asked again, and has moved them all. */
static char *answer_agent(Vm *vm, const char *request) {
        const char *order = strstr(request, "\"order\":");
        char *text;
        int r;

        if (strstr(request, "prepare"))
                return strdup("{\"return\":{\"version\":\"1\",\"kernel\":\"6.12\","
                              "\"online-policy\":\"online_movable\"}}");
        if (strstr(request, "stats"))
                r = asprintf(&text,
                             "{\"return\":{\"nodes\":[{\"node\":0,\"total\":%" PRIu64 ",\"free\":1048576},"
                             "{\"node\":1,\"total\":%" PRIu64 ",\"free\":8388608}],\"available\":100663296,"
                             "\"swap-free\":%" PRIu64 ",\"swap-in\":%" PRIu64 ",\"psi-some-us\":1}}",
                             BOOT + vm->current[TIER_DRAM], BOOT + vm->current[TIER_SLOW], GIB,
                             vm->swapped / 4096);
        else {
                bool submitted = strstr(request, "submit") != NULL;

                if (submitted)
                        vm->counters->orders += vm->agent == AGENT_OURS;
                else
                        vm->hot_in_dram = true;
                r = asprintf(
                        &text,
                        "{\"return\":{\"order\":%llu,\"state\":\"%s\",\"mover\":\"damon\",\"promoted\":%d}}",
                        order ? strtoull(order + 8, NULL, 10) : 0, submitted ? "running" : "done",
                        submitted ? 0 : MOVED_PAGES);
        }
        if (r < 0)
                abort();
        return text;
}

/* "<size unit='KiB'>N</size>" of the device: N. */
static uint64_t device_number(const char *device, const char *name) {
        const char *p = strstr(device, name);

        return p ? strtoull(strchr(p, '>') + 1, NULL, 10) : 0;
}

Agent agent_from_word(const char *word) {
        static const char *const words[_AGENT_MAX] = {
                [AGENT_OURS] = "ours",     [AGENT_NONE] = "none", [AGENT_STOCK] = "stock",
                [AGENT_SILENT] = "silent", [AGENT_NESTED] = "nested", [AGENT_HUGE] = "huge",
                [AGENT_EAGER] = "eager",   [AGENT_OTHER] = "other", [AGENT_STALE] = "stale",
                [AGENT_LATE] = "late",
        };
        Agent a = 0;

        while (a < _AGENT_MAX && !streq(words[a], word))
                a++;
        return a;
}

/* As much as libvirt passes on: `head`, the piece over and over, `tail`. */
static char *flood(const char *head, const char *piece, const char *tail) {
        const size_t size = 4 * MIB;
        char *text = malloc(size + 1);
        size_t n = strlen(piece), used = strlen(head);

        if (!text)
                abort();
        memcpy(text, head, used);
        while (used + n + strlen(tail) <= size) {
                memcpy(text + used, piece, n);
                used += n;
        }
        strcpy(text + used, tail);
        return text;
}

static char *answer_hostile(Vm *vm, const char *request) {
        bool about_order = strstr(request, "migrate") != NULL;
        char *text, *p;

        vm->counters->hostile++;
        if (vm->agent == AGENT_NESTED)
                return flood("{\"return\":", "[{\"a\":", "");
        if (vm->agent == AGENT_HUGE)
                return flood("{\"return\":{\"version\":\"1\",\"order\":1,\"state\":\"done\",\"nodes\":[0",
                             ",1", "]}}");
        text = answer_agent(vm, request);
        if (vm->agent == AGENT_STALE) {
                char *last = vm->last_answer;

                vm->last_answer = text;
                return last ?: strdup("{\"return\":{}}");
        }
        if (about_order && vm->agent == AGENT_OTHER && (p = strstr(text, "\"order\":")))
                p[8] = p[8] == '9' ? '8' : '9';
        if (about_order && vm->agent == AGENT_EAGER && (p = strstr(text, "\"done\"")))
                memcpy(p, "\"busy\"", 6);
        return text;
}

static void update_device(Vm *vm, const char *request) {
        Tier t = device_number(request, "<node") == 0 ? TIER_DRAM : TIER_SLOW;
        uint64_t requested = device_number(request, "<requested") * KIB;

        vm->counters->resizes++;
        vm->requested[t] = requested;
        if (!vm->script->refuses || requested > vm->current[t])
                vm->current[t] = requested;
}

char *vm_answer(Vm *vm, Kind kind, const char *request, int *fd, Outcome *o) {
        char *text;

        switch (kind) {
        case GET_XML:
                return xml_of(vm);
        case QMP:
                return answer_qmp(vm, request, fd);
        case AGENT:
                if (vm->agent == AGENT_OURS || vm->agent == AGENT_LATE)
                        return answer_agent(vm, request);
                if (vm->agent >= AGENT_NESTED)
                        return answer_hostile(vm, request);
                if (vm->agent == AGENT_SILENT)
                        *o = (Outcome){ OUTCOME_TIMED_OUT, "the guest does not answer" };
                else
                        *o = (Outcome){ OUTCOME_FAILED,
                                        "The command __org.hmvisor_stats has not been found" };
                return NULL;
        case BLOCK_STATS:
                if (asprintf(&text, "%" PRIu64 " 0 %" PRIu64, vm->swapped, vm->swap_ns) < 0)
                        abort();
                return text;
        case UPDATE_DEVICE:
                update_device(vm, request);
                return NULL;
        default:
                return NULL;
        }
}

/* ---- its life ---- */

/* Two samples since the last step, unless the daemon holds the counters or has left. */
static void vm_sample(Vm *vm, usec_t now) {
        static uint8_t hot[PAGES(SLOW_MAX)];
        uint64_t first = vm->hot_in_dram || vm->script->hot_pages > PAGES(BOOT) ? 0 : PAGES(BOOT), renew = 0;
        uint32_t hold = HOTNESS_HOLD;

        if (!vm->tracking ||
            pread(vm->table, &hold, sizeof(hold), offsetof(HotnessTableHeader, hold)) != sizeof(hold) ||
            pread(vm->table, &renew, sizeof(renew), offsetof(HotnessTableHeader, renew)) != sizeof(renew))
                return;
        if (renew != vm->renew || vm->renewed == 0)
                vm->renewed = now;
        vm->renew = renew;
        if (now - vm->renewed > 30 * USEC_PER_SEC) {
                vm->counters->lapses++;
                vm->tracking = false;
                vm->renewed = 0;
                return;
        }
        if (hold)
                return;
        vm->epoch += 2;
        memset(hot, 2, vm->script->hot_pages);
        (void) !pwrite(vm->table, hot, vm->script->hot_pages, (off_t) (HOTNESS_TABLE_HEADER_SIZE + first));
        (void) !pwrite(vm->table, &vm->epoch, sizeof(vm->epoch), offsetof(HotnessTableHeader, epoch));
}

void vm_live(Vm *vm, usec_t now) {
        if (vm->script->swaps && vm->life % 4 == 1) {
                vm->swapped += 40 * MIB;
                vm->swap_ns += UINT64_C(300000000);
        }
        vm_sample(vm, now);
}

void vm_name(Vm *vm, unsigned life) {
        snprintf(vm->uuid, sizeof(vm->uuid), "%08x-0000-4000-8000-%012zx", life, vm->index);
        snprintf(vm->name, sizeof(vm->name), "vm%04zu-%u", vm->index % 10000, life);
}

void vm_power_on(Vm *vm, int id) {
        vm->id = id;
        vm->requested[TIER_DRAM] = vm->current[TIER_DRAM] = DRAM;
        vm->requested[TIER_SLOW] = vm->current[TIER_SLOW] = SLOW;
}

void vm_power_off(Vm *vm) {
        vm->id = -1;
        vm->tracking = vm->hot_in_dram = false;
        vm->epoch = vm->renewed = 0;
        if (vm->table >= 0)
                close(vm->table);
        vm->table = -EBADF;
}

void vm_done(Vm *vm) {
        vm_power_off(vm);
        free(vm->last_answer);
}

void vm_make(Vm *vm, size_t index, VmCounters *counters) {
        *vm = (Vm) {
                .index = index,
                .script = &scripts[index % ELEMENTSOF(scripts)],
                .counters = counters,
                .table = -EBADF,
                .id = -1,
        };
        vm->agent = vm->script->agent == AGENT_STOCK && index % SILENT_EVERY < ELEMENTSOF(scripts)
                            ? AGENT_SILENT
                            : vm->script->agent;
        vm_name(vm, 0);
}
