/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The connection to libvirt: one thread opens it, lists the domains, and opens it again with back-off when
 * it is lost; another runs libvirt's own poll loop. libvirt's event callbacks come in the latter; they only
 * queue, since a call from there would hold up all other events.
 */
#include "io/virt-internal.h"

#include <libvirt/virterror.h>

#include "base/xmlns.h"

#define BACKOFF_MIN_USEC USEC_PER_SEC
#define BACKOFF_MAX_USEC (30 * USEC_PER_SEC)
/* A libvirtd that is stopped or gone without closing its socket is noticed after interval * (count + 1). */
#define KEEPALIVE_INTERVAL_SEC 5
#define KEEPALIVE_COUNT 3

/* The default is to print to standard error; what matters comes back as an outcome. */
static void on_libvirt_error(void *userdata, virErrorPtr error) {
}

static pthread_once_t prepare_once = PTHREAD_ONCE_INIT;
static int prepare_result;

static void prepare(void) {
        virSetErrorFunc(NULL, on_libvirt_error);
        prepare_result = virEventRegisterDefaultImpl() == 0 && virInitialize() == 0 ? 0 : -EIO;
}

int virt_loop_prepare(void) {
        pthread_once(&prepare_once, prepare);
        return prepare_result;
}

/* ---- libvirt's loop ---- */

static void on_quit_timer(int timer, void *userdata) {
        /* nothing to do: it only ends the poll() so that the loop sees stop_loop */
        virEventUpdateTimeout(timer, -1);
}

void *virt_loop_thread(void *userdata) {
        Virt *v = userdata;
        int timer = virEventAddTimeout(-1, on_quit_timer, NULL, NULL);
        bool stop = false;

        pthread_mutex_lock(&v->lock);
        v->quit_timer = timer;
        stop = v->stop_loop;
        pthread_mutex_unlock(&v->lock);
        while (timer >= 0 && !stop) {
                if (virEventRunDefaultImpl() < 0)
                        usleep(100 * 1000);
                pthread_mutex_lock(&v->lock);
                stop = v->stop_loop;
                pthread_mutex_unlock(&v->lock);
        }
        if (timer >= 0) {
                virEventRemoveTimeout(timer);
                /* one more pass frees what was removed: timers, and handles of a closed connection */
                timer = virEventAddTimeout(0, on_quit_timer, NULL, NULL);
                (void) virEventRunDefaultImpl();
                virEventRemoveTimeout(timer);
        }
        virt_thread_ends(v);
        return NULL;
}

void virt_loop_quit(Virt *v) {
        int timer;

        pthread_mutex_lock(&v->lock);
        v->stop_loop = true;
        timer = v->quit_timer;
        pthread_mutex_unlock(&v->lock);
        if (timer >= 0)
                virEventUpdateTimeout(timer, 0);
}

/* ---- events ---- */

static bool domain_uuid(virDomainPtr domain, char uuid[static VIR_UUID_STRING_BUFLEN]) {
        return virDomainGetUUIDString(domain, uuid) == 0;
}

bool virt_event_from_domain(virDomainPtr domain, VirtEvent *ret) {
        VirtEvent e = { .type = VIRT_DOMAIN };
        const char *name = virDomainGetName(domain);
        unsigned id;
        int state, persistent;

        if (!name || !domain_uuid(domain, e.uuid) || virDomainGetState(domain, &state, NULL, 0) < 0)
                return false;
        persistent = virDomainIsPersistent(domain);
        if (persistent < 0)
                return false;
        snprintf(e.name, sizeof(e.name), "%s", name);
        e.persistent = persistent;
        id = virDomainGetID(domain);
        switch (state) {
        case VIR_DOMAIN_SHUTOFF:
                e.state = VIRT_STATE_OFF;
                break;
        case VIR_DOMAIN_CRASHED:
                e.state = id == UINT32_MAX ? VIRT_STATE_OFF : VIRT_STATE_PAUSED;
                break;
        case VIR_DOMAIN_PAUSED:
        case VIR_DOMAIN_PMSUSPENDED:
                e.state = VIRT_STATE_PAUSED;
                break;
        default:
                e.state = VIRT_STATE_RUNNING;
        }
        e.id = e.state == VIRT_STATE_OFF || id > INT32_MAX ? -1 : (int) id;
        *ret = e;
        return true;
}

