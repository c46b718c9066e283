/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What users ask of the market: trades by hand, withdrawals, and what a domain may be entitled to. Checks it
 * against what is known and says what is wrong with it, or hands it to the next tick. What is asked of a
 * domain whose settings the market has not seen yet waits for the tick that sees them.
 */
#include <inttypes.h>

#include "base/log.h"
#include "base/units.h"
#include "manager-internal.h"

#define WAIT_USEC (10 * USEC_PER_SEC) /* for a tick; D-Bus gives a call up after 25 s */
#define ASKS_MAX 256

/* Somebody who waits for an answer. */
struct MarketAsk {
        char uuid[37];
        TradeCommandType type;
        int64_t dram_bytes;
        bool dry_run;
        ManagerReply reply;
        void *userdata;
        usec_t deadline;
        MarketAsk *next;
};

static const char *tier_for_people(Tier t) {
        return t == TIER_DRAM ? "DRAM" : "slow memory";
}

/* ---- one domain's account ---- */

static int party_check(Manager *m, const Domain *d, Outcome *o) {
        if (!m->conf->host.market.enabled)
                return outcome_set(
                        o, OUTCOME_UNSUPPORTED,
                        "the market is off; set Enabled=yes below [Market] in /etc/hmvisor/hmvisord.conf, "
                        "then 'systemctl reload hmvisord'");
        if (d->id < 0)
                return outcome_set(o, OUTCOME_DOMAIN_OFF, "domain '%s' is off; start it first", d->name);
        if (d->info_known && !d->info.hmvisor_bound)
                return outcome_set(o, OUTCOME_NOT_BOUND, "domain '%s' is not bound; 'hmvctl bind' it first",
                                   d->name);
        if (d->info_known && !market_can_trade(d))
                return outcome_set(
                        o, OUTCOME_UNSUPPORTED,
                        "domain '%s' has no memory that could be plugged in both tiers; unbind it, and "
                        "bind it with --max-dram and --max-slow",
                        d->name);
        if (domain_is_dry(d))
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "domain '%s' is in a dry run, in which nothing is traded; set DryRun=no",
                                   d->name);
        if (!d->policy.trading && !market_has_dealings(d))
                return outcome_set(
                        o, OUTCOME_UNSUPPORTED,
                        "domain '%s' takes no part in the market; 'hmvctl market set %s --trading on'",
                        d->name, d->name);
        if (m->market.fault.code != OUTCOME_OK)
                return outcome_set(o, OUTCOME_FAILED, "domain '%s': the market stands still: %.300s",
                                   d->name, m->market.fault.text);
        if (domain_is_frozen(d))
                return outcome_set(o, OUTCOME_DOMAIN_BUSY,
                                   "domain '%s' is paused or migrates; try again when it runs", d->name);
        return 0;
}

/* The account of a domain that can trade now. -EAGAIN: the next tick may know more. */
static int market_party(Manager *m, const char *uuid, Domain **ret, TradeView *ret_view, Outcome *o) {
        const Trade *trade = core_get_trade(m->core);
        Domain *d = manager_domain(m, uuid);
        int r;

        if (!d)
                return outcome_set(o, OUTCOME_NO_DOMAIN,
                                   "no domain has the UUID '%.40s'; 'hmvctl list' shows them", uuid);
        r = party_check(m, d, o);
        if (r < 0)
                return r;
        if (d->market_known && trade && trade_view(trade, market_account(d), ret_view) >= 0) {
                *ret = d;
                return 0;
        }
        if (d->market_known && trade && trade_is_refused(trade, market_account(d)))
                return outcome_set(o, OUTCOME_NO_ROOM,
                                   "domain '%s' takes no part in the market: the host does not have what it "
                                   "is entitled to beside what others are; 'hmvctl market set %s "
                                   "--entitled-dram SIZE --entitled-slow SIZE', with less",
                                   d->name, d->name);
        (void) outcome_set(o, OUTCOME_DOMAIN_BUSY,
                           "domain '%s' is not known to the market yet; try again in a few seconds",
                           d->name);
        return -EAGAIN;
}

