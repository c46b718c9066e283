/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The worker threads of the libvirt adapter: each takes one call at a time, one per domain and lane, makes
 * it, and puts what it brought into the queue of the sd-event thread. Also turns libvirt's errors into
 * outcomes.
 */
#include "io/virt-internal.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <utlist.h>

#include "base/xmlns.h"

static OutcomeCode code_of_error(virDomainPtr domain, const virError *e) {
        switch (e->code) {
        case VIR_ERR_NO_DOMAIN:
                return OUTCOME_NO_DOMAIN;
        case VIR_ERR_OPERATION_INVALID:
                /* also used for other reasons than a domain that is off */
                return domain && virDomainIsActive(domain) == 0 ? OUTCOME_DOMAIN_OFF : OUTCOME_DOMAIN_BUSY;
        case VIR_ERR_OPERATION_TIMEOUT:        /* someone else's job holds the domain */
        case VIR_ERR_RESOURCE_BUSY:
        case VIR_ERR_MIGRATE_UNSAFE:
                return OUTCOME_DOMAIN_BUSY;
        case VIR_ERR_AGENT_UNSYNCED:
                return OUTCOME_NO_AGENT;
        case VIR_ERR_AGENT_UNRESPONSIVE:
                /* one code for "not connected", "not available for now" and "didn't respond ... within N
                 * seconds" */
                return e->message && strstr(e->message, "respond") ? OUTCOME_TIMED_OUT : OUTCOME_NO_AGENT;
        case VIR_ERR_NO_SUPPORT:
        case VIR_ERR_CONFIG_UNSUPPORTED:
        case VIR_ERR_ARGUMENT_UNSUPPORTED:
        case VIR_ERR_OPERATION_UNSUPPORTED:
        case VIR_ERR_XML_INVALID_SCHEMA:
                return OUTCOME_UNSUPPORTED;
        case VIR_ERR_OPERATION_DENIED:
        case VIR_ERR_AUTH_FAILED:
        case VIR_ERR_AUTH_CANCELLED:
        case VIR_ERR_AUTH_UNAVAILABLE:
        case VIR_ERR_ACCESS_DENIED:
                return OUTCOME_DENIED;
        case VIR_ERR_RPC:
        case VIR_ERR_NO_CONNECT:
        case VIR_ERR_INVALID_CONN:
                return OUTCOME_NO_LIBVIRT;
        default:
                /* "client socket is closed" and its like have no code of their own */
                return e->domain == VIR_FROM_RPC || e->domain == VIR_FROM_REMOTE ? OUTCOME_NO_LIBVIRT :
                                                                                   OUTCOME_FAILED;
        }
}

static const char *remedy_of_code(OutcomeCode code) {
        switch (code) {
        case OUTCOME_NO_DOMAIN:
                return "'virsh list --all' shows the domains";
        case OUTCOME_DOMAIN_OFF:
                return "start it first";
        case OUTCOME_DOMAIN_BUSY:
                return "try again when it is done; 'virsh domjobinfo' shows it";
        case OUTCOME_NO_AGENT:
                return "install hmvisor-guest-agent in the guest and see that it runs";
        case OUTCOME_TIMED_OUT:
                return "see whether the guest is stuck or overloaded";
        case OUTCOME_DENIED:
                return "hmvisord's user must be in group libvirt";
        case OUTCOME_NO_LIBVIRT:
                return "see 'systemctl status libvirtd'; hmvisord reconnects by itself";
        case OUTCOME_UNSUPPORTED:
                return "it needs libvirt's QEMU driver, 10.1 or newer";
        default:
                return "libvirtd's log may say more";
        }
}

int virt_outcome_from_error(virDomainPtr domain, const char *uuid, const char *what, Outcome *o) {
        virErrorPtr e = virSaveLastError();
        const char *name = domain ? virDomainGetName(domain) : NULL;
        OutcomeCode code = e && e->code != VIR_ERR_OK ? code_of_error(domain, e) : OUTCOME_FAILED;
        int r;

        r = outcome_set(o, code, "domain '%s': %s: %.300s; %s", name ?: uuid, what,
                        e && e->message ? e->message : "libvirt gave no reason", remedy_of_code(code));
        virFreeError(e);
        return r;
}

static int reply_set(Call *c, char *text, const char *name) {
        if (text && strlen(text) > VIRT_TEXT_MAX) {
                free(text);
                return outcome_set(&c->outcome, OUTCOME_FAILED,
                                   "domain '%s': the answer is larger than %d MiB; not read", name,
                                   VIRT_TEXT_MAX / 1024 / 1024);
        }
        c->reply = text;
        return 0;
}

