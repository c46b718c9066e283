/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See fake-virt.h. Answers come only from fake_answer(), as libvirt's come only from the loop.
 */
#include "fake-virt.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CALLS_MAX 64

typedef enum Kind {
        GET_XML,
        DEFINE,
        UPDATE_DEVICE,
        BLOCK_STATS,
        SET_METADATA,
        GET_METADATA,
        QMP,
        AGENT
} Kind;

typedef struct FakeCall {
        Kind kind;
        FakeVm *vm;
        char *text;
        int fd;
        VirtCallback callback;
        void *userdata;
} FakeCall;

struct Virt {
        VirtEventHandler handler;
        void *userdata;
        FakeCall calls[CALLS_MAX];
        size_t n;
};

Fake fake;
static Virt *the_virt;

static const struct {
        const char *uuid, *name;
} names[FAKE_VMS] = { { FAKE_UUID, "vm" }, { FAKE_UUID_1, "vm1" } };

int virt_new(sd_event *event, const char *uri, VirtEventHandler handler, void *userdata, Virt **ret) {
        the_virt = *ret = calloc(1, sizeof(Virt));
        if (!the_virt)
                return -ENOMEM;
        the_virt->handler = handler;
        the_virt->userdata = userdata;
        return 0;
}

static void answer(const FakeCall *c, OutcomeCode code, const char *text) {
        VirtResult r = { .outcome.code = code, .text = code == OUTCOME_OK ? text : NULL };

        if (code != OUTCOME_OK)
                snprintf(r.outcome.text, sizeof(r.outcome.text), "%s", text);
        c->callback(the_virt, &r, c->userdata);
}

Virt *virt_free(Virt *v) {
        for (; v && v->n > 0; free(v->calls[v->n].text)) {
                FakeCall c = v->calls[--v->n];

                answer(&c, OUTCOME_TIMED_OUT, "ended");
        }
        free(v);
        the_virt = NULL;
        return NULL;
}

static FakeVm *vm_of(const char *uuid) {
        for (unsigned i = 0; i < FAKE_VMS; i++)
                if (streq(uuid, names[i].uuid))
                        return &fake.vms[i];
        abort();
}

static int call(Virt *v, const char *uuid, Kind kind, const char *text, int fd, VirtCallback callback,
                void *userdata) {
        if (v->n == CALLS_MAX)
                return -EBUSY;
        v->calls[v->n++] = (FakeCall) {
                kind, vm_of(uuid), strdup(text ?: ""), fd >= 0 ? dup(fd) : -EBADF, callback, userdata,
        };
        return 0;
}

int virt_get_xml(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata) {
        return call(v, uuid, GET_XML, NULL, -1, cb, userdata);
}

int virt_define_xml(Virt *v, const char *uuid, const char *xml, VirtCallback cb, void *userdata) {
        return call(v, uuid, DEFINE, xml, -1, cb, userdata);
}

int virt_update_device(Virt *v, const char *uuid, const char *xml, bool live, bool config, VirtCallback cb,
                       void *userdata) {
        return call(v, uuid, UPDATE_DEVICE, xml, -1, cb, userdata);
}

int virt_block_stats(Virt *v, const char *uuid, const char *disk, VirtCallback cb, void *userdata) {
        return call(v, uuid, BLOCK_STATS, disk, -1, cb, userdata);
}

int virt_set_metadata(Virt *v, const char *uuid, const char *element, bool live, bool config,
                      VirtCallback cb, void *userdata) {
        return call(v, uuid, SET_METADATA, element, -1, cb, userdata);
}

int virt_get_metadata(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata) {
        return call(v, uuid, GET_METADATA, NULL, -1, cb, userdata);
}

int virt_qmp(Virt *v, const char *uuid, const char *json, int fd, VirtCallback cb, void *userdata) {
        return call(v, uuid, QMP, json, fd, cb, userdata);
}

int virt_agent(Virt *v, const char *uuid, const char *json, unsigned timeout_sec, bool answers,
               VirtCallback cb, void *userdata) {
        return call(v, uuid, AGENT, json, -1, cb, userdata);
}

int virt_domain_pid(Virt *v, const char *name) {
        return -ESRCH;
}

