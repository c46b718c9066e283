/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verbs of group "market": what domains hold, trade and may be entitled to. What is possible is the
 * daemon's to say.
 */
#include <inttypes.h>
#include <time.h>

#include "base/units.h"
#include "client.h"
#include "settle.h"
#include "table.h"

#define HISTORY_LINES 20
#define SIGNED_TEXT_MAX (SIZE_TEXT_MAX + 1)
#define LOTS_TEXT_MAX 48
#define STANDING_TEXT_MAX 64

static const char *size_of(json_object *object, const char *key, char buf[static SIZE_TEXT_MAX]) {
        return json_member(object, key) ? size_format(buf, json_number(object, key)) : "-";
}

/* "+32 MiB", "-32 MiB"; "-" for nothing. */
static const char *change_of(json_object *object, const char *key, char buf[static SIGNED_TEXT_MAX]) {
        int64_t bytes = json_signed(object, key);
        char size[SIZE_TEXT_MAX];

        if (bytes == 0)
                return "-";
        snprintf(buf, SIGNED_TEXT_MAX, "%c%s", bytes < 0 ? '-' : '+',
                 size_format(size, bytes < 0 ? -(uint64_t) bytes : (uint64_t) bytes));
        return buf;
}

/* "unwilling for 240 s": how it stands, and how long that will last where it rests. */
static const char *standing_of(json_object *holding, char buf[static STANDING_TEXT_MAX]) {
        const char *standing = json_text(holding, "Standing");
        uint64_t seconds = json_number(holding, "RestUSec") / 1000000;

        if (seconds == 0 || (!streq(standing, "cooling-down") && !streq(standing, "unwilling") &&
                             !streq(standing, "dwelling")))
                return *standing ? standing : "-";
        snprintf(buf, STANDING_TEXT_MAX, "%s for %" PRIu64 " s", standing, seconds);
        return buf;
}

static int market_call(Ctl *ctl, const char *member, json_object **ret, Outcome *o) {
        return client_call(ctl, CLIENT_PATH, CLIENT_MARKET, member, o, ret, "");
}

/* What a price to come waits for, by "PriceState". */
static const char *price_wait(json_object *market) {
        static const struct {
                const char *state, *text;
        } waits[] = {
                { "changes", "memory is given back for it" },
                { "waits-for-trades", "when the trades under way have ended" },
                { "waits-for-bounds", "not while a domain's floors, ceilings or devices stand in its way" },
                { "waits-for-room", "when the host has more slow memory free" },
                { "waits-for-frozen", "when no domain that gives for it is paused or migrates" },
                { "waits", "in a while" },
                { "waits-for-positions",
                  "when all domains are back at their entitlement ('hmvctl market withdraw')" },
        };

        for (size_t i = 0; i < ELEMENTSOF(waits); i++)
                if (streq(json_text(market, "PriceState"), waits[i].state))
                        return waits[i].text;
        return NULL;
}

static void print_terms(Ctl *ctl, json_object *market) {
        char dram[SIZE_TEXT_MAX], slow[SIZE_TEXT_MAX];

        fprintf(ctl->out, "Market:  %s%s%s\n", json_flag(market, "Enabled") ? "on" : "off",
                *json_text(market, "Reason") ? ", but stands still: " : "", json_text(market, "Reason"));
        fprintf(ctl->out, "Price:   %" PRIu64 ":%" PRIu64 ", DRAM to slow memory\n",
                json_number(market, "DramPrice"), json_number(market, "SlowPrice"));
        if (price_wait(market))
                fprintf(ctl->out, "To come: %" PRIu64 ":%" PRIu64 ", %s\n",
                        json_number(market, "NextDramPrice"), json_number(market, "NextSlowPrice"),
                        price_wait(market));
        fprintf(ctl->out, "Lot:     %s of DRAM for %s of slow memory\n",
                size_of(market, "LotDramBytes", dram), size_of(market, "LotSlowBytes", slow));
        if (json_number(market, "DramBytes") > 0)
                fprintf(ctl->out, "Host:    %s of DRAM and %s of slow memory for domains that trade\n",
                        size_of(market, "DramBytes", dram), size_of(market, "SlowBytes", slow));
        fputc('\n', ctl->out);
}

