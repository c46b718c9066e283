/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Orders: carried to the guest's agent, or in a dry run only shown; acknowledged to the core with what the
 * guest says, bounded; and the decisions behind them, kept for `hmvctl explain`.
 */
#include <inttypes.h>
#include <time.h>

#include "base/log.h"
#include "base/units.h"
#include "manager-internal.h"

#define ORDER_DEADLINE_MS 10000

/* proto and core know nothing of each other; here they meet. */
_Static_assert((int) AGENT_SKIP_FREE == SKIP_FREE && (int) AGENT_SKIP_ALREADY_THERE == SKIP_ALREADY_THERE &&
               (int) AGENT_SKIP_UNMOVABLE == SKIP_UNMOVABLE && (int) AGENT_SKIP_PINNED == SKIP_PINNED &&
               (int) AGENT_SKIP_NO_ROOM == SKIP_NO_ROOM && (int) AGENT_SKIP_NOT_RAM == SKIP_NOT_RAM &&
               (int) AGENT_SKIP_OTHER == SKIP_OTHER && (int) _AGENT_SKIP_MAX == _SKIP_MAX,
               "both have the same reasons in the same order");
_Static_assert(ORDER_PAGES_MAX <= AGENT_ORDER_PAGES_MAX && ORDER_RANGES_MAX <= AGENT_ORDER_RANGES_MAX,
               "an order fits the protocol");

const AckFacts *order_ack(Domain *d, AckFacts *buf) {
        AgentStatus status;
        uint64_t id;
        AgentProgress progress = agent_link_progress(d->agent, &id, &status);

        *buf = (AckFacts) { .order = d->lost_order, .state = ACK_FAILED };
        if (d->lost_order > 0)
                return buf;
        if (progress == AGENT_NO_ORDER)
                return NULL;
        buf->order = id - d->manager->order_base;
        buf->state = progress == AGENT_UNDER_WAY  ? ACK_RUNNING
                     : progress == AGENT_FINISHED ? ACK_DONE
                                                  : ACK_FAILED;
        buf->promoted_pages = status.promoted;
        buf->demoted_pages = status.demoted;
        memcpy(buf->skipped_pages, status.skipped, sizeof(buf->skipped_pages));
        return buf;
}

bool order_is_under_way(const Domain *d) {
        AgentStatus status;
        uint64_t id;

        return agent_link_progress(d->agent, &id, &status) == AGENT_UNDER_WAY;
}

static void skipped_describe(const AckFacts *ack, char *buf, size_t size) {
        static const char *const names[_SKIP_MAX] = {
                [SKIP_FREE] = "free",           [SKIP_ALREADY_THERE] = "already there",
                [SKIP_UNMOVABLE] = "unmovable", [SKIP_PINNED] = "pinned",
                [SKIP_NO_ROOM] = "no room",     [SKIP_NOT_RAM] = "not RAM",
                [SKIP_OTHER] = "other reasons",
        };
        size_t n = 0;

        *buf = '\0';
        for (SkipReason i = 0; i < _SKIP_MAX && n < size; i++)
                if (ack->skipped_pages[i] > 0)
                        n += (size_t) snprintf(buf + n, size - n, "%s%" PRIu64 " %s",
                                               n ? ", " : "; skipped ", ack->skipped_pages[i], names[i]);
}

/* The core has taken the end of an order: it is said once in the journal, and forgotten. */
void order_acknowledged(Domain *d, const AckFacts *ack) {
        char skipped[192];
        AgentStatus status;
        uint64_t id;

        if (ack->state == ACK_RUNNING)
                return;
        if (d->lost_order == ack->order) {
                d->lost_order = 0;
                return;
        }
        (void) agent_link_progress(d->agent, &id, &status);
        agent_link_forget_order(d->agent);
        metrics_order_acknowledged(d);
        snprintf(d->mover, sizeof(d->mover), "%s", status.mover);
        skipped_describe(ack, skipped, sizeof(skipped));
        manager_tell(d->manager, d, "order",
                     "order %" PRIu64 " %s: promoted %" PRIu64 " pages, demoted %" PRIu64
                     " pages%s%s%s, in %" PRIu64 " ms",
                     ack->order, ack->state == ACK_DONE ? "done" : "not completed", ack->promoted_pages,
                     ack->demoted_pages, *status.mover ? " by " : "", status.mover, skipped,
                     status.elapsed_usec / USEC_PER_MSEC);
}

