/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest kernel's own tiering, off and on: see prepare.h.
 */
#include "prepare.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "sysfile.h"

#define SAVED "run/hmvisor-ga/saved"

static const struct {
        const char *name, *path, *off;
} settings[PREPARE_SETTINGS] = {
        { "kernel.numa_balancing", "proc/sys/kernel/numa_balancing", "0" },
        { "mm.numa.demotion_enabled", "sys/kernel/mm/numa/demotion_enabled", "false" },
};

/* Only what these files may hold is ever written back: a number, or true and false. */
static bool value_is_plausible(const char *value) {
        return streq(value, "true") || streq(value, "false") ||
               (value[0] != '\0' && strlen(value) < 4 && strspn(value, "0123456789") == strlen(value));
}

static int saved_write(const Prepare *p) {
        _cleanup_close_ int fd = -EBADF;
        char text[256] = "";
        size_t len = 0;

        for (size_t i = 0; i < PREPARE_SETTINGS; i++)
                if (p->changed[i])
                        len += (size_t) snprintf(text + len, sizeof(text) - len, "%s=%s\n", settings[i].name,
                                                 p->old[i]);
        (void) mkdirat(p->root, "run/hmvisor-ga", 0700);
        fd = openat(p->root, SAVED ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (write(fd, text, len) != (ssize_t) len)
                return -EIO;
        return renameat(p->root, SAVED ".new", p->root, SAVED) < 0 ? -errno : 0;
}

static int settings_restore(Prepare *p) {
        int ret = 0;

        for (size_t i = 0; i < PREPARE_SETTINGS; i++) {
                int r;

                if (!p->changed[i])
                        continue;
                r = sysfile_write(p->root, p->old[i], "%s", settings[i].path);
                if (r < 0) {
                        log_error_errno(r, "Cannot set \"%s\" back to \"%s\"; do so by hand",
                                        settings[i].name, p->old[i]);
                        ret = r;
                }
                p->changed[i] = false;
        }
        if (unlinkat(p->root, SAVED, 0) < 0 && errno != ENOENT)
                ret = -errno;
        return ret;
}

void prepare_init(Prepare *p, int root) {
        char text[256], *save = NULL;
        bool any = false;

        *p = (Prepare) { .root = root };
        if (sysfile_read(root, text, sizeof(text), SAVED) < 0)
                return;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *value = strchr(line, '=');

                if (!value)
                        continue;
                *value++ = '\0';
                for (size_t i = 0; i < PREPARE_SETTINGS; i++)
                        if (streq(line, settings[i].name) && value_is_plausible(value)) {
                                snprintf(p->old[i], sizeof(p->old[i]), "%s", value);
                                p->changed[i] = any = true;
                        }
        }
        if (any)
                log_notice("An earlier run did not put the kernel's own tiering back; doing so now.");
        (void) settings_restore(p);
}

int prepare_start(Prepare *p) {
        bool want[PREPARE_SETTINGS] = { false };
        int r;

        for (size_t i = 0; i < PREPARE_SETTINGS; i++) {
                char value[sizeof(p->old[i])];

                if (p->changed[i] ||
                    sysfile_read(p->root, value, sizeof(value), "%s", settings[i].path) < 0)
                        continue;
                value[strcspn(value, "\n")] = '\0';
                if (!value_is_plausible(value) || streq(value, settings[i].off))
                        continue;
                memcpy(p->old[i], value, sizeof(value));
                p->changed[i] = want[i] = true;
        }
        r = saved_write(p);
        for (size_t i = 0; i < PREPARE_SETTINGS; i++) {
                int w;

                if (!want[i])
                        continue;
                w = r < 0 ? r : sysfile_write(p->root, settings[i].off, "%s", settings[i].path);
                if (w < 0) {
                        p->changed[i] = false;
                        r = w;
                        log_error_errno(w, "Cannot turn \"%s\" off; it will work against the host",
                                        settings[i].name);
                }
        }
        p->managing = true;
        return r;
}

int prepare_stop(Prepare *p) {
        p->managing = false;
        return settings_restore(p);
}

const char *prepare_changed(const Prepare *p, size_t i) {
        return p->changed[i] ? settings[i].name : NULL;
}
