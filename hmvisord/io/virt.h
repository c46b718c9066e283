/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * libvirt, for an sd-event loop. libvirt's own poll loop runs in one thread of its own and a small pool of
 * threads makes the calls, one call in flight per domain; events and results come back by a bounded queue
 * and an eventfd, so every callback runs in the sd-event thread. Reconnects with back-off. Decides nothing.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/outcome.h"

typedef struct Virt Virt;

typedef enum VirtEventType {
        VIRT_CONNECTED,    /* a list of all domains follows as VIRT_DOMAIN events, then VIRT_LISTED */
        VIRT_LISTED,       /* a domain known from before that was not listed is gone. May come again without
                            * VIRT_CONNECTED, after so many events at once that some were lost */
        VIRT_DISCONNECTED, /* also once when the first attempt fails; detail says why */
        VIRT_DOMAIN,       /* state below is new or changed: defined, started, paused, resumed, ... */
        VIRT_UNDEFINED,    /* neither defined nor running any longer */
        VIRT_REBOOTED,
        VIRT_METADATA_CHANGED,
        VIRT_MEMORY_CHANGED, /* a virtio-mem size changed: read the XML again */
        VIRT_AGENT_CHANGED,  /* agent_connected below is valid */
        VIRT_JOB_STARTED,    /* a migration is under way, as far as libvirt tells; may repeat */
        VIRT_JOB_ENDED,      /* well or not: polled, as libvirt announces only the former. uuid only */
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
        bool persistent;         /* state, persistent: of VIRT_DOMAIN only */
        bool agent_connected;    /* of VIRT_AGENT_CHANGED only; else the live XML tells */
        char detail[64];         /* "booted", "migrated", "shutdown", ... for the event log */
} VirtEvent;

/* What a call brought. On failure o says why, and text is NULL; code NO_DOMAIN, DOMAIN_OFF, DOMAIN_BUSY,
 * NO_AGENT, NO_LIBVIRT, UNSUPPORTED, DENIED, TIMED_OUT, or FAILED with libvirt's text. After TIMED_OUT the
 * call may still take effect. text is valid in the callback only, at most 4 MiB, and NULL for calls that
 * bring none. */
typedef struct VirtResult {
        Outcome outcome;
        const char *text;        /* JSON reply or XML */
} VirtResult;

typedef void (*VirtEventHandler)(Virt *v, const VirtEvent *event, void *userdata);
typedef void (*VirtCallback)(Virt *v, const VirtResult *result, void *userdata);

/* Does not wait for libvirt: VIRT_CONNECTED comes later. uri NULL: qemu:///system. At most one Virt per
 * process at a time, as libvirt has one poll loop. Returns 0 or -errno. */
int virt_new(sd_event *event, const char *uri, VirtEventHandler handler, void *userdata, Virt **ret);
/* Waits, at most 5 s, for calls in flight; callbacks not yet delivered are called with TIMED_OUT. Not from a
 * callback. */
Virt *virt_free(Virt *v);
DEFINE_CLEANUP(Virt *, virt_free);

/* Each queues a call and returns 0, or -EBUSY when the queue of that domain (16) or in all (4096) is full,
 * or -ENOMEM; the callback then never comes, else it comes exactly once, from the loop. A domain is named by
 * UUID. Calls of a domain are made in their order, but agent calls in an order of their own, as a guest may
 * be slow to answer. timeout 0: a default of the call (agent 10 s; the others have 35 s, a little over
 * libvirt's own wait). */
int virt_get_xml(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata);
int virt_define_xml(Virt *v, const char *uuid, const char *xml, VirtCallback cb, void *userdata);
int virt_update_device(Virt *v, const char *uuid, const char *device_xml, bool live, bool config,
                       VirtCallback cb, void *userdata);
/* The policy element (domain_xml_policy_element()); NULL removes it. virt_get_metadata(): "" when there is
 * none. */
int virt_set_metadata(Virt *v, const char *uuid, const char *element_xml, bool live, bool config,
                      VirtCallback cb, void *userdata);
int virt_get_metadata(Virt *v, const char *uuid, bool inactive, VirtCallback cb, void *userdata);
/* Bytes that the guest has ever read from and written to a disk of a running domain, and what its reads took
 * altogether in nanoseconds, as the hypervisor counts them: "READ WRITTEN NSEC", or "READ WRITTEN" where it
 * does not count time. Reads that overlap are each counted in full; waiting for a limit (iotune) is, too.
 * disk: its target, such as vdb. */
int virt_block_stats(Virt *v, const char *uuid, const char *disk, VirtCallback cb, void *userdata);
/* pass_fd: duplicated at once, sent along with the command; -1: none. */
int virt_qmp(Virt *v, const char *uuid, const char *json, int pass_fd, VirtCallback cb, void *userdata);
/* answers: the guest answered the last time. Of those that did not, so many are asked at once that one that
 * does never waits for them. */
int virt_agent(Virt *v, const char *uuid, const char *json, unsigned timeout_sec, bool answers,
               VirtCallback cb, void *userdata);

/* The host process of a running domain, from libvirt's own pid file or /proc: see virt-pid.c. v is not used
 * and may be NULL. Returns pid or -errno (-ESRCH: none). */
int virt_domain_pid(Virt *v, const char *name);
/* The check behind it, for the tests: contents of /proc/PID/cmdline and /proc/PID/cgroup. */
bool virt_process_is_guest(const char *cmdline, size_t cmdline_size, const char *cgroup, const char *name);

bool virt_is_connected(const Virt *v);
