/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The market, at the entry object: interface org.hmvisor1.Market. Only translates between messages and
 * manager_*().
 */
#include "bus/bus-internal.h"

static MarketView view_of(void *userdata) {
        const Bus *b = userdata;
        MarketView v;

        manager_market_get(b->manager, &v);
        return v;
}

static int property_enabled(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "b", view_of(userdata).enabled);
}

static int property_reason(sd_bus *bus, const char *path, const char *interface, const char *property,
                           sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return message_append_text(reply, view_of(userdata).reason);
}

static int property_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                           sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const Bus *b = userdata;
        MarketView v = view_of(userdata);
        const struct {
                const char *name;
                uint64_t value;
        } numbers[] = {
                { "LotDramBytes", terms_lot_bytes(&v.terms, TIER_DRAM) },
                { "LotSlowBytes", terms_lot_bytes(&v.terms, TIER_SLOW) },
                { "DramBytes", v.capacity_bytes[TIER_DRAM] },
                { "SlowBytes", v.capacity_bytes[TIER_SLOW] },
                { "EpochUSec", manager_conf(b->manager)->host.market.epoch_usec },
                { "Epoch", v.epoch },
        };

        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                if (streq(property, numbers[i].name))
                        return sd_bus_message_append(reply, "t", numbers[i].value);
        return -ENOENT;
}

static int property_price(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        MarketView v = view_of(userdata);
        const Terms *t = strncmp(property, "Next", 4) == 0 ? &v.next_terms : &v.terms;

        return sd_bus_message_append(reply, "u",
                                     strstr(property, "DramPrice") ? t->dram_price : t->slow_price);
}

static int property_price_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                                sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_message_append(reply, "s", trade_price_to_string(view_of(userdata).price));
}

static int read_domain(Bus *b, sd_bus_message *m, char ret_uuid[static 37], Outcome *o) {
        const char *name;
        int r;

        r = message_read_text(m, "the domain's name", BUS_DOMAIN_NAME_MAX, &name, o);
        return r < 0 ? r : manager_find_domain(b->manager, name, ret_uuid, o);
}

static int append_numbers(sd_bus_message *m, const MarketHolding *h, const Terms *terms) {
        const Account *a = &h->trade.account;
        int64_t lot = (int64_t) terms_lot_bytes(terms, TIER_DRAM);
        const struct {
                const char *name, *type;
                uint64_t value;
        } numbers[] = {
                { "DramBytes", "t", h->size_bytes[TIER_DRAM] },
                { "SlowBytes", "t", h->size_bytes[TIER_SLOW] },
                { "EntitledDramBytes", "t", a->entitlement_blocks[TIER_DRAM] * terms->block_bytes },
                { "EntitledSlowBytes", "t", a->entitlement_blocks[TIER_SLOW] * terms->block_bytes },
                { "OwnedDramBytes", "t", h->trade.owned_bytes[TIER_DRAM] },
                { "OwnedSlowBytes", "t", h->trade.owned_bytes[TIER_SLOW] },
                { "PositionDramBytes", "x", (uint64_t) (a->position * lot) },
                { "OfferDramBytes", "x", (uint64_t) (h->trade.offer * lot) },
                { "CanSellDramBytes", "t", (uint64_t) ((a->position - h->trade.low) * lot) },
                { "CanBuyDramBytes", "t", (uint64_t) ((h->trade.high - a->position) * lot) },
                { "CommandDramBytes", "x", (uint64_t) h->command_dram_bytes },
                { "TicketDramBytes", "x", (uint64_t) (a->ticket.lots * lot) },
                { "TicketDeliveredLots", "t", a->ticket.delivered },
                { "TicketPaidLots", "t", a->ticket.paid },
                { "WishDramBytes", "x", (uint64_t) (h->wish.lots * lot) },
                { "SwapBytesPerSec", "t", h->wish.swap_bytes_per_sec },
                { "HeatMissedPermyriad", "t", h->wish.slow_permyriad }, /* of its heat, on slow memory */
                { "LastDramBytes", "x", (uint64_t) (h->last_lots * lot) },
                { "RestUSec", "t", h->trade.rests_usec },
                { "Refusals", "t", a->refusals },
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < (h->has_account ? ELEMENTSOF(numbers) : 2); i++)
                r = message_append_entry(m, numbers[i].name, numbers[i].type, numbers[i].value);
        return r;
}

