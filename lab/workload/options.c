/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The command line of hmv-workload: see options.h.
 */

#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pageset.h"

#define SKEW_MAX 10

static int parse_size(const char *text, uint64_t *ret) {
        static const char units[] = "KMGT";
        const char *unit;
        uint64_t n;
        char *end;

        errno = 0;
        n = strtoull(text, &end, 10);
        if (end == text || errno != 0 || *text == '-')
                return -EINVAL;
        if (*end != '\0') {
                unit = strchr(units, *end);
                if (!unit || end[1] != '\0' ||
                    __builtin_mul_overflow(n, UINT64_C(1) << (10 * (unit - units + 1)), &n))
                        return -EINVAL;
        }
        *ret = n;
        return 0;
}

static int parse_number(const char *text, unsigned *ret) {
        uint64_t n;

        if (parse_size(text, &n) < 0 || n > UINT32_MAX)
                return -EINVAL;
        *ret = (unsigned) n;
        return 0;
}

static int parse_skew(const char *text, double *ret) {
        double d;
        char *end;

        d = strtod(text, &end);
        if (end == text || *end != '\0' || !(d >= 0 && d <= SKEW_MAX))
                return -EINVAL;
        *ret = d;
        return 0;
}

static int parse_node(const char *text) {
        uint64_t n;

        return parse_size(text, &n) < 0 || n >= NODES_MAX ? -EINVAL : (int) n;
}

static void help(void) {
        printf("usage: hmv-workload --hot SIZE [options]    write to a hot set until told to stop\n"
               "       hmv-workload --query [--reset-gap] [--brief]   print the running workload's state as "
               "JSON\n\n"
               "  --hot SIZE         size of the set that is written (96M, 1G)\n"
               "  --hot-node N       put it wholly on this node first; nothing holds it there afterwards\n"
               "  --within SIZE      a larger range in which it lies, at its beginning first\n"
               "  --move-every S     every S seconds it is another part of that range\n"
               "  --skew S           write its pages by Zipf's law with this exponent (0: all alike)\n"
               "  --read SIZE        a second set, of which a random line is read for each write\n"
               "  --rate N           at most so many writes a second (0: no limit)\n"
               "  --cold SIZE|fill   size of the set that is touched once; fill: until its node is full\n"
               "  --cold-node N      the node of the cold set\n"
               "  --thp never|always use of huge pages (never)\n"
               "  --seconds S        stop after S seconds (0: never)\n"
               "  --seed N           of the random places (1)\n"
               "  --report FILE      write the state there each second\n"
               "  --log FILE         add a line there each second: ms since 1970, writes, permyriad not to "
               "node 0\n"
               "  --socket PATH      where --query is answered (" DEFAULT_SOCKET ")\n"
               "  --query            ask the workload that runs\n"
               "  --reset-gap        begin a new record of the longest gap after this answer\n"
               "  --brief            tell only what was counted, not where pages are\n");
}

static int wrong(const char *option, const char *value) {
        fprintf(stderr, "hmv-workload: '%s' is no value for --%s; see --help\n", value, option);
        return -EINVAL;
}

int options_parse(Options *o, int argc, char **argv) {
        enum {
                HOT = 256,
                COLD,
                HOT_NODE,
                COLD_NODE,
                THP,
                WITHIN,
                MOVE_EVERY,
                SKEW,
                READ,
                RATE,
                SECONDS,
                SEED,
                REPORT,
                LOG,
                SOCKET,
                QUERY,
                RESET,
                BRIEF,
                HELP
        };
        static const struct option table[] = {
                { "hot", required_argument, NULL, HOT },
                { "cold", required_argument, NULL, COLD },
                { "hot-node", required_argument, NULL, HOT_NODE },
                { "cold-node", required_argument, NULL, COLD_NODE },
                { "thp", required_argument, NULL, THP },
                { "within", required_argument, NULL, WITHIN },
                { "move-every", required_argument, NULL, MOVE_EVERY },
                { "skew", required_argument, NULL, SKEW },
                { "read", required_argument, NULL, READ },
                { "rate", required_argument, NULL, RATE },
                { "seconds", required_argument, NULL, SECONDS },
                { "seed", required_argument, NULL, SEED },
                { "report", required_argument, NULL, REPORT },
                { "log", required_argument, NULL, LOG },
                { "socket", required_argument, NULL, SOCKET },
                { "query", no_argument, NULL, QUERY },
                { "reset-gap", no_argument, NULL, RESET },
                { "brief", no_argument, NULL, BRIEF },
                { "help", no_argument, NULL, HELP },
                {},
        };
        int c, i = 0;

        while ((c = getopt_long(argc, argv, "", table, &i)) >= 0)
                switch (c) {
                case HOT:
                        if (parse_size(optarg, &o->hot_size) < 0)
                                return wrong("hot", optarg);
                        break;
                case COLD:
                        o->cold_fill = strcmp(optarg, "fill") == 0;
                        if (!o->cold_fill && parse_size(optarg, &o->cold_size) < 0)
                                return wrong("cold", optarg);
                        break;
                case HOT_NODE:
                        o->hot_node = parse_node(optarg);
                        if (o->hot_node < 0)
                                return wrong("hot-node", optarg);
                        break;
                case COLD_NODE:
                        o->cold_node = parse_node(optarg);
                        if (o->cold_node < 0)
                                return wrong("cold-node", optarg);
                        break;
                case THP:
                        o->thp = strcmp(optarg, "always") == 0;
                        if (!o->thp && strcmp(optarg, "never") != 0)
                                return wrong("thp", optarg);
                        break;
                case WITHIN:
                        if (parse_size(optarg, &o->within) < 0)
                                return wrong("within", optarg);
                        break;
                case READ:
                        if (parse_size(optarg, &o->read_size) < 0)
                                return wrong("read", optarg);
                        break;
                case SKEW:
                        if (parse_skew(optarg, &o->skew) < 0)
                                return wrong("skew", optarg);
                        break;
                case MOVE_EVERY:
                        if (parse_number(optarg, &o->move_every) < 0)
                                return wrong("move-every", optarg);
                        break;
                case RATE:
                        if (parse_number(optarg, &o->rate) < 0)
                                return wrong("rate", optarg);
                        break;
                case SECONDS:
                        if (parse_number(optarg, &o->seconds) < 0)
                                return wrong("seconds", optarg);
                        break;
                case SEED:
                        if (parse_size(optarg, &o->seed) < 0)
                                return wrong("seed", optarg);
                        break;
                case REPORT: o->report_path = optarg; break;
                case LOG:    o->log_path = optarg; break;
                case SOCKET: o->socket_path = optarg; break;
                case QUERY:  o->query = true; break;
                case RESET:  o->reset_gap = true; break;
                case BRIEF:  o->brief = true; break;
                case HELP:   help(); return 1;
                default:     return -EINVAL;
                }

        if (optind < argc || (o->query ? o->hot_size > 0 : o->hot_size < PAGE) ||
            (o->cold_fill && o->cold_node < 0) || (o->move_every > 0 && o->within < 2 * o->hot_size) ||
            (o->read_size > 0 && o->read_size < PAGE)) {
                fprintf(stderr,
                        "hmv-workload: needs --hot SIZE (and --cold-node with --cold fill, and --within "
                        "twice as much with --move-every), or --query; see --help\n");
                return -EINVAL;
        }
        return 0;
}
