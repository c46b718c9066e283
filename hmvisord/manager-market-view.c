/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What people see of the market: prices, holdings, offers and past trades, as the core has them. Changes
 * nothing.
 */
#include "manager-internal.h"

void manager_market_get(const Manager *m, MarketView *ret) {
        const MarketPolicy *p = &m->conf->host.market;
        const Trade *trade = core_get_trade(m->core);

        *ret = (MarketView) { .enabled = p->enabled };
        snprintf(ret->reason, sizeof(ret->reason), "%s", m->market.fault.text);
        memcpy(ret->capacity_bytes, m->market.capacity, sizeof(ret->capacity_bytes));
        if (trade) {
                const Ledger *l = trade_ledger(trade);

                ret->terms = l->terms;
                ret->pool_position = l->pool.position;
                ret->clearing = *trade_last_clearing(trade);
                ret->epoch = trade_epoch(trade);
                ret->price = trade_price(trade, &ret->next_terms);
        } else {
                (void) terms_make(p, &ret->terms);
                ret->next_terms = ret->terms;
        }
}

static const TradeRecord *last_trade(const Trade *trade, AccountId id) {
        const TradeRecord *t;

        for (size_t i = 0; (t = trade_history(trade, i)); i++)
                if (memcmp(&t->id, &id, sizeof(id)) == 0)
                        return t;
        return NULL;
}

/* How it stands now: what the core says is of the last clearing. */
static void standing_fill(const Account *a, MarketHolding *ret) {
        if (ret->trade.standing == STANDING_FROZEN)
                return;
        if (a->ticket.lots != 0)
                ret->trade.standing = STANDING_BUSY;
        else if (ret->command_dram_bytes != 0)
                ret->trade.standing = STANDING_COMMAND;
        else if (ret->withdraws)
                ret->trade.standing = STANDING_WITHDRAWS;
}

/* What users asked for lies with the manager until the next tick, and then in the ledger. */
static void command_fill(const Manager *m, const Account *a, MarketHolding *ret) {
        int64_t lot = (int64_t) terms_lot_bytes(&trade_ledger(core_get_trade(m->core))->terms, TIER_DRAM);

        ret->command_dram_bytes = a->command * lot;
        ret->withdraws = a->withdraws;
        for (size_t i = 0; i < m->market.n_commands; i++) {
                const MarketCommand *c = &m->market.commands[i];

                if (memcmp(&c->id, &a->id, sizeof(a->id)) != 0)
                        continue;
                ret->command_dram_bytes = c->type == TRADE_LOTS ? c->dram_bytes : 0;
                ret->withdraws = c->type == TRADE_WITHDRAW;
        }
        standing_fill(a, ret);
}

static void holding_fill(const Manager *m, const Domain *d, MarketHolding *ret) {
        const Trade *trade = core_get_trade(m->core);
        AccountId id = market_account(d);
        const TradeRecord *last;

        *ret = (MarketHolding) { .trading = d->policy.trading };
        memcpy(ret->name, d->name, sizeof(ret->name));
        memcpy(ret->uuid, d->uuid, sizeof(ret->uuid));
        snprintf(ret->swap_device, sizeof(ret->swap_device), "%s", d->policy.swap_device);
        for (Tier t = 0; t < _TIER_MAX; t++) {
                const DomainCell *c = market_cell(d, t);

                ret->size_bytes[t] = c ? c->boot_bytes + c->device_current_bytes : 0;
        }
        ret->refused = trade && trade_is_refused(trade, id);
        if (!trade || trade_view(trade, id, &ret->trade) < 0)
                return;
        ret->has_account = true;
        command_fill(m, &ret->trade.account, ret);
        (void) core_get_wish(m->core, d->key, &ret->wish);
        last = last_trade(trade, id);
        if (last)
                ret->last_lots = last->got;
}

size_t manager_market_holdings(const Manager *m, MarketHolding **ret) {
        _cleanup_free_ char (*uuids)[37] = NULL;
        size_t n = manager_list_domains(m, &uuids), kept = 0;
        MarketHolding *list = calloc(n + 1, sizeof(*list));

        *ret = list;
        for (size_t i = 0; list && i < n; i++) {
                const Domain *d = manager_domain(m, uuids[i]);

                if (d && d->info.hmvisor_bound)
                        holding_fill(m, d, &list[kept++]);
        }
        return kept;
}

size_t manager_market_history(Manager *m, size_t n, MarketTrade **ret) {
        const Trade *trade = core_get_trade(m->core);
        MarketTrade *list;
        uint64_t realtime = 0;
        size_t i;

        n = MIN(n, (size_t) TRADE_HISTORY);
        *ret = list = calloc(n + 1, sizeof(*list));
        (void) sd_event_now(m->event, CLOCK_REALTIME, &realtime);
        for (i = 0; list && trade && i < n; i++) {
                const TradeRecord *t = trade_history(trade, i);
                const Domain *d = t ? market_domain(m, &t->id) : NULL;

                if (!t)
                        break;
                list[i] = (MarketTrade){
                        .realtime = realtime - (manager_now(m) - t->when),
                        .wanted = t->wanted,
                        .got = t->got,
                        .lot_bytes = { terms_lot_bytes(&t->terms, TIER_DRAM),
                                       terms_lot_bytes(&t->terms, TIER_SLOW) },
                };
                snprintf(list[i].name, sizeof(list[i].name), "%s", d ? d->name : "");
        }
        return list ? i : 0;
}
