/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See fake-manager.h. Domains: "hot" (running, managed), "cold" (off, bound), "plain" (running, not bound),
 * "odd" (running, degraded, with texts as a hostile guest would send them).
 */
#include "fake-manager.h"

#include <inttypes.h>

#define FAKE_DOMAINS_MAX 16

typedef struct Later {
        Manager *m;
        sd_event_source *source;
        ManagerReply reply;
        void *userdata;
        Outcome outcome;
        char *text;
} Later;

struct Manager {
        sd_event *event;
        Conf conf;
        bool connected;
        ManagerHooks hooks;
        DomainView domains[FAKE_DOMAINS_MAX];
        size_t n;
        char market_reason[128];
};

static const char *const phases[] = { "discovered", "probing", "observing", "managed", "degraded", "gone" };

const char *phase_to_string(Phase p) {
        return p < _PHASE_MAX ? phases[p] : "unknown";
}

const char *tier_source_to_string(TierSource s) {
        static const char *const names[] = { "configuration", "hwloc", "kernel", "distance" };

        return s < _TIER_SOURCE_MAX ? names[s] : "unknown";
}

int policy_format(const DomainPolicy *p, const DomainPolicy *defaults, char **ret_text) {
        int r = asprintf(ret_text, "Managed=%s DryRun=%s RateCap=%" PRIu64 "M", p->managed ? "yes" : "no",
                         p->dry_run ? "yes" : "no", p->migrate_bytes_per_sec / (1024 * 1024));

        return r < 0 ? -ENOMEM : 0;
}

static void add_cell(DomainView *v, Tier tier, const char *nodes, uint64_t boot, uint64_t device) {
        CellView *c = &v->cells[v->n_cells];

        c->cell = (DomainCell){ .cell = (uint32_t) v->n_cells,
                                .tier = tier,
                                .bound = true,
                                .boot_bytes = boot,
                                .device_max_bytes = device };
        snprintf(c->cell.host_nodes, sizeof(c->cell.host_nodes), "%s", nodes);
        c->guest_total_bytes = c->guest_free_bytes = UINT64_MAX;
        v->n_cells++;
}

static DomainView *add_domain(Manager *m, const char *name, int id, Phase phase) {
        DomainView *v = &m->domains[m->n];

        *v = (DomainView) { .id = id, .phase = phase, .agent_kernel_node = -1 };
        snprintf(v->name, sizeof(v->name), "%s", name);
        snprintf(v->uuid, sizeof(v->uuid), "00000000-1111-4222-8333-44445555%04zu", m->n);
        v->policy.migrate_bytes_per_sec = UINT64_C(64) << 20;
        m->n++;
        return v;
}