/* Value and entitlement's value are exact: prices times blocks. */
static int append_holding(sd_bus_message *m, const MarketHolding *h, const Terms *terms) {
        const uint64_t *d = h->trade.owned_bytes, *e = h->trade.account.entitlement_blocks;
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(m, "Name", "s", h->name);
        if (r >= 0)
                r = message_append_entry(m, "UUID", "s", h->uuid);
        if (r >= 0)
                r = message_append_entry(m, "Trading", "b", (int) h->trading);
        if (r >= 0)
                r = message_append_entry(m, "SwapDevice", "s", h->swap_device);
        if (r >= 0)
                r = append_numbers(m, h, terms);
        if (r >= 0 && (h->has_account || h->refused))
                r = message_append_entry(m, "Standing", "s",
                                         h->refused ? "refused"
                                                    : trade_standing_to_string(h->trade.standing));
        if (r >= 0 && h->has_account)
                r = message_append_entry(m, "Withdraws", "b", (int) h->withdraws);
        if (r >= 0 && h->has_account)
                r = message_append_entry(m, "Wish", "s", wish_reason_to_string(h->wish.reason));
        if (r >= 0 && h->has_account)
                r = message_append_entry(m, "Value", "t",
                                         d[TIER_DRAM] / terms->block_bytes * terms->dram_price +
                                                 d[TIER_SLOW] / terms->block_bytes * terms->slow_price);
        if (r >= 0 && h->has_account)
                r = message_append_entry(m, "EntitledValue", "t",
                                         e[TIER_DRAM] * terms->dram_price +
                                                 e[TIER_SLOW] * terms->slow_price);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int run_list(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ MarketHolding *list = NULL;
        size_t n = manager_market_holdings(b->manager, &list);
        MarketView v = view_of(b);
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = append_holding(reply, &list[i], &v.terms);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

/* The last clearing, over all; who offered what is in List. */
static int run_book(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        MarketView v = view_of(b);
        uint64_t lot = terms_lot_bytes(&v.terms, TIER_DRAM);
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(reply, "Epoch", "t", v.epoch);
        if (r >= 0)
                r = message_append_entry(reply, "DemandDramBytes", "t", v.clearing.demand * lot);
        if (r >= 0)
                r = message_append_entry(reply, "SupplyDramBytes", "t", v.clearing.supply * lot);
        if (r >= 0)
                r = message_append_entry(reply, "TradedDramBytes", "t", v.clearing.traded * lot);
        if (r >= 0)
                r = message_append_entry(reply, "RecalledDramBytes", "t", v.clearing.recalled * lot);
        if (r >= 0)
                r = message_append_entry(reply, "PoolDramBytes", "x", v.clearing.pool * (int64_t) lot);
        if (r >= 0)
                r = message_append_entry(reply, "PoolPositionDramBytes", "x",
                                         v.pool_position * (int64_t) lot);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int append_trade(sd_bus_message *m, const MarketTrade *t) {
        int64_t dram = (int64_t) t->lot_bytes[TIER_DRAM], slow = (int64_t) t->lot_bytes[TIER_SLOW];
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_entry(m, "RealtimeUSec", "t", t->realtime);
        if (r >= 0)
                r = message_append_entry(m, "Name", "s", t->name);
        if (r >= 0)
                r = message_append_entry(m, "WantedDramBytes", "x", t->wanted * dram);
        if (r >= 0)
                r = message_append_entry(m, "DramBytes", "x", t->got * dram);
        if (r >= 0)
                r = message_append_entry(m, "SlowBytes", "x", -t->got * slow);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int run_history(Bus *b, sd_bus_message *m, const char *unused) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ MarketTrade *list = NULL;
        uint32_t wanted;
        size_t n;
        int r;

        r = sd_bus_message_read(m, "u", &wanted);
        if (r < 0)
                return r;
        n = manager_market_history(b->manager, wanted, &list);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = append_trade(reply, &list[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int run_trade(Bus *b, sd_bus_message *m, const char *unused) {
        Outcome o = { 0 };
        int64_t bytes;
        char uuid[37];
        int dry_run, r;

        if (read_domain(b, m, uuid, &o) < 0)
                return reply_outcome(m, &o);
        r = sd_bus_message_read(m, "xb", &bytes, &dry_run);
        if (r < 0)
                return r;
        if (manager_market_trade(b->manager, uuid, bytes, dry_run, reply_with_text, sd_bus_message_ref(m),
                                 &o) >= 0)
                return 0;
        sd_bus_message_unref(m);
        return reply_outcome(m, &o);
}

static int run_withdraw(Bus *b, sd_bus_message *m, const char *unused) {
        Outcome o = { 0 };
        char uuid[37];

        if (read_domain(b, m, uuid, &o) < 0)
                return reply_outcome(m, &o);
        if (manager_market_withdraw(b->manager, uuid, reply_with_nothing, sd_bus_message_ref(m), &o) >= 0)
                return 0;
        sd_bus_message_unref(m);
        return reply_outcome(m, &o);
}

/* For the domain as it runs and as it starts: what it is entitled to is not a thing of one run. */
static int run_set(Bus *b, sd_bus_message *m, const char *unused) {
        const char *words;
        Outcome o = { 0 };
        char uuid[37];

        if (read_domain(b, m, uuid, &o) < 0 ||
            message_read_text(m, "the settings", BUS_WORDS_MAX, &words, &o) < 0 ||
            manager_get_domain(b->manager, uuid, &b->view, &o) < 0)
                return reply_outcome(m, &o);
        if (manager_set_policy(b->manager, uuid, words, b->view.id >= 0, true, reply_with_nothing,
                               sd_bus_message_ref(m), &o) >= 0)
                return 0;
        sd_bus_message_unref(m);
        return reply_outcome(m, &o);
}

/* What others want and may want tells of their business more than their load does: an action of its own. */
const Method market_methods[] = {
        { "List", "org.hmvisor1.read-market", run_list },
        { "Book", "org.hmvisor1.read-market", run_book },
        { "History", "org.hmvisor1.read-market", run_history },
        { "Trade", "org.hmvisor1.market", run_trade },
        { "Withdraw", "org.hmvisor1.market", run_withdraw },
        { "Set", "org.hmvisor1.market", run_set },
        { 0 },
};

#define METHOD SD_BUS_METHOD_WITH_ARGS
/* sd-bus leaves the question of rights to bus_method(). */
#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED
#define STATE(name, type, getter) SD_BUS_PROPERTY(name, type, getter, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
/* Changes with every epoch: read it, nobody is told. */
#define MOVING(name, type, getter) SD_BUS_PROPERTY(name, type, getter, 0, 0)

const sd_bus_vtable market_vtable[] = {
        SD_BUS_VTABLE_START(0),
        STATE("Enabled", "b", property_enabled),
        STATE("Reason", "s", property_reason),
        STATE("DramPrice", "u", property_price),
        STATE("SlowPrice", "u", property_price),
        STATE("LotDramBytes", "t", property_number),
        STATE("LotSlowBytes", "t", property_number),
        STATE("EpochUSec", "t", property_number),
        MOVING("NextDramPrice", "u", property_price),
        MOVING("NextSlowPrice", "u", property_price),
        MOVING("PriceState", "s", property_price_state),
        MOVING("DramBytes", "t", property_number),
        MOVING("SlowBytes", "t", property_number),
        MOVING("Epoch", "t", property_number),
        METHOD("List", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", holdings), bus_method, ANYBODY),
        METHOD("Book", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", clearing), bus_method, ANYBODY),
        METHOD("History", SD_BUS_ARGS("u", trades), SD_BUS_RESULT("aa{sv}", history), bus_method, ANYBODY),
        METHOD("Trade", SD_BUS_ARGS("s", domain, "x", dram_bytes, "b", dry_run), SD_BUS_RESULT("s", text),
               bus_method, ANYBODY),
        METHOD("Withdraw", SD_BUS_ARGS("s", domain), SD_BUS_NO_RESULT, bus_method, ANYBODY),
        METHOD("Set", SD_BUS_ARGS("s", domain, "s", words), SD_BUS_NO_RESULT, bus_method, ANYBODY),
        SD_BUS_SIGNAL_WITH_ARGS("Event", SD_BUS_ARGS("t", realtime, "s", domain, "s", uuid, "s", message),
                                0),
        SD_BUS_VTABLE_END,
};

void bus_emit_market_event(Bus *b, const ManagerEvent *event) {
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(b->bus, &m, BUS_PATH, BUS_MARKET, "Event");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 't', &event->realtime);
        if (r >= 0)
                r = message_append_text(m, event->name);
        if (r >= 0)
                r = message_append_text(m, event->uuid);
        if (r >= 0)
                r = message_append_text(m, event->message);
        if (r >= 0)
                (void) sd_bus_send(b->bus, m, NULL);
        if (streq(event->kind, "market"))
                (void) sd_bus_emit_properties_changed(b->bus, BUS_PATH, BUS_MARKET, "Reason", "DramPrice",
                                                      "SlowPrice", "LotSlowBytes", NULL);
}
