/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The log behind base/log.h. Speaks the journal's native protocol through libsystemd when standard error is
 * the journal; never blocks on anything else.
 */
#include "base/log.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

static void field_add(struct iovec *fields, size_t *n, char *buf, size_t size, const char *name,
                      const char *value) {
        snprintf(buf, size, "%s=%s", name, value);
        fields[(*n)++] = (struct iovec) { .iov_base = buf, .iov_len = strlen(buf) };
}

static void journal_send(LogEvent event, int level, const char *domain, const char *uuid, const char *text) {
        static const char *const ids[_LOG_EVENT_MAX] = {
#define X(name, id) [LOG_EVENT_##name] = id,
                LOG_EVENTS(X)
#undef X
        };
        char message[2060], priority[24], id[48], name[300], uuid_field[64], number[12];
        struct iovec fields[5];
        size_t n = 0;

        snprintf(number, sizeof(number), "%i", level);
        field_add(fields, &n, message, sizeof(message), "MESSAGE", text);
        field_add(fields, &n, priority, sizeof(priority), "PRIORITY", number);
        if (event != LOG_EVENT_NONE)
                field_add(fields, &n, id, sizeof(id), "MESSAGE_ID", ids[event]);
        if (domain) {
                field_add(fields, &n, name, sizeof(name), "HMVISOR_DOMAIN", domain);
                field_add(fields, &n, uuid_field, sizeof(uuid_field), "HMVISOR_DOMAIN_UUID", uuid ?: "");
        }
        (void) sd_journal_sendv(fields, (int) n);
}

int log_event(LogEvent event, int level, int error, const char *domain, const char *uuid, const char *format,
              ...) {
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
        if (stderr_is_journal())
                journal_send(event, level, domain, uuid, text);
        else
                fprintf(stderr, "%s\n", text);
        return -error;
}