int manager_new(sd_event *event, Conf *conf, Manager **ret) {
        Manager *m = calloc(1, sizeof(*m));
        DomainView *v;

        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);
        m->conf.host =
                (HostPolicy){ .epoch_usec = USEC_PER_SEC, .migrate_bytes_per_sec = UINT64_C(256) << 20 };
        m->connected = true;

        v = add_domain(m, "hot", 1, PHASE_MANAGED);
        v->bound = v->managed = v->policy.managed = true;
        add_cell(v, TIER_DRAM, "0", UINT64_C(256) << 20, UINT64_C(768) << 20);
        add_cell(v, TIER_SLOW, "1", UINT64_C(768) << 20, UINT64_C(256) << 20);
        v->cells[0].guest_total_bytes = UINT64_C(240) << 20;
        v->cells[0].guest_free_bytes = UINT64_C(16) << 20;
        v->cells[0].heat_pages[0] = 40960;
        v->cells[0].heat_pages[3] = 512;
        v->cells[0].heat_pages[8] = 24064;
        v->cells[1].heat_pages[0] = 196096;
        v->cells[1].heat_pages[1] = 512;
        v->totals = (DomainTotals){ .epochs = 60,
                                      .sightings = 123456,
                                    .orders = 3,
                                    .promoted_pages = 24576,
                                    .demoted_pages = 20000,
                                    .skipped_pages = { [SKIP_PINNED] = 7, [SKIP_NO_ROOM] = 2 },
                                    .failed_orders = 1 };
        snprintf(v->tracking_state, sizeof(v->tracking_state), "tracking");
        snprintf(v->tracking_log, sizeof(v->tracking_log), "bitmap");
        snprintf(v->tracking_scope, sizeof(v->tracking_scope), "slow");
        snprintf(v->mover, sizeof(v->mover), "damon");
        snprintf(v->agent_version, sizeof(v->agent_version), "0.1.0");
        snprintf(v->agent_kernel, sizeof(v->agent_kernel), "6.12.0");
        v->agent_kernel_node = 1;
        snprintf(v->agent_online_policy, sizeof(v->agent_online_policy), "online_movable");
        v->tracking_epochs = 600;
        v->tracking_dropped = 1;
        v->tracking_cost_ns = 1234567890;
        v->tracking_last_cost_ns = 2345678;

        v = add_domain(m, "cold", -1, PHASE_DISCOVERED);
        v->bound = true;
        add_cell(v, TIER_DRAM, "0", UINT64_C(1) << 30, 0);
        add_cell(v, TIER_SLOW, "1", UINT64_C(3) << 30, 0);

        add_domain(m, "plain", 2, PHASE_DISCOVERED);

        v = add_domain(m, "odd", 3, PHASE_DEGRADED);
        v->bound = true;
        add_cell(v, TIER_DRAM, "0", UINT64_C(512) << 20, 0);
        snprintf(v->reason, sizeof(v->reason),
                 "the guest's agent is not ours; install hmvisor-guest-agent in the guest");
        snprintf(v->agent_version, sizeof(v->agent_version), "\xff\x1b[31mred\xc3(");
        *ret = m;
        return 0;
}

Manager *manager_free(Manager *m) {
        if (m)
                sd_event_unref(m->event);
        free(m);
        return NULL;
}

void manager_set_hooks(Manager *m, const ManagerHooks *hooks) {
        m->hooks = *hooks;
}

bool manager_is_connected(const Manager *m) {
        return m->connected;
}

const Conf *manager_conf(const Manager *m) {
        return &m->conf;
}

int manager_reload(Manager *m, Outcome *o) {
        return outcome_set(o, OUTCOME_BAD_ARGUMENT, "hmvisord.conf:3: key 'Epoch' wants a time such as 1s");
}

int manager_get_tiers(Manager *m, HostTiers *ret, Outcome *o) {
        *ret = (HostTiers) {
                .nodes = {
                        { .node = 0, .tier = TIER_DRAM, .source = TIER_FROM_CONF,
                          .total_bytes = UINT64_C(4) << 30, .free_bytes = UINT64_C(3) << 30, .n_cpus = 4,
                          .cpus = "0-3", .latency_ns = 90, .bandwidth_mibs = 20000,
                          .distance_from_dram = 10 },
                        { .node = 1, .tier = TIER_SLOW, .source = TIER_FROM_DISTANCE,
                          .total_bytes = UINT64_C(8) << 30, .free_bytes = UINT64_C(8) << 30,
                          .distance_from_dram = 20 },
                },
                .n_nodes = 2,
        };
        return 0;
}

size_t manager_list_domains(const Manager *m, char (**ret_uuids)[37]) {
        char(*uuids)[37] = calloc(m->n + 1, sizeof(*uuids));

        for (size_t i = 0; uuids && i < m->n; i++)
                memcpy(uuids[i], m->domains[i].uuid, sizeof(*uuids));
        *ret_uuids = uuids;
        return uuids ? m->n : 0;
}

static DomainView *find(const Manager *m, const char *uuid) {
        for (size_t i = 0; i < m->n; i++)
                if (streq(m->domains[i].uuid, uuid))
                        return (DomainView *) &m->domains[i];
        return NULL;
}

static DomainView *find_name(const Manager *m, const char *name) {
        for (size_t i = 0; name && i < m->n; i++)
                if (streq(m->domains[i].name, name))
                        return (DomainView *) &m->domains[i];
        return NULL;
}

