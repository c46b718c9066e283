/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Decides at each beat what to ask the guest's agent next, and takes its answers. What must be undone comes
 * first, then the order, then figures. Failures back off and are forgotten after the first good answer.
 */
#include "io/agent-link.h"

#include "base/units.h"

/* An agent command blocks libvirt's one agent job, so each gets only a short time. */
#define CALL_TIMEOUT_SEC 5
#define SUBMIT_TIMEOUT_SEC 8                  /* an order of 65,536 pages is up to 1 MiB of text */
#define ANSWER_USEC (90 * USEC_PER_SEC)       /* the owner always answers before; a bound all the same */
#define SPACING_USEC (300 * USEC_PER_MSEC)    /* between two requests */
#define STATUS_USEC (500 * USEC_PER_MSEC)
#define STATUS_MAX_USEC (2 * USEC_PER_SEC)
#define STATS_USEC (10 * USEC_PER_SEC)        /* also keeps the guest's lease of 120 s */
#define ORDER_GRACE_USEC (10 * USEC_PER_SEC)  /* beyond the order's own deadline */
#define FAILURES_MAX 3                        /* in a row, before it counts as failing */
#define BACKOFF_USEC (2 * USEC_PER_SEC)
#define BACKOFF_MAX_USEC (60 * USEC_PER_SEC)

typedef enum Request {
        REQUEST_NONE,
        REQUEST_PREPARE,
        REQUEST_RELEASE,      /* prepare with manage = false */
        REQUEST_SUBMIT,
        REQUEST_STATUS,
        REQUEST_CANCEL,
        REQUEST_STATS,
} Request;

typedef enum OrderStep {
        ORDER_NONE,
        ORDER_TO_SUBMIT,
        ORDER_SUBMITTED,
        ORDER_TO_CANCEL,
        ORDER_FINISHED,
        ORDER_NOT_DONE,
} OrderStep;

struct AgentLink {
        AgentSend send;
        void *userdata;

        bool connected, frozen, manage;
        bool answered;             /* prepare was answered since connected */
        bool prepared_manage;      /* what it was prepared for */
        bool may_hold;             /* manage = true was asked, and not undone for sure */
        AgentHealth health;
        Outcome outcome;
        unsigned failures;
        usec_t backoff_usec;

        Request under_way;
        uint64_t under_way_order;
        bool discard;              /* the answer under way belongs to a connection that ended */
        usec_t sent_usec, not_before_usec;

        AgentPrepared prepared;
        bool have_prepared;
        AgentStats stats;
        usec_t stats_usec;         /* when they were taken; 0: never */
        AgentSwap swap;

        OrderStep step;
        AgentOrder order;
        AgentStatus status;
        usec_t deadline_usec, status_due_usec, status_spacing_usec, frozen_since;
};

int agent_link_new(AgentSend send, void *userdata, AgentLink **ret) {
        AgentLink *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        l->send = send;
        l->userdata = userdata;
        l->backoff_usec = BACKOFF_USEC;
        *ret = l;
        return 0;
}

AgentLink *agent_link_free(AgentLink *l) {
        if (!l)
                return NULL;
        agent_order_done(&l->order);
        free(l);
        return NULL;
}

static bool order_is_open(const AgentLink *l) {
        return l->step == ORDER_TO_SUBMIT || l->step == ORDER_SUBMITTED || l->step == ORDER_TO_CANCEL;
}

static void order_lost(AgentLink *l) {
        if (order_is_open(l))
                l->step = ORDER_NOT_DONE;
}

void agent_link_set_connected(AgentLink *l, bool connected, usec_t now) {
        if (connected == l->connected)
                return;
        l->connected = connected;
        l->answered = false;
        l->failures = 0;
        l->backoff_usec = BACKOFF_USEC;
        l->not_before_usec = now;
        l->stats_usec = 0;
        l->discard = l->under_way != REQUEST_NONE;
        l->health = connected ? AGENT_ASKED : AGENT_ABSENT;
        l->outcome = (Outcome){};
        if (!connected) {
                /* Its lease or its end undoes what we changed: the agent puts things back when it stops. */
                l->may_hold = false;
                order_lost(l);
        }
}

void agent_link_set_manage(AgentLink *l, bool manage, usec_t now) {
        l->manage = manage;
        if (!manage && l->step == ORDER_TO_SUBMIT)
                l->step = ORDER_NOT_DONE;
        if (!manage && l->step == ORDER_SUBMITTED)
                l->step = ORDER_TO_CANCEL;
        agent_link_run(l, now);
}

void agent_link_set_frozen(AgentLink *l, bool frozen, usec_t now) {
        if (frozen && !l->frozen)
                l->frozen_since = now;
        if (!frozen && l->frozen && now > l->frozen_since) {
                l->deadline_usec += now - l->frozen_since;
                l->not_before_usec = now;
                l->answered =
                        false; /* its lease may have run out: it is prepared again, as nothing else tells */
        }
        l->frozen = frozen;
}