/* For events that carry no more than the domain. */
static void push_simple(Virt *v, virDomainPtr domain, VirtEventType type, bool agent_connected,
                        const char *detail) {
        VirtEvent e = { .type = type, .agent_connected = agent_connected, .state = VIRT_STATE_RUNNING };
        unsigned id = virDomainGetID(domain);

        if (!domain_uuid(domain, e.uuid))
                return;
        e.id = id > INT32_MAX ? -1 : (int) id;
        snprintf(e.name, sizeof(e.name), "%s", virDomainGetName(domain) ?: "");
        snprintf(e.detail, sizeof(e.detail), "%s", detail);
        virt_push_event(v, &e);
}

static const char *lifecycle_detail(int event, int detail) {
        switch (event) {
        case VIR_DOMAIN_EVENT_DEFINED:
                return detail == VIR_DOMAIN_EVENT_DEFINED_ADDED ? "defined" : "redefined";
        case VIR_DOMAIN_EVENT_UNDEFINED:
                return "undefined";
        case VIR_DOMAIN_EVENT_STARTED:
                return detail == VIR_DOMAIN_EVENT_STARTED_MIGRATED ? "arrived by migration" :
                        detail == VIR_DOMAIN_EVENT_STARTED_RESTORED ? "restored" : "booted";
        case VIR_DOMAIN_EVENT_SUSPENDED:
                return detail == VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED ? "paused by migration" :
                        detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR ? "paused by an I/O error" : "paused";
        case VIR_DOMAIN_EVENT_RESUMED:
                return detail == VIR_DOMAIN_EVENT_RESUMED_MIGRATED ? "resumed after migration" : "resumed";
        case VIR_DOMAIN_EVENT_STOPPED:
                return detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED ? "left by migration" :
                        detail == VIR_DOMAIN_EVENT_STOPPED_SAVED ? "saved" :
                        detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED ? "crashed" :
                        detail == VIR_DOMAIN_EVENT_STOPPED_DESTROYED ? "destroyed" : "shut down";
        case VIR_DOMAIN_EVENT_SHUTDOWN:
                return "shutting down";
        case VIR_DOMAIN_EVENT_PMSUSPENDED:
                return "suspended by the guest";
        case VIR_DOMAIN_EVENT_CRASHED:
                return "crashed";
        default:
                return "changed";
        }
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *userdata) {
        Virt *v = userdata;
        char uuid[VIR_UUID_STRING_BUFLEN];
        const char *text = lifecycle_detail(event, detail);

        if (!domain_uuid(domain, uuid))
                return 0;
        if (event == VIR_DOMAIN_EVENT_SUSPENDED && detail == VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED) {
                push_simple(v, domain, VIRT_JOB_STARTED, false, text);
                virt_job_announced(v, uuid);
        }
        virt_queue_internal(v, CALL_REFRESH, uuid, text);
        return 0;
}

static void on_reboot(virConnectPtr conn, virDomainPtr domain, void *userdata) {
        push_simple(userdata, domain, VIRT_REBOOTED, false, "rebooted");
}

static void on_agent(virConnectPtr conn, virDomainPtr domain, int state, int reason, void *userdata) {
        bool connected = state == VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;

        push_simple(userdata, domain, VIRT_AGENT_CHANGED, connected,
                    connected ? "agent connected" : "agent gone");
}

static void on_metadata(virConnectPtr conn, virDomainPtr domain, int type, const char *nsuri,
                        void *userdata) {
        if (type == VIR_DOMAIN_METADATA_ELEMENT && nsuri && streq(nsuri, DOMAIN_XML_POLICY_NS))
                push_simple(userdata, domain, VIRT_METADATA_CHANGED, false, "policy changed");
}

