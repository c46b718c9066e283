/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Builds and reads the messages of the guest agent's extension. An answer that breaks the protocol is
 * refused as a whole; counts beyond what was ordered are cut.
 */
#include "proto/agent.h"

#include "proto/reply.h"

#define COMMAND "__org.hmvisor_"

static const char *const state_names[_AGENT_STATE_MAX] = {
        [AGENT_QUEUED] = "queued",       [AGENT_RUNNING] = "running", [AGENT_DONE] = "done",
        [AGENT_CANCELLED] = "cancelled", [AGENT_EXPIRED] = "expired", [AGENT_BUSY] = "busy",
        [AGENT_UNKNOWN] = "unknown",
};

static const char *const skip_names[_AGENT_SKIP_MAX] = {
        [AGENT_SKIP_FREE] = "free",
        [AGENT_SKIP_ALREADY_THERE] = "already-there",
        [AGENT_SKIP_UNMOVABLE] = "unmovable",
        [AGENT_SKIP_PINNED] = "pinned",
        [AGENT_SKIP_NO_ROOM] = "no-room",
        [AGENT_SKIP_NOT_RAM] = "not-ram",
        [AGENT_SKIP_OTHER] = "other",
};

const char *agent_state_to_string(AgentState s) {
        return s < _AGENT_STATE_MAX ? state_names[s] : "unknown";
}

void agent_order_done(AgentOrder *o) {
        free(o->promote.ranges);
        free(o->demote.ranges);
        *o = (AgentOrder){};
}

int agent_request_prepare(bool manage, char **ret) {
        json_object *a = json_object_new_object();

        if (a)
                json_object_object_add(a, "manage", json_object_new_boolean(manage));
        return a ? request_new(COMMAND "prepare", a, ret) : -ENOMEM;
}

static int pages_check(const AgentPages *p) {
        uint64_t n = 0;

        if (p->n_ranges > AGENT_ORDER_RANGES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < p->n_ranges; i++) {
                if (p->ranges[i].n_pages == 0 || p->ranges[i].n_pages > AGENT_ORDER_PAGES_MAX ||
                    p->ranges[i].pfn > REPLY_NUMBER_MAX)
                        return -EINVAL;
                n += p->ranges[i].n_pages;
        }
        return n > AGENT_ORDER_PAGES_MAX || n != p->n_pages || p->most > n ? -EINVAL : 0;
}

static int pages_add(json_object *arguments, const char *key, const AgentPages *p) {
        json_object *o, *list;

        if (p->n_ranges == 0)
                return 0;
        o = json_object_new_object();
        if (!o || json_object_object_add(arguments, key, o) < 0)
                return -ENOMEM;
        json_object_object_add(o, "node", json_object_new_uint64(p->node));
        if (p->most > 0)
                json_object_object_add(o, "most", json_object_new_uint64(p->most));
        list = json_object_new_array_ext((int) p->n_ranges * 2);
        if (!list || json_object_object_add(o, "ranges", list) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < p->n_ranges; i++)
                if (json_object_array_add(list, json_object_new_uint64(p->ranges[i].pfn)) < 0 ||
                    json_object_array_add(list, json_object_new_uint64(p->ranges[i].n_pages)) < 0)
                        return -ENOMEM;
        return 0;
}

int agent_request_submit(const AgentOrder *order, char **ret) {
        _cleanup_json_ json_object *a = NULL;

        if (order->id == 0 || order->id > REPLY_NUMBER_MAX || pages_check(&order->promote) < 0 ||
            pages_check(&order->demote) < 0 || order->promote.n_ranges + order->demote.n_ranges == 0)
                return -EINVAL;
        a = json_object_new_object();
        if (!a || pages_add(a, "promote", &order->promote) < 0 || pages_add(a, "demote", &order->demote) < 0)
                return -ENOMEM;
        json_object_object_add(a, "order", json_object_new_uint64(order->id));
        if (order->deadline_ms > 0)
                json_object_object_add(a, "deadline-ms", json_object_new_uint64(order->deadline_ms));
        return request_new(COMMAND "migrate-submit", TAKE_PTR(a), ret);
}