static void table_map(int fd) {
        struct stat st;

        if (fake.table)
                munmap(fake.table, fake.table_size);
        if (fstat(fd, &st) < 0)
                abort();
        fake.table_size = (size_t) st.st_size;
        fake.table = mmap(NULL, fake.table_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fake.table == MAP_FAILED)
                abort();
}

/* 256 MiB of DRAM from 0, 768 MiB of slow memory from 4 GiB. */
static void answer_qmp(const FakeCall *c) {
        char text[1024];

        fake.n_qmp++;
        if (c->fd >= 0)
                table_map(c->fd);
        if (!fake.extension)
                return answer(c, OUTCOME_OK,
                              "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no such command\"}}");
        if (strstr(c->text, "getfd"))
                return answer(c, OUTCOME_OK, "{\"return\":{}}");
        if (strstr(c->text, "hotness-start"))
                fake.tracking = true;
        if (strstr(c->text, "hotness-stop")) {
                fake.n_stops++;
                fake.tracking = false;
                return answer(c, OUTCOME_OK, "{\"return\":{}}");
        }
        snprintf(text, sizeof(text),
                 "{\"return\":{\"state\":\"%s\",\"log\":\"ring\",\"epochs\":0,\"generation\":0,"
                 "\"counters\":262144,\"ranges\":[{\"block\":\"ram-node0\",\"gpa\":0,\"pages\":65536,"
                 "\"offset\":0},"
                 "{\"block\":\"ram-node1\",\"gpa\":4294967296,\"pages\":196608,\"offset\":65536}]}}",
                 fake.tracking ? "tracking" : "off");
        answer(c, OUTCOME_OK, text);
}

static void answer_agent(const FakeCall *c) {
        const char *order = strstr(c->text, "\"order\":");
        char text[512];

        if (fake.agent == FAKE_AGENT_SILENT)
                return answer(c, OUTCOME_TIMED_OUT, "no answer in time");
        if (fake.agent == FAKE_AGENT_STOCK)
                return answer(c, OUTCOME_FAILED, "The command __org.hmvisor_prepare has not been found");
        if (fake.agent == FAKE_AGENT_GARBAGE)
                return answer(c, OUTCOME_OK, "{\"return\":[{\"\\u0000\":-1e999}]}");
        if (strstr(c->text, "prepare")) {
                fake.guest_managed = strstr(c->text, "true") != NULL;
                fake.n_releases += !fake.guest_managed;
                return answer(c, OUTCOME_OK, "{\"return\":{\"version\":\"1\",\"kernel\":\"6.12\","
                                             "\"kernel-node\":1,\"online-policy\":\"online_movable\"}}");
        }
        if (strstr(c->text, "stats") && fake.said_pages > 0) {
                snprintf(text, sizeof(text),
                         "{\"return\":{\"nodes\":[],\"swap-in\":%llu,\"psi-some-us\":0}}",
                         (unsigned long long) fake.said_pages);
                return answer(c, OUTCOME_OK, text);
        }
        if (strstr(c->text, "stats"))
                return answer(c, OUTCOME_OK,
                              "{\"return\":{\"nodes\":[{\"node\":1,\"total\":9,\"free\":5}]}}");
        if (strstr(c->text, "submit")) {
                fake.n_submits++;
                snprintf(fake.submitted, sizeof(fake.submitted), "%s", c->text);
        }
        snprintf(text, sizeof(text),
                 "{\"return\":{\"order\":%llu,\"state\":\"done\",\"mover\":\"damon\",\"promoted\":5}}",
                 order ? strtoull(order + 8, NULL, 10) : 0);
        answer(c, OUTCOME_OK, text);
}

/* "<size unit='KiB'>N</size>" of the device: N. */
static uint64_t device_number(const char *device, const char *name) {
        char tag[32];
        const char *p;

        snprintf(tag, sizeof(tag), "<%s", name);
        p = strstr(device, tag);
        return p ? strtoull(strchr(p, '>') + 1, NULL, 10) : 0;
}