int manager_find_domain(const Manager *m, const char *name, char ret_uuid[static 37], Outcome *o) {
        if (!m->connected) {
                (void) outcome_set(o, OUTCOME_NO_LIBVIRT, "libvirt cannot be reached; start libvirtd");
                return -ENOENT;
        }
        for (size_t i = 0; i < m->n; i++) {
                char id[16];

                snprintf(id, sizeof(id), "%d", m->domains[i].id);
                if (streq(m->domains[i].name, name) || streq(m->domains[i].uuid, name) || streq(id, name)) {
                        memcpy(ret_uuid, m->domains[i].uuid, 37);
                        return 0;
                }
        }
        (void) outcome_set(o, OUTCOME_NO_DOMAIN, "no domain '%s'; 'hmvctl list' shows all", name);
        return -ENOENT;
}

int manager_get_domain(const Manager *m, const char *uuid, DomainView *ret, Outcome *o) {
        const DomainView *v = find(m, uuid);

        if (!v) {
                (void) outcome_set(o, OUTCOME_NO_DOMAIN, "no domain with UUID '%s'", uuid);
                return -ENOENT;
        }
        *ret = *v;
        return 0;
}

/* Domain odd has wishes, as the daemon would tell them. */
static char *explain_wishes(void) {
        static const WishDecision wishes[] = {
                { .reason = WISH_SWAPPING,
                  .lots = -1,
                  .best = -1,
                  .swap_wait_usec = 990000,
                  .swap_bytes_per_sec = UINT64_C(79) * 4096,
                  .room_usec = 990000 },
                { .reason = WISH_COLD, .lots = -2, .best = -2, .heat_usec = 7 },
        };
        MarketPolicy policy = market_policy_default();
        char *text = calloc(ELEMENTSOF(wishes), 400), *p = text;
        Terms terms;

        if (!text || terms_make(&policy, &terms) < 0)
                abort();
        for (size_t i = 0; i < ELEMENTSOF(wishes); i++) {
                p += sprintf(p, "market: ");
                p += wish_describe(&wishes[i], &terms, p, 300);
                p += sprintf(p, "\n");
        }
        return text;
}

int manager_explain(const Manager *m, const char *uuid, size_t n, char **ret_text, Outcome *o) {
        const DomainView *v = find(m, uuid);
        _cleanup_free_ char *text = calloc(n + 1, 64);
        char *p = text;

        if (!text)
                return -ENOMEM;
        if (v && streq(v->name, "odd")) {
                *ret_text = explain_wishes();
                return 0;
        }
        for (size_t i = n < 3 ? 3 - n : 0; i < 3; i++)
                p += sprintf(p, "%zu: ordered %zu pages\n", i + 1, (i + 1) * 100);
        *ret_text = TAKE_PTR(text);
        return 0;
}

static int on_later(sd_event_source *s, void *userdata) {
        Later *l = userdata;

        l->reply(&l->outcome, l->text ?: "", l->userdata);
        sd_event_source_unref(l->source);
        free(l->text);
        free(l);
        return 0;
}

static int answer_later(Manager *m, ManagerReply reply, void *userdata, char *text, const Outcome *o) {
        Later *l = calloc(1, sizeof(*l));

        *l = (Later) { .m = m, .reply = reply, .userdata = userdata, .text = text };
        if (o)
                l->outcome = *o;
        return sd_event_add_defer(m->event, &l->source, on_later, l);
}

int manager_bind(Manager *m, const char *uuid, const BindRequest *request, ManagerReply reply,
                 void *userdata, Outcome *o) {
        DomainView *v = find(m, uuid);
        char *text = NULL;

        if (v->bound)
                return outcome_set(o, OUTCOME_ALREADY_BOUND,
                                   "domain '%s' is bound already; hmvctl unbind first", v->name);
        if (request->dram_bytes % (2 << 20) != 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "the DRAM size is no multiple of 2 MiB");
        if (asprintf(&text,
                     "--- before\n+++ after\n+<cell memory='%" PRIu64 "' slow='%" PRIu64 "' max='%" PRIu64
                     "'/>\n",
                     request->dram_bytes, request->slow_bytes, request->max_dram_bytes) < 0)
                return -ENOMEM;
        v->bound = !request->dry_run;
        return answer_later(m, reply, userdata, text, NULL);
}

