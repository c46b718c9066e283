/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The trace in memory and as a file.
 */
#include "trace.h"

#include <inttypes.h>
#include <stdarg.h>

#define MAGIC "hmvisor-trace 1"

void trace_done(Trace *t) {
        free(t->accesses);
        free(t->first);
        free(t->phases);
        *t = (Trace){ 0 };
}

static int array_grow(void *array, size_t n, size_t *room, size_t size) {
        size_t want = MAX(*room * 2, (size_t) 1024);
        void *grown;

        if (n < *room)
                return 0;
        grown = reallocarray(*(void **) array, want, size);
        if (!grown)
                return -ENOMEM;
        *(void **) array = grown;
        *room = want;
        return 0;
}

int trace_begin_second(Trace *t, bool new_phase) {
        size_t *first = reallocarray(t->first, t->n_seconds + 2, sizeof(*first));

        if (!first)
                return -ENOMEM;
        t->first = first;
        if (new_phase || t->n_seconds == 0) {
                size_t *phases = reallocarray(t->phases, t->n_phases + 1, sizeof(*phases));

                if (!phases)
                        return -ENOMEM;
                t->phases = phases;
                t->phases[t->n_phases++] = t->n_seconds;
        }
        t->first[t->n_seconds++] = t->n_accesses;
        t->first[t->n_seconds] = t->n_accesses;
        return 0;
}

int trace_add(Trace *t, Access access) {
        int r = array_grow(&t->accesses, t->n_accesses, &t->room, sizeof(*t->accesses));

        if (r < 0)
                return r;
        t->accesses[t->n_accesses++] = access;
        t->first[t->n_seconds] = t->n_accesses;
        return 0;
}

/* ---- file ---- */

typedef struct Reader {
        const char *path;
        unsigned line;
        Trace *trace;
        bool new_phase;
        uint64_t next_page; /* the least that may follow */
        Outcome *o;
} Reader;

static int _printf_(2, 3) reader_fail(Reader *r, const char *format, ...) {
        char text[200];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        return outcome_set(r->o, OUTCOME_BAD_ARGUMENT, "%s:%u: %s", r->path, r->line, text);
}

/* A number up to max, and what follows it. */
static int number_take(const char **at, uint64_t max, uint64_t *ret) {
        char *end;

        if (**at < '0' || **at > '9')
                return -EINVAL;
        errno = 0;
        *ret = strtoull(*at, &end, 10);
        *at = end;
        return errno != 0 || *ret > max ? -EINVAL : 0;
}

/* "PAGE STORES", "PAGE STORES LOADS", or "PAGE+COUNT ..." for so many pages alike. */
static int access_read(Reader *r, const char *text) {
        uint64_t page, count = 1, stores, loads = 0;
        Trace *t = r->trace;
        const char *at = text;
        int k;

        if (number_take(&at, t->pages - 1, &page) < 0)
                return reader_fail(r, "'%s' does not begin with a page, 0 to %" PRIu32, text, t->pages - 1);
        if (*at == '+' && (at++, number_take(&at, t->pages - page, &count) < 0 || count == 0))
                return reader_fail(r, "'%s': the trace has no so many pages from there on", text);
        if (*at++ != ' ' || number_take(&at, TRACE_COUNT_MAX, &stores) < 0 ||
            (*at == ' ' && (at++, number_take(&at, TRACE_COUNT_MAX, &loads) < 0)) || *at != '\0')
                return reader_fail(r, "'%s' is not PAGE[+COUNT] STORES [LOADS], each at most %" PRIu32, text,
                                   TRACE_COUNT_MAX);
        if (t->n_seconds == 0)
                return reader_fail(r, "a page before the first line 'second'");
        if (page < r->next_page)
                return reader_fail(r, "page %" PRIu64 " is out of order; sort each second by page", page);
        r->next_page = page + count;
        for (uint64_t i = 0; i < count; i++) {
                k = trace_add(t, (Access){ .page = (uint32_t) (page + i),
                                           .stores = (uint32_t) stores,
                                           .loads = (uint32_t) loads });
                if (k < 0)
                        return k;
        }
        return 0;
}

static int line_read(Reader *r, const char *text) {
        Trace *t = r->trace;
        uint64_t pages;
        int k;

        if (r->line == 1)
                return streq(text, MAGIC) ? 0
                                          : reader_fail(r, "is no trace: its first line is not '%s'", MAGIC);
        if (*text == '\0' || *text == '#')
                return 0;
        if (t->pages == 0) {
                const char *at = text + strlen("pages ");

                if (strncmp(text, "pages ", strlen("pages ")) != 0 ||
                    number_take(&at, TRACE_PAGES_MAX, &pages) < 0 || pages < 2 || *at != '\0')
                        return reader_fail(r, "'pages N' must come first, with 2 to %" PRIu32,
                                           TRACE_PAGES_MAX);
                t->pages = (uint32_t) pages;
                return 0;
        }
        if (streq(text, "phase")) {
                r->new_phase = true;
                return 0;
        }
        if (!streq(text, "second"))
                return access_read(r, text);
        if (t->n_seconds == TRACE_SECONDS_MAX)
                return reader_fail(r, "more than %d seconds; cut it", TRACE_SECONDS_MAX);
        k = trace_begin_second(t, r->new_phase);
        r->new_phase = false;
        r->next_page = 0;
        return k;
}

int trace_read(const char *path, Trace *ret, Outcome *o) {
        _cleanup_(trace_done) Trace t = { 0 };
        Reader r = { .path = path, .trace = &t, .o = o };
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        _cleanup_free_ char *line = NULL;
        const char *name = strrchr(path, '/');
        size_t size = 0;
        ssize_t n;
        int k;

        if (!f)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: %s", path, strerror(errno));
        while ((n = getline(&line, &size, f)) >= 0) {
                r.line++;
                if (n > 0 && line[n - 1] == '\n')
                        line[n - 1] = '\0';
                k = line_read(&r, line);
                if (k < 0)
                        return k;
        }
        if (ferror(f))
                return outcome_set(o, OUTCOME_FAILED, "%s: %s", path, strerror(EIO));
        if (t.n_seconds == 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s: no line 'second' in it", path);
        snprintf(t.name, sizeof(t.name), "%s", name ? name + 1 : path);
        *ret = t;
        t = (Trace){ 0 };
        return 0;
}

int trace_write(const Trace *t, FILE *to) {
        fprintf(to, MAGIC "\npages %" PRIu32 "\n", t->pages);
        for (size_t s = 0, phase = 1; s < t->n_seconds; s++) {
                if (phase < t->n_phases && t->phases[phase] == s) {
                        fputs("phase\n", to);
                        phase++;
                }
                fputs("second\n", to);
                for (size_t i = t->first[s]; i < t->first[s + 1];) {
                        const Access *a = &t->accesses[i], *b = a;
                        uint32_t n = 0;

                        for (; i < t->first[s + 1] && b->page == a->page + n && b->stores == a->stores &&
                               b->loads == a->loads;
                             b++, n++, i++)
                                ;
                        fprintf(to, n > 1 ? "%" PRIu32 "+%" PRIu32 : "%" PRIu32, a->page, n);
                        fprintf(to, a->loads ? " %" PRIu32 " %" PRIu32 "\n" : " %" PRIu32 "\n", a->stores,
                                a->loads);
                }
        }
        return fflush(to) == 0 && !ferror(to) ? 0 : -EIO;
}
