/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The log behind base/log.h. Speaks the journal's native protocol through libsystemd when standard error is
 * the journal; never blocks on anything else.
 */
#include "base/log.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

static int max_level = LOG_INFO;

void log_set_max_level(int level) {
        max_level = level;
}

int log_max_level(void) {
        return max_level;
}

/* Is standard error the stream that the journal gave us? ($JOURNAL_STREAM is "device:inode" of it.) */
static bool stderr_is_journal(void) {
        static int cached = -1;
        const char *e;
        struct stat st;
        unsigned long long dev, ino;

        if (cached < 0) {
                e = getenv("JOURNAL_STREAM");
                cached = e && sscanf(e, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
                        st.st_dev == dev && st.st_ino == ino;
        }
        return cached;
}

int log_full(int level, int error, const char *domain, const char *uuid, const char *format, ...) {
        char text[2048];
        va_list ap;

        error = abs(error);
        if (level > max_level)
                return -error;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (error > 0) {
                size_t n = strlen(text);

                snprintf(text + n, sizeof(text) - n, ": %s", strerror(error));
        }
        if (stderr_is_journal()) {
                if (domain)
                        (void) sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", level, "HMVISOR_DOMAIN=%s",
                                               domain, "HMVISOR_DOMAIN_UUID=%s", uuid ? uuid : "", NULL);
                else
                        (void) sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", level, NULL);
        } else
                fprintf(stderr, "%s\n", text);
        return -error;
}