static int holdings_print(Ctl *ctl, json_object *list, Outcome *o) {
        _cleanup_(table_freep) Table *t = table_new("Domain|Trading|>DRAM|>Slow|>Entitled DRAM|>Entitled "
                                                    "slow|>Worth|>Traded|Wish|>Wishes|Now|>Last",
                                                    0);
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < json_object_array_length(list); i++) {
                json_object *h = json_object_array_get_idx(list, i);
                char dram[SIZE_TEXT_MAX], slow[SIZE_TEXT_MAX], e_dram[SIZE_TEXT_MAX], e_slow[SIZE_TEXT_MAX];
                char position[SIGNED_TEXT_MAX], wish[SIGNED_TEXT_MAX], last[SIGNED_TEXT_MAX],
                        standing[STANDING_TEXT_MAX], worth[16] = "-";
                uint64_t value = json_number(h, "Value"), entitled = json_number(h, "EntitledValue");

                if (entitled > 0)
                        snprintf(worth, sizeof(worth), "%" PRIu64 "%%",
                                 (uint64_t) ((unsigned __int128) value * 100 / entitled));
                r = table_row(t, json_text(h, "Name"), json_flag(h, "Trading") ? "on" : "off",
                              size_of(h, "DramBytes", dram), size_of(h, "SlowBytes", slow),
                              size_of(h, "EntitledDramBytes", e_dram),
                              size_of(h, "EntitledSlowBytes", e_slow), worth,
                              change_of(h, "PositionDramBytes", position),
                              *json_text(h, "Wish") ? json_text(h, "Wish") : "-",
                              change_of(h, "WishDramBytes", wish),
                              standing_of(h, standing),
                              change_of(h, "LastDramBytes", last));
        }
        if (r >= 0 && json_object_array_length(list) > 0)
                r = table_print(t, ctl->out);
        else if (r >= 0)
                fputs("No domain is bound, so none can trade; see 'hmvctl help bind'.\n", ctl->out);
        return r < 0 ? outcome_set(o, OUTCOME_FAILED, "out of memory") : 0;
}

static int run_status(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_json_ json_object *market = NULL, *list = NULL;
        int r;

        r = client_get_all(ctl, CLIENT_MARKET, &market, o);
        if (r >= 0)
                r = market_call(ctl, "List", &list, o);
        if (r < 0)
                return r;
        if (ctl->json) {
                json_object_object_add(market, "Domains", json_object_get(list));
                json_print(market, ctl->out);
                return 0;
        }
        print_terms(ctl, market);
        return holdings_print(ctl, list, o);
}

/* "1/3": lots of those under way. */
static const char *lots_of(json_object *holding, const char *key, uint64_t lot,
                           char buf[static LOTS_TEXT_MAX]) {
        int64_t bytes = json_signed(holding, "TicketDramBytes");

        if (bytes == 0 || lot == 0)
                return "-";
        snprintf(buf, LOTS_TEXT_MAX, "%" PRIu64 "/%" PRIu64, json_number(holding, key),
                 (uint64_t) (bytes < 0 ? -bytes : bytes) / lot);
        return buf;
}

/* lot: bytes of DRAM. */
static int offers_print(Ctl *ctl, json_object *list, uint64_t lot, Outcome *o) {
        _cleanup_(table_freep) Table *t =
                table_new("Domain|Standing|>Offer|>Can sell|>Can buy|>Under way|>Given|>Paid", 0);
        bool any = false;
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < json_object_array_length(list); i++) {
                json_object *h = json_object_array_get_idx(list, i);
                char offer[SIGNED_TEXT_MAX], sell[SIZE_TEXT_MAX], buy[SIZE_TEXT_MAX],
                        ticket[SIGNED_TEXT_MAX], given[LOTS_TEXT_MAX], paid[LOTS_TEXT_MAX];

                if (!json_member(h, "Standing"))
                        continue;
                any = true;
                r = table_row(t, json_text(h, "Name"), json_text(h, "Standing"),
                              change_of(h, "OfferDramBytes", offer), size_of(h, "CanSellDramBytes", sell),
                              size_of(h, "CanBuyDramBytes", buy), change_of(h, "TicketDramBytes", ticket),
                              lots_of(h, "TicketDeliveredLots", lot, given),
                              lots_of(h, "TicketPaidLots", lot, paid));
        }
        if (r >= 0 && any) {
                fputc('\n', ctl->out);
                r = table_print(t, ctl->out);
        }
        return r < 0 ? outcome_set(o, OUTCOME_FAILED, "out of memory") : 0;
}