int manager_unbind(Manager *m, const char *uuid, bool dry_run, ManagerReply reply, void *userdata,
                   Outcome *o) {
        DomainView *v = find(m, uuid);

        if (!v->bound)
                return outcome_set(o, OUTCOME_NOT_BOUND, "domain '%s' is not bound", v->name);
        v->bound = dry_run;
        return answer_later(m, reply, userdata, strdup("-<cell/>\n"), NULL);
}

int manager_verify(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Outcome *o) {
        DomainView *v = find(m, uuid);
        Outcome later = { 0 };

        if (v->id < 0)
                return outcome_set(o, OUTCOME_DOMAIN_OFF, "domain '%s' is off; start it first", v->name);
        if (streq(v->name, "hot"))
                return answer_later(m, reply, userdata,
                                    strdup("{\"cells\":[{\"cell\":0,\"tier\":\"dram\",\"expected\":\"0\","
                                           "\"bytes\":{\"0\":268435456},\"ok\":true},"
                                           "{\"cell\":1,\"tier\":\"slow\",\"expected\":\"1\",\"bytes\":{"
                                           "\"1\":805306368},\"ok\":true}],\"ok\":true}"),
                                    NULL);
        (void) outcome_set(&later, OUTCOME_MISPLACED, "cell 0 has memory outside node 0");
        return answer_later(m, reply, userdata,
                            strdup("{\"cells\":[{\"cell\":0,\"tier\":\"dram\",\"expected\":\"0\",\"bytes\":{"
                                   "\"0\":1048576,\"1\":4096},\"ok\":false}],\"ok\":false}"),
                            &later);
}

int manager_set_policy(Manager *m, const char *uuid, const char *words, bool live, bool config,
                       ManagerReply reply, void *userdata, Outcome *o) {
        DomainView *v = find(m, uuid);
        Outcome later = { 0 };

        if (live && v->id < 0)
                return outcome_set(o, OUTCOME_DOMAIN_OFF, "domain '%s' is off; use --config", v->name);
        if (strncmp(words, "Trading=", 8) == 0)
                v->policy.trading = streq(words, "Trading=yes");
        else if (streq(words, "Managed=yes") || streq(words, "Managed=no"))
                v->managed = v->policy.managed = streq(words, "Managed=yes");
        else if (!strstr(words, "RateCap=") || sscanf(strstr(words, "RateCap="), "RateCap=%" SCNu64 "M",
                                                      &v->policy.migrate_bytes_per_sec) != 1)
                (void) outcome_set(&later, OUTCOME_BAD_ARGUMENT,
                                   "policy '%.100s': keys are Managed, DryRun, RateCap", words);
        else
                v->policy.migrate_bytes_per_sec <<= 20;
        printf("set %s '%s' live=%d config=%d\n", v->name, words, live, config);
        fflush(stdout);
        if (later.code == OUTCOME_OK && m->hooks.domain_changed)
                m->hooks.domain_changed(uuid, m->hooks.userdata);
        return answer_later(m, reply, userdata, NULL, &later);
}

void manager_market_get(const Manager *m, MarketView *ret) {
        *ret = (MarketView) {
                .enabled = true,
                .terms = { .block_bytes = UINT64_C(2) << 20, .dram_price = 4, .slow_price = 1,
                           .lot_dram_blocks = 16, .lot_slow_blocks = 64 },
                .next_terms = { .block_bytes = UINT64_C(2) << 20, .dram_price = 65, .slow_price = 16,
                                .lot_dram_blocks = 16, .lot_slow_blocks = 65 },
                .price = PRICE_WAITS_TRADES,
                .capacity_bytes = { UINT64_C(3) << 30, UINT64_C(8) << 30 },
                .epoch = 12,
                .clearing = { .pool = -1, .demand = 3, .supply = 2, .traded = 3 },
                .pool_position = -1,
        };
        snprintf(ret->reason, sizeof(ret->reason), "%s", m->market_reason);
}

/* How a trade of "hot" goes on, a step at each look at it: it waits for a clearing, gives, is paid, and has
 * its size in the end. */
static struct {
        bool scripted;                 /* before, it is in the midst of one for ever */
        int64_t lots, got;             /* asked for; what comes of it; got 0: nobody takes the other side */
        bool withdraws, vanishes;      /* vanishes: is out of the market in the midst of it */
        unsigned step;                 /* 0: none */
} settling;

