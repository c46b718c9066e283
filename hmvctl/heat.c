/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See heat.h.
 */
#include "heat.h"

#include <inttypes.h>

#include "base/units.h"
#include "client.h"

#define PAGE_BYTES UINT64_C(4096)
#define LABEL_COLUMNS 34   /* of what stands left of the bars */

/* Band 0 is heat 0, band i >= 1 is heat in [2^(i-1), 2^i); the last one has no end. */
static void band_label(size_t band, size_t n_bands, char buf[static 48]) {
        uint64_t from = band == 0 ? 0 : UINT64_C(1) << (band - 1);

        if (band <= 1)
                snprintf(buf, 48, "%zu", band);
        else if (band + 1 == n_bands)
                snprintf(buf, 48, "%" PRIu64 "+", from);
        else
                snprintf(buf, 48, "%" PRIu64 "-%" PRIu64, from, from * 2 - 1);
}

static uint64_t pages_at(json_object *pages, size_t band) {
        return json_object_get_uint64(json_object_array_get_idx(pages, band));
}

static void print_bar(uint64_t value, uint64_t most, unsigned width, bool utf8, FILE *out) {
        static const char *const eighths[] = { "",       "\u258f", "\u258e", "\u258d",
                                               "\u258c", "\u258b", "\u258a", "\u2589" };
        uint64_t units = most > 0 ? (uint64_t) ((__uint128_t) value * width * 8 / most) : 0;

        if (value > 0 && units == 0)   /* few is not none */
                units = 1;
        if (!utf8) {
                for (uint64_t i = 0; i < (units + 7) / 8; i++)
                        fputc('#', out);
                return;
        }
        for (uint64_t i = 0; i < units / 8; i++)
                fputs("\u2588", out);
        fputs(eighths[units % 8], out);
}

static void print_cell(json_object *cell, uint64_t most, unsigned width, bool utf8, FILE *out) {
        json_object *pages = json_member(cell, "Pages");
        size_t n = pages ? json_object_array_length(pages) : 0;
        uint64_t all = 0, written = 0;
        char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX], label[48];

        for (size_t i = 0; i < n; i++) {
                all += pages_at(pages, i);
                written += i > 0 ? pages_at(pages, i) : 0;
        }
        fprintf(out, "Cell %" PRIu64 ", %s, host node %s: %s tracked, %s of it written lately\n",
                json_number(cell, "Cell"), json_text(cell, "Tier"),
                *json_text(cell, "HostNodes") ? json_text(cell, "HostNodes") : "any",
                size_format(a, all * PAGE_BYTES), size_format(b, written * PAGE_BYTES));
        fprintf(out, "%8s %12s %10s\n", "heat", "pages", "size");
        for (size_t i = 0; i < n; i++) {
                band_label(i, n, label);
                fprintf(out, "%8s %12" PRIu64 " %10s%s", label, pages_at(pages, i),
                        size_format(a, pages_at(pages, i) * PAGE_BYTES), pages_at(pages, i) > 0 ? "  " : "");
                print_bar(pages_at(pages, i), most, width, utf8, out);
                fputc('\n', out);
        }
}

void heat_print(json_object *cells, unsigned width, bool utf8, FILE *out) {
        unsigned bars = width > LABEL_COLUMNS + 10 ? width - LABEL_COLUMNS - 1 : 10;
        uint64_t most = 0;

        for (size_t i = 0; i < json_object_array_length(cells); i++) {
                json_object *pages = json_member(json_object_array_get_idx(cells, i), "Pages");

                for (size_t k = 0; pages && k < json_object_array_length(pages); k++)
                        most = MAX(most, pages_at(pages, k));
        }
        for (size_t i = 0; i < json_object_array_length(cells); i++) {
                if (i > 0)
                        fputc('\n', out);
                print_cell(json_object_array_get_idx(cells, i), most, bars, utf8, out);
        }
}