static int run_book(Ctl *ctl, const Args *args, Outcome *o) {
        char demand[SIZE_TEXT_MAX], supply[SIZE_TEXT_MAX], traded[SIZE_TEXT_MAX], recalled[SIZE_TEXT_MAX];
        _cleanup_json_ json_object *book = NULL, *list = NULL, *market = NULL;
        char pool[SIGNED_TEXT_MAX];
        int r;

        r = market_call(ctl, "Book", &book, o);
        if (r >= 0)
                r = market_call(ctl, "List", &list, o);
        if (r >= 0)
                r = client_get_all(ctl, CLIENT_MARKET, &market, o);
        if (r < 0)
                return r;
        if (ctl->json) {
                json_object_object_add(book, "Domains", json_object_get(list));
                json_print(book, ctl->out);
                return 0;
        }
        fprintf(ctl->out,
                "Clearing %" PRIu64
                ", in DRAM: wanted %s, offered %s, traded %s, of it recalled %s, the pool %s\n",
                json_number(book, "Epoch"), size_of(book, "DemandDramBytes", demand),
                size_of(book, "SupplyDramBytes", supply), size_of(book, "TradedDramBytes", traded),
                size_of(book, "RecalledDramBytes", recalled), change_of(book, "PoolDramBytes", pool));
        return offers_print(ctl, list, json_number(market, "LotDramBytes"), o);
}

static int run_history(Ctl *ctl, const Args *args, Outcome *o) {
        uint32_t lines = args_text(args, "lines") ? (uint32_t) args_number(args, "lines") : HISTORY_LINES;
        _cleanup_(table_freep) Table *t = table_new("Time|Domain|>DRAM|>Slow|>Wanted DRAM", 0);
        _cleanup_json_ json_object *list = NULL;
        int r;

        r = client_call(ctl, CLIENT_PATH, CLIENT_MARKET, "History", o, &list, "u", lines);
        if (r < 0)
                return r;
        if (ctl->json) {
                json_print(list, ctl->out);
                return 0;
        }
        r = t ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < json_object_array_length(list); i++) {
                json_object *trade = json_object_array_get_idx(list, i);
                time_t when = (time_t) (json_number(trade, "RealtimeUSec") / USEC_PER_SEC);
                char dram[SIGNED_TEXT_MAX], slow[SIGNED_TEXT_MAX], wanted[SIGNED_TEXT_MAX], clock[32] = "";
                struct tm tm;

                if (localtime_r(&when, &tm))
                        (void) strftime(clock, sizeof(clock), "%F %T", &tm);
                r = table_row(t, clock, *json_text(trade, "Name") ? json_text(trade, "Name") : "(gone)",
                              change_of(trade, "DramBytes", dram), change_of(trade, "SlowBytes", slow),
                              change_of(trade, "WantedDramBytes", wanted));
        }
        if (r >= 0 && json_object_array_length(list) > 0)
                r = table_print(t, ctl->out);
        else if (r >= 0)
                fputs("No trade has ended since hmvisord started.\n", ctl->out);
        return r < 0 ? outcome_set(o, OUTCOME_FAILED, "out of memory") : 0;
}

static const struct {
        const char *option, *key;
} settings[] = {
        { "trading", "Trading" },
        { "entitled-dram", "EntitledDram" },
        { "entitled-slow", "EntitledSlow" },
        { "floor-dram", "FloorDram" },
        { "floor-slow", "FloorSlow" },
        { "ceiling-dram", "CeilingDram" },
        { "ceiling-slow", "CeilingSlow" },
        { "swap-device", "SwapDevice" },
};

static int run_set(Ctl *ctl, const Args *args, Outcome *o) {
        const char *domain = args_text(args, "domain");
        char words[1024] = "";
        size_t used = 0;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(settings) && used < sizeof(words); i++) {
                const char *value = args_text(args, settings[i].option);

                if (value && strpbrk(value, " \t\n"))
                        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "--%s: '%s' has a blank",
                                           settings[i].option, value);
                if (value)
                        used += (size_t) snprintf(words + used, sizeof(words) - used, "%s%s=%s",
                                                  used > 0 ? " " : "", settings[i].key, value);
        }
        if (used == 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "'market set' wants something to set; see 'hmvctl help "
                                   "market set'");
        if (used >= sizeof(words))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "the settings are too long");
        r = client_call(ctl, CLIENT_PATH, CLIENT_MARKET, "Set", o, NULL, "ss", domain, words);
        if (r < 0)
                return r;
        if (ctl->json) {
                _cleanup_json_ json_object *j = json_object_new_object();

                json_object_object_add(j, "Domain", json_object_new_string(domain));
                json_object_object_add(j, "Set", json_object_new_string(words));
                json_print(j, ctl->out);
        } else if (!ctl->quiet)
                fprintf(ctl->out, "Domain '%s' has now %s.\n", domain, words);
        return 0;
}

