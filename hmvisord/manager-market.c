/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market's side of the manager: gathers what the host sees of sizes, passes users' commands to the core,
 * keeps the core's ledger on disk before anything is carried out, and carries the sizes out. Decides
 * nothing: who trades what, and when which device changes, is the core's to say. What people ask of it is in
 * manager-market-ask.c, what they see of it in manager-market-view.c.
 */
#include <ctype.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/units.h"
#include "manager-internal.h"

#define TIERS_USEC (60 * USEC_PER_SEC) /* memory of a host seldom changes, and finding it takes some work */

/* ---- names ---- */

static AccountId account_of(const char *uuid) {
        AccountId id = { { 0 } };
        size_t n = 0;

        for (const char *p = uuid; *p && n < 2 * sizeof(id.bytes); p++)
                if (isxdigit((unsigned char) *p)) {
                        unsigned digit =
                                (unsigned) (isdigit((unsigned char) *p) ? *p - '0' : (*p | 0x20) - 'a' + 10);

                        id.bytes[n / 2] = (uint8_t) (id.bytes[n / 2] << 4 | digit);
                        n++;
                }
        return id;
}

AccountId market_account(const Domain *d) {
        return account_of(d->uuid);
}

/* libvirt writes UUIDs in one way. */
Domain *market_domain(Manager *m, const AccountId *id) {
        const uint8_t *b = id->bytes;
        char uuid[37];

        snprintf(uuid, sizeof(uuid),
                 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
                 b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
        return manager_domain(m, uuid);
}

/* ---- what the host sees ---- */

#define USAGE_SLACK_BYTES (16 * MIB)      /* by which QEMU's own memory may have grown */
#define OWN_USEC (60 * USEC_PER_SEC)      /* before all of a process's memory is walked again */

/* What QEMU keeps on the cell's nodes of guest memory: at least, as the rest is not known that exactly. */
static uint64_t resident_of(const Domain *d, const DomainCell *c) {
        uint64_t sum = 0, own = USAGE_SLACK_BYTES;

        if (!d->usage_known)
                return UINT64_MAX;
        for (unsigned i = 0; i < HOST_NODES_MAX; i++)
                if (host_nodelist_has(c->host_nodes, i)) {
                        sum += d->usage_bytes[i];
                        own += d->own_bytes[i];
                }
        return sum - MIN(sum, own + sum / 1024);
}

static bool seems_to_hold_too_much(const Domain *d) {
        for (size_t i = 0; i < d->info.n_cells; i++) {
                const DomainCell *c = &d->info.cells[i];
                uint64_t resident = resident_of(d, c);

                if (resident != UINT64_MAX && resident > c->boot_bytes + c->device_current_bytes)
                        return true;
        }
        return false;
}

/* QEMU's own memory is learned once, and anew only when it may have grown. */
static void look_at_usage(Domain *d, usec_t now) {
        d->usage_known = domain_pid(d, now) > 0 && host_machine_bytes("/", d->pid, d->usage_bytes) >= 0;
        if (d->usage_known && now >= d->own_next && (!d->own_known || seems_to_hold_too_much(d))) {
                d->own_next = now + OWN_USEC;
                d->own_known = host_machine_own_bytes("/", d->pid, d->own_bytes) >= 0;
        }
        d->usage_known = d->usage_known && d->own_known;
}

const DomainCell *market_cell(const Domain *d, Tier tier) {
        const DomainCell *found = NULL;

        for (size_t i = 0; i < d->info.n_cells; i++)
                if (d->info.cells[i].tier == tier) {
                        if (found)
                                return NULL; /* no two cells of a tier can be told apart by an account */
                        found = &d->info.cells[i];
                }
        return found;
}

bool market_can_trade(const Domain *d) {
        const DomainCell *dram = market_cell(d, TIER_DRAM), *slow = market_cell(d, TIER_SLOW);

        return d->info.hmvisor_bound && dram && slow && dram->device_max_bytes > 0 &&
               slow->device_max_bytes > 0;
}

bool market_has_dealings(const Domain *d) {
        const Trade *trade = core_get_trade(d->manager->core);
        const Account *a = trade ? ledger_find(trade_ledger(trade), market_account(d)) : NULL;

        return a && (a->position != 0 || a->ticket.lots != 0);
}

static SettleCell cell_facts(const Domain *d, Tier tier) {
        const DomainCell *c = market_cell(d, tier);

        return (SettleCell) {
                .boot_bytes = c->boot_bytes,
                .device_max_bytes = c->device_max_bytes,
                .requested_bytes = domain_size_asked(d, c),
                .size_bytes = c->boot_bytes + c->device_current_bytes,
                .resident_bytes = resident_of(d, c),
        };
}

/* One whose position is not that of its entitlement stays in until it is, also when it is told to trade no
 * more. */
bool market_takes_part(const Domain *d) {
        return d->id >= 0 && market_can_trade(d) &&
               ((d->policy.trading && !domain_is_dry(d)) || market_has_dealings(d));
}

void market_facts(const Domain *d, MarketFacts *ret) {
        const AgentStats *stats = d->agent ? agent_link_stats(d->agent) : NULL;
        AgentSwap said = d->agent ? agent_link_swap(d->agent) : (AgentSwap){ UINT64_MAX, UINT64_MAX };

        *ret = (MarketFacts) {
                .id = market_account(d),
                .swap_bytes_per_sec = domain_swap_rate(d),
                .swap_wait_usec = domain_swap_wait(d),
                .said_swap_in_bytes = said.in_bytes,
                .said_stall_usec = said.stall_usec,
                .available_bytes = stats ? stats->available_bytes : UINT64_MAX,
                .swap_free_bytes = stats ? stats->swap_free_bytes : UINT64_MAX,
        };
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                ret->cells[tier] = cell_facts(d, tier);
}

/* Memory that is held outside the market is not the market's to give. */
static void capacity_without(Manager *m, const Domain *d, uint64_t capacity[_TIER_MAX]) {
        for (size_t i = 0; i < d->info.n_cells; i++) {
                const DomainCell *c = &d->info.cells[i];
                uint64_t held = MAX(c->boot_bytes + c->device_current_bytes, domain_size_asked(d, c));

                capacity[c->tier] -= MIN(capacity[c->tier], held);
        }
}

int market_capacity(Manager *m, uint64_t ret[_TIER_MAX], Outcome *o) {
        usec_t now = manager_now(m);
        HostTiers tiers;
        int r;

        if (m->market.tiers_known == 0 || now >= m->market.tiers_known + TIERS_USEC) {
                uint64_t total[_TIER_MAX] = {};

                r = manager_get_tiers(m, &tiers, o);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < tiers.n_nodes; i++)
                        if (tiers.nodes[i].source != TIER_FROM_DISTANCE)
                                total[tiers.nodes[i].tier] += tiers.nodes[i].total_bytes;
                memcpy(m->market.tier_bytes, total, sizeof(total));
                m->market.tiers_known = MAX(now, UINT64_C(1));
        }
        for (Tier tier = 0; tier < _TIER_MAX; tier++)
                ret[tier] = m->market.tier_bytes[tier] -
                            MIN(m->market.tier_bytes[tier], m->conf->reserve_bytes[tier]);
        return 0;
}

