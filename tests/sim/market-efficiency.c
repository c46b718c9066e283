/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much of what trade can bring at the posted price the market brings, against the optimum that a linear
 * program finds (glpsol, run as a process; skipped without).
 *
 * The objective: each VM's benefit is how much nearer trade brings it to its peak. At one price every
 * allocation in which nobody is beyond its peak, and in which only one side of the market falls short, is
 * Pareto efficient; those are the ones that minimise the sum of all distances to the peaks over all feasible
 * allocations. So the program minimises that sum, subject to everybody's bounds, the pool's limits, and the
 * sum of all trades being 0.
 *
 * With peaks of whole lots the two must agree exactly. With peaks of blocks, of which a VM can state only
 * whole lots, the market may lose less than a lot for each VM and as much again for whom it would have
 * traded with. A rule that wastes must be found out: first come, first served, in which an offer that is
 * larger than what is left is passed over as a whole.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "market-random.h"

#define MARKETS 300
#define SKIPPED 77

extern char **environ;

typedef struct Peaks {
        int64_t blocks[RANDOM_VMS_MAX]; /* of DRAM */
} Peaks;

/* All in blocks of DRAM: x of each VM, its distance e to its peak, and y of the pool. */
static int program_write(const RandomMarket *m, const Peaks *p, const char *path) {
        long long lot = m->terms.lot_dram_blocks;
        _cleanup_fclose_ FILE *f = fopen(path, "we");

        if (!f)
                return -errno;
        fputs("Minimize\n distance:", f);
        for (size_t i = 0; i < m->n; i++)
                fprintf(f, " + e%zu", i);
        fputs("\nSubject To\n sum: y", f);
        for (size_t i = 0; i < m->n; i++)
                fprintf(f, " + x%zu", i);
        fputs(" = 0\n", f);
        for (size_t i = 0; i < m->n; i++) {
                fprintf(f, " above%zu: e%zu - x%zu >= %lld\n", i, i, i, (long long) -p->blocks[i]);
                fprintf(f, " below%zu: e%zu + x%zu >= %lld\n", i, i, i, (long long) p->blocks[i]);
        }
        fprintf(f, "Bounds\n %lld <= y <= %lld\n", -lot * (long long) m->pool.sells_at_most,
                lot * (long long) m->pool.buys_at_most);
        for (size_t i = 0; i < m->n; i++)
                fprintf(f, " %lld <= x%zu <= %lld\n", lot * m->offers[i].low, i, lot * m->offers[i].high);
        fputs("End\n", f);
        return ferror(f) ? -EIO : 0;
}