static void on_memory_size(virConnectPtr conn, virDomainPtr domain, const char *alias,
                           unsigned long long size, void *userdata) {
        push_simple(userdata, domain, VIRT_MEMORY_CHANGED, false, alias);
}

static void on_device(virConnectPtr conn, virDomainPtr domain, const char *alias, void *userdata) {
        push_simple(userdata, domain, VIRT_MEMORY_CHANGED, false, alias);
}

static void on_migration_iteration(virConnectPtr conn, virDomainPtr domain, int iteration, void *userdata) {
        Virt *v = userdata;
        char uuid[VIR_UUID_STRING_BUFLEN];

        push_simple(v, domain, VIRT_JOB_STARTED, false, "migration");
        if (domain_uuid(domain, uuid))
                virt_job_announced(v, uuid);
}

static void on_job_completed(virConnectPtr conn, virDomainPtr domain, virTypedParameterPtr params,
                             int n_params, void *userdata) {
        char uuid[VIR_UUID_STRING_BUFLEN];

        /* Ask rather than believe: the next job may have begun. Also forgets the job. */
        if (domain_uuid(domain, uuid)) {
                virt_job_announced(userdata, uuid);
                virt_queue_internal(userdata, CALL_POLL_JOB, uuid, "");
        }
}

static const struct {
        int id;
        virConnectDomainEventGenericCallback callback;
} event_table[] = {
        { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
        { VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot) },
        { VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent) },
        { VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata) },
        { VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_memory_size) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device) },
        { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device) },
        { VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VIR_DOMAIN_EVENT_CALLBACK(on_migration_iteration) },
        { VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed) },
};

/* ---- the connection ---- */

static void on_close(virConnectPtr conn, int reason, void *userdata) {
        Virt *v = userdata;

        pthread_mutex_lock(&v->lock);
        v->lost = true;
        pthread_cond_signal(&v->link);
        pthread_mutex_unlock(&v->lock);
}

/* A migration that began before we listened. */
static void look_for_job(Virt *v, virDomainPtr domain, const char *uuid) {
        virDomainJobInfo info = { .type = VIR_DOMAIN_JOB_NONE };

        if (virDomainGetJobInfo(domain, &info) < 0 ||
            (info.type != VIR_DOMAIN_JOB_BOUNDED && info.type != VIR_DOMAIN_JOB_UNBOUNDED))
                return;
        push_simple(v, domain, VIRT_JOB_STARTED, false, "a job that was under way");
        virt_job_announced(v, uuid);
}

/* Pushes every domain, with the jobs that are under way, then VIRT_LISTED. */
static int list_domains(Virt *v, virConnectPtr conn) {
        virDomainPtr *domains = NULL;
        int n = virConnectListAllDomains(conn, &domains, 0);

        if (n < 0)
                return -EIO;
        for (int i = 0; i < n; i++) {
                VirtEvent e;

                if (virt_event_from_domain(domains[i], &e)) {
                        snprintf(e.detail, sizeof(e.detail), "listed");
                        virt_push_event(v, &e);
                        if (e.id >= 0)
                                look_for_job(v, domains[i], e.uuid);
                }
                virDomainFree(domains[i]);
        }
        free(domains);
        virt_push_event(v, &(VirtEvent){ .type = VIRT_LISTED, .id = -1 });
        return 0;
}

typedef struct Link {
        virConnectPtr conn;
        int callbacks[ELEMENTSOF(event_table)];
} Link;