/* Whether all that holds memory of the tiers is known: before, nothing can be said of what is free. */
static bool all_known(Manager *m, uint64_t capacity[_TIER_MAX]) {
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp) {
                if (d->id < 0)
                        continue;
                if (market_takes_part(d))
                        look_at_usage(d, manager_now(m));
                if (!*d->info.uuid && (d->xml_asked || market_has_dealings(d)))
                        return false;
                if (d->info.hmvisor_bound && !market_takes_part(d)) /* for others there is the reserve */
                        capacity_without(m, d, capacity);
        }
        return true;
}

/* ---- the ledger on disk ---- */

/* Said once, until it is another one. */
static void market_fault(Manager *m, const Outcome *o) {
        if (streq(m->market.fault.text, o->text))
                return;
        m->market.fault = *o;
        if (o->code != OUTCOME_OK)
                manager_tell_event(m, NULL,
                                   m->market.journal_failed ? LOG_EVENT_JOURNAL_FAILED
                                                            : LOG_EVENT_MARKET_HALTED,
                                   LOG_ERR, "market", "the market stands still: %s", o->text);
        else if (m->conf->host.market.enabled)
                manager_tell_event(m, NULL, LOG_EVENT_MARKET_RESUMED, LOG_NOTICE, "market",
                                   "the market goes on");
}