static int solver_run(const char *program, const char *solution) {
        char *argv[] = { (char *) "glpsol", (char *) "--lp",   (char *) program,
                         (char *) "-w",     (char *) solution, NULL };
        posix_spawn_file_actions_t actions;
        int status, r;
        pid_t pid;

        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawnp(&pid, "glpsol", &actions, NULL, argv, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        if (r != 0)
                return -r;
        if (waitpid(pid, &status, 0) < 0)
                return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* The line "s bas ROWS COLUMNS f f OBJECTIVE": feasible in both senses, so optimal. */
static int solution_read(const char *path, double *ret) {
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        char line[256], primal, dual;

        if (!f)
                return -EIO; /* -ENOENT is glpsol that is missing */
        while (fgets(line, sizeof(line), f))
                if (sscanf(line, "s bas %*d %*d %c %c %lf", &primal, &dual, ret) == 3)
                        return primal == 'f' && dual == 'f' ? 0 : -EIO;
        return -EBADMSG;
}

static int optimum(const RandomMarket *m, const Peaks *p, const char *folder, double *ret) {
        char program[64], solution[64];
        int r;

        (void) snprintf(program, sizeof(program), "%s/market.lp", folder);
        (void) snprintf(solution, sizeof(solution), "%s/market.sol", folder);
        r = program_write(m, p, program);
        if (r >= 0)
                r = solver_run(program, solution);
        if (r >= 0)
                r = solution_read(solution, ret);
        (void) unlink(program);
        (void) unlink(solution);
        return r;
}

static int64_t distance(const RandomMarket *m, const Peaks *p, const int64_t lots[]) {
        int64_t sum = 0;

        for (size_t i = 0; i < m->n; i++)
                sum += llabs(p->blocks[i] - lots[i] * m->terms.lot_dram_blocks);
        return sum;
}

static void clear_wastefully(const RandomMarket *m, int64_t ret_lots[]) {
        int64_t demand = 0, supply = 0, left;
        int side;

        for (size_t i = 0; i < m->n; i++) {
                demand += MAX(m->offers[i].wish, INT64_C(0));
                supply += MAX(-m->offers[i].wish, INT64_C(0));
        }
        side = demand >= supply ? 1 : -1;
        left = MIN(demand, supply) + (int64_t) (side > 0 ? m->pool.sells_at_most : m->pool.buys_at_most);
        for (size_t i = 0; i < m->n; i++) {
                int64_t wish = m->offers[i].wish * side;

                ret_lots[i] = wish <= left ? m->offers[i].wish : 0;
                left -= wish > 0 ? side * ret_lots[i] : 0;
        }
}

/* A market without withdrawals (which are rights, and cost others what they bring), and true peaks. */
static void market_make(RandomMarket *m, Peaks *p, uint64_t seed, bool whole_lots) {
        Random r = { ~seed };
        int64_t lot;

        random_market(m, seed, 12, 30);
        lot = m->terms.lot_dram_blocks;
        for (size_t i = 0; i < m->n; i++) {
                Offer *o = m->offers + i;

                o->withdraw = false;
                p->blocks[i] = whole_lots ? o->wish * lot : random_between(&r, o->low * lot, o->high * lot);
                o->wish = p->blocks[i] / lot; /* toward 0 */
        }
}

/* Sums over all markets; blocks. */
typedef struct Totals {
        double best;           /* benefit at the optimum */
        int64_t market, waste; /* of the two rules */
        double least;          /* ratio in the worst market */
        unsigned n;            /* markets in which trade can bring anything */
} Totals;

static int compare(bool whole_lots, const char *folder, Totals *ret) {
        Totals t = { .least = 1 };

        for (uint64_t seed = 1; seed <= MARKETS; seed++) {
                int64_t none[RANDOM_VMS_MAX] = { 0 }, lots[RANDOM_VMS_MAX], waste[RANDOM_VMS_MAX], gained;
                double least, best, slack;
                RandomMarket m;
                Peaks p;
                Clearing c;
                int r;

                market_make(&m, &p, seed, whole_lots);
                r = market_clear(m.offers, m.n, &m.pool, m.epoch, lots, &c);
                if (r >= 0)
                        r = optimum(&m, &p, folder, &least);
                if (r < 0)
                        return r;
                clear_wastefully(&m, waste);
                best = (double) distance(&m, &p, none) - least;
                gained = distance(&m, &p, none) - distance(&m, &p, lots);
                slack = whole_lots ? 0 : 2.0 * (double) m.n * (m.terms.lot_dram_blocks - 1);
                if ((double) gained > best + 1e-6 || (double) gained < best - slack - 1e-6) {
                        printf("# seed %llu: benefit %lld, and %.1f would be best\n",
                               (unsigned long long) seed, (long long) gained, best);
                        return -ERANGE;
                }
                t.best += best;
                t.market += gained;
                t.waste += distance(&m, &p, none) - distance(&m, &p, waste);
                if (best > 0.5) {
                        t.least = MIN(t.least, (double) gained / best);
                        t.n++;
                }
        }
        *ret = t;
        return 0;
}

static int run(const char *folder) {
        Totals lots = { 0 }, blocks = { 0 };
        int r, failed = 0;

        r = compare(true, folder, &lots);
        if (r == -ENOENT)
                return SKIPPED;
        printf("%sok 1 - whole lots: ratio %.6f of the optimum, least %.6f, in %u markets with trade\n",
               r < 0 || lots.n < MARKETS / 2 ? failed++, "not " : "", (double) lots.market / lots.best,
               lots.least, lots.n);
        r = compare(false, folder, &blocks);
        printf("%sok 2 - peaks in blocks: ratio %.6f, the rest is less than 2 lots a VM\n",
               r < 0 || blocks.n < MARKETS / 2 ? failed++, "not " : "",
               (double) blocks.market / blocks.best);
        printf("%sok 3 - first come with waste is found out: ratio %.6f\n",
               (double) lots.waste < 0.99 * lots.best ? "" : (failed++, "not "),
               (double) lots.waste / lots.best);
        return failed > 0;
}

int main(void) {
        char folder[] = "/tmp/market-efficiency-XXXXXX";
        int r;

        if (!mkdtemp(folder)) {
                perror("mkdtemp");
                return 1;
        }
        r = run(folder);
        if (r == SKIPPED)
                puts("1..0 # SKIP glpsol is not installed (Debian: glpk-utils)");
        else
                puts("1..3");
        (void) rmdir(folder);
        return r == SKIPPED ? 0 : r;
}