static int link_open(Virt *v, Link *l) {
        for (size_t i = 0; i < ELEMENTSOF(l->callbacks); i++)
                l->callbacks[i] = -1;
        l->conn = virConnectOpen(v->uri);
        if (!l->conn)
                return -EIO;
        /* Drivers inside the process (test:///) have neither. */
        (void) virConnectSetKeepAlive(l->conn, KEEPALIVE_INTERVAL_SEC, KEEPALIVE_COUNT);
        (void) virConnectRegisterCloseCallback(l->conn, on_close, v, NULL);

        pthread_mutex_lock(&v->lock);
        v->lost = false;
        v->relist = false;
        v->conn = l->conn;
        virt_push_event_locked(v, &(VirtEvent){ .type = VIRT_CONNECTED, .id = -1 });
        pthread_mutex_unlock(&v->lock);

        /* Events first, so that nothing falls between; one that this libvirt does not know is done without.
         */
        for (size_t i = 0; i < ELEMENTSOF(event_table); i++)
                l->callbacks[i] = virConnectDomainEventRegisterAny(l->conn, NULL, event_table[i].id,
                                                                   event_table[i].callback, v, NULL);
        return list_domains(v, l->conn);
}

static void link_close(Virt *v, Link *l) {
        bool announce;

        if (!l->conn)
                return;
        pthread_mutex_lock(&v->lock);
        announce = v->conn != NULL;
        if (announce)
                virt_push_event_locked(v, &(VirtEvent){ .type = VIRT_DISCONNECTED, .id = -1 });
        v->conn = NULL;
        virt_fail_queued_calls_locked(v, OUTCOME_NO_LIBVIRT,
                                      "the connection to libvirt was lost; hmvisord reconnects by itself");
        pthread_mutex_unlock(&v->lock);
        for (size_t i = 0; i < ELEMENTSOF(l->callbacks); i++)
                if (l->callbacks[i] >= 0)
                        (void) virConnectDomainEventDeregisterAny(l->conn, l->callbacks[i]);
        (void) virConnectUnregisterCloseCallback(l->conn, on_close);
        virConnectClose(l->conn);
        l->conn = NULL;
}

/* Until the connection is lost or we stop. */
static void link_hold(Virt *v, Link *l) {
        bool relist;

        do {
                pthread_mutex_lock(&v->lock);
                /* A relist waits until the loop has taken what piled up. */
                while (!v->stopping && !v->lost && !(v->relist && v->n_events < VIRT_EVENTS_MAX / 2)) {
                        struct timespec ts;

                        clock_gettime(CLOCK_MONOTONIC, &ts);
                        ts.tv_sec += 1;
                        if (v->relist)
                                pthread_cond_timedwait(&v->link, &v->lock, &ts);
                        else
                                pthread_cond_wait(&v->link, &v->lock);
                }
                relist = v->relist && !v->stopping && !v->lost;
                v->relist = false;
                pthread_mutex_unlock(&v->lock);
        } while (relist && list_domains(v, l->conn) >= 0);
}

void *virt_link_thread(void *userdata) {
        Virt *v = userdata;
        usec_t backoff = BACKOFF_MIN_USEC;
        bool stop = false, told = false;

        while (!stop) {
                Link l = {};

                if (link_open(v, &l) >= 0) {
                        backoff = BACKOFF_MIN_USEC;
                        told = true;      /* link_close() tells of the loss */
                        link_hold(v, &l);
                } else if (!told && !l.conn) {
                        const char *why = virGetLastErrorMessage();
                        VirtEvent e = { .type = VIRT_DISCONNECTED, .id = -1 };

                        snprintf(e.detail, sizeof(e.detail), "%.63s", why ?: "");
                        pthread_mutex_lock(&v->lock);
                        virt_push_event_locked(v, &e);
                        pthread_mutex_unlock(&v->lock);
                        told = true;
                }
                link_close(v, &l);

                pthread_mutex_lock(&v->lock);
                if (!v->stopping) {
                        usec_t until = virt_now() + backoff;
                        struct timespec ts = { .tv_sec = (time_t) (until / USEC_PER_SEC),
                                               .tv_nsec = (long) (until % USEC_PER_SEC * 1000) };

                        while (!v->stopping && pthread_cond_timedwait(&v->link, &v->lock, &ts) == 0)
                                ;
                        backoff = MIN(backoff * 2, BACKOFF_MAX_USEC);
                }
                stop = v->stopping;
                pthread_mutex_unlock(&v->lock);
        }
        virt_thread_ends(v);
        return NULL;
}