static int market_save(Manager *m, Outcome *o) {
        int r;

        r = ledger_store(m->market.journal, trade_ledger(core_get_trade(m->core)), o);
        m->market.journal_failed = r < 0;
        if (r >= 0)
                m->market.unsaved = false;
        return r;
}

static int market_load(Manager *m, Outcome *o) {
        _cleanup_(journal_file_freep) JournalFile *f = NULL;
        _cleanup_(ledger_done) Ledger ledger = {};
        int r;

        r = journal_file_open(m->conf->journal_path, &f, o);
        if (r < 0)
                return r;
        r = ledger_load(f, &ledger, o);
        if (r >= 0) {
                r = core_resume_trade(m->core, &m->conf->host.market, &ledger, manager_now(m));
                if (r < 0)
                        (void) outcome_set(o, OUTCOME_FAILED,
                                           "the ledger in '%s' cannot be gone on with: %s",
                                           m->conf->journal_path, strerror(-r));
        }
        if (r < 0 && r != -ENOENT)
                return r;
        m->market.journal = TAKE_PTR(f);
        return 0;
}

/* ---- carrying out ---- */

LogEvent market_event(const SettleEvent *e) {
        switch (e->type) {
        case SETTLE_LATE:
                return LOG_EVENT_TRADE_LATE;
        case SETTLE_RETURNED:
                return LOG_EVENT_TRADE_RETURNED;
        case SETTLE_ENDED: /* of nothing: why was said before */
                return e->ticket.paid > 0 ? LOG_EVENT_TRADE_SETTLED : LOG_EVENT_NONE;
        default:
                return LOG_EVENT_NONE;
        }
}

static void tell_event(Manager *m, const SettleEvent *e) {
        Domain *d = market_domain(m, &e->id);
        char text[256];

        if (settle_event_describe(e, &trade_ledger(core_get_trade(m->core))->terms, text, sizeof(text)) < 0)
                return;
        if (d && e->type == SETTLE_ENDED)
                metrics_trade_ended(d, &e->ticket, &trade_ledger(core_get_trade(m->core))->terms);
        if (d && e->type == SETTLE_GONE)
                manager_tell(m, d, "trade", "is out of the market");
        else if (d) {
                manager_tell_event(m, d, market_event(e), LOG_INFO, "trade", "%s", text);
                if (e->type == SETTLE_LATE || e->type == SETTLE_KEPT ||
                    e->type == SETTLE_REFUSED) /* why it rests, or takes no part, for explain */
                        decision_keep_text(d, text);
        } else if (e->type == SETTLE_REPRICED || e->type == SETTLE_PRICE_KEPT)
                manager_tell(m, NULL, "market", "the %s", text);
        else if (e->type == SETTLE_GONE)
                manager_tell(m, NULL, "trade", "a domain %s", text);
        else
                log_debug("The pool %s", text);
}

static void carry_targets(Manager *m, const Settlement *s) {
        for (size_t i = 0; i < s->n_targets; i++) {
                const SizeTarget *t = &s->targets[i];
                Domain *d = market_domain(m, &t->id);
                const DomainCell *cell = d ? market_cell(d, t->tier) : NULL;

                if (cell)
                        (void) domain_resize(d, cell,
                                             t->bytes); /* -EBUSY: it is asked again at the next tick */
        }
}

/* A device's size changes without a word where QEMU's event was lost: while somebody has to deliver, it is
 * read again. */
