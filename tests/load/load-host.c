/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See load-host.h. Everything runs in the one loop; what the scripts themselves cost is counted apart.
 */
#include "load-host.h"

#include <fcntl.h>
#include <time.h>
#include <utlist.h>

#include "load-vm.h"

/* As io/virt.c has them, which stands behind libvirtd's limit of five requests of one connection. */
#define CONTROL_WORKERS 2
#define AGENT_WORKERS 3
#define DOUBTFUL_MAX 2
#define DOMAIN_CALLS_MAX 16
#define CALLS_MAX 4096
#define QUEUE_WAIT_USEC (60 * USEC_PER_SEC)
/* A call to the hypervisor, and one to a guest that is well. */
#define CONTROL_USEC (1 * USEC_PER_MSEC)
#define AGENT_USEC (3 * USEC_PER_MSEC)

#define STEP_USEC (100 * USEC_PER_MSEC)        /* of the guests' lives: a tenth of them each time */
#define STEPS 10
#define LIFE_USEC (60 * USEC_PER_SEC) /* a hot set moves, a guest stops or starts, swapping begins */

typedef struct Call Call;
struct Call {
        Call *prev, *next;
        Kind kind;
        Lane lane;
        char uuid[37];
        char *text;
        int fd;
        unsigned timeout_sec;
        bool doubtful;
        VirtCallback callback;
        void *userdata;
        usec_t queued, done;
};

struct Virt {
        sd_event *event;
        sd_event_source *answer, *step;
        VirtEventHandler handler;
        void *userdata;
        Call *waiting[_LANE_MAX], *running[_LANE_MAX];
        unsigned n_running[_LANE_MAX], n_doubtful, n_calls;
        unsigned step_next;
};

static struct {
        Vm *vms;
        size_t n;
        int last_id;
        LoadCounters counters;
        Virt *virt;
} host;

/* The index is in the UUID's end. NULL: it is another one by now. */
static Vm *vm_of(const char *uuid) {
        size_t i = strtoull(uuid + 24, NULL, 16);

        return i < host.n && streq(host.vms[i].uuid, uuid) ? &host.vms[i] : NULL;
}

/* ---- what the peers cost ---- */

static usec_t cpu_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (usec_t) t.tv_sec * USEC_PER_SEC + (usec_t) t.tv_nsec / 1000;
}

static usec_t now_usec(Virt *v) {
        uint64_t now = 0;

        (void) sd_event_now(v->event, CLOCK_MONOTONIC, &now);
        return now;
}

/* ---- calls: they wait for a worker, then for the other side ---- */

