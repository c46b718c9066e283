/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A fixture: an empty folder per test that stands for /, and files put below it. Included after cmocka.h, by
 * one source of a test.
 */
#pragma once

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[64];

static void root_make(void) {
        strcpy(root, "/tmp/hmvisor-test-XXXXXX");
        assert_non_null(mkdtemp(root));
}

static int root_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int root_remove(void) {
        return nftw(root, root_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Writes the file at path below root, and makes the folders above it. */
static void put(const char *path, const char *text) {
        char full[512];
        FILE *f;

        snprintf(full, sizeof(full), "%s%s", root, path);
        for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
                *p = '\0';
                (void) mkdir(full, 0755);
                *p = '/';
        }
        f = fopen(full, "we");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}