static void settle_step(MarketHolding *h) {
        Account *a = &h->trade.account;
        int64_t lots = settling.withdraws ? -2 : settling.lots;

        if (!settling.scripted)
                return;
        a->ticket = (Ticket){ 0 };
        h->trade.standing = STANDING_WISH;
        if (settling.step > 0)
                settling.step++;
        if (settling.step == 2) {
                h->command_dram_bytes = settling.withdraws ? 0 : lots * (1 << 25);
                h->withdraws = settling.withdraws;
        }
        if (settling.vanishes && settling.step > 2)
                h->has_account = false;
        if (settling.got == 0)
                return;
        if (settling.step == 3 || settling.step == 4)
                a->ticket =
                        (Ticket){ .lots = lots, .delivered = settling.step - 3, .paid = settling.step - 3 };
        if (settling.step >= 5) {
                a->position += settling.got;
                for (Tier t = 0; t < _TIER_MAX; t++)
                        h->trade.owned_bytes[t] += (uint64_t) settling.got << (t == TIER_DRAM ? 25 : 27);
        }
        if (settling.step <= 5)
                return;
        memcpy(h->size_bytes, h->trade.owned_bytes, sizeof(h->size_bytes));
        puts("settled");
        fflush(stdout);
}

/* "hot" bought 64 MiB of DRAM since its entitlement, "cold" has no account. */
size_t manager_market_holdings(const Manager *m, MarketHolding **ret) {
        MarketHolding *h = calloc(2, sizeof(*h));

        *ret = h;
        h[0] = (MarketHolding) {
                .trading = true,
                .swap_device = "vdb",
                .size_bytes = { UINT64_C(320) << 20, UINT64_C(512) << 20 },
                .has_account = true,
                .trade = { .account = { .entitlement_blocks = { 128, 384 }, .position = 2,
                                        .ticket = { .lots = -1, .delivered = 1 } },
                           .standing = STANDING_BUSY, .offer = -1, .low = -2, .high = 5,
                           .owned_bytes = { UINT64_C(320) << 20, UINT64_C(512) << 20 } },
                .last_lots = 2,
                .wish = { .reason = WISH_HEAT_MISSED, .lots = 3 },
        };
        snprintf(h[0].name, sizeof(h[0].name), "hot");
        memcpy(h[0].uuid, m->domains[0].uuid, sizeof(h[0].uuid));
        settle_step(&h[0]);
        snprintf(h[1].name, sizeof(h[1].name), "cold");
        memcpy(h[1].uuid, m->domains[1].uuid, sizeof(h[1].uuid));
        return 2;
}

size_t manager_market_history(Manager *m, size_t n, MarketTrade **ret) {
        MarketTrade *t = calloc(2, sizeof(*t));

        *ret = t;
        t[0] = (MarketTrade){ .realtime = UINT64_C(1700000010) * USEC_PER_SEC,
                              .name = "hot",
                              .wanted = 3,
                              .got = 2,
                              .lot_bytes = { UINT64_C(32) << 20, UINT64_C(128) << 20 } };
        t[1] = (MarketTrade) { .realtime = UINT64_C(1700000000) * USEC_PER_SEC, .wanted = -2, .got = -2,
                               .lot_bytes = { UINT64_C(32) << 20, UINT64_C(128) << 20 } };
        return MIN(n, (size_t) 2);
}

int manager_market_trade(Manager *m, const char *uuid, int64_t dram_bytes, bool dry_run, ManagerReply reply,
                         void *userdata, Outcome *o) {
        char *text = NULL;

        if (dram_bytes == 0 || dram_bytes % (32 << 20) != 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%" PRId64 " is no multiple of 32 MiB",
                                   dram_bytes);
        if (!streq(find(m, uuid)->name, "hot"))
                return outcome_set(o, OUTCOME_DOMAIN_OFF, "domain '%s' is off; start it first",
                                   find(m, uuid)->name);
        printf("trade %" PRId64 " dry_run=%d\n", dram_bytes / (1 << 20), dry_run);
        fflush(stdout);
        if (!dry_run) {
                settling.lots = dram_bytes / (32 << 20);
                settling.withdraws = false;
                settling.step = 1;
        }
        if (asprintf(&text, "%s %" PRId64 " lots", dram_bytes < 0 ? "sells" : "buys",
                     (dram_bytes < 0 ? -dram_bytes : dram_bytes) / (32 << 20)) < 0)
                return -ENOMEM;
        return answer_later(m, reply, userdata, text, NULL);
}

