/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * libvirt, for an sd-event loop. libvirt's own poll loop runs in one thread of its own and a small pool of
 * threads makes the calls, one call in flight per domain; events and results come back by a bounded queue and
 * an eventfd, so every callback runs in the sd-event thread. Reconnects with back-off. Decides nothing.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/outcome.h"

typedef struct Virt Virt;

typedef enum VirtEventType {
        VIRT_CONNECTED,          /* a list of all domains follows as VIRT_DOMAIN events, then VIRT_LISTED */
        VIRT_LISTED,
        VIRT_DISCONNECTED,
        VIRT_DOMAIN,             /* state below is new or changed: defined, started, paused, resumed, ... */
        VIRT_UNDEFINED,          /* neither defined nor running any longer */
        VIRT_REBOOTED,
        VIRT_METADATA_CHANGED,
        VIRT_MEMORY_CHANGED,     /* a virtio-mem size changed: read the XML again */
        VIRT_AGENT_CHANGED,      /* agent_connected below is valid */
        VIRT_JOB_STARTED,        /* a migration or save is about to start or under way, as far as libvirt tells */
        VIRT_JOB_ENDED,
} VirtEventType;

typedef enum VirtState {
        VIRT_STATE_OFF,
        VIRT_STATE_RUNNING,
        VIRT_STATE_PAUSED,       /* also while libvirt migrates or saves it */
} VirtState;

typedef struct VirtEvent {
        VirtEventType type;
        char uuid[37];
        char name[256];
        int id;                  /* -1 when off */
        VirtState state;
        bool persistent;
        bool agent_connected;
        char detail[64];         /* "booted", "migrated", "shutdown", ... for the event log */
} VirtEvent;

/* What a call brought. On failure o says why, and text is NULL; code NO_DOMAIN, DOMAIN_OFF, NO_AGENT,
 * NO_LIBVIRT, TIMED_OUT, or FAILED with libvirt's text. text is valid in the callback only. */
typedef struct VirtResult {
        Outcome outcome;
        const char *text;        /* JSON reply or XML */
} VirtResult;

typedef void (*VirtEventHandler)(Virt *v, const VirtEvent *event, void *userdata);
typedef void (*VirtCallback)(Virt *v, const VirtResult *result, void *userdata);

/* Does not wait for libvirt: VIRT_CONNECTED comes later. uri NULL: libvirt's default. Returns 0 or -errno. */
int virt_new(sd_event *event, const char *uri, VirtEventHandler handler, void *userdata, Virt **ret);
/* Waits, bounded, for calls in flight; callbacks not yet delivered are called with TIMED_OUT. */
Virt *virt_free(Virt *v);
DEFINE_CLEANUP(Virt *, virt_free);

/* Each queues a call and returns 0, or -EBUSY when the queue of that domain (16) or in all (4096) is full, or
 * -ENOMEM; the callback then never comes. A domain is named by UUID. timeout 0: a default of the call (10 s). */
int virt_get_xml(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata);
int virt_define_xml(Virt *v, const char *uuid, const char *xml, VirtCallback cb, void *userdata);
int virt_update_device(Virt *v, const char *uuid, const char *device_xml, bool live, bool config, VirtCallback cb,
                       void *userdata);
int virt_set_metadata(Virt *v, const char *uuid, const char *element_xml, bool live, bool config, VirtCallback cb,
                      void *userdata);
int virt_get_metadata(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata);
/* pass_fd: duplicated at once, sent along with the command; -1: none. */
int virt_qmp(Virt *v, const char *uuid, const char *json, int pass_fd, VirtCallback cb, void *userdata);
int virt_agent(Virt *v, const char *uuid, const char *json, unsigned timeout_sec, VirtCallback cb, void *userdata);

/* The host process of a running domain, from libvirt's own pid file: see virt.c. Returns pid or -errno. */
int virt_domain_pid(Virt *v, const char *name);

bool virt_is_connected(const Virt *v);