static int request_text(const AgentLink *l, Request request, char **ret) {
        switch (request) {
        case REQUEST_PREPARE:
                return agent_request_prepare(true, ret);
        case REQUEST_RELEASE:
                return agent_request_prepare(false, ret);
        case REQUEST_SUBMIT:
                return agent_request_submit(&l->order, ret);
        case REQUEST_STATUS:
                return agent_request_status(l->order.id, ret);
        case REQUEST_CANCEL:
                return agent_request_cancel(l->order.id, ret);
        default:
                return agent_request_stats(ret);
        }
}

static Request request_choose(const AgentLink *l, usec_t now) {
        if (l->step == ORDER_TO_CANCEL)
                return REQUEST_CANCEL;
        if (!l->answered || l->prepared_manage != l->manage)
                return l->manage ? REQUEST_PREPARE : REQUEST_RELEASE;
        if (l->step == ORDER_TO_SUBMIT)
                return REQUEST_SUBMIT;
        if (l->step == ORDER_SUBMITTED)
                return now >= l->status_due_usec ? REQUEST_STATUS : REQUEST_NONE;
        return l->stats_usec == 0 || now >= l->stats_usec + STATS_USEC ? REQUEST_STATS : REQUEST_NONE;
}

void agent_link_run(AgentLink *l, usec_t now) {
        _cleanup_free_ char *text = NULL;
        Request request;

        if (l->frozen)
                return;
        if (order_is_open(l) && now >= l->deadline_usec) {
                /* Told once to stop; it stops by its own deadline anyway. */
                if (l->step == ORDER_SUBMITTED) {
                        l->step = ORDER_TO_CANCEL;
                        l->deadline_usec = now + ORDER_GRACE_USEC;
                } else
                        order_lost(l);
        }
        if (l->under_way != REQUEST_NONE && now < l->sent_usec + ANSWER_USEC)
                return;
        l->under_way = REQUEST_NONE;
        if (!l->connected || now < l->not_before_usec)
                return;
        request = request_choose(l, now);
        if (request == REQUEST_NONE)
                return;
        if (request_text(l, request, &text) < 0 ||
            l->send(text, request == REQUEST_SUBMIT ? SUBMIT_TIMEOUT_SEC : CALL_TIMEOUT_SEC, l->userdata) <
                    0) {
                l->not_before_usec = now + SPACING_USEC;
                return;
        }
        l->under_way = request;
        l->under_way_order = l->order.id;
        l->sent_usec = now;
        l->discard = false;
        if (request == REQUEST_PREPARE)
                l->may_hold = true;
}

static void link_failed(AgentLink *l, const Outcome *o, usec_t now) {
        l->failures++;
        l->not_before_usec = now + l->backoff_usec;
        l->backoff_usec = MIN(l->backoff_usec * 2, BACKOFF_MAX_USEC);
        /* An agent that never answered since it connected is failing at once: nothing can be asked of it. */
        if (l->failures >= FAILURES_MAX || !l->answered) {
                l->health = AGENT_FAILING;
                l->outcome = *o;
                l->stats_usec = 0;
                l->answered = false;   /* by the time that it is back, its lease may have run out */
                if (strstr(o->text, "has not been found"))
                        (void) outcome_set(
                                &l->outcome, OUTCOME_NO_AGENT,
                                "the guest's agent is not ours; install hmvisor-guest-agent in the guest");
                if (l->failures >= FAILURES_MAX)
                        order_lost(l);
        }
}

static void status_take(AgentLink *l, const AgentStatus *status, usec_t now) {
        l->status = *status;
        switch (status->state) {
        case AGENT_QUEUED:
        case AGENT_RUNNING:
                if (l->step == ORDER_TO_SUBMIT)
                        l->step = ORDER_SUBMITTED;
                else if (l->step == ORDER_SUBMITTED)
                        l->status_spacing_usec = MIN(l->status_spacing_usec * 2, STATUS_MAX_USEC);
                l->status_due_usec = now + l->status_spacing_usec;
                break;
        case AGENT_DONE:
                l->step = ORDER_FINISHED;
                break;
        default:
                l->step = ORDER_NOT_DONE;
                break;
        }
}

/* Growth per second of a counter that says what it likes. */
static uint64_t counter_rate(uint64_t before, uint64_t now, uint64_t unit, usec_t elapsed) {
        if (before == UINT64_MAX || now == UINT64_MAX || now < before)
                return UINT64_MAX;
        return rate_per_sec((unsigned __int128) (now - before) * unit, elapsed);
}

static void stats_take(AgentLink *l, const AgentStats *s, usec_t now) {
        usec_t elapsed = now - l->stats_usec;

        l->swap = (AgentSwap){ UINT64_MAX, UINT64_MAX };
        if (l->stats_usec > 0 && elapsed > 0) {
                l->swap.in_bytes = counter_rate(l->stats.swap_in_pages, s->swap_in_pages, 4096, elapsed);
                l->swap.stall_usec = counter_rate(l->stats.psi_some_usec, s->psi_some_usec, 1, elapsed);
        }
        l->stats = *s;
        l->stats_usec = now;
}

