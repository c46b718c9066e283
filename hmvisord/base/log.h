/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon's log: to the journal with fields when it runs as a service, else to standard error. Only the
 * edges (main, manager) log; libraries return errors.
 */
#pragma once

#include <syslog.h>

#include "base/cleanup.h"

void log_set_max_level(int level);
int log_max_level(void);

/* domain and uuid may be NULL; they become HMVISOR_DOMAIN and HMVISOR_DOMAIN_UUID. Returns -abs(error). */
int log_full(int level, int error, const char *domain, const char *uuid, const char *format, ...)
        _printf_(5, 6);

#define log_error(...) log_full(LOG_ERR, 0, NULL, NULL, __VA_ARGS__)
#define log_error_errno(error, ...) log_full(LOG_ERR, error, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, 0, NULL, NULL, __VA_ARGS__)
#define log_warning_errno(error, ...) log_full(LOG_WARNING, error, NULL, NULL, __VA_ARGS__)
#define log_notice(...) log_full(LOG_NOTICE, 0, NULL, NULL, __VA_ARGS__)
#define log_info(...) log_full(LOG_INFO, 0, NULL, NULL, __VA_ARGS__)
#define log_debug(...) log_full(LOG_DEBUG, 0, NULL, NULL, __VA_ARGS__)
