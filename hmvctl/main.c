/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvctl: its own options, then one command, a list of commands, or the shell. Nothing else.
 */
#include <getopt.h>
#include <locale.h>

#include "client.h"
#include "config.h"
#include "help.h"
#include "shell.h"

static int parse_options(Ctl *ctl, int argc, char **argv, bool *ret_done) {
        static const struct option options[] = {
                { "connect", required_argument, NULL, 'c' }, { "host", required_argument, NULL, 'H' },
                { "json", no_argument, NULL, 'j' },          { "quiet", no_argument, NULL, 'q' },
                { "readonly", no_argument, NULL, 'r' },      { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },          { 0 },
        };
        int c;

        while ((c = getopt_long(argc, argv, "+c:H:jqrvh", options, NULL)) >= 0)
                switch (c) {
                case 'c': ctl->address = optarg; break;
                case 'H': ctl->host = optarg; break;
                case 'j': ctl->json = true; break;
                case 'q': ctl->quiet = true; break;
                case 'r': ctl->readonly = true; break;
                case 'v':
                        printf("%s\n", HMV_VERSION);
                        *ret_done = true;
                        return 0;
                case 'h':
                        help_print_usage(stdout);
                        *ret_done = true;
                        return 0;
                default:   /* getopt has said why */
                        return -EINVAL;
                }
        return optind;
}

int main(int argc, char **argv) {
        Ctl ctl = { .out = stdout };
        Outcome o = { 0 };
        bool done = false;
        int r, first;

        setlocale(LC_ALL, "");
        first = parse_options(&ctl, argc, argv, &done);
        if (first < 0)
                return outcome_exit_code(OUTCOME_BAD_ARGUMENT);
        if (done)
                return 0;
        if (ctl.address && ctl.host)
                r = outcome_set(&o, OUTCOME_BAD_ARGUMENT, "-c and -H exclude each other");
        else if (first == argc)
                r = shell_run(&ctl, &o);
        else if (first + 1 == argc)
                r = verb_run_text(&ctl, argv[first], &o);
        else
                r = verb_run(&ctl, argv + first, (size_t) (argc - first), &o);

        fflush(stdout);   /* in order, where both go to one place */
        if (r < 0)
                fprintf(stderr, "error: %s\n", o.text);
        client_close(&ctl);
        if (fflush(stdout) != 0 || ferror(stdout)) {
                fprintf(stderr, "error: cannot write the output: %s\n", strerror(errno));
                return outcome_exit_code(OUTCOME_FAILED);
        }
        return r < 0 ? outcome_exit_code(o.code) : 0;
}