static int answer_take(AgentLink *l, Request asked, const char *text, usec_t now, Outcome *o) {
        AgentStatus status;
        AgentStats stats;
        int r;

        switch (asked) {
        case REQUEST_PREPARE:
        case REQUEST_RELEASE:
                r = agent_reply_parse_prepared(text, &l->prepared, o);
                if (r < 0)
                        return r;
                l->have_prepared = l->answered = true;
                l->prepared_manage = asked == REQUEST_PREPARE;
                if (asked == REQUEST_RELEASE)
                        l->may_hold = false;
                return 0;
        case REQUEST_STATS:
                r = agent_reply_parse_stats(text, &stats, o);
                if (r >= 0)
                        stats_take(l, &stats, now);
                return r;
        default:
                if (l->under_way_order != l->order.id)
                        return 0; /* given up and forgotten meanwhile */
                r = agent_reply_parse_status(text, &l->order, &status, o);
                if (r < 0 || !order_is_open(l))
                        return r;
                if (asked == REQUEST_CANCEL &&
                    (status.state == AGENT_QUEUED || status.state == AGENT_RUNNING))
                        l->not_before_usec = now + STATUS_USEC;   /* winding up: ask once more */
                status_take(l, &status, now);
                return 0;
        }
}

void agent_link_reply(AgentLink *l, const Outcome *failure, const char *text, usec_t now) {
        Request asked = l->under_way;
        Outcome o = {};
        int r;

        l->under_way = REQUEST_NONE;
        if (asked == REQUEST_NONE)
                return;
        if (l->discard) {
                l->discard = false;
                agent_link_run(l, now);
                return;
        }
        l->not_before_usec = now + SPACING_USEC;
        if (!text && failure->code == OUTCOME_NO_LIBVIRT)
                return;   /* says nothing about the guest */
        r = text ? answer_take(l, asked, text, now, &o)
                 : outcome_set(&o, failure->code, "%s", failure->text);
        if (r < 0) {
                if (l->connected)
                        link_failed(l, &o, now);
                return;
        }
        l->failures = 0;
        l->backoff_usec = BACKOFF_USEC;
        if (l->connected && l->answered) {
                l->health = AGENT_READY;
                l->outcome = (Outcome){};
        }
}

AgentHealth agent_link_health(const AgentLink *l) {
        if (l->health == AGENT_READY && l->prepared_manage != l->manage)
                return AGENT_ASKED;
        return l->health;
}

const Outcome *agent_link_outcome(const AgentLink *l) {
        return &l->outcome;
}

const AgentPrepared *agent_link_prepared(const AgentLink *l) {
        return l->have_prepared ? &l->prepared : NULL;
}

const AgentStats *agent_link_stats(const AgentLink *l) {
        return l->stats_usec > 0 ? &l->stats : NULL;
}

AgentSwap agent_link_swap(const AgentLink *l) {
        return l->stats_usec > 0 ? l->swap : (AgentSwap){ UINT64_MAX, UINT64_MAX };
}

bool agent_link_answers(const AgentLink *l) {
        return l->answered && l->failures == 0;
}

bool agent_link_holds_guest(const AgentLink *l) {
        return l->may_hold;
}

bool agent_link_is_idle(const AgentLink *l) {
        return l->under_way == REQUEST_NONE && !l->may_hold && !order_is_open(l);
}

bool agent_link_is_calm(const AgentLink *l) {
        if (l->under_way != REQUEST_NONE || order_is_open(l))
                return false;
        return !l->connected || l->frozen || (l->answered && l->prepared_manage == l->manage);
}

int agent_link_submit(AgentLink *l, AgentOrder *order, usec_t now) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (l->step != ORDER_NONE)
                return -EBUSY;
        if (!l->manage || l->frozen || agent_link_health(l) != AGENT_READY)
                return -ENOTCONN;
        r = agent_request_submit(order, &text);   /* bounds, before it is too late to say so */
        if (r < 0)
                return r;
        agent_order_done(&l->order);
        l->order = *order;
        *order = (AgentOrder){};
        l->status = (AgentStatus){};
        l->step = ORDER_TO_SUBMIT;
        l->status_spacing_usec = STATUS_USEC;
        l->deadline_usec = now + l->order.deadline_ms * USEC_PER_MSEC + ORDER_GRACE_USEC;
        agent_link_run(l, now);
        return 0;
}

AgentProgress agent_link_progress(const AgentLink *l, uint64_t *ret_order, AgentStatus *ret_status) {
        *ret_order = l->order.id;
        if (ret_status)
                *ret_status = l->status;
        switch (l->step) {
        case ORDER_NONE:
                return AGENT_NO_ORDER;
        case ORDER_FINISHED:
                return AGENT_FINISHED;
        case ORDER_NOT_DONE:
                return AGENT_NOT_DONE;
        default:
                return AGENT_UNDER_WAY;
        }
}

void agent_link_forget_order(AgentLink *l) {
        if (order_is_open(l))
                return;
        agent_order_done(&l->order);
        l->step = ORDER_NONE;
}
