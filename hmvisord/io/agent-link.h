/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The conversation with one guest's agent: prepare, orders and their status, figures. One request under way
 * at a time and few a second, as libvirt lets an agent do one thing at a time and others need it too.
 * Believes nothing, waits for nothing, and says when the guest does not keep up. Knows neither libvirt nor
 * clocks.
 */
#pragma once

#include "base/outcome.h"
#include "proto/agent.h"

typedef struct AgentLink AgentLink;

typedef enum AgentHealth {
        AGENT_ABSENT,        /* no channel, or nobody connected to it */
        AGENT_ASKED,         /* not known yet */
        AGENT_READY,         /* prepared as wanted: takes orders when manage is wanted */
        AGENT_FAILING,       /* the outcome says why; asked again with back-off */
} AgentHealth;

/* Sends a request. Returns 0 when agent_link_reply() will come, else -errno. */
typedef int (*AgentSend)(const char *json, unsigned timeout_sec, void *userdata);

int agent_link_new(AgentSend send, void *userdata, AgentLink **ret);
AgentLink *agent_link_free(AgentLink *l);
DEFINE_CLEANUP(AgentLink *, agent_link_free);

/* What libvirt says of the channel. Anything that happened to the guest's end is told by connected = false
 * first. */
void agent_link_set_connected(AgentLink *l, bool connected, usec_t now);
/* Whether the guest is to be prepared for orders. Ending it cancels the order under way first. */
void agent_link_set_manage(AgentLink *l, bool manage, usec_t now);
/* While frozen (paused, migrating) nothing is sent and no deadline runs. */
void agent_link_set_frozen(AgentLink *l, bool frozen, usec_t now);

void agent_link_run(AgentLink *l, usec_t now);
void agent_link_reply(AgentLink *l, const Outcome *failure, const char *text, usec_t now);

AgentHealth agent_link_health(const AgentLink *l);
const Outcome *agent_link_outcome(const AgentLink *l);      /* why it is FAILING */
const AgentPrepared *agent_link_prepared(const AgentLink *l); /* NULL: our agent has never answered */
const AgentStats *agent_link_stats(const AgentLink *l);     /* NULL: none that are fresh */
/* What the guest says of its swapping, per second, between its last two answers; UINT64_MAX: not known. */
typedef struct AgentSwap {
        uint64_t in_bytes;          /* read back */
        uint64_t stall_usec;        /* that some task waited for memory */
} AgentSwap;
AgentSwap agent_link_swap(const AgentLink *l);
bool agent_link_is_idle(const AgentLink *l);                /* nothing under way and nothing to undo */
/* No answer is waited for, and nothing is to be asked at once. */
bool agent_link_is_calm(const AgentLink *l);
bool agent_link_answers(const AgentLink *l);                /* it did the last time, so it may now */
/* May the guest still be changed by us (prepared with manage = true, or that was asked and not answered)? */
bool agent_link_holds_guest(const AgentLink *l);

/* Takes over the lists within order. -EBUSY: one is under way, -ENOTCONN: not ready, -EINVAL: out of bounds.
 */
int agent_link_submit(AgentLink *l, AgentOrder *order, usec_t now);

typedef enum AgentProgress {
        AGENT_NO_ORDER,
        AGENT_UNDER_WAY,
        AGENT_FINISHED,       /* the guest did what it could */
        AGENT_NOT_DONE,       /* refused, cancelled, expired, forgotten, or no answer in time */
} AgentProgress;
/* ret_status (may be NULL): as last heard. FINISHED and NOT_DONE stay until agent_link_forget_order(). */
AgentProgress agent_link_progress(const AgentLink *l, uint64_t *ret_order, AgentStatus *ret_status);
void agent_link_forget_order(AgentLink *l);