/* For the next tick; a later one replaces it. */
static int command_queue(Manager *m, const Domain *d, TradeCommandType type, int64_t dram_bytes,
                         Outcome *o) {
        MarketCommand c = { .id = market_account(d), .type = type, .dram_bytes = dram_bytes };

        for (size_t i = 0; i < m->market.n_commands; i++)
                if (memcmp(&m->market.commands[i].id, &c.id, sizeof(c.id)) == 0) {
                        m->market.commands[i] = c;
                        return 0;
                }
        if (m->market.n_commands == ELEMENTSOF(m->market.commands))
                return outcome_set(o, OUTCOME_DOMAIN_BUSY,
                                   "domain '%s': %zu orders for the market wait already; try again in a few "
                                   "seconds",
                                   d->name, m->market.n_commands);
        m->market.commands[m->market.n_commands++] = c;
        return 0;
}

/* ---- a trade ---- */

static int describe_trade(Domain *d, const TradeView *v, int64_t lots, char **ret) {
        const Ledger *l = trade_ledger(core_get_trade(d->manager->core));
        char was[_TIER_MAX][SIZE_TEXT_MAX], will[_TIER_MAX][SIZE_TEXT_MAX];
        uint64_t blocks[_TIER_MAX], n = (uint64_t) (lots < 0 ? -lots : lots);

        if (terms_holding(&l->terms, v->account.entitlement_blocks, v->account.position + lots, blocks) < 0)
                return -ERANGE;
        for (Tier t = 0; t < _TIER_MAX; t++) {
                size_format(was[t], v->owned_bytes[t]);
                size_format(will[t], blocks[t] * l->terms.block_bytes);
        }
        return asprintf(ret, "%s %" PRIu64 " lot%s: DRAM %s to %s, slow memory %s to %s",
                        lots < 0 ? "sells" : "buys", n, n == 1 ? "" : "s", was[TIER_DRAM], will[TIER_DRAM],
                        was[TIER_SLOW], will[TIER_SLOW]) < 0
                       ? -ENOMEM
                       : 0;
}

static int ask_trade(Manager *m, const MarketAsk *a, char **ret_text, Outcome *o) {
        uint64_t lot, bytes = a->dram_bytes < 0 ? -(uint64_t) a->dram_bytes : (uint64_t) a->dram_bytes, room;
        _cleanup_free_ char *text = NULL;
        char size[SIZE_TEXT_MAX], most[SIZE_TEXT_MAX];
        TradeView v;
        int64_t lots;
        Domain *d;
        int r;

        r = market_party(m, a->uuid, &d, &v, o);
        if (r < 0)
                return r;
        lot = terms_lot_bytes(&trade_ledger(core_get_trade(m->core))->terms, TIER_DRAM);
        if (bytes == 0 || bytes % lot != 0)
                return outcome_set(
                        o, OUTCOME_BAD_ARGUMENT,
                        "%s is no multiple of %s, the least that is traded ('hmvctl market status')",
                        size_format(size, bytes), size_format(most, lot));
        lots = (int64_t) (bytes / lot) * (a->dram_bytes < 0 ? -1 : 1);
        room = (uint64_t) (lots < 0 ? v.account.position - v.low : v.high - v.account.position) * lot;
        if (bytes > room)
                return outcome_set(
                        o, OUTCOME_NO_ROOM,
                        "domain '%s' can %s %s of DRAM at most: its floors, ceilings, boot memory and "
                        "devices allow no more",
                        d->name, lots < 0 ? "sell" : "buy", size_format(size, room));
        if (v.account.ticket.lots != 0)
                return outcome_set(o, OUTCOME_DOMAIN_BUSY,
                                   "domain '%s' has a trade under way; try again when it ended ('hmvctl "
                                   "market status')",
                                   d->name);
        r = describe_trade(d, &v, lots, &text);
        if (r < 0)
                return outcome_set(o, OUTCOME_FAILED, "domain '%s' cannot trade: %s", d->name, strerror(-r));
        if (!a->dry_run) {
                r = command_queue(m, d, TRADE_LOTS, a->dram_bytes, o);
                if (r < 0)
                        return r;
                manager_tell(m, d, "trade", "asked to trade: %s", text);
        }
        *ret_text = TAKE_PTR(text);
        return 0;
}

