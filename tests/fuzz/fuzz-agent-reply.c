/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Fuzz target: whatever a guest's agent answers. What is taken must be within what was ordered.
 */
#include "proto/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const AgentOrder order = { .id = 42, .promote.n_pages = 10, .demote.n_pages = 20 };
        _cleanup_free_ char *text = malloc(size + 1);
        AgentPrepared prepared;
        AgentStatus status;
        AgentStats stats;
        Outcome o = {};

        if (!text)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';
        (void) agent_reply_parse_prepared(text, &prepared, &o);
        if (agent_reply_parse_stats(text, &stats, &o) >= 0)
                for (size_t i = 0; i < stats.n_nodes; i++)
                        if (stats.nodes[i].free_bytes > stats.nodes[i].total_bytes)
                                abort();
        if (agent_reply_parse_status(text, &order, &status, &o) >= 0) {
                uint64_t pages = status.promoted + status.demoted;

                for (AgentSkip i = 0; i < _AGENT_SKIP_MAX; i++)
                        pages += status.skipped[i];
                if (status.promoted > 10 || status.demoted > 20 || pages > 30)
                        abort();
        }
        return 0;
}
