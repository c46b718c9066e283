/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Builds and reads the QMP messages of the hotness extension. Believes nothing: a range that leaves the
 * table or overlaps another makes the whole answer void.
 */
#include "proto/hotness.h"

#include <inttypes.h>

#include "proto/reply.h"

#define COMMAND "__org.hmvisor_hotness-"

static const char *const state_names[_HOTNESS_STATE_MAX] = {
        [HOTNESS_OFF] = "off",         [HOTNESS_TRACKING] = "tracking", [HOTNESS_RESTING] = "resting",
        [HOTNESS_BLOCKED] = "blocked", [HOTNESS_EXPIRED] = "expired",   [HOTNESS_FAILED] = "failed",
};

const char *hotness_state_to_string(HotnessState s) {
        return s < _HOTNESS_STATE_MAX ? state_names[s] : "unknown";
}

int hotness_request_getfd(char **ret) {
        json_object *a = json_object_new_object();

        if (a)
                json_object_object_add(a, "fdname", json_object_new_string(HOTNESS_FDNAME));
        return a ? request_new("getfd", a, ret) : -ENOMEM;
}

static void add_clamped(json_object *a, const char *key, uint64_t value, uint64_t least, uint64_t most) {
        json_object_object_add(a, key, json_object_new_uint64(MIN(MAX(value, least), most)));
}

int hotness_request_start(const HotnessStart *start, char **ret) {
        json_object *a = json_object_new_object();

        if (!a)
                return -ENOMEM;
        json_object_object_add(a, "table", json_object_new_string(HOTNESS_FDNAME));
        add_clamped(a, "interval-ms", start->interval_ms, 20, 60000);
        if (start->off_ms > 0) {
                add_clamped(a, "on-ms", start->on_ms, 1, 3600000);
                add_clamped(a, "off-ms", start->off_ms, 1, 3600000);
        }
        add_clamped(a, "lease-ms", start->lease_ms, 1000, 600000);
        return request_new(COMMAND "start", a, ret);
}

int hotness_request_stop(char **ret) {
        return request_new(COMMAND "stop", NULL, ret);
}

int hotness_request_query(char **ret) {
        return request_new(COMMAND "query", NULL, ret);
}

/* Turns reply_parse()'s error into an outcome. */
static int fail(int r, const ReplyError *e, Outcome *o) {
        if (r == -EREMOTEIO && streq(e->class, "CommandNotFound"))
                return outcome_set(
                        o, OUTCOME_NO_EXTENSION,
                        "its QEMU runs without the hotness extension; install hmvisor-qemu, see 'hmvctl "
                        "bind', then power the domain off and on");
        if (r == -EREMOTEIO)
                return outcome_set(o, OUTCOME_FAILED, "QEMU refused: %s", e->text);
        return outcome_set(o, OUTCOME_FAILED, "QEMU's answer cannot be read (%s)", strerror(-r));
}

static int void_answer(Outcome *o, const char *what) {
        return outcome_set(o, OUTCOME_FAILED,
                           "the hotness extension's answer is not usable: %s; do hmvisor and "
                           "hmvisor-qemu have the same version?",
                           what);
}

static int range_read(json_object *item, HotnessRange *ret) {
        uint64_t gpa, bit;

        if (!json_object_is_type(item, json_type_object) ||
            reply_get_text(item, "block", ret->block, sizeof(ret->block)) < 0 ||
            reply_get_number(item, "gpa", HOTNESS_GPA_MAX - 1, &gpa) < 0 ||
            reply_get_number(item, "pages", HOTNESS_PAGES_MAX, &ret->n_pages) < 0 ||
            reply_get_number(item, "offset", HOTNESS_PAGES_MAX, &ret->offset) < 0)
                return -EBADMSG;
        if (gpa % (1 << HOTNESS_PAGE_SHIFT) != 0 || ret->n_pages == 0)
                return -EBADMSG;
        ret->gfn = gpa >> HOTNESS_PAGE_SHIFT;
        ret->skip = reply_get_number(item, "skip-bit", 63, &bit) < 0 ? 0 : UINT64_C(1) << bit;
        return 0;
}

static bool spans_overlap(uint64_t a, uint64_t na, uint64_t b, uint64_t nb) {
        return a < b + nb && b < a + na;
}