static int call_get_metadata(Call *c, virDomainPtr domain) {
        virErrorPtr e;

        c->reply = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, DOMAIN_XML_POLICY_NS,
                                        c->libvirt_flags);
        if (c->reply)
                return 0;
        e = virGetLastError();
        if (e && e->code == VIR_ERR_NO_DOMAIN_METADATA) {
                c->reply = strdup("");
                return 0;
        }
        return virt_outcome_from_error(domain, c->uuid, "reading its policy", &c->outcome);
}

static int call_block_stats(Call *c, virDomainPtr domain) {
        virTypedParameter list[16]; /* libvirt has 8 of them, and its daemon refuses to be asked for more */
        long long read = -1, written = -1, read_ns = -1;
        int n = ELEMENTSOF(list);

        if (virDomainBlockStatsFlags(domain, c->text, list, &n, 0) < 0)
                return virt_outcome_from_error(domain, c->uuid, "reading a disk's statistics", &c->outcome);
        (void) virTypedParamsGetLLong(list, n, VIR_DOMAIN_BLOCK_STATS_READ_BYTES, &read);
        (void) virTypedParamsGetLLong(list, n, VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, &written);
        (void) virTypedParamsGetLLong(list, n, VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, &read_ns);
        virTypedParamsClear(list, n);
        if (read < 0 || written < 0)
                return outcome_set(
                        &c->outcome, OUTCOME_UNSUPPORTED,
                        "domain '%s': nobody counts what is read from and written to its disk '%s'",
                        virDomainGetName(domain), c->text);
        if (read_ns < 0)
                return asprintf(&c->reply, "%lld %lld", read, written) < 0 ? -ENOMEM : 0;
        return asprintf(&c->reply, "%lld %lld %lld", read, written, read_ns) < 0 ? -ENOMEM : 0;
}

static int call_qmp(Call *c, virDomainPtr domain) {
        char *text = NULL;
        int r;

        if (c->fd >= 0)
                r = virDomainQemuMonitorCommandWithFiles(domain, c->text, 1, &c->fd, NULL, NULL, &text, 0);
        else
                r = virDomainQemuMonitorCommand(domain, c->text, &text, 0);
        if (r < 0)
                return virt_outcome_from_error(domain, c->uuid, "asking QEMU", &c->outcome);
        return reply_set(c, text, virDomainGetName(domain));
}

static int call_agent(Call *c, virDomainPtr domain) {
        char *text;

        text = virDomainQemuAgentCommand(domain, c->text, (int) c->timeout_sec, 0);
        if (!text) {
                int code = virGetLastErrorCode();

                (void) virt_outcome_from_error(domain, c->uuid, "asking the guest's agent", &c->outcome);
                /* "QEMU guest agent is not configured" is about this domain, not about libvirt */
                if (code == VIR_ERR_ARGUMENT_UNSUPPORTED)
                        (void) outcome_set(&c->outcome, OUTCOME_NO_AGENT,
                                           "domain '%s' has no agent channel; 'hmvctl bind' adds one",
                                           virDomainGetName(domain));
                return -EIO;
        }
        return reply_set(c, text, virDomainGetName(domain));
}

static int call_define(Call *c, virConnectPtr conn) {
        virDomainPtr domain = virDomainDefineXMLFlags(conn, c->text, 0);

        if (!domain)
                return virt_outcome_from_error(NULL, c->uuid, "defining its new XML", &c->outcome);
        virDomainFree(domain);
        return 0;
}

static void call_refresh(Virt *v, Call *c, virConnectPtr conn) {
        virDomainPtr domain = virDomainLookupByUUIDString(conn, c->uuid);
        VirtEvent e = { .type = VIRT_UNDEFINED, .id = -1 };

        snprintf(e.uuid, sizeof(e.uuid), "%s", c->uuid);
        if (!domain && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN)
                return;      /* the connection breaks: all domains are listed again when it is back */
        if (domain && !virt_event_from_domain(domain, &e) && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN) {
                virDomainFree(domain);
                return;
        }
        snprintf(e.detail, sizeof(e.detail), "%s", c->detail);
        virt_push_event(v, &e);
        if (domain)
                virDomainFree(domain);
}

