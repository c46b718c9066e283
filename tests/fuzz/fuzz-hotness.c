/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Fuzz target: whatever QEMU answers to hotness-query, and whatever it writes into the counter table.
 * Input: lines, each an answer; one that starts with '!' is written over the start of the table. Every
 * counter that the source hands out is read.
 */
#include <sys/mman.h>
#include <sys/stat.h>

#include "io/source.h"
#include "proto/ramblock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Qemu {
        uint8_t *table;
        size_t size;
} Qemu;

static int on_send(const char *json, int fd, void *userdata) {
        Qemu *q = userdata;
        struct stat st;

        if (fd < 0)
                return 0;
        if (q->table)
                munmap(q->table, q->size);
        q->table = NULL;
        if (fstat(fd, &st) < 0)
                abort();
        q->size = (size_t) st.st_size;
        q->table = mmap(NULL, q->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (q->table == MAP_FAILED)
                abort();
        return 0;
}

static void collect(Source *s) {
        const SourceRange *ranges;
        volatile uint8_t sink = 0;
        uint32_t samples;
        size_t n;

        source_hold(s);
        (void) source_is_busy(s);
        n = source_collect(s, &ranges, &samples);
        for (size_t i = 0; samples > 0 && i < n; i++) {
                if (i > 0 && ranges[i].gfn < ranges[i - 1].gfn + ranges[i - 1].n_pages)
                        abort();
                for (uint64_t k = 0; k < ranges[i].n_pages; k++)
                        sink = (uint8_t) (sink + ranges[i].counters[k]);
        }
        source_release(s, samples > 0, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const SourceSettings settings = { .sample_usec = 200000, .lease_usec = 30000000, .max_pages = 4096 };
        const Outcome failed = { OUTCOME_FAILED, "failed" };
        _cleanup_(source_freep) Source *s = NULL;
        _cleanup_free_ char *text = malloc(size + 1);
        RamBlock blocks[RAMBLOCKS_MAX];
        usec_t now = 1000000;
        Qemu q = {};
        size_t n;

        if (!text || source_new(&settings, on_send, &q, &s) < 0)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';
        (void) ramblock_reply_parse(text, blocks, &n, NULL);
        for (char *line = text, *end; line && *line; line = end) {
                end = strchr(line, '\n');
                if (end)
                        *end++ = '\0';
                if (*line == '!' && q.table)
                        memcpy(q.table, line + 1, MIN(strlen(line + 1), q.size));
                else {
                        source_renew(s, now);
                        source_run(s, now);
                        source_reply(s, &failed, streq(line, "-") ? NULL : line, now);
                }
                collect(s);
                now += 2500000;
        }
        source_stop(s, now);
        if (q.table)
                munmap(q.table, q.size);
        return 0;
}
