/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Fuzz target: whatever lies where the market's journal is expected. What is taken can be written, and is
 * then the same. As no fuzzer finds a checksum, each input is tried as a body with one that fits, too, and
 * of each version that is read.
 */
#include <inttypes.h>

#include "proto/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const char *text, size_t size) {
        _cleanup_free_ char *again = NULL, *third = NULL;
        _cleanup_(journal_done) Journal j = {}, same = {};
        const char *what = NULL;

        if (journal_from_text(text, size, &j, &what) < 0) {
                if (!what)
                        abort();
                return;
        }
        if (journal_to_text(&j, &again) < 0 || journal_from_text(again, strlen(again), &same, NULL) < 0 ||
            journal_to_text(&same, &third) < 0 || !streq(again, third))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint64_t sum = UINT64_C(0xcbf29ce484222325);
        _cleanup_free_ char *framed = malloc(size + 128);
        const uint8_t *body = memchr(data, '\n', size);
        size_t n;

        try((const char *) data, size);
        body = body ? body + 1 : data;
        size -= (size_t) (body - data);
        if (!framed || size == 0)
                return 0;
        if (body[size - 1] == '\n')
                size--;
        for (size_t i = 0; i < size; i++)
                sum = (sum ^ body[i]) * UINT64_C(0x100000001b3);
        for (unsigned version = JOURNAL_VERSION_OLDEST; version <= JOURNAL_VERSION; version++) {
                n = (size_t) sprintf(framed, "hmvisor-journal %u %zu %016" PRIx64 "\n", version, size + 1,
                                     sum);
                memcpy(framed + n, body, size);
                framed[n + size] = '\n';
                try(framed, n + size + 1);
        }
        return 0;
}
