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

/* What an administrator looks for or wants to be told of: MESSAGE_ID= in the journal, which
 * systemd/hmvisor.catalog explains. An id is made once, by `systemd-id128 new`, and stays what it is. */
#define LOG_EVENTS(X)                                                                                      \
        X(DOMAIN_MANAGED, "42a0f35141ac46859ab7f58f8dda9bd8")                                              \
        X(DOMAIN_UNMANAGED, "f0f155784e34408dbdfd24046265ab2b")                                            \
        X(DOMAIN_DEGRADED, "4e27bafdd3c4416ab11c95ee881ff07f")                                             \
        X(DOMAIN_RECOVERED, "3d92fbe11bfc4b7faa25cd48bed9e4b3")                                            \
        X(TRACKING_FAILED, "a05c23b017274125b8ccaa0834ed6387")                                             \
        X(TRADE_SETTLED, "61dfcd39dd6c4190b46be1911fd9d75e")                                               \
        X(TRADE_LATE, "242838c22f2d431d8b7dfe1ecf32ed19")                                                  \
        X(TRADE_RETURNED, "6a2b9121340442faaf237e18202b9e48")                                              \
        X(MARKET_HALTED, "d5143d9ed07b4693abc20520aff7cb04")                                               \
        X(MARKET_RESUMED, "53a20feef61c47e8921bb41ae76811a7")                                              \
        X(JOURNAL_FAILED, "8f69a80c414b428f8d542521bab64c2c")

typedef enum LogEvent {
        LOG_EVENT_NONE,
#define X(name, id) LOG_EVENT_##name,
        LOG_EVENTS(X)
#undef X
        _LOG_EVENT_MAX,
} LogEvent;

/* domain and uuid may be NULL; they become HMVISOR_DOMAIN and HMVISOR_DOMAIN_UUID. Returns -abs(error). */
int log_event(LogEvent event, int level, int error, const char *domain, const char *uuid, const char *format,
              ...) _printf_(6, 7);

#define log_full(level, error, domain, uuid, ...)                                                          \
        log_event(LOG_EVENT_NONE, level, error, domain, uuid, __VA_ARGS__)
#define log_error(...) log_full(LOG_ERR, 0, NULL, NULL, __VA_ARGS__)
#define log_error_errno(error, ...) log_full(LOG_ERR, error, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, 0, NULL, NULL, __VA_ARGS__)
#define log_warning_errno(error, ...) log_full(LOG_WARNING, error, NULL, NULL, __VA_ARGS__)
#define log_notice(...) log_full(LOG_NOTICE, 0, NULL, NULL, __VA_ARGS__)
#define log_info(...) log_full(LOG_INFO, 0, NULL, NULL, __VA_ARGS__)
#define log_debug(...) log_full(LOG_DEBUG, 0, NULL, NULL, __VA_ARGS__)
