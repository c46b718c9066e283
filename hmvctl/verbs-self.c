/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The verbs of group "self": help, leaving the shell, and completion.
 */
#include "complete.h"
#include "help.h"

static int help_verbs_with_first_word(Ctl *ctl, const char *word) {
        size_t len = strlen(word);
        int found = 0;

        for (const VerbGroup *g = verb_groups; g->keyword; g++)
                for (const Verb *v = g->verbs; v->name; v++)
                        if (strncmp(v->name, word, len) == 0 && v->name[len] == ' ') {
                                if (found++ > 0)
                                        fputc('\n', ctl->out);
                                help_print_verb(ctl->out, v);
                        }
        return found;
}

static int run_help(Ctl *ctl, const Args *args, Outcome *o) {
        const Verb *verb;
        size_t used;

        if (args->n_words == 0) {
                help_print_all(ctl->out);
                return 0;
        }
        verb = verb_find(args->words, args->n_words, &used);
        if (verb && used == args->n_words) {
                help_print_verb(ctl->out, verb);
                return 0;
        }
        if (args->n_words == 1 && help_verbs_with_first_word(ctl, args->words[0]) > 0)
                return 0;
        for (const VerbGroup *g = verb_groups; g->keyword && args->n_words == 1; g++)
                if (streq(g->keyword, args->words[0])) {
                        help_print_group(ctl->out, g);
                        return 0;
                }
        return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                           "'%s' is neither a command nor a group; 'hmvctl help' lists both",
                           args->words[args->n_words - 1]);
}

static int run_quit(Ctl *ctl, const Args *args, Outcome *o) {
        ctl->quit = true;
        return 0;
}

static int run_complete(Ctl *ctl, const Args *args, Outcome *o) {
        _cleanup_(word_list_done) WordList list = { 0 };

        if (args->n_words > 0)
                complete_words(ctl, args->words, args->n_words, &list);
        for (size_t i = 0; i < list.n; i++)
                fprintf(ctl->out, "%s\n", list.words[i]);
        return 0;
}

const Verb verbs_self[] = {
        {
                "help", "show commands, a group, or one command",
                "Without an argument it lists all commands in their groups.",
                { { "topic", OPTION_TOPIC, OPTION_POSITIONAL, "what to explain" } },
                run_help, VERB_NO_JSON,
        },
        {
                "quit", "leave the shell",
                "Ends the interactive shell, or the rest of a list of commands. So does Ctrl-D.",
                { { 0 } },
                run_quit, VERB_NO_JSON,
        },
        {
                "exit", "the same as quit",
                "Ends the interactive shell, or the rest of a list of commands.",
                { { 0 } },
                run_quit, VERB_NO_JSON,
        },
        {
                "complete", "print what may follow the words",
                "For shell completion.",
                { { "word", OPTION_RAW, OPTION_POSITIONAL, "the words so far; the last one is completed" } },
                run_complete, VERB_HIDDEN | VERB_NO_JSON,
        },
        { 0 },
};