static int ask_withdraw(Manager *m, const MarketAsk *a, Outcome *o) {
        TradeView v;
        Domain *d;
        int r;

        r = market_party(m, a->uuid, &d, &v, o);
        if (r < 0)
                return r;
        r = command_queue(m, d, TRADE_WITHDRAW, 0, o);
        if (r < 0)
                return r;
        manager_tell(m, d, "trade", "goes back to its entitlement");
        return 0;
}

/* ---- who waits ---- */

static int ask_run(Manager *m, const MarketAsk *a, char **ret_text, Outcome *o) {
        return a->type == TRADE_LOTS ? ask_trade(m, a, ret_text, o) : ask_withdraw(m, a, o);
}

/* Answers, or waits for the next tick. */
static int ask(Manager *m, const char *uuid, MarketAsk *a, Outcome *o) {
        _cleanup_free_ char *text = NULL;
        MarketAsk *waits, **end = &m->market.asks;
        const Outcome ok = { 0 };
        size_t n = 0;
        int r;

        snprintf(a->uuid, sizeof(a->uuid), "%s", uuid);
        r = ask_run(m, a, &text, o);
        if (r == -EAGAIN && m->conf->host.epoch_usec <= WAIT_USEC) {
                for (; *end; end = &(*end)->next)
                        n++;
                waits = n < ASKS_MAX ? malloc(sizeof(*waits)) : NULL;
                if (!waits)
                        return r;
                *waits = *a;
                waits->deadline = manager_now(m) + WAIT_USEC;
                waits->next = NULL;
                *end = waits;
                return 0;
        }
        if (r < 0)
                return r;
        a->reply(&ok, text ? text : "", a->userdata);
        return 0;
}

/* A tick is over. */
void market_answer(Manager *m) {
        MarketAsk *a, **p = &m->market.asks;

        while ((a = *p)) {
                _cleanup_free_ char *text = NULL;
                Outcome o = {};

                if (ask_run(m, a, &text, &o) == -EAGAIN && manager_now(m) < a->deadline) {
                        p = &a->next;
                        continue;
                }
                *p = a->next;
                a->reply(&o, text ? text : "", a->userdata);
                free(a);
        }
}

void market_drop_asks(Manager *m) {
        MarketAsk *a;

        while ((a = m->market.asks)) {
                Outcome o;

                m->market.asks = a->next;
                (void) outcome_set(&o, OUTCOME_FAILED, "hmvisord stops; ask again when it is back");
                a->reply(&o, "", a->userdata);
                free(a);
        }
}

int manager_market_trade(Manager *m, const char *uuid, int64_t dram_bytes, bool dry_run, ManagerReply reply,
                         void *userdata, Outcome *o) {
        MarketAsk a = { .type = TRADE_LOTS,
                        .dram_bytes = dram_bytes,
                        .dry_run = dry_run,
                        .reply = reply,
                        .userdata = userdata };

        return ask(m, uuid, &a, o);
}

int manager_market_withdraw(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Outcome *o) {
        MarketAsk a = { .type = TRADE_WITHDRAW, .reply = reply, .userdata = userdata };

        return ask(m, uuid, &a, o);
}

/* ---- entitlements, floors and ceilings ---- */