int manager_market_withdraw(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Outcome *o) {
        if (!streq(find(m, uuid)->name, "hot"))
                return outcome_set(o, OUTCOME_NOT_BOUND, "domain '%s' is not bound", find(m, uuid)->name);
        puts("withdraw");
        fflush(stdout);
        settling.withdraws = true;
        settling.step = 1;
        reply(&(Outcome){}, "", userdata); /* at once */
        return 0;
}

static int command_phase(Manager *m, char *args) {
        DomainView *v = find_name(m, strsep(&args, " "));
        const char *phase = strsep(&args, " ");

        for (Phase p = 0; v && phase && p < _PHASE_MAX; p++)
                if (streq(phases[p], phase)) {
                        v->phase = p;
                        snprintf(v->reason, sizeof(v->reason), "%s", args ?: "");
                        m->hooks.domain_changed(v->uuid, m->hooks.userdata);
                        return 0;
                }
        return -EINVAL;
}

/* What doctor looks at: "guest NAME LOG [ONLINE-POLICY]". */
static int command_guest(Manager *m, char *args) {
        DomainView *v = find_name(m, strsep(&args, " "));
        const char *log = strsep(&args, " ");

        if (!v || !log)
                return -EINVAL;
        snprintf(v->tracking_log, sizeof(v->tracking_log), "%s", log);
        snprintf(v->agent_online_policy, sizeof(v->agent_online_policy), "%s", args ?: "");
        return 0;
}

static int command_event(Manager *m, char *args) {
        ManagerEvent e = { .realtime = UINT64_C(1700000000000000), .name = "", .uuid = "" };
        DomainView *v = find_name(m, strsep(&args, " "));

        if (v)
                e.name = v->name, e.uuid = v->uuid;
        e.kind = strsep(&args, " ");
        e.message = args;
        if (!e.kind || !e.message)
                return -EINVAL;
        m->hooks.event(&e, m->hooks.userdata);
        return 0;
}

int fake_manager_command(Manager *m, char *line) {
        const char *verb = strsep(&line, " ");
        DomainView *v;

        if (!line)
                return -EINVAL;
        if (streq(verb, "phase"))
                return command_phase(m, line);
        if (streq(verb, "event"))
                return command_event(m, line);
        if (streq(verb, "settle")) { /* so many lots come of the next trade */
                settling.scripted = true;
                settling.step = 0;
                settling.vanishes = streq(line, "vanish");
                settling.got = atoi(line);
                return 0;
        }
        if (streq(verb, "guest"))
                return command_guest(m, line);
        if (streq(verb, "market")) {
                snprintf(m->market_reason, sizeof(m->market_reason), "%s", line);
                return 0;
        }
        if (streq(verb, "connected")) {
                m->connected = streq(line, "yes");
                return 0;
        }
        if (streq(verb, "add")) {
                if (m->n == FAKE_DOMAINS_MAX)
                        return -EINVAL;
                v = add_domain(m, line, -1, PHASE_DISCOVERED);
                m->hooks.domain_added(v->uuid, m->hooks.userdata);
                return 0;
        }
        if (streq(verb, "remove")) {
                char uuid[37];

                v = find_name(m, line);
                if (!v)
                        return -EINVAL;
                memcpy(uuid, v->uuid, sizeof(uuid));
                *v = m->domains[--m->n];
                m->hooks.domain_removed(uuid, m->hooks.userdata);
                return 0;
        }
        if (streq(verb, "counters")) {
                char name[64];

                v = NULL;
                if (sscanf(line, "%63s", name) == 1)
                        v = find_name(m, name);
                if (!v || sscanf(line, "%*s %" SCNu64 " %" SCNu64, &v->totals.promoted_pages,
                                 &v->totals.demoted_pages) != 2)
                        return -EINVAL;
                m->hooks.counters_changed(v->uuid, m->hooks.userdata);
                return 0;
        }
        return -EINVAL;
}
