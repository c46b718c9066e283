/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Fuzz target: a configuration file, and policies as words. What is accepted must survive dump and reload.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "conf.h"
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[64], path[512];

static void tree_remove(void) {
        for (char *slash; strlen(path) > strlen(root); *slash = '\0') {
                (void) remove(path);
                slash = strrchr(path, '/');
        }
        (void) remove(root);
}

static void tree_make(void) {
        strcpy(root, "/tmp/hmvisor-fuzz-conf-XXXXXX");
        if (!mkdtemp(root))
                abort();
        snprintf(path, sizeof(path), "%s%s", root, HMV_SYS_CONF);
        for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
                *p = '\0';
                (void) mkdir(path, 0755);
                *p = '/';
        }
        atexit(tree_remove);
}

static void put(const void *data, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        if (fd < 0 || write(fd, data, size) != (ssize_t) size)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size), *dump = NULL, *again = NULL,
                            *words = NULL, *back = NULL;
        DomainPolicy p = domain_policy_default();
        Outcome o = {};
        Conf c, d;

        if (!*root)
                tree_make();
        put(data, size);
        if (conf_load(root, &c, &o) >= 0) {
                if (conf_dump(&c, &dump) < 0)
                        abort();
                put(dump, strlen(dump));
                if (conf_load(root, &d, &o) < 0 || conf_dump(&d, &again) < 0 || !streq(dump, again))
                        abort();
                conf_done(&c);
                conf_done(&d);
        }
        if (text && policy_parse(text, &p, &o) >= 0) {
                DomainPolicy q = domain_policy_default();

                /* Compared as text: the struct has padding. */
                if (policy_format(&p, NULL, &words) < 0 || policy_parse(words, &q, &o) < 0 ||
                    policy_format(&q, NULL, &back) < 0 || !streq(words, back))
                        abort();
        }
        return 0;
}
