/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See settle.h. Asks the daemon again and again: a signal that is lost, or a daemon that was started anew,
 * makes no difference.
 */
#include "settle.h"

#include <inttypes.h>
#include <time.h>

#include "base/units.h"
#include "client.h"
#include "events.h"

#define POLL_USEC (250 * USEC_PER_MSEC)
#define AWAY_USEC (20 * USEC_PER_SEC) /* for the daemon to come back in */

typedef struct Wait {
        Ctl *ctl;
        Settle *settle;
        Outcome *o;
        usec_t deadline;              /* 0: none */
        usec_t away_since;            /* 0: the daemon answers */
        bool settled;
        char said[160];
} Wait;

static usec_t now_usec(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (usec_t) t.tv_sec * USEC_PER_SEC + (usec_t) t.tv_nsec / 1000;
}

/* DOMAIN_OFF when it is in the market no more. */
static int holding_get(Ctl *ctl, const Settle *s, json_object **ret, Outcome *o) {
        _cleanup_json_ json_object *list = NULL;
        int r;

        r = client_call(ctl, CLIENT_PATH, CLIENT_MARKET, "List", o, &list, "");
        if (r < 0)
                return r;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *h = json_object_array_get_idx(list, i);

                if (!streq(json_text(h, "UUID"), s->uuid))
                        continue;
                *ret = json_object_get(h);
                return 0;
        }
        return outcome_set(o, OUTCOME_NOT_BOUND, "domain '%s' is not bound, so it holds nothing to trade",
                           s->name);
}

int settle_begin(Ctl *ctl, const char *domain, Settle *ret, Outcome *o) {
        _cleanup_json_ json_object *properties = NULL, *market = NULL, *holding = NULL;
        _cleanup_free_ char *path = NULL;
        Settle s = { 0 };
        int r;

        r = client_find_domain(ctl, domain, &path, o);
        if (r >= 0)
                r = client_get_domain(ctl, path, &properties, o);
        if (r >= 0)
                r = client_get_all(ctl, CLIENT_MARKET, &market, o);
        if (r < 0)
                return r;
        snprintf(s.uuid, sizeof(s.uuid), "%s", json_text(properties, "UUID"));
        snprintf(s.name, sizeof(s.name), "%s", json_text(properties, "Name"));
        s.lot_dram_bytes = json_number(market, "LotDramBytes");
        s.lot_slow_bytes = json_number(market, "LotSlowBytes");
        r = holding_get(ctl, &s, &holding, o);
        if (r < 0)
                return r;
        s.position_before = json_signed(holding, "PositionDramBytes");
        *ret = s;
        return 0;
}

static void say(Wait *w, const char *text) {
        if (w->ctl->json || w->ctl->quiet || streq(w->said, text))
                return;
        snprintf(w->said, sizeof(w->said), "%s", text);
        fprintf(w->ctl->out, "Domain '%s' %s.\n", w->settle->name, text);
        fflush(w->ctl->out); /* somebody may be reading along */
}

static void say_ticket(Wait *w, json_object *h, int64_t ticket) {
        uint64_t lots = (uint64_t) (ticket < 0 ? -ticket : ticket) / MAX(w->settle->lot_dram_bytes, 1U);
        char text[160], lot[SIZE_TEXT_MAX];

        size_format(lot, ticket < 0 ? w->settle->lot_dram_bytes : w->settle->lot_slow_bytes);
        snprintf(text, sizeof(text),
                 "gave %" PRIu64 " of %" PRIu64 " lots of %s %s, and was paid for %" PRIu64,
                 json_number(h, "TicketDeliveredLots"), lots, lot, ticket < 0 ? "DRAM" : "slow memory",
                 json_number(h, "TicketPaidLots"));
        say(w, text);
}

static bool has_its_sizes(json_object *h) {
        return json_number(h, "DramBytes") == json_number(h, "OwnedDramBytes") &&
               json_number(h, "SlowBytes") == json_number(h, "OwnedSlowBytes");
}

static int look(Wait *w, json_object *h) {
        int64_t ticket = json_signed(h, "TicketDramBytes"),
                lot = (int64_t) MAX(w->settle->lot_dram_bytes, 1U);
        bool asked = json_signed(h, "CommandDramBytes") != 0 ||
                     (json_flag(h, "Withdraws") && json_signed(h, "PositionDramBytes") != 0);

        if (!json_member(h, "Standing"))
                return outcome_set(w->o, OUTCOME_DOMAIN_OFF, "domain '%s' left the market while it traded",
                                   w->settle->name);
        w->settle->was_matched = w->settle->was_matched || ticket != 0;
        if (ticket != 0)
                say_ticket(w, h, ticket);
        else if (asked)
                say(w, "waits for the next clearing");
        else if (!has_its_sizes(h))
                say(w, "gets what it was paid with");
        if (ticket != 0 || asked || !has_its_sizes(h))
                return 0;
        w->settle->got_dram_bytes = json_signed(h, "PositionDramBytes") - w->settle->position_before;
        w->settle->got_slow_bytes =
                -(w->settle->got_dram_bytes / lot * (int64_t) w->settle->lot_slow_bytes);
        w->settled = true;
        return -ECANCELED; /* ends the waiting */
}

static int wait_step(void *userdata) {
        _cleanup_json_ json_object *holding = NULL;
        Wait *w = userdata;
        Outcome o = { 0 };
        usec_t now = now_usec();
        int r;

        r = holding_get(w->ctl, w->settle, &holding, &o);
        if (r < 0) {
                if (w->away_since == 0)
                        w->away_since = now;
                if ((o.code == OUTCOME_NO_DAEMON || o.code == OUTCOME_NOT_BOUND) &&
                    now < w->away_since + AWAY_USEC)
                        return 0; /* it may be starting anew: the trade goes on then */
                *w->o = o;
                return r;
        }
        w->away_since = 0;
        r = look(w, holding);
        if (r < 0)
                return r;
        if (w->deadline > 0 && now >= w->deadline)
                return outcome_set(w->o, OUTCOME_TIMED_OUT,
                                   "domain '%s' trades still, and goes on; 'hmvctl market status' shows how "
                                   "far it is",
                                   w->settle->name);
        return 0;
}

int settle_wait(Ctl *ctl, Settle *s, usec_t timeout, Outcome *o) {
        Wait w = { .ctl = ctl, .settle = s, .o = o, .deadline = timeout > 0 ? now_usec() + timeout : 0 };
        int r;

        r = events_repeat(POLL_USEC, wait_step, &w);
        if (w.settled)
                return 0;
        if (r >= 0) /* Ctrl-C */
                return outcome_set(
                        o, OUTCOME_FAILED,
                        "no longer waiting for domain '%s', which goes on; 'hmvctl market status' "
                        "shows how far it is",
                        s->name);
        if (o->code == OUTCOME_OK)
                return outcome_set(o, OUTCOME_FAILED, "cannot wait: %s", strerror(-r));
        return r;
}
