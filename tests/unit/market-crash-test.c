/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon dies at every step of a trade between two VMs: a process of its own runs the manager, with a
 * journal on disk, and is killed by SIGKILL before and after each thing that it does to the journal and to a
 * size. What the host has (the devices' sizes) outlives it. The next life must come to the end of the trade,
 * or have never heard of it; and at no time may a size be asked for that the journal on disk does not cover.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "temp-root.h"

#include "market-fixture.h"

#define LOTS 3
#define STEP_MAX (32 * MIB) /* that a guest plugs or unplugs in one epoch */
#define EPOCHS_MAX 200
#define SETTLE_NEVER (3600 * USEC_PER_SEC)
#define SETTLE_SOON (20 * USEC_PER_MSEC)

/* The host has exactly what the two have: whatever grows before something shrank is too much. */
static const uint64_t capacity[_TIER_MAX] = { 2 * (BOOT + DRAM), 2 * (BOOT + SLOW) };

/* Steps at which the daemon may die. */
typedef enum Point {
        POINT_WRITE,      /* the journal's next version is there, and empty */
        POINT_HALF,       /* or torn */
        POINT_WRITTEN,
        POINT_SYNCED,
        POINT_RENAMED,
        POINT_STORED,     /* the folder is on disk too */
        POINT_ASK,        /* nobody has heard of the size yet */
        POINT_SENT,       /* libvirt has, and does it only in the daemon's next life */
        POINT_DONE,       /* it is done, and the daemon does not know */
        _POINT_MAX,
} Point;

typedef struct Device {
        uint64_t requested, current;
} Device;

/* What the daemon's lives share with the test. */
typedef struct World {
        Device devices[FAKE_VMS][_TIER_MAX];
        struct {
                bool under_way;
                unsigned vm, cell;
                uint64_t bytes;
        } late;                       /* a call of the former life */
        bool keeps;                   /* VM 1 gives nothing back */
        bool withdraws;               /* VM 0 is to go back to its entitlement, not to trade */
        bool commanded;               /* which was asked for */
        unsigned n_points, die_at;    /* die_at 0: live on */
        unsigned n_died[_POINT_MAX];
        uint64_t most[_TIER_MAX];     /* ever held or asked for, of all */
        uint64_t least;               /* DRAM that VM 0 ever had plugged */
        char fault[512];
} World;

static World *world;
static bool alive;                    /* this process is the daemon */
static sd_event *event;
static Manager *manager;

static _Noreturn _printf_(1, 2) void wrong(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(world->fault, sizeof(world->fault), format, ap);
        va_end(ap);
        _exit(EXIT_FAILURE);
}

static bool dies_at(Point p) {
        if (!alive || ++world->n_points != world->die_at)
                return false;
        world->n_died[p]++;
        return true;
}

static void may_die(Point p) {
        if (dies_at(p))
                (void) raise(SIGKILL);
}

/* ---- the journal (the linker puts these in between) ---- */

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __wrap_fsync(int fd);
int __real_renameat(int from, const char *old, int to, const char *name);
int __wrap_renameat(int from, const char *old, int to, const char *name);

/* Every other one writes only the half of it. */
ssize_t __wrap_write(int fd, const void *data, size_t size) {
        static bool half;
        struct stat st;
        ssize_t n;

        if (!alive || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return __real_write(fd, data, size);
        half = !half;
        may_die(half ? POINT_WRITE : POINT_HALF);
        n = __real_write(fd, data, half ? size / 2 : size);
        if (!half)
                may_die(POINT_WRITTEN);
        return n;
}

/* A process that is killed loses nothing that it had written: the disk is another test's matter. */
int __wrap_fsync(int fd) {
        struct stat st;

        if (fstat(fd, &st) >= 0)
                may_die(S_ISDIR(st.st_mode) ? POINT_STORED : POINT_SYNCED);
        return 0;
}

int __wrap_renameat(int from, const char *old, int to, const char *name) {
        int r = __real_renameat(from, old, to, name);

        may_die(POINT_RENAMED);
        return r;
}

/* Of a copy: the journal itself is the daemon's. */
static int journal_load(Ledger *ret) {
        _cleanup_(journal_file_freep) JournalFile *f = NULL;
        char path[128], copy[128], text[65536];
        Outcome o = {};
        FILE *in, *out;
        size_t n;
        int r;

        snprintf(path, sizeof(path), "%s/journal", root);
        snprintf(copy, sizeof(copy), "%s/copy", root);
        in = fopen(path, "re");
        if (!in)
                return -errno;
        n = fread(text, 1, sizeof(text), in);
        fclose(in);
        out = fopen(copy, "we");
        if (!out || fwrite(text, 1, n, out) != n || fclose(out) != 0)
                return -EIO;
        r = journal_file_open(copy, &f, &o);
        if (r >= 0)
                r = ledger_load(f, ret, &o);
        if (r < 0)
                snprintf(world->fault, sizeof(world->fault), "%s", o.text);
        return r;
}

/* ---- the host ---- */

static uint64_t device_held(const Device *d) {
        return BOOT + MAX(d->requested, d->current);
}

static uint64_t value_of(uint64_t dram, uint64_t slow) {
        return 4 * dram + slow;
}

static void look_at_host(void) {
        for (Tier t = 0; t < _TIER_MAX; t++) {
                uint64_t sum = 0;

                for (unsigned vm = 0; vm < FAKE_VMS; vm++)
                        sum += device_held(&world->devices[vm][t]);
                world->most[t] = MAX(world->most[t], sum);
                if (sum > capacity[t])
                        wrong("%llu of %llu MiB of tier %d are held", (unsigned long long) (sum / MIB),
                              (unsigned long long) (capacity[t] / MIB), t);
        }
        world->least = MIN(world->least, world->devices[0][TIER_DRAM].current);
        for (unsigned vm = 0; vm < FAKE_VMS; vm++)
                if (value_of(device_held(&world->devices[vm][TIER_DRAM]),
                             device_held(&world->devices[vm][TIER_SLOW])) >
                    value_of(BOOT + DRAM, BOOT + SLOW))
                        wrong("VM %u holds more than it is worth", vm);
}

static AccountId id_of(unsigned vm) {
        return market_account(manager_domain(manager, vm == 0 ? FAKE_UUID : FAKE_UUID_1));
}

/* By what is on disk when it is asked for. */
static void look_at_journal(unsigned vm, unsigned cell, uint64_t requested) {
        _cleanup_(ledger_done) Ledger l = {};
        const Account *a;

        if (journal_load(&l) < 0)
                wrong("a size is asked for without a good journal");
        a = ledger_find(&l, id_of(vm));
        if (!a || BOOT + requested > account_owned(a, &l.terms, cell))
                wrong("VM %u is asked to have %llu MiB of tier %u, which it does not own", vm,
                      (unsigned long long) ((BOOT + requested) / MIB), cell);
}

static void late_call(void) {
        Device *d = &world->devices[world->late.vm][world->late.cell];

        if (!world->late.under_way)
                return;
        world->late.under_way = false;
        d->requested = world->late.bytes;
        look_at_host();
        fake_plug(world->late.vm, world->late.cell, d->requested, d->current);
}

static uint64_t on_update(unsigned vm, unsigned cell, uint64_t requested) {
        Device *d = &world->devices[vm][cell];

        look_at_journal(vm, cell, requested);
        late_call(); /* libvirt keeps their order */
        may_die(POINT_ASK);
        if (dies_at(POINT_SENT)) {
                world->late.under_way = true;
                world->late.vm = vm;
                world->late.cell = cell;
                world->late.bytes = requested;
                (void) raise(SIGKILL);
        }
        d->requested = requested;
        look_at_host();
        return d->current;
}

static void on_updated(void) {
        may_die(POINT_DONE);
}

static void guest_moves(unsigned vm, unsigned cell) {
        Device *d = &world->devices[vm][cell];

        if (d->current == d->requested || (world->keeps && vm == 1 && d->current > d->requested))
                return;
        if (d->current > d->requested)
                d->current -= MIN(d->current - d->requested, STEP_MAX);
        else
                d->current += MIN(d->requested - d->current, STEP_MAX);
        look_at_host();
        fake_plug(vm, cell, d->requested, d->current);
        fake_event_of(vm, VIRT_MEMORY_CHANGED, 0, (int) vm + 1, false);
}

/* ---- the daemon ---- */

static void epoch(void) {
        if (sd_event_run(event, world->keeps ? USEC_PER_MSEC : 0) < 0)
                wrong("the loop fails");
        manager_epoch(manager);
        fake_answer();
        for (unsigned vm = 0; vm < FAKE_VMS; vm++)
                for (unsigned cell = 0; cell < _TIER_MAX; cell++)
                        guest_moves(vm, cell);
        fake_answer();
}

/* No trade is open, and all have what they own. */
static bool is_settled(void) {
        const Trade *t = core_get_trade(manager->core);

        for (unsigned vm = 0; vm < FAKE_VMS; vm++) {
                TradeView v;

                if (!t || trade_view(t, id_of(vm), &v) < 0 || v.account.ticket.lots != 0)
                        return false;
                for (Tier tier = 0; tier < _TIER_MAX; tier++)
                        if (world->devices[vm][tier].requested != world->devices[vm][tier].current ||
                            BOOT + world->devices[vm][tier].current != v.owned_bytes[tier])
                                return false;
        }
        return true;
}

static void settle(void) {
        unsigned rest = 0;

        for (unsigned i = 0; i < EPOCHS_MAX; i++) {
                epoch();
                if (i == 5)
                        late_call();
                rest = is_settled() && !world->late.under_way ? rest + 1 : 0;
                if (rest == 3)
                        return;
        }
        wrong("the trade does not come to an end");
}

static void on_reply(const Outcome *o, const char *text, void *userdata) {
        if (o->code != OUTCOME_OK)
                wrong("%s", o->text);
}

static void command(void) {
        Outcome o = {};

        if (world->withdraws && manager_market_withdraw(manager, FAKE_UUID, on_reply, NULL, &o) < 0)
                wrong("%s", o.text);
        for (unsigned vm = 0; vm < FAKE_VMS && !world->withdraws; vm++)
                if (manager_market_trade(manager, vm == 0 ? FAKE_UUID : FAKE_UUID_1,
                                         (vm == 0 ? -LOTS : LOTS) * (int64_t) LOT, false, on_reply, NULL,
                                         &o) < 0)
                        wrong("%s", o.text);
        world->commanded = true;
}

/* One life. Who asked for the trade does not ask again. */
static void live(void) {
        Conf conf = market_conf("Trading=yes", world->keeps ? SETTLE_SOON : SETTLE_NEVER);

        alive = true;
        conf.host.market.use_pool = false;
        if (world->withdraws)
                conf.host.market.max_trade_bytes = LOT; /* so that it takes several clearings */
        fake.on_update = on_update;
        fake.on_updated = on_updated;
        if (sd_event_new(&event) < 0 || sd_event_run(event, 0) < 0 ||
            manager_new(event, &conf, &manager) < 0 || manager_set_config_root(manager, root) < 0)
                wrong("the daemon does not start");
        fake_event(VIRT_CONNECTED, 0, -1, false);
        for (unsigned vm = 0; vm < FAKE_VMS; vm++) {
                domain_bind(vm);
                for (unsigned cell = 0; cell < _TIER_MAX; cell++)
                        fake_plug(vm, cell, world->devices[vm][cell].requested,
                                  world->devices[vm][cell].current);
                fake_event_of(vm, VIRT_DOMAIN, VIRT_STATE_RUNNING, (int) vm + 1, false);
        }
        fake_event(VIRT_LISTED, 0, -1, false);
        fake_answer();
        settle();
        if (world->commanded)
                return;
        command();
        epoch();
        settle();
}

/* Returns whether it died. */
static bool one_life(unsigned die_at) {
        _cleanup_(ledger_done) Ledger l = {};
        int status, r;
        pid_t pid;

        world->n_points = 0;
        world->die_at = die_at;
        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                live();
                _exit(EXIT_SUCCESS);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (*world->fault)
                fail_msg("killed at step %u: %s", die_at, world->fault);
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        r = journal_load(&l); /* checks it, too */
        if (r < 0 && (r != -ENOENT || !WIFSIGNALED(status)))
                fail_msg("killed at step %u: the journal cannot be read: %s", die_at, world->fault);
        return WIFSIGNALED(status);
}

static void world_make(bool keeps) {
        unsigned n_died[_POINT_MAX];

        memcpy(n_died, world->n_died, sizeof(n_died));
        *world = (World) { .keeps = keeps, .least = DRAM };
        memcpy(world->n_died, n_died, sizeof(n_died));
        for (unsigned vm = 0; vm < FAKE_VMS; vm++) {
                world->devices[vm][TIER_DRAM] = (Device) { DRAM, DRAM };
                world->devices[vm][TIER_SLOW] = (Device) { SLOW, SLOW };
        }
        root_make();
        host_make(capacity[TIER_DRAM], capacity[TIER_SLOW]);
}

/* Returns the lots that were traded. */
static uint64_t world_end(void) {
        uint64_t sold = DRAM - world->devices[0][TIER_DRAM].current;

        assert_int_equal(sold % LOT, 0);
        assert_int_equal(world->devices[0][TIER_SLOW].current, SLOW + 4 * sold);
        assert_int_equal(world->devices[1][TIER_DRAM].current, DRAM + sold);
        assert_int_equal(world->devices[1][TIER_SLOW].current, SLOW - 4 * sold);
        assert_int_equal(root_remove(), 0);
        return sold / LOT;
}

/* Kills at every step, and the next life at some step of its own; the one after that is let live. Before the
 * command was written down nobody knows of it, and nothing changes. */
static void kill_everywhere(bool keeps, bool twice, bool withdraws, uint64_t expected) {
        const uint64_t before = withdraws ? LOTS : 0;
        unsigned n_expected = 0, n_none = 0, step;
        bool died = true;

        for (step = 1; died; step++) {
                uint64_t traded;

                world_make(keeps);
                if (withdraws) {
                        assert_false(one_life(0)); /* trades first */
                        world->withdraws = true;
                        world->commanded = false;
                }
                died = one_life(step);
                if (died && twice)
                        (void) one_life(1 + step * 7 % 37);
                if (died)
                        (void) one_life(0);
                traded = world_end();
                n_expected += traded == expected;
                n_none += traded == before;
                if (traded != expected && traded != before)
                        fail_msg("killed at step %u: %llu lots are traded", step,
                                 (unsigned long long) traded);
        }
        print_message("# %u steps, %u lives ended with %u lots traded\n", step - 2, n_expected,
                      (unsigned) expected);
        assert_true(n_expected > n_none || keeps);
        assert_true(n_none > 0); /* before it was written down */
}

static void test_not_killed(void **state) {
        world_make(false);
        assert_false(one_life(0));
        assert_int_equal(world_end(), LOTS);
        assert_int_equal(world->most[TIER_DRAM], capacity[TIER_DRAM]);
}

static void test_killed(void **state) {
        memset(world->n_died, 0, sizeof(world->n_died));
        kill_everywhere(false, false, false, LOTS);
        for (Point p = 0; p < _POINT_MAX; p++)
                assert_true(world->n_died[p] >= 4); /* each of them was met */
}

static void test_killed_twice(void **state) {
        kill_everywhere(false, true, false, LOTS);
}

/* The other side never gives: what is in escrow comes back. */
static void test_killed_while_nothing_comes(void **state) {
        kill_everywhere(true, false, false, 0);
        assert_true(world->least < DRAM); /* it had given */
}

/* What it sold is recalled from who bought it. */
static void test_killed_while_withdrawing(void **state) {
        kill_everywhere(false, true, true, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_not_killed),
                cmocka_unit_test(test_killed),
                cmocka_unit_test(test_killed_twice),
                cmocka_unit_test(test_killed_while_nothing_comes),
                cmocka_unit_test(test_killed_while_withdrawing),
        };

        world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (world == MAP_FAILED)
                return 99; /* cmocka has no say yet */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
