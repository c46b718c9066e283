/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvsim: arguments, and the loops over simulated seconds and over traces; nothing else.
 */
#include <getopt.h>
#include <inttypes.h>

#include "config.h"
#include "place-report.h"
#include "report.h"

typedef struct Options {
        const char *verb; /* "place", "trace" or NULL: simulate a scenario */
        char **names;     /* of scenarios or traces */
        size_t n_names;
        const char *csv, *plot;
        uint64_t seed;
        uint32_t dram_permyriad;
        bool json;
} Options;

static void help(void) {
        puts("hmvsim [OPTIONS...] SCENARIO\n"
             "hmvsim [OPTIONS...] place [TRACE...]\n"
             "hmvsim [OPTIONS...] trace TRACE\n"
             "\n"
             "Simulate hmvisor's placement and trading on synthetic VMs, in simulated time; let its\n"
             "placement compete with others on traces of memory; or write a trace.\n"
             "\n"
             "  -h, --help         show this help\n"
             "      --version      show the version\n"
             "      --seed=N       another run of the same scenario (default: 1)\n"
             "      --csv=DIR      write figures over time to DIR/groups.csv and DIR/market.csv,\n"
             "                     or those of place to DIR/place.csv\n"
             "      --plot=DIR     these, and their plots by gnuplot (PNG)\n"
             "      --dram=25%     place: so much of a trace's pages fits DRAM (default: 25%)\n"
             "  -j, --json         print the summary as JSON; place: a record a line\n"
             "\n"
             "SCENARIO is a file, or the name of one that comes with hmvsim:\n"
             "three-vms, thousand, hostile. TRACE is a file, or one that hmvsim makes (default: all):\n"
             "zipf, zipf-steep, zipf-busy, moving, larger, stream, mixed. See hmvsim(1).");
}

static int parse_percent(const char *text, uint32_t *ret_permyriad) {
        char *end;
        double v = strtod(text, &end);

        if (end == text || (*end != '\0' && !streq(end, "%")) || !(v >= 1 && v <= 99))
                return fprintf(stderr, "hmvsim: --dram takes 1%% to 99%%, not '%s'\n", text), -EINVAL;
        *ret_permyriad = (uint32_t) (v * 100);
        return 0;
}

/* What is left on the command line. */
static int parse_names(int argc, char *argv[], Options *o) {
        const char *verb = argc > 0 ? argv[0] : "";
        const char *wrong = NULL;

        if (streq(verb, "place") || streq(verb, "trace")) {
                o->verb = verb;
                argc--;
                argv++;
        }
        o->names = argv;
        o->n_names = (size_t) argc;
        if (!o->verb && argc != 1)
                wrong = "give one scenario";
        else if (o->verb && streq(o->verb, "trace") && argc != 1)
                wrong = "give one trace";
        else if (o->verb && o->plot)
                wrong = "--plot is for scenarios";
        else if (o->csv && o->plot && !streq(o->csv, o->plot))
                wrong = "--csv and --plot write to the same folder; give one of them";
        if (wrong)
                fprintf(stderr, "hmvsim: %s; hmvsim --help shows more\n", wrong);
        return wrong ? -EINVAL : 1;
}

/* Returns 1 to go on, 0 when all is done, or -EINVAL. */
static int parse_arguments(int argc, char *argv[], Options *ret) {
        enum { ARG_VERSION = 256, ARG_SEED, ARG_CSV, ARG_PLOT, ARG_DRAM };
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, ARG_VERSION },
                { "seed", required_argument, NULL, ARG_SEED },
                { "csv", required_argument, NULL, ARG_CSV },
                { "plot", required_argument, NULL, ARG_PLOT },
                { "dram", required_argument, NULL, ARG_DRAM },
                { "json", no_argument, NULL, 'j' },
                {},
        };
        Options o = { .seed = 1, .dram_permyriad = 2500 };
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
                case ARG_DRAM:
                        if (parse_percent(optarg, &o.dram_permyriad) < 0)
                                return -EINVAL;
                        break;
                case 'j':
                        o.json = true;
                        break;
                default:
                        return -EINVAL;
                }
        c = parse_names(argc - optind, argv + optind, &o);
        if (c > 0)
                *ret = o;
        return c;
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

/* A file, or one that is made. */
static int open_trace(const char *name, uint64_t seed, Trace *ret, Outcome *o) {
        int r = -ENOENT;

        if (!strchr(name, '/') && access(name, F_OK) < 0)
                r = trace_make(name, seed, ret);
        return r == -ENOENT ? trace_read(name, ret, o) : r;
}

static int write_trace(const Options *options, Outcome *o) {
        _cleanup_(trace_done) Trace trace = { 0 };
        int r = open_trace(options->names[0], options->seed, &trace, o);

        return r < 0 ? r : trace_write(&trace, stdout);
}

static int place(const Options *options, Outcome *o) {
        const char *const *names = options->n_names > 0 ? (const char *const *) options->names : trace_names;
        PlaceReport report;
        int r;

        r = place_report_begin(&report, options->csv, options->json, o);
        for (size_t i = 0; r >= 0 && (options->n_names > 0 ? i < options->n_names : names[i] != NULL); i++) {
                _cleanup_(trace_done) Trace trace = { 0 };
                _cleanup_(contest_done) Contest contest = { 0 };

                r = open_trace(names[i], options->seed, &trace, o);
                if (r >= 0)
                        r = contest_run(&trace, options->dram_permyriad, options->seed, &contest, o);
                if (r >= 0)
                        place_report_rows(&report, &contest);
        }
        return place_report_end(&report, r, o);
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
        if (options.verb)
                r = streq(options.verb, "place") ? place(&options, &o) : write_trace(&options, &o);
        else {
                r = open_scenario(options.names[0], scenario, &o);
                if (r >= 0)
                        r = simulate(scenario, &options, &o);
        }
        if (r < 0) {
                fprintf(stderr, "hmvsim: %s\n", *o.text ? o.text : strerror(-r));
                return o.code == OUTCOME_BAD_ARGUMENT ? 2 : EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