static int request_about(const char *command, uint64_t id, char **ret) {
        json_object *a = json_object_new_object();

        if (a)
                json_object_object_add(a, "order", json_object_new_uint64(id));
        return a ? request_new(command, a, ret) : -ENOMEM;
}

int agent_request_status(uint64_t id, char **ret) {
        return request_about(COMMAND "migrate-status", id, ret);
}

int agent_request_cancel(uint64_t id, char **ret) {
        return request_about(COMMAND "migrate-cancel", id, ret);
}

int agent_request_stats(char **ret) {
        return request_new(COMMAND "stats", NULL, ret);
}

static int garbage(Outcome *o, const char *what) {
        return outcome_set(o, OUTCOME_FAILED,
                           "the guest's agent answers what is not in the protocol (%s); update "
                           "hmvisor-guest-agent in the guest, or do not trust this guest",
                           what);
}

/* The object behind "return". libvirt already turned the agent's own errors into errors of the call. */
static int object_parse(const char *text, json_object **ret_root, json_object **ret_value, Outcome *o) {
        ReplyError error = {};
        int r;

        r = reply_parse(text, ret_root, ret_value, &error);
        if (r == -EREMOTEIO)
                return outcome_set(o, OUTCOME_FAILED, "the guest's agent refused: %s", error.text);
        if (r == -E2BIG)
                return garbage(o, "an answer of more than 64 KiB");
        if (r < 0)
                return garbage(o, "no answer in JSON");
        if (!json_object_is_type(*ret_value, json_type_object))
                return garbage(o, "no object");
        return 0;
}

/* A member that may be absent, and then leaves *ret as it is. */
static int get_optional(json_object *o, const char *key, uint64_t *ret) {
        int r = reply_get_number(o, key, REPLY_NUMBER_MAX, ret);

        return r == -ENODATA ? 0 : r;
}

int agent_reply_parse_prepared(const char *text, AgentPrepared *ret, Outcome *o) {
        _cleanup_json_ json_object *root = NULL;
        json_object *v = NULL, *list;
        AgentPrepared p = {};
        size_t n = 0, used = 0;
        uint64_t kernel_node;
        int r;

        if (object_parse(text, &root, &v, o) < 0)
                return -EIO;
        if (reply_get_text(v, "version", p.version, sizeof(p.version)) < 0 || p.version[0] == '\0')
                return garbage(o, "prepare without a version");
        (void) reply_get_text(v, "kernel", p.kernel, sizeof(p.kernel));
        r = reply_get_number(v, "kernel-node", 1023, &kernel_node);
        p.kernel_node = r < 0 ? -1 : (int32_t) kernel_node;
        (void) reply_get_text(v, "online-policy", p.online_policy, sizeof(p.online_policy));
        if (reply_get_list(v, "changed", 32, &list, &n) < 0)
                n = 0;
        for (size_t i = 0; i < n; i++) {
                json_object *item = json_object_array_get_idx(list, i);
                char word[64];

                if (!json_object_is_type(item, json_type_string))
                        return garbage(o, "member 'changed'");
                reply_copy_text(word, sizeof(word), json_object_get_string(item));
                if (used + strlen(word) + 2 > sizeof(p.changed))
                        break;
                used += (size_t) snprintf(p.changed + used, sizeof(p.changed) - used, "%s%s",
                                          used ? " " : "", word);
        }
        *ret = p;
        return 0;
}

static int state_read(json_object *v, AgentStatus *s) {
        char text[16];

        if (reply_get_text(v, "state", text, sizeof(text)) < 0)
                return -EBADMSG;
        for (AgentState i = 0; i < _AGENT_STATE_MAX; i++)
                if (streq(text, state_names[i])) {
                        s->state = i;
                        return 0;
                }
        return -EBADMSG;
}