static void report_json(Ctl *ctl, const char *domain, const char *text, bool dry_run,
                        const Settle *settled) {
        _cleanup_json_ json_object *j = json_object_new_object();

        json_object_object_add(j, "Domain", json_object_new_string(domain));
        json_object_object_add(j, "DryRun", json_object_new_boolean(dry_run));
        json_object_object_add(j, "Trade", json_object_new_string(text));
        if (settled) {
                json_object_object_add(j, "DramBytes", json_object_new_int64(settled->got_dram_bytes));
                json_object_object_add(j, "SlowBytes", json_object_new_int64(settled->got_slow_bytes));
        }
        json_print(j, ctl->out);
}

static void report(Ctl *ctl, const char *domain, const char *text, bool dry_run) {
        if (ctl->json)
                report_json(ctl, domain, text, dry_run, NULL);
        else if (dry_run)
                fprintf(ctl->out, "Domain '%s' would do this, if others took the other side: %s.\n", domain,
                        text);
        else if (!ctl->quiet)
                fprintf(ctl->out,
                        "Domain '%s' %s, at the next clearing, as far as others take the other side.\n",
                        domain, text);
}

/* wanted_bytes: DRAM to buy, < 0 to sell. */
static int report_settled(Ctl *ctl, const Settle *s, const char *text, int64_t wanted_bytes, Outcome *o) {
        char dram[SIZE_TEXT_MAX], slow[SIZE_TEXT_MAX], wanted[SIZE_TEXT_MAX];
        int64_t got = s->got_dram_bytes, paid = s->got_slow_bytes;

        if (ctl->json)
                report_json(ctl, s->name, text, false, s);
        if (got == 0 && wanted_bytes != 0)
                return outcome_set(o, OUTCOME_NO_ROOM, "domain '%s' traded nothing: %s", s->name,
                                   s->was_matched ? "no memory came in time, from it or from the others "
                                                    "('hmvctl events' tells, 'market history' too)"
                                                  : "nobody took the other side ('hmvctl market book')");
        if (ctl->json || ctl->quiet)
                return 0;
        if (got == 0) {
                fprintf(ctl->out, "Domain '%s' has what it is entitled to.\n", s->name);
                return 0;
        }
        size_format(dram, (uint64_t) (got < 0 ? -got : got));
        size_format(slow, (uint64_t) (paid < 0 ? -paid : paid));
        fprintf(ctl->out, "Domain '%s' %s %s of DRAM for %s of slow memory", s->name,
                got < 0 ? "sold" : "bought", dram, slow);
        if (got != wanted_bytes)
                fprintf(ctl->out, "; it wanted %s",
                        size_format(wanted, (uint64_t) (wanted_bytes < 0 ? -wanted_bytes : wanted_bytes)));
        fputs(".\n", ctl->out);
        return 0;
}

static int check_waiting(const Args *args, bool dry_run, Outcome *o) {
        bool waits = args_flag(args, "wait");

        if (waits && dry_run)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "--wait and --dry-run exclude each other: nothing comes of a dry run");
        if (!waits && args_text(args, "timeout"))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "--timeout goes with --wait");
        return 0;
}

static int run_trade(Ctl *ctl, const Args *args, Outcome *o) {
        bool sells = args_text(args, "sell-dram"), buys = args_text(args, "buy-dram");
        bool dry_run = args_flag(args, "dry-run"), waits = args_flag(args, "wait");
        const char *domain = args_text(args, "domain");
        _cleanup_json_ json_object *text = NULL;
        Settle settle;
        int64_t bytes;
        int r;

        if (sells == buys)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "'trade' wants either --sell-dram or --buy-dram");
        if (args_size(args, sells ? "sell-dram" : "buy-dram") > INT64_MAX)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "the size is beyond all bounds");
        bytes = (int64_t) args_size(args, sells ? "sell-dram" : "buy-dram") * (sells ? -1 : 1);
        r = check_waiting(args, dry_run, o);
        if (r >= 0 && waits)
                r = settle_begin(ctl, domain, &settle, o);
        if (r >= 0)
                r = client_call(ctl, CLIENT_PATH, CLIENT_MARKET, "Trade", o, &text, "sxb", domain, bytes,
                                (int) dry_run);
        if (r < 0)
                return r;
        if (!waits) {
                report(ctl, domain, json_object_get_string(text) ?: "", dry_run);
                return 0;
        }
        r = settle_wait(ctl, &settle, args_time(args, "timeout"), o);
        return r < 0 ? r : report_settled(ctl, &settle, json_object_get_string(text) ?: "", bytes, o);
}