/* Promised to the other domains, whether they run now or not: each of them may come back to it. */
static uint64_t entitled_others(Manager *m, const Domain *d, Tier tier) {
        const Trade *trade = core_get_trade(m->core);
        uint64_t sum = 0;
        Domain *other, *tmp;

        HASH_ITER(hh, m->domains, other, tmp) {
                const uint64_t *own = other->policy.entitled_bytes;
                const Account *a = trade ? ledger_find(trade_ledger(trade), market_account(other)) : NULL;

                if (other == d)
                        continue;
                if (own[TIER_DRAM] > 0 || own[TIER_SLOW] > 0)
                        sum += own[tier];
                else if (a)
                        sum += a->entitlement_blocks[tier] * trade_ledger(trade)->terms.block_bytes;
        }
        return sum;
}

static int check_entitlement(Manager *m, const Domain *d, Tier tier, uint64_t bytes, uint64_t capacity,
                             Outcome *o) {
        uint64_t others = entitled_others(m, d, tier);
        char want[SIZE_TEXT_MAX], have[SIZE_TEXT_MAX], promised[SIZE_TEXT_MAX];

        size_format(want, bytes);
        size_format(have, capacity);
        if (bytes > capacity)
                return outcome_set(o, OUTCOME_NO_ROOM,
                                   "domain '%s' cannot be entitled to %s of %s: the host has %s for domains",
                                   d->name, want, tier_for_people(tier), have);
        if (others > capacity || bytes > capacity - others)
                return outcome_set(
                        o, OUTCOME_NO_ROOM,
                        "domain '%s' cannot be entitled to %s of %s: of the host's %s for domains others "
                        "are entitled to %s; entitle it to less, or one of them ('hmvctl market status')",
                        d->name, want, tier_for_people(tier), have, size_format(promised, others));
        return 0;
}

/* What its cell could never have. bytes 0: nothing was said. */
static int check_cell(const Domain *d, Tier tier, const char *what, uint64_t bytes, bool least, bool most,
                      Outcome *o) {
        const DomainCell *c = market_cell(d, tier);
        char want[SIZE_TEXT_MAX], boot[SIZE_TEXT_MAX], max[SIZE_TEXT_MAX];

        if (!c || bytes == 0 ||
            ((!least || bytes >= c->boot_bytes) && (!most || bytes <= c->boot_bytes + c->device_max_bytes)))
                return 0;
        return outcome_set(o, OUTCOME_NO_ROOM,
                           "domain '%s' cannot have %s of %s %s: as it was bound, it boots with %s and can "
                           "have %s; choose a "
                           "size between, or bind it anew",
                           d->name, size_format(want, bytes), tier_for_people(tier), what,
                           size_format(boot, c->boot_bytes),
                           size_format(max, c->boot_bytes + c->device_max_bytes));
}

/* Only what changes is looked at: what was said before may not fit the host any more, and is in nobody's
 * way. */
int market_check_policy(Manager *m, const Domain *d, const DomainPolicy *p, Outcome *o) {
        const DomainPolicy *was = &d->policy;
        bool entitles = (p->entitled_bytes[TIER_DRAM] > 0 || p->entitled_bytes[TIER_SLOW] > 0) &&
                        memcmp(p->entitled_bytes, was->entitled_bytes, sizeof(p->entitled_bytes)) != 0;
        uint64_t capacity[_TIER_MAX];
        int r = 0;

        if (entitles)
                r = market_capacity(m, capacity, o);
        for (Tier t = 0; r >= 0 && t < _TIER_MAX; t++) {
                if (entitles)
                        r = check_entitlement(m, d, t, p->entitled_bytes[t], capacity[t], o);
                if (r >= 0 && entitles)
                        r = check_cell(d, t, "as its entitlement", p->entitled_bytes[t], true, true, o);
                if (r >= 0 && p->floor_bytes[t] != was->floor_bytes[t])
                        r = check_cell(d, t, "as its floor", p->floor_bytes[t], false, true, o);
                if (r >= 0 && p->ceiling_bytes[t] != was->ceiling_bytes[t])
                        r = check_cell(d, t, "as its ceiling", p->ceiling_bytes[t], true, false, o);
        }
        return r;
}
