/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See help.h.
 */
#include "help.h"

#define HELP_WIDTH 78

/* Prints text in lines of at most HELP_WIDTH, each behind `indent` spaces; a newline begins a new one. */
static void print_wrapped(FILE *out, const char *text, int indent) {
        while (*text) {
                size_t room = (size_t) (HELP_WIDTH - indent), len = strcspn(text, "\n");

                if (len > room) {
                        for (len = room; len > 0 && text[len] != ' ';)
                                len--;
                        if (len == 0)
                                len = strcspn(text, " \n");
                }
                fprintf(out, "%*s%.*s\n", indent, "", (int) len, text);
                text += len;
                while (*text == ' ')
                        text++;
                if (*text == '\n')
                        text++;
        }
}

static void print_group(FILE *out, const VerbGroup *group) {
        fprintf(out, " %s (help keyword '%s'):\n", group->title, group->keyword);
        for (const Verb *v = group->verbs; v->name; v++)
                if (!(v->flags & VERB_HIDDEN))
                        fprintf(out, "    %-16s %s\n", v->name, v->summary);
}

void help_print_group(FILE *out, const VerbGroup *group) {
        print_group(out, group);
}

void help_print_all(FILE *out) {
        fputs("Commands, in groups:\n", out);
        for (const VerbGroup *g = verb_groups; g->keyword; g++) {
                fputc('\n', out);
                print_group(out, g);
        }
        fputs("\n'help VERB' shows one command, 'help GROUP' one group.\n", out);
}

void help_print_usage(FILE *out) {
        fputs("hmvctl [OPTION...] [VERB [ARGUMENT...]]\n"
              "hmvctl [OPTION...] 'VERB ...; VERB ...'\n"
              "\n"
              "Without a verb: an interactive shell.\n"
              "\n"
              "  -c, --connect ADDRESS  D-Bus address instead of the system bus\n"
              "  -H, --host [USER@]HOST the daemon of another host, by ssh\n"
              "  -j, --json             print JSON\n"
              "  -q, --quiet            print results and errors only\n"
              "  -r, --readonly         refuse commands that change something\n"
              "  -v, --version          print the version\n"
              "  -h, --help             this text\n"
              "\n",
              out);
        help_print_all(out);
}

static char *option_form(const Option *o) {
        const char *value = option_value_name(o->type);
        bool required = o->flags & OPTION_REQUIRED, words = option_takes_words(o->type);
        char *form;
        int r;

        if (o->flags & OPTION_POSITIONAL)
                r = asprintf(&form, required ? "%s%s" : "[%s%s]", value, words ? "..." : "");
        else
                r = asprintf(&form, required ? "--%s%s%s" : "[--%s%s%s]", o->name, value ? " " : "",
                             value ?: "");
        return r < 0 ? NULL : form;
}

static char *add_form(char *text /* taken over */, const Option *o) {
        _cleanup_free_ char *before = text, *form = option_form(o);
        char *longer;

        return form && asprintf(&longer, "%s %s", before, form) >= 0 ? longer : NULL;
}

char *help_synopsis(const Verb *verb) {
        char *text = strdup(verb->name);

        for (int i = 0; text && i < OPTIONS_MAX && verb->options[i].name; i++)
                text = add_form(text, &verb->options[i]);
        return text && !(verb->flags & VERB_NO_JSON) ? add_form(text, &option_json) : text;
}

static void print_option(FILE *out, const Option *o) {
        const char *value = option_value_name(o->type);
        char left[64];

        if (option_takes_words(o->type))
                snprintf(left, sizeof(left), "%s...", value);
        else if (o->flags & OPTION_POSITIONAL)
                snprintf(left, sizeof(left), "[--%s] %s", o->name, value);
        else
                snprintf(left, sizeof(left), "--%s%s%s", o->name, value ? " " : "", value ?: "");
        fprintf(out, "    %-22s %s\n", left, o->help);
}

void help_print_verb(FILE *out, const Verb *verb) {
        _cleanup_free_ char *synopsis = help_synopsis(verb);

        fprintf(out, "  NAME\n    %s - %s\n\n  SYNOPSIS\n", verb->name, verb->summary);
        print_wrapped(out, synopsis ?: verb->name, 4);
        fputs("\n  DESCRIPTION\n", out);
        print_wrapped(out, verb->description, 4);
        if (verb->options[0].name || !(verb->flags & VERB_NO_JSON))
                fputs("\n  OPTIONS\n", out);
        for (int i = 0; i < OPTIONS_MAX && verb->options[i].name; i++)
                print_option(out, &verb->options[i]);
        if (!(verb->flags & VERB_NO_JSON))
                print_option(out, &option_json);
}