static int pages_copy(const PageList *from, AgentPages *ret) {
        *ret = (AgentPages){ .node = from->target_cell,
                             .n_ranges = from->n_ranges,
                             .n_pages = from->n_pages };
        if (from->n_ranges == 0)
                return 0;
        ret->ranges = calloc(from->n_ranges, sizeof(*ret->ranges));
        if (!ret->ranges)
                return -ENOMEM;
        for (size_t i = 0; i < from->n_ranges; i++)
                ret->ranges[i] =
                        (AgentRange){ .pfn = from->ranges[i].gfn, .n_pages = from->ranges[i].n_pages };
        return 0;
}

static int carry_to_guest(Domain *d, const Order *order) {
        _cleanup_(agent_order_done) AgentOrder copy = {
                .id = d->manager->order_base + order->order,
                .deadline_ms = ORDER_DEADLINE_MS,
        };
        int r;

        r = pages_copy(&order->promote, &copy.promote);
        if (r >= 0)
                r = pages_copy(&order->demote, &copy.demote);
        copy.demote.most = order->demote_most;
        if (r >= 0)
                r = agent_link_submit(d->agent, &copy, manager_now(d->manager));
        if (r < 0) {
                d->lost_order = order->order;
                log_full(LOG_WARNING, r, d->name, d->uuid, "Domain '%s': order %" PRIu64 " cannot be sent",
                         d->name, order->order);
        } else
                metrics_order_sent(d);
        return r;
}

static int carry_dry(Domain *d, const Order *order) {
        manager_tell(d->manager, d, "order", "order %" PRIu64 " not sent (dry run): would promote %" PRIu64
                     " pages, and demote at most %" PRIu64, order->order, order->promote.n_pages,
                     order->demote_most ?: order->demote.n_pages);
        return 0;
}

/* A dry run is another carrier, not another policy. */
void order_carry(Domain *d, const Order *order) {
        static int (*const carriers[])(Domain *, const Order *) = { carry_to_guest, carry_dry };

        (void) carriers[order->dry_run](d, order);
}

/* Epochs in which tracking rests as it should say nothing, and neither does the same verdict once more. */
void decision_keep(Domain *d, const Decision *decision) {
        const KeptDecision *last = &d->decisions[(d->n_decisions + DECISIONS_KEPT - 1) % DECISIONS_KEPT];
        usec_t since = d->balanced_since;
        DomainTotals totals;
        bool rests = decision->verdict == VERDICT_NO_SAMPLES && source_health(d->source) == SOURCE_TRACKING;
        uint64_t now = 0;
        KeptDecision *k;

        if (rests)
                return;
        decision_note_balance(decision, &d->balanced_since, &d->balanced);
        if (d->balanced_since != since && core_get_totals(d->manager->core, d->key, &totals) == 0)
                d->balanced_epochs = totals.epochs;
        if (d->n_decisions > 0 && decision->verdict == last->decision.verdict && decision->order == 0)
                return;
        k = &d->decisions[d->n_decisions++ % DECISIONS_KEPT];
        (void) sd_event_now(d->manager->event, CLOCK_REALTIME, &now);
        *k = (KeptDecision) { .realtime = now, .decision = *decision };
}

/* The decision before it stays the last one about pages. */
void decision_keep_text(Domain *d, const char *text) {
        const KeptDecision last = d->decisions[(d->n_decisions + DECISIONS_KEPT - 1) % DECISIONS_KEPT];
        KeptDecision *k = &d->decisions[d->n_decisions++ % DECISIONS_KEPT];
        uint64_t now = 0;

        (void) sd_event_now(d->manager->event, CLOCK_REALTIME, &now);
        *k = (KeptDecision) { .realtime = now, .decision = last.decision };
        if (d->n_decisions == 1)
                k->decision.verdict = _VERDICT_MAX; /* none yet */
        snprintf(k->text, sizeof(k->text), "market: %s", text);
}

int decisions_explain(const Domain *d, size_t n, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size, kept = MIN(d->n_decisions, (size_t) DECISIONS_KEPT);
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return -ENOMEM;
        n = MIN(n, kept);
        for (size_t i = d->n_decisions - n; i < d->n_decisions; i++) {
                const KeptDecision *k = &d->decisions[i % DECISIONS_KEPT];
                time_t t = (time_t) (k->realtime / USEC_PER_SEC);
                char line[512], clock[32] = "";
                struct tm tm;

                if (localtime_r(&t, &tm))
                        (void) strftime(clock, sizeof(clock), "%F %T", &tm);
                (void) decision_describe(&k->decision, line, sizeof(line));
                fprintf(f, "%s  %s\n", clock, *k->text ? k->text : line);
        }
        if (fclose(f) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}