/* What a device was asked for, and has plugged, into the XML. */
void fake_plug(unsigned vm, unsigned cell, uint64_t requested, uint64_t current) {
        FakeVm *v = &fake.vms[vm];
        char alias[32], text[128], *device = NULL, *before = v->xml, *behind;

        snprintf(alias, sizeof(alias), "ua-hmvisor-%s", cell == 0 ? "dram" : "slow");
        for (char *p = v->xml; (p = strstr(p, "<requested")) && p < strstr(v->xml, alias); p++)
                device = p;
        if (!device || !(behind = strdup(strstr(device, "</target>"))))
                abort();
        v->requested[cell] = requested;
        v->current[cell] = current;
        *device = '\0';
        snprintf(text, sizeof(text),
                 "<requested unit='KiB'>%llu</requested><current unit='KiB'>%llu</current>",
                 (unsigned long long) requested / 1024, (unsigned long long) current / 1024);
        if (asprintf(&v->xml, "%s%s%s", before, text, behind) < 0)
                abort();
        free(before);
        free(behind);
}

/* The guest plugs and unplugs at once, but for one that refuses to give memory back. */
static void answer_update(const FakeCall *c) {
        unsigned vm = (unsigned) (c->vm - fake.vms), cell = device_number(c->text, "node") != 0;
        uint64_t requested = device_number(c->text, "requested") * 1024, current = requested;

        if (fake.update_error)
                return answer(c, fake.update_silent ? OUTCOME_TIMED_OUT : OUTCOME_FAILED, fake.update_error);
        fake.n_updates++;
        fake.grew_first = fake.grew_first || (requested > c->vm->requested[cell] && fake.n_updates == 1);
        if (fake.on_update)
                current = fake.on_update(vm, cell, requested);
        else if (fake.guest_keeps)
                current = MAX(requested, c->vm->current[cell]);
        fake_plug(vm, cell, requested, current);
        if (fake.on_updated)
                fake.on_updated();
        answer(c, OUTCOME_OK, NULL);
}

static void answer_one(const FakeCall *c) {
        char text[64];

        if (fake.libvirt_gone)
                return answer(c, OUTCOME_NO_LIBVIRT, "libvirt cannot be reached");
        switch (c->kind) {
        case GET_XML:
                answer(c, OUTCOME_OK, c->vm->xml);
                break;
        case DEFINE:
                free(c->vm->defined);
                c->vm->defined = strdup(c->text);
                answer(c, OUTCOME_OK, NULL);
                break;
        case UPDATE_DEVICE:
                answer_update(c);
                break;
        case BLOCK_STATS:
                snprintf(text, sizeof(text), fake.swap_ns ? "%llu 0 %llu" : "%llu 0",
                         (unsigned long long) fake.swapped, (unsigned long long) fake.swap_ns);
                answer(c, streq(c->text, "vdb") ? OUTCOME_OK : OUTCOME_FAILED,
                       streq(c->text, "vdb") ? text : "no such disk");
                break;
        case SET_METADATA:
                free(c->vm->policy);
                c->vm->policy = strdup(c->text);
                answer(c, OUTCOME_OK, NULL);
                break;
        case GET_METADATA:
                answer(c, OUTCOME_OK, c->vm->policy ?: "");
                break;
        case QMP:
                answer_qmp(c);
                break;
        case AGENT:
                answer_agent(c);
                break;
        }
}

void fake_answer(void) {
        while (the_virt->n > 0) {
                FakeCall c = the_virt->calls[0];

                memmove(the_virt->calls, the_virt->calls + 1, --the_virt->n * sizeof(c));
                answer_one(&c);
                free(c.text);
                if (c.fd >= 0)
                        close(c.fd);
        }
}

void fake_event_of(unsigned vm, VirtEventType type, VirtState state, int id, bool agent_connected) {
        VirtEvent e = { .type = type,
                        .id = id,
                        .state = state,
                        .persistent = true,
                        .agent_connected = agent_connected };

        snprintf(e.uuid, sizeof(e.uuid), "%s", names[vm].uuid);
        snprintf(e.name, sizeof(e.name), "%s", names[vm].name);
        the_virt->handler(the_virt, &e, the_virt->userdata);
}

void fake_event(VirtEventType type, VirtState state, int id, bool agent_connected) {
        fake_event_of(0, type, state, id, agent_connected);
}

void fake_reset(void) {
        for (unsigned i = 0; i < FAKE_VMS; i++) {
                free(fake.vms[i].xml);
                free(fake.vms[i].policy);
                free(fake.vms[i].defined);
        }
        if (fake.table)
                munmap(fake.table, fake.table_size);
        fake = (Fake){};
}