static void call_poll_job(Virt *v, Call *c, virConnectPtr conn) {
        virDomainPtr domain = virDomainLookupByUUIDString(conn, c->uuid);
        virDomainJobInfo info = { .type = VIR_DOMAIN_JOB_NONE };
        bool over = true;

        if (domain && virDomainIsActive(domain) > 0 && virDomainGetJobInfo(domain, &info) == 0)
                over = info.type != VIR_DOMAIN_JOB_BOUNDED && info.type != VIR_DOMAIN_JOB_UNBOUNDED;
        if (domain)
                virDomainFree(domain);
        virt_job_polled(v, c->uuid, over);
}

static void call_make(Virt *v, Call *c, virConnectPtr conn) {
        virDomainPtr domain;
        int r = 0;

        virResetLastError();
        switch (c->kind) {
        case CALL_REFRESH:
                call_refresh(v, c, conn);
                return;
        case CALL_POLL_JOB:
                call_poll_job(v, c, conn);
                return;
        case CALL_DEFINE_XML:
                (void) call_define(c, conn);
                return;
        default:
                break;
        }
        domain = virDomainLookupByUUIDString(conn, c->uuid);
        if (!domain) {
                (void) virt_outcome_from_error(NULL, c->uuid, "looking it up", &c->outcome);
                return;
        }
        switch (c->kind) {
        case CALL_GET_XML:
                c->reply = virDomainGetXMLDesc(domain, c->libvirt_flags);
                if (!c->reply)
                        (void) virt_outcome_from_error(domain, c->uuid, "reading its XML", &c->outcome);
                break;
        case CALL_UPDATE_DEVICE:
                r = virDomainUpdateDeviceFlags(domain, c->text, c->libvirt_flags);
                if (r < 0)
                        (void) virt_outcome_from_error(domain, c->uuid, "resizing a memory device",
                                                       &c->outcome);
                break;
        case CALL_SET_METADATA:
                r = virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, c->text,
                                         DOMAIN_XML_POLICY_PREFIX, DOMAIN_XML_POLICY_NS, c->libvirt_flags);
                if (r < 0)
                        (void) virt_outcome_from_error(domain, c->uuid, "keeping its policy", &c->outcome);
                break;
        case CALL_GET_METADATA:
                (void) call_get_metadata(c, domain);
                break;
        case CALL_BLOCK_STATS:
                (void) call_block_stats(c, domain);
                break;
        case CALL_QMP:
                (void) call_qmp(c, domain);
                break;
        case CALL_AGENT:
                (void) call_agent(c, domain);
                break;
        default:
                break;
        }
        virDomainFree(domain);
}

/* The oldest call of the lane whose domain has none under way in it; of doubtful ones only so many. */
static Call *call_take_locked(Virt *v, Lane lane) {
        const Call *running[VIRT_CONTROL_WORKERS + VIRT_AGENT_WORKERS];   /* one for each worker at most */
        size_t n = 0, doubtful = 0;
        Call *c;

        DL_FOREACH(v->calls, c)
                if (c->running && c->lane == lane && n < ELEMENTSOF(running)) {
                        running[n++] = c;
                        doubtful += c->doubtful;
                }
        DL_FOREACH(v->calls, c) {
                bool taken = c->doubtful && doubtful >= VIRT_DOUBTFUL_MAX;

                if (c->lane != lane || c->running)
                        continue;
                for (size_t i = 0; i < n; i++)
                        taken |= streq(running[i]->uuid, c->uuid);
                if (!taken)
                        return c;
        }
        return NULL;
}

static void *worker(Virt *v, Lane lane) {
        pthread_mutex_lock(&v->lock);
        while (!v->stopping) {
                Call *c = v->conn ? call_take_locked(v, lane) : NULL;
                virConnectPtr conn;

                if (!c) {
                        pthread_cond_wait(&v->work, &v->lock);
                        continue;
                }
                conn = v->conn;
                virConnectRef(conn);
                c->running = true;
                c->deadline_usec = virt_now() + (c->kind == CALL_AGENT ?
                        c->timeout_sec * USEC_PER_SEC + VIRT_AGENT_GRACE_USEC : VIRT_CALL_USEC);
                pthread_mutex_unlock(&v->lock);

                call_make(v, c, conn);
                virConnectClose(conn);

                pthread_mutex_lock(&v->lock);
                DL_DELETE(v->calls, c);
                c->running = false;
                DL_APPEND(v->done, c);
                virt_wake(v);
                pthread_cond_broadcast(&v->work);   /* the next call of this domain is free to go */
        }
        pthread_mutex_unlock(&v->lock);
        virt_thread_ends(v);
        return NULL;
}

void *virt_control_worker(void *userdata) {
        return worker(userdata, LANE_CONTROL);
}

void *virt_agent_worker(void *userdata) {
        return worker(userdata, LANE_AGENT);
}