/* None of the sums below overflow: every number is at most 2^40. */
static int ranges_read(json_object *list, size_t n, uint64_t max_pages, HotnessStatus *s, Outcome *o) {
        uint64_t total = 0;

        for (size_t i = 0; i < n; i++) {
                HotnessRange *r = &s->ranges[i];

                if (range_read(json_object_array_get_idx(list, i), r) < 0)
                        return void_answer(o, "a range has a bad or missing member");
                if (r->offset + r->n_pages > s->n_counters)
                        return void_answer(o, "a range leaves the table");
                if (i > 0 && r->gfn < s->ranges[i - 1].gfn + s->ranges[i - 1].n_pages)
                        return void_answer(o, "ranges overlap or are not in order");
                for (size_t k = 0; k < i; k++)
                        if (spans_overlap(r->offset, r->n_pages, s->ranges[k].offset, s->ranges[k].n_pages))
                                return void_answer(o, "two ranges share counters");
                total += r->n_pages;
        }
        if (total > max_pages)
                return void_answer(o, "it lists more memory than libvirt says the domain can have");
        s->n_ranges = n;
        return 0;
}

static int state_read(json_object *v, HotnessStatus *s) {
        char text[32];

        if (reply_get_text(v, "state", text, sizeof(text)) < 0)
                return -EBADMSG;
        for (HotnessState i = 0; i < _HOTNESS_STATE_MAX; i++)
                if (streq(text, state_names[i])) {
                        s->state = i;
                        return 0;
                }
        return -EBADMSG;
}

int hotness_reply_parse(const char *text, uint64_t max_pages, HotnessStatus *ret, Outcome *o) {
        _cleanup_json_ json_object *root = NULL;
        _cleanup_free_ HotnessStatus *s = calloc(1, sizeof(*s));
        json_object *v = NULL, *list;
        ReplyError error = {};
        char log[16];
        size_t n;
        int r;

        if (!s)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        r = reply_parse(text, &root, &v, &error);
        if (r < 0)
                return fail(r, &error, o);
        if (!json_object_is_type(v, json_type_object))
                return void_answer(o, "it is no object");
        max_pages = MIN(max_pages, HOTNESS_PAGES_MAX);
        if (state_read(v, s) < 0)
                return void_answer(o, "no known state");
        if (reply_get_text(v, "log", log, sizeof(log)) < 0)
                return void_answer(o, "member 'log'");
        s->ring = streq(log, "ring");
        (void) reply_get_text(v, "version", s->version, sizeof(s->version));
        (void) reply_get_text(v, "qemu", s->qemu, sizeof(s->qemu));
        (void) reply_get_text(v, "reason", s->reason, sizeof(s->reason));
        (void) reply_get_number(v, "dropped", REPLY_NUMBER_MAX, &s->dropped);
        (void) reply_get_number(v, "cost-ns", INT64_MAX, &s->cost_ns);
        (void) reply_get_number(v, "last-cost-ns", INT64_MAX, &s->last_cost_ns);
        if (reply_get_number(v, "epochs", REPLY_NUMBER_MAX, &s->epochs) < 0 ||
            reply_get_number(v, "generation", INT64_MAX, &s->generation) < 0 ||
            reply_get_number(v, "counters", HOTNESS_PAGES_MAX, &s->n_counters) < 0)
                return void_answer(o, "member 'epochs', 'generation' or 'counters'");
        /* Ranges may be aligned in the table; twice the memory is room enough for that, and a bound. */
        if (s->n_counters > 2 * max_pages)
                return void_answer(o, "it asks for more counters than the domain can have pages");
        if (reply_get_list(v, "ranges", HOTNESS_RANGES_MAX, &list, &n) < 0)
                return void_answer(o, "member 'ranges', or too many of them");
        r = ranges_read(list, n, max_pages, s, o);
        if (r < 0)
                return r;
        *ret = *s;
        return 0;
}

int hotness_reply_check(const char *text, Outcome *o) {
        _cleanup_json_ json_object *root = NULL;
        json_object *v;
        ReplyError error = {};
        int r;

        r = reply_parse(text, &root, &v, &error);
        return r < 0 ? fail(r, &error, o) : 0;
}
