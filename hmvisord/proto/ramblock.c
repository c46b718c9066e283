/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reads QEMU's table of RAM blocks. Pure.
 *
 *              Block Name    PSize              Offset               Used              Total HVA  RO
 *               ram-node0    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000
 * 0x00007f91b3e00000  rw
 */
#include "proto/ramblock.h"

#include <inttypes.h>

#include "proto/reply.h"

int ramblock_request(char **ret) {
        return request_new("x-query-ramblock", NULL, ret);
}

/* A line whose HVA is absent (QEMU before 8.0), or that is the heading, is no block. */
static bool line_read(const char *line, RamBlock *ret) {
        uint64_t offset, total;
        char number[16], unit[8];

        *ret = (RamBlock){};
        return sscanf(line, " %79s %15s %7s 0x%" SCNx64 " 0x%" SCNx64 " 0x%" SCNx64 " 0x%" SCNx64, ret->name,
                      number, unit, &offset, &ret->used_bytes, &total, &ret->hva) == 7 &&
               ret->hva != 0;
}

int ramblock_reply_parse(const char *text, RamBlock *ret, size_t *ret_n, Outcome *o) {
        _cleanup_json_ json_object *root = NULL;
        json_object *v, *table;
        ReplyError error = {};
        const char *p;
        size_t n = 0;
        int r;

        r = reply_parse(text, &root, &v, &error);
        if (r == -EREMOTEIO)
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "this QEMU does not tell where its memory is (%s); it must "
                                   "be 8.2 or newer",
                                   error.text);
        if (r < 0 || !json_object_is_type(v, json_type_object) ||
            !json_object_object_get_ex(v, "human-readable-text", &table) ||
            !json_object_is_type(table, json_type_string))
                return outcome_set(o, OUTCOME_FAILED, "QEMU's table of RAM blocks cannot be read");
        for (p = json_object_get_string(table); *p && n < RAMBLOCKS_MAX;
             p += strcspn(p, "\n"), p += *p == '\n') {
                char line[256];

                snprintf(line, sizeof(line), "%.*s", (int) MIN(strcspn(p, "\n"), sizeof(line) - 1), p);
                if (line_read(line, &ret[n]))
                        n++;
        }
        if (n == 0)
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "this QEMU does not tell where its memory is; it must be 8.2 "
                                   "or newer");
        *ret_n = n;
        return 0;
}
