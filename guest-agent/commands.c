/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The commands of the host: see commands.h. Everything here is parsed strictly: depth, types, members,
 * bounds.
 */
#include "commands.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <sys/utsname.h>

#include "base/log.h"
#include "config.h"
#include "nodes.h"
#include "pressure.h"

#define PREFIX "__org.hmvisor_"
#define JSON_DEPTH_MAX 16
#define DEADLINE_MS_MAX 600000

typedef struct json_object json_object;

static void json_put(json_object **o) {
        if (*o)
                json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(json_put)

/* Answers with a result, or with the text of an error. */
typedef int (*CommandHandler)(Commands *c, json_object *arguments, json_object **ret,
                              char error[static 256]);

#define FAIL(error, ...) (snprintf((error), 256, __VA_ARGS__), -EINVAL)

static char *error_make(const char *class, const char *text, json_object *id) {
        _cleanup_json_ json_object *reply = json_object_new_object(), *body = json_object_new_object();
        char *line = NULL;

        json_object_object_add(body, "class", json_object_new_string(class));
        json_object_object_add(body, "desc", json_object_new_string(text));
        json_object_object_add(reply, "error", json_object_get(body));
        if (id)
                json_object_object_add(reply, "id", json_object_get(id));
        return asprintf(&line, "%s\n", json_object_to_json_string_ext(reply, JSON_C_TO_STRING_SPACED)) < 0
                       ? NULL
                       : line;
}

char *commands_error(const char *class, const char *format, ...) {
        char text[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        return error_make(class, text, NULL);
}

static char *reply_make(json_object *result, json_object *id) {
        _cleanup_json_ json_object *reply = json_object_new_object();
        char *line = NULL;

        json_object_object_add(reply, "return", json_object_get(result));
        if (id)
                json_object_object_add(reply, "id", json_object_get(id));
        return asprintf(&line, "%s\n", json_object_to_json_string_ext(reply, JSON_C_TO_STRING_SPACED)) < 0
                       ? NULL
                       : line;
}

static json_object *number(uint64_t v) {
        return json_object_new_int64((int64_t) MIN(v, (uint64_t) INT64_MAX));
}

/* Refuses members that are not in the NULL-terminated list. */
static int members_check(json_object *o, const char *what, char error[static 256],
                         const char *const allowed[]) {
        json_object_object_foreach(o, key, value) {
                bool known = false;

                (void) value;
                for (size_t i = 0; allowed[i]; i++)
                        known = known || streq(allowed[i], key);
                if (!known)
                        return FAIL(error, "%s has no member '%.64s'", what, key);
        }
        return 0;
}

/* A whole number from min to max. Returns 1, 0 where the member is absent, or -EINVAL. */
static int number_get(json_object *o, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
                      char error[static 256]) {
        json_object *v;
        int64_t i;

        if (!json_object_object_get_ex(o, name, &v))
                return 0;
        i = json_object_get_int64(v);
        if (!json_object_is_type(v, json_type_int) || i < 0 || (uint64_t) i < min || (uint64_t) i > max ||
            json_object_get_uint64(v) != (uint64_t) i) /* 2^63 and more: get_int64 returns INT64_MAX */
                return FAIL(error, "'%s' must be a whole number from %" PRIu64 " to %" PRIu64, name, min,
                            max);
        *ret = (uint64_t) i;
        return 1;
}

/* Element of an array of page frames and counts. */
static bool element_get(json_object *array, size_t i, uint64_t min, uint64_t max, uint64_t *ret) {
        json_object *v = json_object_array_get_idx(array, i);
        int64_t n;

        if (!json_object_is_type(v, json_type_int))
                return false;
        n = json_object_get_int64(v);
        if (n < 0 || (uint64_t) n < min || (uint64_t) n > max)
                return false;
        *ret = (uint64_t) n;
        return true;
}

static int list_get(json_object *arguments, const char *name, OrderList *ret, char error[static 256]) {
        static const char *const members[] = { "node", "ranges", "most", NULL };
        _cleanup_free_ PageRange *ranges = NULL;
        json_object *o, *array;
        uint64_t node, total = 0, most = 0;
        size_t n;
        int r;

        if (!json_object_object_get_ex(arguments, name, &o))
                return 0;
        if (!json_object_is_type(o, json_type_object))
                return FAIL(error, "'%s' must be an object", name);
        r = members_check(o, name, error, members);
        if (r < 0)
                return r;
        r = number_get(o, "node", 0, NODES_MAX - 1, &node, error);
        if (r < 0)
                return r;
        if (r == 0 || !json_object_object_get_ex(o, "ranges", &array) ||
            !json_object_is_type(array, json_type_array))
                return FAIL(error, "'%s' needs a number 'node' and an array 'ranges'", name);
        r = number_get(o, "most", 1, ORDER_PAGES_MAX, &most, error);
        if (r < 0)
                return r;
        n = json_object_array_length(array);
        if (n % 2 != 0 || n / 2 > ORDER_RANGES_MAX)
                return FAIL(error, "'ranges' of '%s' must be pairs of pfn and count, at most %d of them",
                            name, ORDER_RANGES_MAX);
        ranges = calloc(n / 2 + 1, sizeof(PageRange));
        if (!ranges)
                return -ENOMEM;
        for (size_t i = 0; i < n / 2; i++) {
                if (!element_get(array, 2 * i, 0, ORDER_PFN_MAX, &ranges[i].pfn) ||
                    !element_get(array, 2 * i + 1, 1, ORDER_PAGES_MAX, &ranges[i].count))
                        return FAIL(error, "pair %zu of '%s' is not a page frame number and a count", i,
                                    name);
                total += ranges[i].count;
                if (total > ORDER_PAGES_MAX)
                        return FAIL(error, "'%s' names more than %d pages", name, ORDER_PAGES_MAX);
        }
        *ret = (OrderList) { (int) node, TAKE_PTR(ranges), n / 2, most };
        return 0;
}

static json_object *status_make(const OrderStatus *s) {
        static const struct {
                const char *name;
                PageResult result;
        } reasons[] = {
                { "free", PAGE_FREE },       { "already-there", PAGE_ALREADY_THERE },
                { "unmovable", PAGE_UNMOVABLE }, { "pinned", PAGE_PINNED },
                { "no-room", PAGE_NO_ROOM }, { "not-ram", PAGE_NOT_RAM },
                { "other", PAGE_OTHER },
        };
        json_object *o = json_object_new_object(), *skipped = json_object_new_object();

        json_object_object_add(o, "order", number(s->id));
        json_object_object_add(o, "state", json_object_new_string(order_state_to_string(s->state)));
        json_object_object_add(o, "mover", json_object_new_string(s->result.mover));
        json_object_object_add(o, "promoted", number(s->result.promoted));
        json_object_object_add(o, "demoted", number(s->result.demoted));
        json_object_object_add(o, "elapsed-us", number(s->elapsed));
        for (size_t i = 0; i < ELEMENTSOF(reasons); i++)
                json_object_object_add(skipped, reasons[i].name,
                                       number(s->result.skipped[reasons[i].result]));
        json_object_object_add(o, "skipped", skipped);
        return o;
}

static void request_cleanup(OrderRequest *request) {
        order_request_done(request);
}

static int handle_submit(Commands *c, json_object *arguments, json_object **ret, char error[static 256]) {
        static const char *const members[] = { "order", "promote", "demote", "deadline-ms", NULL };
        _cleanup_(request_cleanup) OrderRequest request = { .promote.node = -1, .demote.node = -1 };
        uint64_t deadline_ms = ORDER_DEADLINE_DEFAULT / USEC_PER_MSEC;
        OrderStatus status;
        int r;

        r = members_check(arguments, "migrate-submit", error, members);
        if (r >= 0)
                r = number_get(arguments, "order", 1, INT64_MAX, &request.id, error);
        if (r == 0)
                return FAIL(error, "'order' is missing");
        if (r >= 0)
                r = number_get(arguments, "deadline-ms", 1, DEADLINE_MS_MAX, &deadline_ms, error);
        if (r >= 0)
                r = list_get(arguments, "promote", &request.promote, error);
        if (r >= 0)
                r = list_get(arguments, "demote", &request.demote, error);
        if (r < 0)
                return r;
        if (request.promote.node < 0 && request.demote.node < 0)
                return FAIL(error, "an order needs 'promote' or 'demote'");
        if (request.promote.most > 0 || (request.promote.node >= 0 && request.demote.most > 0))
                return FAIL(error, "'most' is for a 'demote' without 'promote'");
        if (request.promote.node == request.demote.node)
                return FAIL(error, "'promote' and 'demote' name the same node");
        request.deadline = deadline_ms * USEC_PER_MSEC;
        order_queue_submit(c->orders, &request, &status);
        *ret = status_make(&status);
        return 0;
}

static int order_get(json_object *arguments, uint64_t *ret_id, char error[static 256]) {
        static const char *const members[] = { "order", NULL };
        int r;

        r = members_check(arguments, "the command", error, members);
        if (r >= 0)
                r = number_get(arguments, "order", 1, INT64_MAX, ret_id, error);
        return r == 0 ? FAIL(error, "'order' is missing") : r;
}

/* Looks an order up, or cancels it: either way the answer is its status. */
static int handle_order(Commands *c, void (*look)(OrderQueue *q, uint64_t id, OrderStatus *ret),
                        json_object *arguments, json_object **ret, char error[static 256]) {
        OrderStatus status;
        uint64_t id = 0;
        int r;

        r = order_get(arguments, &id, error);
        if (r < 0)
                return r;
        look(c->orders, id, &status);
        *ret = status_make(&status);
        return 0;
}

static int handle_status(Commands *c, json_object *arguments, json_object **ret, char error[static 256]) {
        return handle_order(c, order_queue_status, arguments, ret, error);
}

static int handle_cancel(Commands *c, json_object *arguments, json_object **ret, char error[static 256]) {
        return handle_order(c, order_queue_cancel, arguments, ret, error);
}

static void prepare_undo(Commands *c) {
        order_queue_quiesce(c->orders);
        (void) prepare_stop(&c->prepare);
        c->lease_until = USEC_INFINITY;
}

static json_object *prepare_report(const Commands *c) {
        json_object *o = json_object_new_object(), *movers = json_object_new_array(),
                    *list = json_object_new_array(), *changed = json_object_new_array();
        int nodes[NODES_MAX], n;
        char text[256];

        json_object_object_add(o, "version", json_object_new_string(HMV_VERSION));
        if (sysfile_read(c->root, text, sizeof(text), "proc/sys/kernel/osrelease") < 0)
                text[0] = '\0';
        json_object_object_add(o, "kernel", json_object_new_string_len(text, (int) strcspn(text, "\n")));
        if (mover_damon_available(c->root))
                json_object_array_add(movers, json_object_new_string("damon"));
        if (mover_pagemap_available(c->root))
                json_object_array_add(movers, json_object_new_string("pagemap"));
        json_object_object_add(o, "movers", movers);
        n = node_list_read(c->root, nodes, NODES_MAX);
        for (int i = 0; i < n; i++)
                json_object_array_add(list, json_object_new_int(nodes[i]));
        json_object_object_add(o, "nodes", list);
        n = node_of_kernel(c->root);
        if (n >= 0)
                json_object_object_add(o, "kernel-node", json_object_new_int(n));
        if (sysfile_read(c->root, text, sizeof(text), "sys/devices/system/memory/auto_online_blocks") < 0)
                text[0] = '\0';
        json_object_object_add(o, "online-policy",
                               json_object_new_string_len(text, (int) strcspn(text, "\n")));
        for (size_t i = 0; i < PREPARE_SETTINGS; i++)
                if (prepare_changed(&c->prepare, i))
                        json_object_array_add(changed,
                                              json_object_new_string(prepare_changed(&c->prepare, i)));
        json_object_object_add(o, "changed", changed);
        return o;
}

static int handle_prepare(Commands *c, json_object *arguments, json_object **ret, char error[static 256]) {
        static const char *const members[] = { "manage", NULL };
        json_object *manage;
        int r;

        r = members_check(arguments, "prepare", error, members);
        if (r < 0)
                return r;
        if (!json_object_object_get_ex(arguments, "manage", &manage) ||
            !json_object_is_type(manage, json_type_boolean))
                return FAIL(error, "'manage' must be true or false");
        if (json_object_get_boolean(manage)) {
                if (prepare_start(&c->prepare) < 0)
                        log_warning("The guest's own tiering is only partly off.");
        } else
                prepare_undo(c);
        *ret = prepare_report(c);
        return 0;
}

static int handle_stats(Commands *c, json_object *arguments, json_object **ret, char error[static 256]) {
        static const char *const members[] = { NULL };
        json_object *o, *nodes;
        uint64_t promoted, demoted;
        Pressure p;
        int r;

        r = members_check(arguments, "stats", error, members);
        if (r < 0)
                return r;
        r = pressure_read(c->root, &p);
        if (r < 0)
                return FAIL(error, "cannot read the memory statistics: %s", strerror(-r));
        o = json_object_new_object();
        nodes = json_object_new_array();
        for (size_t i = 0; i < p.n_nodes; i++) {
                json_object *node = json_object_new_object();

                json_object_object_add(node, "node", json_object_new_int(p.nodes[i].node));
                json_object_object_add(node, "total", number(p.nodes[i].total));
                json_object_object_add(node, "free", number(p.nodes[i].free));
                json_object_object_add(node, "file", number(p.nodes[i].file));
                json_object_object_add(node, "anon", number(p.nodes[i].anon));
                json_object_object_add(node, "foreign", number(p.nodes[i].foreign));
                json_object_array_add(nodes, node);
        }
        order_queue_totals(c->orders, &promoted, &demoted);
        json_object_object_add(o, "nodes", nodes);
        json_object_object_add(o, "available", number(p.available));
        json_object_object_add(o, "swap-total", number(p.swap_total));
        json_object_object_add(o, "swap-free", number(p.swap_free));
        json_object_object_add(o, "swap-in", number(p.swap_in));
        json_object_object_add(o, "swap-out", number(p.swap_out));
        json_object_object_add(o, "oom-kills", number(p.oom_kills));
        json_object_object_add(o, "psi-some-us", number(p.psi_some_usec));
        json_object_object_add(o, "psi-full-us", number(p.psi_full_usec));
        json_object_object_add(o, "promoted", number(promoted));
        json_object_object_add(o, "demoted", number(demoted));
        *ret = o;
        return 0;
}

static const struct {
        const char *name;
        CommandHandler handler;
} commands[] = {
        { PREFIX "prepare", handle_prepare },
        { PREFIX "migrate-submit", handle_submit },
        { PREFIX "migrate-status", handle_status },
        { PREFIX "migrate-cancel", handle_cancel },
        { PREFIX "stats", handle_stats },
};

/* Parses one complete text; strict also refuses what only QEMU's own parser takes ('single quotes'). */
static json_object *text_parse(const char *text, size_t n, bool strict, enum json_tokener_error *ret_error) {
        struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
        json_object *o = NULL;

        *ret_error = json_tokener_error_size;
        if (!tokener || n > COMMAND_REQUEST_MAX)
                goto finish;
        if (strict)
                json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        o = json_tokener_parse_ex(tokener, text, (int) n);
        *ret_error = json_tokener_get_error(tokener);
finish:
        if (tokener)
                json_tokener_free(tokener);
        return o;
}

bool commands_may_continue(const char *bytes, size_t n) {
        enum json_tokener_error error;
        _cleanup_json_ _unused_ json_object *o = text_parse(bytes, n, false, &error);

        return error == json_tokener_continue;
}

static int request_handle(Commands *c, size_t which, json_object *request, usec_t now, char **ret_reply) {
        static const char *const members[] = { "execute", "arguments", "id", NULL };
        _cleanup_json_ json_object *empty = json_object_new_object(), *result = NULL;
        json_object *arguments, *id = NULL;
        char error[256] = "";
        int r;

        (void) json_object_object_get_ex(request, "id", &id);
        if (!json_object_object_get_ex(request, "arguments", &arguments)) /* which clears it */
                arguments = empty;
        r = members_check(request, "a request", error, members);
        if (r >= 0 && !json_object_is_type(arguments, json_type_object))
                r = FAIL(error, "'arguments' must be an object");
        if (r >= 0)
                r = commands[which].handler(c, arguments, &result, error);
        if (r == -ENOMEM)
                return r;
        c->lease_until = c->prepare.managing ? now + c->lease : USEC_INFINITY;
        *ret_reply = r < 0 ? error_make("GenericError", error, id) : reply_make(result, id);
        return *ret_reply ? COMMAND_OURS : -ENOMEM;
}

int commands_handle(Commands *c, const char *request, size_t n, usec_t now, char **ret_reply) {
        bool ours = memmem(request, n, PREFIX, strlen(PREFIX)),
             info = memmem(request, n, "guest-info", strlen("guest-info"));
        _cleanup_json_ json_object *o = NULL;
        enum json_tokener_error error;
        json_object *execute;

        if (!ours && !info)
                return memmem(request, n, "guest-sync", strlen("guest-sync")) ? COMMAND_SYNC
                                                                              : COMMAND_FOREIGN;
        o = text_parse(request, n, true, &error);
        if (!json_object_is_type(o, json_type_object) ||
            !json_object_object_get_ex(o, "execute", &execute) ||
            !json_object_is_type(execute, json_type_string)) {
                if (!ours)
                        return COMMAND_INFO; /* perhaps in a form that only the stock agent understands */
                *ret_reply = commands_error("GenericError", "malformed request: %s",
                                            o ? "'execute' is missing" :
                                            n > COMMAND_REQUEST_MAX ? "it has more than 1 MiB" :
                                            error == json_tokener_error_parse_number ?
                                                "a number is malformed or beyond 64 bits" :
                                                json_tokener_error_desc(error));
                return *ret_reply ? COMMAND_OURS : -ENOMEM;
        }
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (streq(json_object_get_string(execute), commands[i].name))
                        return request_handle(c, i, o, now, ret_reply);
        return streq(json_object_get_string(execute), "guest-info") ? COMMAND_INFO : COMMAND_FOREIGN;
}

void commands_tend(Commands *c, usec_t now) {
        if (now < c->lease_until)
                return;
        log_notice("The host has not been heard of for %" PRIu64
                   " s: putting the kernel's own tiering back.",
                   c->lease / USEC_PER_SEC);
        prepare_undo(c);
}

static void info_append(json_object *list) {
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                json_object *entry = json_object_new_object();

                json_object_object_add(entry, "enabled", json_object_new_boolean(true));
                json_object_object_add(entry, "name", json_object_new_string(commands[i].name));
                json_object_object_add(entry, "success-response", json_object_new_boolean(true));
                json_object_array_add(list, entry);
        }
}

char *commands_edit_info(const char *line) {
        _cleanup_json_ json_object *o = NULL;
        enum json_tokener_error error;
        json_object *result, *list;
        char *edited = NULL;

        if (!strstr(line, "\"supported_commands\""))
                return NULL;
        o = text_parse(line, strlen(line), true, &error);
        if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, "return", &result) ||
            !json_object_is_type(result, json_type_object) ||
            !json_object_object_get_ex(result, "supported_commands", &list) ||
            !json_object_is_type(list, json_type_array))
                return NULL;
        info_append(list);
        if (asprintf(&edited, "%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED |
                                                                        JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
                return NULL;
        return edited;
}

char *commands_answer_alone(const char *request, size_t n) {
        _cleanup_json_ json_object *o = NULL, *result = NULL;
        json_object *execute = NULL, *arguments, *id = NULL, *sync = NULL;
        enum json_tokener_error error;
        const char *name;
        char *line, *marked;

        if (n > COMMAND_REQUEST_MAX)
                return commands_error("GenericError",
                                      "qemu-guest-agent is not running in the guest, which so long a "
                                      "request needs; start qemu-guest-agent.service there");
        o = text_parse(request, n, false, &error);
        if (!json_object_is_type(o, json_type_object) ||
            !json_object_object_get_ex(o, "execute", &execute) ||
            !json_object_is_type(execute, json_type_string))
                return commands_error("GenericError", "malformed request");
        (void) json_object_object_get_ex(o, "id", &id);
        name = json_object_get_string(execute);
        if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
                return commands_error("CommandNotFound", "The command %.64s has not been found", name);
        if (streq(name, "guest-ping"))
                result = json_object_new_object();
        else if (streq(name, "guest-info")) {
                json_object *list = json_object_new_array();

                info_append(list);
                result = json_object_new_object();
                json_object_object_add(result, "version", json_object_new_string(HMV_VERSION));
                json_object_object_add(result, "supported_commands", list);
        } else if ((streq(name, "guest-sync") || streq(name, "guest-sync-delimited")) &&
                   json_object_object_get_ex(o, "arguments", &arguments) &&
                   json_object_is_type(arguments, json_type_object) &&
                   json_object_object_get_ex(arguments, "id", &sync) &&
                   json_object_is_type(sync, json_type_int))
                result = json_object_get(sync);
        else
                return commands_error("GenericError",
                                      "qemu-guest-agent is not running in the guest, which '%.64s' "
                                      "needs; start qemu-guest-agent.service there",
                                      name);
        line = reply_make(result, id);
        if (!line || !streq(name, "guest-sync-delimited"))
                return line;
        if (asprintf(&marked, "\xff%s", line) < 0)
                marked = NULL;
        free(line);
        return marked;
}