int agent_reply_parse_status(const char *text, const AgentOrder *order, AgentStatus *ret, Outcome *o) {
        _cleanup_json_ json_object *root = NULL;
        json_object *v = NULL, *skipped = NULL;
        uint64_t id = 0, left = order->promote.n_pages + order->demote.n_pages;
        AgentStatus s = {};

        if (object_parse(text, &root, &v, o) < 0)
                return -EIO;
        if (reply_get_number(v, "order", REPLY_NUMBER_MAX, &id) < 0 || id != order->id)
                return garbage(o, "a status of another order");
        if (state_read(v, &s) < 0)
                return garbage(o, "no known state");
        (void) reply_get_text(v, "mover", s.mover, sizeof(s.mover));
        if (get_optional(v, "promoted", &s.promoted) < 0 || get_optional(v, "demoted", &s.demoted) < 0 ||
            get_optional(v, "elapsed-us", &s.elapsed_usec) < 0)
                return garbage(o, "bad counts");
        s.promoted = MIN(s.promoted, order->promote.n_pages);
        s.demoted = MIN(s.demoted, order->demote.n_pages);
        left -= s.promoted + s.demoted;
        if (json_object_object_get_ex(v, "skipped", &skipped)) {
                if (!json_object_is_type(skipped, json_type_object))
                        return garbage(o, "member 'skipped'");
                for (AgentSkip i = 0; i < _AGENT_SKIP_MAX; i++) {
                        if (get_optional(skipped, skip_names[i], &s.skipped[i]) < 0)
                                return garbage(o, "bad counts in 'skipped'");
                        s.skipped[i] = MIN(s.skipped[i], left);
                        left -= s.skipped[i];
                }
        }
        *ret = s;
        return 0;
}

int agent_reply_parse_stats(const char *text, AgentStats *ret, Outcome *o) {
        _cleanup_json_ json_object *root = NULL;
        json_object *v = NULL, *list;
        AgentStats s = { .available_bytes = UINT64_MAX,
                         .swap_free_bytes = UINT64_MAX,
                         .swap_in_pages = UINT64_MAX,
                         .psi_some_usec = UINT64_MAX };
        size_t n;

        if (object_parse(text, &root, &v, o) < 0)
                return -EIO;
        if (reply_get_list(v, "nodes", AGENT_NODES_MAX, &list, &n) < 0)
                return garbage(o, "member 'nodes'");
        for (size_t i = 0; i < n; i++) {
                json_object *item = json_object_array_get_idx(list, i);
                AgentNode *node = &s.nodes[s.n_nodes];
                uint64_t number;

                if (!json_object_is_type(item, json_type_object) ||
                    reply_get_number(item, "node", 1023, &number) < 0 ||
                    reply_get_number(item, "total", REPLY_NUMBER_MAX, &node->total_bytes) < 0 ||
                    reply_get_number(item, "free", REPLY_NUMBER_MAX, &node->free_bytes) < 0)
                        return garbage(o, "a node of 'nodes'");
                node->foreign_pages = UINT64_MAX;
                if (get_optional(item, "foreign", &node->foreign_pages) < 0)
                        return garbage(o, "member 'foreign'");
                node->node = (uint32_t) number;
                node->free_bytes = MIN(node->free_bytes, node->total_bytes);
                s.n_nodes++;
        }
        if (get_optional(v, "available", &s.available_bytes) < 0)
                return garbage(o, "member 'available'");
        if (get_optional(v, "swap-free", &s.swap_free_bytes) < 0)
                return garbage(o, "member 'swap-free'");
        if (get_optional(v, "swap-in", &s.swap_in_pages) < 0)
                return garbage(o, "member 'swap-in'");
        if (get_optional(v, "psi-some-us", &s.psi_some_usec) < 0)
                return garbage(o, "member 'psi-some-us'");
        if (s.psi_some_usec == 0) /* what the agent says of a kernel that does not count it */
                s.psi_some_usec = UINT64_MAX;
        *ret = s;
        return 0;
}