static void answer_arm(Virt *v) {
        usec_t next = UINT64_MAX;

        for (Lane l = 0; l < _LANE_MAX; l++)
                for (Call *c = v->running[l]; c; c = c->next)
                        next = MIN(next, c->done);
        (void) sd_event_source_set_time(v->answer, next);
        (void) sd_event_source_set_enabled(v->answer, next == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static usec_t call_usec(const Vm *vm, const Call *c) {
        if (c->lane == LANE_CONTROL)
                return CONTROL_USEC;
        if (vm && vm->agent == AGENT_SILENT)
                return c->timeout_sec * USEC_PER_SEC;
        return vm && vm->agent == AGENT_LATE ? c->timeout_sec * USEC_PER_SEC - AGENT_USEC : AGENT_USEC;
}

/* As a worker takes it: the oldest one whose domain has none under way in the lane. */
static bool call_start(Virt *v, Lane l, usec_t now) {
        usec_t *wait_max;
        Call *c;
        Vm *vm = NULL;

        if (v->n_running[l] == (l == LANE_AGENT ? AGENT_WORKERS : CONTROL_WORKERS))
                return false;
        DL_FOREACH(v->waiting[l], c) {
                vm = vm_of(c->uuid);
                if ((!vm || !vm->busy[l]) && (!c->doubtful || v->n_doubtful < DOUBTFUL_MAX))
                        break;
        }
        if (!c)
                return false;
        DL_DELETE(v->waiting[l], c);
        DL_APPEND(v->running[l], c);
        v->n_running[l]++;
        v->n_doubtful += c->doubtful;
        if (vm)
                vm->busy[l] = true;
        c->done = now + call_usec(vm, c);
        wait_max = c->doubtful ? &host.counters.wait_doubtful_max : &host.counters.wait_max[l];
        *wait_max = MAX(*wait_max, now - c->queued);
        return true;
}

static void calls_start(Virt *v) {
        usec_t now = now_usec(v);

        for (Lane l = 0; l < _LANE_MAX; l++)
                while (call_start(v, l, now))
                        ;
        answer_arm(v);
}

static void call_free(Call *c) {
        if (c->fd >= 0)
                close(c->fd);
        free(c->text);
        free(c);
}

static void call_finish(Virt *v, Call *c) {
        usec_t began = cpu_usec();
        Vm *vm = vm_of(c->uuid);
        VirtResult r = {};
        char *text;

        DL_DELETE(v->running[c->lane], c);
        v->n_running[c->lane]--;
        v->n_doubtful -= c->doubtful;
        v->n_calls--;
        if (vm) {
                vm->n_calls--;
                vm->busy[c->lane] = false;
        }
        if (c->done - c->queued > QUEUE_WAIT_USEC)
                r.outcome = (Outcome){ OUTCOME_TIMED_OUT, "it waited too long" };
        else if (!vm || (vm->id < 0 && c->kind != GET_XML))
                r.outcome = (Outcome){ vm ? OUTCOME_DOMAIN_OFF : OUTCOME_NO_DOMAIN, "it is off, or gone" };
        text = r.outcome.code == OUTCOME_OK ? vm_answer(vm, c->kind, c->text, &c->fd, &r.outcome) : NULL;
        host.counters.timed_out += r.outcome.code == OUTCOME_TIMED_OUT;
        host.counters.calls[c->lane]++;
        r.text = text;
        host.counters.peers_usec += cpu_usec() - began;
        c->callback(v, &r, c->userdata);
        if (vm && c->kind == UPDATE_DEVICE && text == NULL && r.outcome.code == OUTCOME_OK) {
                VirtEvent e = { .type = VIRT_MEMORY_CHANGED, .id = vm->id };

                memcpy(e.uuid, vm->uuid, sizeof(e.uuid));
                v->handler(v, &e, v->userdata);
        }
        began = cpu_usec();
        free(text);
        call_free(c);
        host.counters.peers_usec += cpu_usec() - began;
}

static int on_answer(sd_event_source *s, uint64_t usec, void *userdata) {
        Virt *v = userdata;
        usec_t now = now_usec(v), began;
        Call *c, *tmp;

        for (Lane l = 0; l < _LANE_MAX; l++)
                DL_FOREACH_SAFE(v->running[l], c, tmp)
                        if (c->done <= now)
                                call_finish(v, c);
        began = cpu_usec();
        calls_start(v);
        host.counters.peers_usec += cpu_usec() - began;
        return 0;
}

static int call(Virt *v, const char *uuid, Kind kind, const char *text, int fd, unsigned timeout_sec,
                bool doubtful, VirtCallback callback, void *userdata) {
        Vm *vm = vm_of(uuid);
        Call *c;

        if (v->n_calls == CALLS_MAX || (vm && vm->n_calls == DOMAIN_CALLS_MAX)) {
                host.counters.refused++;
                return -EBUSY;
        }
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        *c = (Call) {
                .kind = kind,
                .lane = kind == AGENT ? LANE_AGENT : LANE_CONTROL,
                .text = strdup(text ?: ""),
                .fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -EBADF,
                .timeout_sec = timeout_sec,
                .doubtful = doubtful,
                .callback = callback,
                .userdata = userdata,
                .queued = now_usec(v),
        };
        snprintf(c->uuid, sizeof(c->uuid), "%s", uuid);
        DL_APPEND(v->waiting[c->lane], c);
        v->n_calls++;
        if (vm)
                vm->n_calls++;
        calls_start(v);
        return 0;
}

int virt_get_xml(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata) {
        return call(v, uuid, GET_XML, NULL, -1, 0, false, cb, userdata);
}

int virt_define_xml(Virt *v, const char *uuid, const char *xml, VirtCallback cb, void *userdata) {
        return call(v, uuid, OTHER, NULL, -1, 0, false, cb, userdata);
}

int virt_update_device(Virt *v, const char *uuid, const char *xml, bool live, bool config, VirtCallback cb,
                       void *userdata) {
        return call(v, uuid, UPDATE_DEVICE, xml, -1, 0, false, cb, userdata);
}

int virt_block_stats(Virt *v, const char *uuid, const char *disk, VirtCallback cb, void *userdata) {
        return call(v, uuid, BLOCK_STATS, disk, -1, 0, false, cb, userdata);
}

int virt_set_metadata(Virt *v, const char *uuid, const char *element, bool live, bool config,
                      VirtCallback cb, void *userdata) {
        return call(v, uuid, OTHER, NULL, -1, 0, false, cb, userdata);
}

int virt_get_metadata(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata) {
        return call(v, uuid, OTHER, NULL, -1, 0, false, cb, userdata);
}

int virt_qmp(Virt *v, const char *uuid, const char *json, int fd, VirtCallback cb, void *userdata) {
        return call(v, uuid, QMP, json, fd, 0, false, cb, userdata);
}

int virt_agent(Virt *v, const char *uuid, const char *json, unsigned timeout_sec, bool answers,
               VirtCallback cb, void *userdata) {
        return call(v, uuid, AGENT, json, -1, timeout_sec, !answers, cb, userdata);
}

int virt_domain_pid(Virt *v, const char *name) {
        return -ESRCH;
}

/* ---- the guests' lives ---- */

static void vm_tell(Virt *v, const Vm *vm, VirtEventType type) {
        VirtEvent e = { .type = type,
                        .id = vm->id,
                        .state = vm->id >= 0 ? VIRT_STATE_RUNNING : VIRT_STATE_OFF,
                        .persistent = true };

        memcpy(e.uuid, vm->uuid, sizeof(e.uuid));
        snprintf(e.name, sizeof(e.name), "%s", vm->name);
        v->handler(v, &e, v->userdata);
}

/* Of those that come and go, half are not defined, and have another name and UUID the next time. */
static bool is_transient(const Vm *vm) {
        return vm->script->comes_and_goes && vm->index % 20 < 10;
}

/* On for three lives, off for one. */
static void vm_come_or_go(Virt *v, Vm *vm) {
        if (vm->id >= 0 && vm->life % 4 == 3) {
                vm_power_off(vm);
                vm_tell(v, vm, is_transient(vm) ? VIRT_UNDEFINED : VIRT_DOMAIN);
                return;
        }
        if (vm->id >= 0)
                return;
        vm->n_calls = 0; /* those that wait are of another one */
        memset(vm->busy, 0, sizeof(vm->busy));
        vm_name(vm, is_transient(vm) ? vm->life : 0);
        vm_power_on(vm, ++host.last_id);
        host.counters.starts++;
        vm_tell(v, vm, VIRT_DOMAIN);
}

static void step_one(Virt *v, Vm *vm, usec_t now) {
        usec_t began = cpu_usec();

        vm_live(vm, now);
        host.counters.peers_usec += cpu_usec() - began;
        if (now < vm->life_next)
                return;
        vm->life_next = now + LIFE_USEC;
        vm->life++;
        vm->hot_in_dram = false;
        if (vm->script->comes_and_goes)
                vm_come_or_go(v, vm);
}

static int on_step(sd_event_source *s, uint64_t usec, void *userdata) {
        Virt *v = userdata;
        usec_t now = now_usec(v);

        for (size_t i = v->step_next++ % STEPS; i < host.n; i += STEPS)
                step_one(v, &host.vms[i], now);
        (void) sd_event_source_set_time(s, now + STEP_USEC);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* ---- the host ---- */

void load_host_make(size_t n_vms) {
        host.vms = calloc(n_vms, sizeof(*host.vms));
        if (!host.vms)
                abort();
        host.n = n_vms;
        for (size_t i = 0; i < n_vms; i++) {
                vm_make(&host.vms[i], i, &host.counters.vms);
                vm_power_on(&host.vms[i], ++host.last_id);
        }
}

void load_host_make_hostile(Agent agent) {
        host.vms[4 % host.n].agent = agent;
}

int virt_new(sd_event *event, const char *uri, VirtEventHandler handler, void *userdata, Virt **ret) {
        Virt *v = calloc(1, sizeof(*v));
        int r;

        if (!v)
                return -ENOMEM;
        v->event = sd_event_ref(event);
        v->handler = handler;
        v->userdata = userdata;
        r = sd_event_add_time(event, &v->answer, CLOCK_MONOTONIC, 0, 1, on_answer, v);
        if (r >= 0)
                r = sd_event_source_set_enabled(v->answer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &v->step, CLOCK_MONOTONIC, 0, 1, on_step, v);
        if (r < 0)
                abort();
        host.virt = *ret = v;
        return 0;
}

/* What waits is told that it ended, as io/virt.c does. */
Virt *virt_free(Virt *v) {
        if (!v)
                return NULL;
        for (Lane l = 0; l < _LANE_MAX; l++)
                for (Call *c; (c = v->running[l] ?: v->waiting[l]);) {
                        VirtResult r = { .outcome = { OUTCOME_TIMED_OUT, "it ends" } };

                        if (v->running[l])
                                DL_DELETE(v->running[l], c);
                        else
                                DL_DELETE(v->waiting[l], c);
                        c->callback(v, &r, c->userdata);
                        call_free(c);
                }
        sd_event_source_disable_unref(v->answer);
        sd_event_source_disable_unref(v->step);
        sd_event_unref(v->event);
        free(v);
        for (size_t i = 0; i < host.n; i++)
                vm_done(&host.vms[i]);
        free(host.vms);
        vm_scripts_done();
        host.vms = NULL;
        host.n = 0;
        return NULL;
}

void load_host_connect(void) {
        Virt *v = host.virt;
        usec_t now = now_usec(v);
        VirtEvent e = { .type = VIRT_CONNECTED, .id = -1 };

        v->handler(v, &e, v->userdata);
        for (size_t i = 0; i < host.n; i++) {
                host.vms[i].life_next = now + LIFE_USEC * i / host.n; /* not all at once */
                vm_tell(v, &host.vms[i], VIRT_DOMAIN);
        }
        e.type = VIRT_LISTED;
        v->handler(v, &e, v->userdata);
}

const LoadCounters *load_host_counters(void) {
        return &host.counters;
}

void load_host_count(size_t *ret_domains, size_t *ret_running) {
        *ret_domains = *ret_running = 0;
        for (size_t i = 0; i < host.n; i++) {
                *ret_running += host.vms[i].id >= 0;
                *ret_domains += host.vms[i].id >= 0 || !is_transient(&host.vms[i]);
        }
}
