/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvsim: arguments, and the loop over simulated seconds; nothing else.
 */
#include <getopt.h>
#include <inttypes.h>

#include "config.h"
#include "report.h"

typedef struct Options {
        const char *scenario, *csv, *plot;
        uint64_t seed;
        bool json;
} Options;

static void help(void) {
        puts("hmvsim [OPTIONS...] SCENARIO\n"
             "\n"
             "Simulate hmvisor's placement and trading on synthetic VMs, in simulated time.\n"
             "\n"
             "  -h, --help         show this help\n"
             "      --version      show the version\n"
             "      --seed=N       another run of the same scenario (default: 1)\n"
             "      --csv=DIR      write figures over time to DIR/groups.csv and DIR/market.csv\n"
             "      --plot=DIR     these, and their plots by gnuplot (PNG)\n"
             "  -j, --json         print the summary as JSON\n"
             "\n"
             "SCENARIO is a file, or the name of one that comes with hmvsim:\n"
             "three-vms, thousand, hostile. See hmvsim(1).");
}

/* Returns 1 to go on, 0 when all is done, or -EINVAL. */
static int parse_arguments(int argc, char *argv[], Options *ret) {
        enum { ARG_VERSION = 256, ARG_SEED, ARG_CSV, ARG_PLOT };
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, ARG_VERSION },
                { "seed", required_argument, NULL, ARG_SEED },
                { "csv", required_argument, NULL, ARG_CSV },
                { "plot", required_argument, NULL, ARG_PLOT },
                { "json", no_argument, NULL, 'j' },
                {},
        };
        Options o = { .seed = 1 };
        char *end;
        int c;

        while ((c = getopt_long(argc, argv, "hj", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        help();
                        return 0;
                case ARG_VERSION:
                        puts("hmvsim " HMV_VERSION);
                        return 0;
                case ARG_SEED:
                        errno = 0;
                        o.seed = strtoull(optarg, &end, 10);
                        if (errno != 0 || end == optarg || *end != '\0' || *optarg == '-') {
                                fprintf(stderr, "hmvsim: --seed takes a number, not '%s'\n", optarg);
                                return -EINVAL;
                        }
                        break;
                case ARG_CSV:
                        o.csv = optarg;
                        break;
                case ARG_PLOT:
                        o.plot = optarg;
                        break;
                case 'j':
                        o.json = true;
                        break;
                default:
                        return -EINVAL;
                }
        if (optind + 1 != argc || (o.csv && o.plot && !streq(o.csv, o.plot))) {
                fputs(optind + 1 != argc
                              ? "hmvsim: give one scenario; hmvsim --help shows more\n"
                              : "hmvsim: --csv and --plot write to the same folder; give one of them\n",
                      stderr);
                return -EINVAL;
        }
        o.scenario = argv[optind];
        *ret = o;
        return 1;
}

/* A name without a slash that is no file here is one of those that were installed. */
static int open_scenario(const char *name, Scenario *ret, Outcome *o) {
        _cleanup_free_ char *path = NULL;

        if (strchr(name, '/') || access(name, F_OK) == 0)
                return scenario_read(name, ret, o);
        if (asprintf(&path, "%s/%s.ini", HMV_SCENARIOS, name) < 0)
                return -ENOMEM;
        return scenario_read(path, ret, o);
}

static int simulate(const Scenario *scenario, const Options *options, Outcome *o) {
        const char *dir = options->plot ? options->plot : options->csv;
        _cleanup_(report_freep) Report *report = NULL;
        _cleanup_(sim_freep) Sim *sim = NULL;
        int r;

        r = report_new(scenario, dir, &report, o);
        if (r < 0)
                return r;
        r = sim_new(scenario, options->seed, &sim);
        if (r < 0)
                return r;
        while (sim_now(sim) < scenario->duration) {
                r = sim_step(sim);
                if (r == -EPROTO)
                        return outcome_set(o, OUTCOME_FAILED, "after %" PRIu64 " s: %s",
                                           sim_now(sim) / USEC_PER_SEC, sim_fault(sim));
                if (r < 0)
                        return r;
                if (sim_now(sim) % scenario->policy.market.epoch_usec < USEC_PER_SEC)
                        report_row(report, sim);
        }
        r = report_finish(report, o);
        if (r >= 0 && options->plot)
                r = report_plot(scenario, dir, o);
        if (r < 0)
                return r;
        if (options->json)
                report_json(report, sim, options->seed, stdout);
        else
                report_summary(report, sim, stdout);
        return fflush(stdout) == 0 ? 0 : -errno;
}

int main(int argc, char *argv[]) {
        _cleanup_free_ Scenario *scenario = calloc(1, sizeof(*scenario));
        Options options;
        Outcome o = { 0 };
        int r;

        if (!scenario)
                return EXIT_FAILURE;
        r = parse_arguments(argc, argv, &options);
        if (r <= 0)
                return r < 0 ? 2 : EXIT_SUCCESS;
        r = open_scenario(options.scenario, scenario, &o);
        if (r >= 0)
                r = simulate(scenario, &options, &o);
        if (r < 0) {
                fprintf(stderr, "hmvsim: %s\n", *o.text ? o.text : strerror(-r));
                return o.code == OUTCOME_BAD_ARGUMENT ? 2 : EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