static void market_look(Manager *m) {
        const Trade *trade = core_get_trade(m->core);
        bool price_changes = trade && trade_ledger(trade)->repricing.lot_slow_blocks != 0;
        Domain *d, *tmp;

        HASH_ITER(hh, m->domains, d, tmp) {
                const Account *a = trade ? ledger_find(trade_ledger(trade), market_account(d)) : NULL;

                if (market_takes_part(d))
                        domain_look_at_swap(d);
                if (d->id < 0 || !d->info_known || domain_is_frozen(d))
                        continue;
                if (d->resize.state == RESIZE_UNSURE)
                        domain_resize_again(d);
                else if (a && (a->ticket.lots != 0 || price_changes))
                        domain_read_xml(d);
        }
}

static int market_prepare(Manager *m, Inputs *in, Outcome *o) {
        Terms terms;
        int r;

        if (terms_make(&m->conf->host.market, &terms) < 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s", MARKET_NO_LOT);

        if (!m->market.journal) {
                r = market_load(m, o);
                m->market.journal_failed = r < 0;
                if (r < 0)
                        return r;
        }
        return market_capacity(m, in->capacity_bytes, o);
}

/* Whatever stands in the way, the market waits for it, and pages go on being moved. */
void market_inputs(Manager *m, Inputs *in) {
        Outcome o = {};
        bool ready = m->connected && m->market.listed && !m->stopping;

        if (in->policy.market.enabled && ready)
                ready = market_prepare(m, in, &o) >= 0 && all_known(m, in->capacity_bytes);
        in->policy.market.enabled = in->policy.market.enabled && ready;
        if (in->policy.market.enabled) {
                memcpy(m->market.capacity, in->capacity_bytes, sizeof(m->market.capacity));
                in->commands = m->market.commands;
                in->n_commands = m->market.n_commands;
        }
        if (o.code != OUTCOME_OK || !m->conf->host.market.enabled)
                market_fault(m, &o); /* else it is known only when all is carried out */
}

static void tell_command(Manager *m, const MarketCommand *command, int result) {
        Domain *d = market_domain(m, &command->id);

        if (d && result < 0)
                manager_tell(m, d, "trade", "what was asked for cannot be done any more: %s",
                             strerror(-result));
}

/* What a domain would trade, and why, for explain; said anew when it has changed. */
static void keep_wish(Manager *m, Domain *d) {
        const Trade *trade = core_get_trade(m->core);
        WishDecision w;
        char text[EXPLAIN_TEXT_MAX];

        if (!d || !trade || core_get_wish(m->core, d->key, &w) < 0 ||
            (d->wish_known && w.reason == d->wish.reason && w.lots == d->wish.lots))
                return;
        d->wish = w;
        d->wish_known = true;
        if (wish_describe(&w, &trade_ledger(trade)->terms, text, sizeof(text)) >= 0)
                decision_keep_text(d, text);
}

static void carry_out(Manager *m, const Inputs *in, const OrderList *list) {
        Outcome o = {};

        for (size_t i = 0; i < in->n_domains; i++) {
                Domain *d = in->domains[i].market ? manager_domain_by_key(m, in->domains[i].domain) : NULL;

                if (!d)
                        continue;
                keep_wish(m, d);
                d->market_known = true;
        }
        for (size_t i = 0; i < in->n_commands && list->command_results; i++)
                tell_command(m, &in->commands[i], list->command_results[i]);
        m->market.n_commands = 0;
        if (list->market_result < 0)
                (void) outcome_set(&o, OUTCOME_FAILED,
                                   "the policy refused its facts (%s); this is a bug of hmvisord",
                                   strerror(-list->market_result));
        else {
                m->market.unsaved = m->market.unsaved || list->market.changed;
                for (size_t i = 0; i < list->market.n_events; i++)
                        tell_event(m, &list->market.events[i]);
                if (!m->market.unsaved || market_save(m, &o) >= 0)
                        carry_targets(m, &list->market);
        }
        market_fault(m, &o);
        market_look(m);
}

void market_carry(Manager *m, const Inputs *in, const OrderList *list) {
        if (in->policy.market.enabled)
                carry_out(m, in, list);
        market_answer(m); /* also where the market waits: who asked for something is told */
}

void market_done(Manager *m) {
        market_drop_asks(m);
        m->market.journal = journal_file_free(m->market.journal);
}

/* Its settings changed: what was read of the host may be meant for other nodes. */
void market_reload(Manager *m) {
        m->market.tiers_known = 0;
}
