/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The sd-event side of the libvirt adapter: queues calls, delivers results and events, keeps deadlines.
 * Makes no libvirt call itself, so that it can never block the loop. The threads are drawn in
 * virt-internal.h.
 */
#include "io/virt-internal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <utlist.h>

#include "base/xmlns.h"

usec_t virt_now(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (usec_t) ts.tv_sec * USEC_PER_SEC + (usec_t) ts.tv_nsec / 1000;
}

void virt_wake(Virt *v) {
        (void) !write(v->wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

void virt_call_free(Call *c) {
        if (!c)
                return;
        if (c->fd >= 0)
                close(c->fd);
        free(c->text);
        free(c->reply);
        free(c);
}

/* The last reference may be a worker's that was stuck in libvirt when virt_free() stopped waiting for it. */
void virt_unref(Virt *v) {
        Call *c, *ctmp;
        QueuedEvent *e, *etmp;
        Job *j, *jtmp;
        unsigned n;

        pthread_mutex_lock(&v->lock);
        n = --v->n_refs;
        pthread_mutex_unlock(&v->lock);
        if (n > 0)
                return;
        DL_FOREACH_SAFE(v->calls, c, ctmp)
                virt_call_free(c);
        DL_FOREACH_SAFE(v->done, c, ctmp)
                virt_call_free(c);
        DL_FOREACH_SAFE(v->events, e, etmp)
                free(e);
        DL_FOREACH_SAFE(v->jobs, j, jtmp)
                free(j);
        if (v->wake_fd >= 0)
                close(v->wake_fd);
        free(v->uri);
        pthread_cond_destroy(&v->work);
        pthread_cond_destroy(&v->link);
        pthread_cond_destroy(&v->idle);
        pthread_mutex_destroy(&v->lock);
        free(v);
}

int virt_start_thread(Virt *v, void *(*run)(void *)) {
        pthread_attr_t attr;
        sigset_t all, old;
        pthread_t thread;
        int r;

        pthread_mutex_lock(&v->lock);
        v->n_threads++;
        v->n_refs++;
        pthread_mutex_unlock(&v->lock);

        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);   /* signals are the main thread's */
        r = pthread_create(&thread, &attr, run, v);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
        if (r != 0)
                virt_thread_ends(v);
        return -r;
}

void virt_thread_ends(Virt *v) {
        pthread_mutex_lock(&v->lock);
        v->n_threads--;
        pthread_cond_broadcast(&v->idle);
        pthread_mutex_unlock(&v->lock);
        virt_unref(v);
}

void virt_push_event_locked(Virt *v, const VirtEvent *event) {
        QueuedEvent *e = v->n_events < VIRT_EVENTS_MAX ? malloc(sizeof(*e)) : NULL;

        if (!e) {
                v->relist = true;
                pthread_cond_signal(&v->link);
                return;
        }
        e->event = *event;
        DL_APPEND(v->events, e);
        v->n_events++;
        virt_wake(v);
}

void virt_push_event(Virt *v, const VirtEvent *event) {
        pthread_mutex_lock(&v->lock);
        if (v->conn)
                virt_push_event_locked(v, event);
        pthread_mutex_unlock(&v->lock);
}

void virt_fail_queued_calls_locked(Virt *v, OutcomeCode code, const char *why) {
        Call *c, *tmp;

        DL_FOREACH_SAFE(v->calls, c, tmp) {
                if (c->running)
                        continue;
                DL_DELETE(v->calls, c);
                (void) outcome_set(&c->outcome, code, "%s", why);
                DL_APPEND(v->done, c);
        }
        virt_wake(v);
}

/* Takes ownership of c in any case. */
static int call_queue_locked(Virt *v, Call *c) {
        size_t n = 0;
        Call *i;

        DL_FOREACH(v->calls, i)
                n += i->callback && streq(i->uuid, c->uuid);
        if (c->callback && (v->n_calls >= VIRT_CALLS_MAX || n >= VIRT_DOMAIN_CALLS_MAX)) {
                virt_call_free(c);
                return -EBUSY;
        }
        c->deadline_usec = virt_now() + VIRT_QUEUE_WAIT_USEC;
        v->n_calls++;
        if (!v->conn) {
                (void) outcome_set(
                        &c->outcome, OUTCOME_NO_LIBVIRT,
                        "libvirt cannot be reached; is its service running? hmvisord keeps trying");
                DL_APPEND(v->done, c);
                virt_wake(v);
                return 0;
        }
        DL_APPEND(v->calls, c);
        pthread_cond_broadcast(&v->work);
        if (v->tick_source && v->n_calls == 1)
                virt_wake(v);   /* starts the tick */
        return 0;
}

static Call *call_new(CallKind kind, const char *uuid, const char *text) {
        Call *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->kind = kind;
        c->lane = kind == CALL_AGENT ? LANE_AGENT : LANE_CONTROL;
        c->fd = -EBADF;
        snprintf(c->uuid, sizeof(c->uuid), "%s", uuid);
        if (text && !(c->text = strdup(text))) {
                free(c);
                return NULL;
        }
        return c;
}

void virt_queue_internal(Virt *v, CallKind kind, const char *uuid, const char *detail) {
        Call *c, *i;

        pthread_mutex_lock(&v->lock);
        DL_FOREACH(v->calls, i)
                if (i->kind == kind && !i->running && streq(i->uuid, uuid)) {
                        snprintf(i->detail, sizeof(i->detail), "%s", detail);
                        pthread_mutex_unlock(&v->lock);
                        return;
                }
        c = call_new(kind, uuid, NULL);
        if (c) {
                snprintf(c->detail, sizeof(c->detail), "%s", detail);
                (void) call_queue_locked(v, c);
        }
        pthread_mutex_unlock(&v->lock);
}

static Job *job_find_locked(Virt *v, const char *uuid) {
        Job *j;

        DL_FOREACH(v->jobs, j)
                if (streq(j->uuid, uuid))
                        return j;
        return NULL;
}

/* libvirt tells when a job ends well, but not always when it fails: from here on it is polled. */
void virt_job_announced(Virt *v, const char *uuid) {
        Job *j;

        pthread_mutex_lock(&v->lock);
        if (!job_find_locked(v, uuid) && (j = calloc(1, sizeof(*j)))) {
                snprintf(j->uuid, sizeof(j->uuid), "%s", uuid);
                DL_APPEND(v->jobs, j);
                virt_wake(v);
        }
        pthread_mutex_unlock(&v->lock);
}

void virt_job_polled(Virt *v, const char *uuid, bool over) {
        VirtEvent e = { .type = VIRT_JOB_ENDED, .id = -1 };
        Job *j;

        snprintf(e.uuid, sizeof(e.uuid), "%s", uuid);
        pthread_mutex_lock(&v->lock);
        j = job_find_locked(v, uuid);
        if (j) {
                j->polling = false;
                if (over) {
                        DL_DELETE(v->jobs, j);
                        free(j);
                        virt_push_event_locked(v, &e);
                }
        }
        pthread_mutex_unlock(&v->lock);
}

static void call_deliver(Virt *v, Call *c) {
        VirtResult result = { .outcome = c->outcome,
                              .text = c->outcome.code == OUTCOME_OK ? c->reply : NULL };

        if (c->callback && !c->abandoned)
                c->callback(v, &result, c->userdata);
}

/* Calls whose time is over. One that waits is thrown away; one that runs is left to its worker. */
static void calls_expire(Virt *v) {
        usec_t now = virt_now();

        for (;;) {
                Call *c, *late = NULL;
                VirtResult result = {};
                VirtCallback callback;
                void *userdata;

                pthread_mutex_lock(&v->lock);
                DL_FOREACH(v->calls, c)
                        if (!c->abandoned && c->deadline_usec <= now) {
                                late = c;
                                break;
                        }
                if (!late) {
                        pthread_mutex_unlock(&v->lock);
                        return;
                }
                callback = late->callback;
                userdata = late->userdata;
                (void) outcome_set(
                        &result.outcome, OUTCOME_TIMED_OUT,
                        "libvirt did not answer for domain %s in time; 'virsh domjobinfo' and libvirtd's "
                        "log show what it waits for",
                        late->uuid);
                if (late->running)
                        late->abandoned = true;
                else {
                        DL_DELETE(v->calls, late);
                        v->n_calls--;
                        virt_call_free(late);
                }
                pthread_mutex_unlock(&v->lock);
                if (callback)
                        callback(v, &result, userdata);
        }
}

static void jobs_poll(Virt *v) {
        char uuid[37];
        Job *j;

        do {
                *uuid = '\0';
                pthread_mutex_lock(&v->lock);
                DL_FOREACH(v->jobs, j)
                        if (!j->polling) {
                                j->polling = true;
                                memcpy(uuid, j->uuid, sizeof(uuid));
                                break;
                        }
                pthread_mutex_unlock(&v->lock);
                if (*uuid)
                        virt_queue_internal(v, CALL_POLL_JOB, uuid, "");
        } while (*uuid);
}

/* Once a second while anything is under way. */
static void tick_arm(Virt *v) {
        bool wanted;
        int enabled = SD_EVENT_OFF;

        pthread_mutex_lock(&v->lock);
        wanted = v->calls || v->jobs;
        pthread_mutex_unlock(&v->lock);
        (void) sd_event_source_get_enabled(v->tick_source, &enabled);
        if (!wanted || enabled != SD_EVENT_OFF)
                return;
        (void) sd_event_source_set_time(v->tick_source, virt_now() + USEC_PER_SEC);
        (void) sd_event_source_set_enabled(v->tick_source, SD_EVENT_ONESHOT);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
        Virt *v = userdata;

        calls_expire(v);
        jobs_poll(v);
        tick_arm(v);
        return 0;
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Virt *v = userdata;
        uint64_t n;

        (void) !read(fd, &n, sizeof(n));
        tick_arm(v);
        for (;;) {
                QueuedEvent *e;
                Call *c = NULL;

                pthread_mutex_lock(&v->lock);
                e = v->events;
                if (e) {
                        DL_DELETE(v->events, e);
                        v->n_events--;
                } else if ((c = v->done)) {
                        DL_DELETE(v->done, c);
                        v->n_calls--;
                }
                pthread_mutex_unlock(&v->lock);
                if (e) {
                        v->handler(v, &e->event, v->userdata);
                        free(e);
                } else if (c) {
                        call_deliver(v, c);
                        virt_call_free(c);
                } else
                        return 0;
        }
}

int virt_new(sd_event *event, const char *uri, VirtEventHandler handler, void *userdata, Virt **ret) {
        _cleanup_(virt_freep) Virt *v = NULL;
        pthread_condattr_t attr;
        int r;

        r = virt_loop_prepare();
        if (r < 0)
                return r;
        v = calloc(1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        v->n_refs = 1;
        v->wake_fd = -EBADF;
        v->handler = handler;
        v->userdata = userdata;
        v->quit_timer = -1;
        pthread_mutex_init(&v->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&v->work, &attr);
        pthread_cond_init(&v->link, &attr);
        pthread_cond_init(&v->idle, &attr);
        pthread_condattr_destroy(&attr);
        v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (v->wake_fd < 0)
                return -errno;
        /* Not NULL: for a user other than root libvirt would then open that user's own session. */
        v->uri = strdup(uri ?: "qemu:///system");
        if (!v->uri)
                return -ENOMEM;
        v->event = sd_event_ref(event);
        r = sd_event_add_io(event, &v->wake_source, v->wake_fd, EPOLLIN, on_wake, v);
        if (r >= 0)
                r = sd_event_add_time(event, &v->tick_source, CLOCK_MONOTONIC, 0, 0, on_tick, v);
        if (r >= 0)
                r = sd_event_source_set_enabled(v->tick_source, SD_EVENT_OFF);
        if (r >= 0)
                r = virt_start_thread(v, virt_loop_thread);
        for (unsigned i = 0; r >= 0 && i < VIRT_CONTROL_WORKERS; i++)
                r = virt_start_thread(v, virt_control_worker);
        for (unsigned i = 0; r >= 0 && i < VIRT_AGENT_WORKERS; i++)
                r = virt_start_thread(v, virt_agent_worker);
        if (r >= 0)
                r = virt_start_thread(v, virt_link_thread);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

/* Waits until at most `left` threads live, or the deadline. */
static void threads_wait(Virt *v, unsigned left, usec_t deadline) {
        struct timespec ts = { .tv_sec = (time_t) (deadline / USEC_PER_SEC),
                               .tv_nsec = (long) (deadline % USEC_PER_SEC * 1000) };

        pthread_mutex_lock(&v->lock);
        while (v->n_threads > left)
                if (pthread_cond_timedwait(&v->idle, &v->lock, &ts) != 0)
                        break;
        pthread_mutex_unlock(&v->lock);
}

Virt *virt_free(Virt *v) {
        usec_t deadline = virt_now() + 5 * USEC_PER_SEC;

        if (!v)
                return NULL;
        pthread_mutex_lock(&v->lock);
        v->stopping = true;
        pthread_cond_broadcast(&v->work);
        pthread_cond_broadcast(&v->link);
        pthread_mutex_unlock(&v->lock);
        threads_wait(v, 1, deadline);      /* all but the loop, which carries the calls in flight */
        virt_loop_quit(v);
        threads_wait(v, 0, virt_now() + USEC_PER_SEC);

        for (;;) {
                VirtResult result = {};
                VirtCallback callback = NULL;
                void *userdata = NULL;
                Call *c;

                pthread_mutex_lock(&v->lock);
                c = v->done;
                if (c)
                        DL_DELETE(v->done, c);
                else {
                        DL_FOREACH(v->calls, c)
                                if (!c->abandoned)
                                        break;
                        if (c && !c->running)
                                DL_DELETE(v->calls, c);
                }
                if (c) {
                        callback = c->abandoned ? NULL : c->callback;
                        userdata = c->userdata;
                        if (c->running)
                                c->abandoned = true;
                        else
                                virt_call_free(c);
                }
                pthread_mutex_unlock(&v->lock);
                if (!c)
                        break;
                (void) outcome_set(&result.outcome, OUTCOME_TIMED_OUT,
                                   "hmvisord stops; try again when it runs");
                if (callback)
                        callback(v, &result, userdata);
        }
        sd_event_source_disable_unref(v->wake_source);
        sd_event_source_disable_unref(v->tick_source);
        sd_event_unref(v->event);
        virt_unref(v);
        return NULL;
}

static int call_queue(Virt *v, Call *c, VirtCallback cb, void *userdata) {
        int r;

        if (!c)
                return -ENOMEM;
        c->callback = cb;
        c->userdata = userdata;
        pthread_mutex_lock(&v->lock);
        r = call_queue_locked(v, c);
        pthread_mutex_unlock(&v->lock);
        return r;
}

static unsigned affect_flags(bool live, bool config) {
        return (live ? VIR_DOMAIN_AFFECT_LIVE : 0) | (config ? VIR_DOMAIN_AFFECT_CONFIG : 0);
}

int virt_get_xml(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata) {
        Call *c = call_new(CALL_GET_XML, uuid, NULL);

        /* SECURE: an XML that is to be defined again must keep the passwords of its displays. */
        if (c)
                c->libvirt_flags = inactive ? VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE : 0;
        return call_queue(v, c, cb, userdata);
}

int virt_define_xml(Virt *v, const char *uuid, const char *xml, VirtCallback cb, void *userdata) {
        return call_queue(v, call_new(CALL_DEFINE_XML, uuid, xml), cb, userdata);
}

int virt_update_device(Virt *v, const char *uuid, const char *device_xml, bool live, bool config,
                       VirtCallback cb, void *userdata) {
        Call *c = call_new(CALL_UPDATE_DEVICE, uuid, device_xml);

        if (c)
                c->libvirt_flags = affect_flags(live, config);
        return call_queue(v, c, cb, userdata);
}

int virt_set_metadata(Virt *v, const char *uuid, const char *element_xml, bool live, bool config,
                      VirtCallback cb, void *userdata) {
        Call *c = call_new(CALL_SET_METADATA, uuid, element_xml);

        if (c)
                c->libvirt_flags = affect_flags(live, config);
        return call_queue(v, c, cb, userdata);
}

int virt_get_metadata(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata) {
        Call *c = call_new(CALL_GET_METADATA, uuid, NULL);

        if (c)
                c->libvirt_flags = affect_flags(!inactive, inactive);
        return call_queue(v, c, cb, userdata);
}

int virt_block_stats(Virt *v, const char *uuid, const char *disk, VirtCallback cb, void *userdata) {
        return call_queue(v, call_new(CALL_BLOCK_STATS, uuid, disk), cb, userdata);
}

int virt_qmp(Virt *v, const char *uuid, const char *json, int pass_fd, VirtCallback cb, void *userdata) {
        Call *c = call_new(CALL_QMP, uuid, json);

        if (c && pass_fd >= 0) {
                c->fd = fcntl(pass_fd, F_DUPFD_CLOEXEC, 3);
                if (c->fd < 0) {
                        int r = -errno;

                        virt_call_free(c);
                        return r;
                }
        }
        return call_queue(v, c, cb, userdata);
}

int virt_agent(Virt *v, const char *uuid, const char *json, unsigned timeout_sec, bool answers,
               VirtCallback cb, void *userdata) {
        Call *c = call_new(CALL_AGENT, uuid, json);

        if (c)
                c->doubtful = !answers;
        if (c)
                c->timeout_sec = timeout_sec > 0 ? MIN(timeout_sec, 3600u) : VIRT_AGENT_TIMEOUT_SEC;
        return call_queue(v, c, cb, userdata);
}

bool virt_is_connected(const Virt *v) {
        Virt *w = (Virt *) v;
        bool connected;

        pthread_mutex_lock(&w->lock);
        connected = w->conn != NULL;
        pthread_mutex_unlock(&w->lock);
        return connected;
}
