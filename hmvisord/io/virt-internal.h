/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the files of the libvirt adapter share, and nobody else includes.
 *
 *   sd-event thread    virt.c: the public functions, delivery of results and events, deadlines
 *   link thread        virt-link.c: opens the connection, lists domains, waits for its loss, backs off
 *   loop thread        virt-link.c: libvirt's own poll loop; its event callbacks only queue
 *   worker threads     virt-calls.c: one libvirt call each at a time
 *
 * Everything in Virt below `lock` is guarded by it; no libvirt function and no callback runs under it.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <pthread.h>

#include "io/virt.h"

/* libvirtd serves five requests of one connection at once (max_client_requests), so five workers. Agents are
 * guests' own processes and may answer as slowly as they like: they get workers of their own, so that no
 * guest can hold up the calls to the hypervisor. */
#define VIRT_CONTROL_WORKERS 2
#define VIRT_AGENT_WORKERS 3
#define VIRT_DOUBTFUL_MAX 2   /* of these, for guests that may not answer at all: one is for those that do */

#define VIRT_DOMAIN_CALLS_MAX 16
#define VIRT_CALLS_MAX 4096
#define VIRT_EVENTS_MAX 8192
#define VIRT_TEXT_MAX (4 * 1024 * 1024)         /* libvirt's own limit of an RPC string, both ways */
#define VIRT_QUEUE_WAIT_USEC (60 * USEC_PER_SEC)
#define VIRT_CALL_USEC                                                                                      \
        (35 * USEC_PER_SEC) /* a little more than libvirt's own 30 s wait for a domain's job */
#define VIRT_AGENT_TIMEOUT_SEC 10
#define VIRT_AGENT_GRACE_USEC (5 * USEC_PER_SEC)

typedef enum CallKind {
        CALL_GET_XML,
        CALL_DEFINE_XML,
        CALL_UPDATE_DEVICE,
        CALL_SET_METADATA,
        CALL_GET_METADATA,
        CALL_BLOCK_STATS,
        CALL_QMP,
        CALL_AGENT,
        CALL_REFRESH,      /* our own: read the state again, ends in VIRT_DOMAIN or VIRT_UNDEFINED */
        CALL_POLL_JOB,     /* our own: is the job that was announced over? */
} CallKind;

typedef enum Lane {
        LANE_CONTROL,
        LANE_AGENT,
        _LANE_MAX,
} Lane;

typedef struct Call Call;
struct Call {
        Call *prev, *next;
        CallKind kind;
        Lane lane;
        char uuid[37];
        char *text;               /* JSON or XML */
        unsigned libvirt_flags;
        unsigned timeout_sec;     /* agent only */
        bool doubtful;            /* agent only: whether it answers is not known */
        int fd;
        char detail[64];          /* CALL_REFRESH: what the event was */
        VirtCallback callback;    /* NULL for our own calls */
        void *userdata;

        bool running;             /* in a worker's hands */
        bool abandoned;           /* the callback had its TIMED_OUT; the worker frees it */
        usec_t deadline_usec;     /* CLOCK_MONOTONIC */
        Outcome outcome;
        char *reply;
};

typedef struct QueuedEvent QueuedEvent;
struct QueuedEvent {
        QueuedEvent *prev, *next;
        VirtEvent event;
};

/* A domain on which a job (migration, save, dump) was announced: polled until it is over. */
typedef struct Job Job;
struct Job {
        Job *prev, *next;
        char uuid[37];
        bool polling;
};

struct Virt {
        sd_event *event;
        sd_event_source *wake_source, *tick_source;
        int wake_fd;
        char *uri;
        VirtEventHandler handler;
        void *userdata;
        int quit_timer;           /* of libvirt's loop */

        pthread_mutex_t lock;
        pthread_cond_t work;      /* workers: a call or stop */
        pthread_cond_t link;      /* link thread: connection lost, relist wanted or stop */
        pthread_cond_t idle;      /* virt_free(): a thread ended */
        unsigned n_threads, n_refs;
        bool stopping, stop_loop, lost, relist;
        virConnectPtr conn;       /* NULL: not connected; take a reference under the lock */
        Call *calls;
        size_t n_calls;
        Call *done;               /* finished, for the sd-event thread */
        QueuedEvent *events;
        size_t n_events;
        Job *jobs;
};

usec_t virt_now(void);
void virt_wake(Virt *v);                                       /* any thread */
void virt_unref(Virt *v);                                      /* any thread, the lock not held */
int virt_start_thread(Virt *v, void *(*run)(void *));
void virt_thread_ends(Virt *v);                                /* a thread's last words */
/* Queues an event for the sd-event thread; when too many wait, all domains are listed again instead. */
void virt_push_event(Virt *v, const VirtEvent *event);
void virt_push_event_locked(Virt *v, const VirtEvent *event);
/* Queues one of our own calls; one that waits already is not queued twice. */
void virt_queue_internal(Virt *v, CallKind kind, const char *uuid, const char *detail);
void virt_job_announced(Virt *v, const char *uuid);
void virt_job_polled(Virt *v, const char *uuid, bool over);
void virt_fail_queued_calls_locked(Virt *v, OutcomeCode code, const char *why);

void *virt_control_worker(void *userdata);
void *virt_agent_worker(void *userdata);
void virt_call_free(Call *c);

void *virt_link_thread(void *userdata);
void *virt_loop_thread(void *userdata);
int virt_loop_prepare(void);
void virt_loop_quit(Virt *v);

/* Fills what can be asked of a domain; false when it is gone. Makes libvirt calls. */
bool virt_event_from_domain(virDomainPtr domain, VirtEvent *ret);
/* libvirt's last error of this thread as an outcome. what: "reading the XML of", domain may be NULL. */
int virt_outcome_from_error(virDomainPtr domain, const char *uuid, const char *what, Outcome *o);
