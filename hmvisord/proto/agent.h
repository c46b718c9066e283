/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest's half of the protocol (docs/protocol.md, 2): orders as text, answers as bounded plain values.
 * Pure. Every answer is written by a guest: nothing in it is believed beyond what was ordered.
 */
#pragma once

#include "base/outcome.h"

#define AGENT_ORDER_PAGES_MAX 65536
#define AGENT_ORDER_RANGES_MAX 16384
#define AGENT_NODES_MAX 16

typedef struct AgentRange {
        uint64_t pfn;
        uint64_t n_pages;
} AgentRange;

typedef struct AgentPages {
        uint32_t node;               /* where they shall go */
        AgentRange *ranges;
        size_t n_ranges;
        uint64_t n_pages;            /* of all ranges */
        uint64_t most;               /* of them, of a demote list alone; 0: no such bound */
} AgentPages;

typedef struct AgentOrder {
        uint64_t id;                 /* > 0 */
        AgentPages promote, demote;  /* n_ranges 0: none */
        uint32_t deadline_ms;
} AgentOrder;
void agent_order_done(AgentOrder *o);   /* frees the lists within */

typedef enum AgentSkip {
        AGENT_SKIP_FREE,
        AGENT_SKIP_ALREADY_THERE,
        AGENT_SKIP_UNMOVABLE,
        AGENT_SKIP_PINNED,
        AGENT_SKIP_NO_ROOM,
        AGENT_SKIP_NOT_RAM,
        AGENT_SKIP_OTHER,
        _AGENT_SKIP_MAX,
} AgentSkip;

typedef enum AgentState {
        AGENT_QUEUED,
        AGENT_RUNNING,
        AGENT_DONE,
        AGENT_CANCELLED,
        AGENT_EXPIRED,
        AGENT_BUSY,
        AGENT_UNKNOWN,
        _AGENT_STATE_MAX,
} AgentState;
const char *agent_state_to_string(AgentState s);

typedef struct AgentStatus {
        AgentState state;
        char mover[16];
        uint64_t promoted, demoted;             /* pages, at most what was ordered */
        uint64_t skipped[_AGENT_SKIP_MAX];      /* pages, together at most what was ordered */
        uint64_t elapsed_usec;
} AgentStatus;

typedef struct AgentPrepared {
        char version[64], kernel[128];
        int32_t kernel_node;                    /* where its kernel's own data are; -1: not said */
        char online_policy[32];
        char changed[256];                      /* what it turned off, with spaces between */
} AgentPrepared;

typedef struct AgentNode {
        uint32_t node;
        uint64_t total_bytes, free_bytes;
        uint64_t foreign_pages;                 /* ever wanted here, got elsewhere; UINT64_MAX: not said */
} AgentNode;

typedef struct AgentStats {
        AgentNode nodes[AGENT_NODES_MAX];
        size_t n_nodes;
        uint64_t available_bytes;               /* UINT64_MAX: not said */
        uint64_t swap_free_bytes;               /* UINT64_MAX: not said */
        uint64_t swap_in_pages;                 /* ever read back; UINT64_MAX: not said */
        uint64_t psi_some_usec;                 /* ever, some task waited for memory; UINT64_MAX: not said */
} AgentStats;

/* The caller frees *ret. -EINVAL: an order outside the protocol's bounds. */
int agent_request_prepare(bool manage, char **ret);
int agent_request_submit(const AgentOrder *order, char **ret);
int agent_request_status(uint64_t id, char **ret);
int agent_request_cancel(uint64_t id, char **ret);
int agent_request_stats(char **ret);

/* Each returns 0, or -EIO with FAILED and what is wrong with the answer. */
int agent_reply_parse_prepared(const char *text, AgentPrepared *ret, Outcome *o);
/* order: what was asked about; the counts are bounded by it. */
int agent_reply_parse_status(const char *text, const AgentOrder *order, AgentStatus *ret, Outcome *o);
int agent_reply_parse_stats(const char *text, AgentStats *ret, Outcome *o);