static int run_withdraw(Ctl *ctl, const Args *args, Outcome *o) {
        const char *domain = args_text(args, "domain"), *text = "goes back to its entitlement";
        bool waits = args_flag(args, "wait");
        Settle settle;
        int r;

        r = check_waiting(args, false, o);
        if (r >= 0 && waits)
                r = settle_begin(ctl, domain, &settle, o);
        if (r >= 0)
                r = client_call(ctl, CLIENT_PATH, CLIENT_MARKET, "Withdraw", o, NULL, "s", domain);
        if (r < 0)
                return r;
        if (!waits) {
                report(ctl, domain, text, false);
                return 0;
        }
        r = settle_wait(ctl, &settle, args_time(args, "timeout"), o);
        return r < 0 ? r : report_settled(ctl, &settle, text, -settle.position_before, o);
}

#define WAIT_OPTIONS                                                                                        \
        { "wait", OPTION_FLAG, 0, "wait until it is settled, and tell how it goes on" }, {                  \
                "timeout", OPTION_TIME, 0, "but for so long at most"                                        \
        }
#define DOMAIN_ARGUMENT { "domain", OPTION_DOMAIN, OPTION_REQUIRED | OPTION_POSITIONAL, "name, id or UUID" }

const Verb verbs_market[] = {
        {
                "market status",
                "show prices, and what each domain holds",
                "Shows the price of DRAM against slow memory, the least trade, and for each bound domain "
                "what it has, "
                "what it is entitled to, what its holding is worth against its entitlement, what DRAM it "
                "has bought "
                "or sold since, what it wishes to trade and why, how it stands in the market now, and its "
                "last trade. "
                "'hmvctl explain' has the figures behind a wish.",
                { { 0 } },
                run_status,
                0,
        },
        {
                "market book",
                "show the last clearing, and who offered what",
                "Shows how much DRAM was wanted, offered and traded at the last clearing, and for each "
                "domain what it "
                "would trade, what it could, and which trade is under way: how many of its lots it has "
                "given, "
                "and was paid for.",
                { { 0 } },
                run_book,
                0,
        },
        {
                "market history",
                "show the last trades",
                "Shows trades that ended, the newest first: what a domain got of what it wanted.",
                { { "lines", OPTION_NUMBER, 0, "so many at most (20)" } },
                run_history,
                0,
        },
        {
                "market set",
                "say what a domain is entitled to, and whether it trades",
                "Sets how a domain takes part in the market; what is not named stays. It is kept with the "
                "domain. "
                "Sizes are multiples of 2M. Entitlements are given for both tiers, or for none.",
                {
                        DOMAIN_ARGUMENT,
                        { "trading", OPTION_SWITCH, 0, "whether it trades" },
                        { "entitled-dram", OPTION_SIZE, 0, "DRAM that it is paid for" },
                        { "entitled-slow", OPTION_SIZE, 0, "slow memory that it is paid for" },
                        { "floor-dram", OPTION_SIZE, 0, "DRAM below which it never sells" },
                        { "floor-slow", OPTION_SIZE, 0, "slow memory below which it never sells" },
                        { "ceiling-dram", OPTION_SIZE, 0, "DRAM above which it never buys" },
                        { "ceiling-slow", OPTION_SIZE, 0, "slow memory above which it never buys" },
                        { "swap-device", OPTION_NAME, 0,
                          "disk that the guest swaps to, such as vdb; '' for none" },
                },
                run_set,
                VERB_CHANGES,
        },
        {
                "market withdraw",
                "bring a domain back to its entitlement",
                "Brings a domain back to what it is entitled to, over as many clearings as that takes. What "
                "it needs "
                "back is taken from others who hold more than their entitlement, if nobody offers it.",
                { DOMAIN_ARGUMENT, WAIT_OPTIONS },
                run_withdraw,
                VERB_CHANGES,
        },
        {
                "trade",
                "sell DRAM for slow memory, or buy it, by hand",
                "Offers a trade of a domain at the next clearing, at the market's price, within the "
                "domain's floors "
                "and ceilings. It gets as much of it as others take the other side of. The amount is a "
                "multiple of "
                "the least trade ('hmvctl market status').",
                {
                        DOMAIN_ARGUMENT,
                        { "sell-dram", OPTION_SIZE, 0, "DRAM to give for slow memory" },
                        { "buy-dram", OPTION_SIZE, 0, "DRAM to get for slow memory" },
                        { "dry-run", OPTION_FLAG, 0, "say what would come of it, and do nothing" },
                        WAIT_OPTIONS,
                },
                run_trade,
                VERB_CHANGES,
        },
        { 0 },
};
