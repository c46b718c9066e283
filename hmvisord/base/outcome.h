/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How a request of a user ended: one table gives the code, its D-Bus error name and hmvctl's exit code, so
 * that daemon, bus and CLI cannot disagree. The text is one line that names the thing, the reason and the
 * remedy.
 */
#pragma once

#include "base/cleanup.h"

/* code, D-Bus name behind "org.hmvisor1.Error.", exit code, meaning (for the manual) */
#define OUTCOMES(X)                                                                                    \
        X(OK, "", 0, "done")                                                                           \
        X(FAILED, "Failed", 1, "something else failed; the text says what")                            \
        X(BAD_ARGUMENT, "BadArgument", 2, "an argument is not usable: size, name, option")             \
        X(NO_DOMAIN, "NoSuchDomain", 3, "no domain has this name, id or UUID")                         \
        X(DOMAIN_OFF, "DomainOff", 4, "the domain must run for this, and does not")                    \
        X(DOMAIN_BUSY, "DomainBusy", 5, "the domain migrates, is paused, or another change is under way") \
        X(NOT_BOUND, "NotBound", 6, "the domain is not bound; hmvctl bind does that")                  \
        X(ALREADY_BOUND, "AlreadyBound", 7, "the domain is bound already; hmvctl unbind first")        \
        X(NO_TIER, "NoTier", 8, "the host has no slow (or no DRAM) tier")                              \
        X(NO_ROOM, "NoRoom", 9, "the sizes do not fit the tier or the domain")                         \
        X(NO_EXTENSION, "NoExtension", 10, "the domain's QEMU does not have the extension loaded")     \
        X(NO_AGENT, "NoAgent", 12, "the guest's agent does not answer, or is not ours")                \
        X(MISPLACED, "Misplaced", 13, "verify found memory outside its tier's nodes")                  \
        X(NO_LIBVIRT, "NoLibvirt", 14, "libvirt cannot be reached")                                    \
        X(NO_DAEMON, "NoDaemon", 15, "hmvisord cannot be reached")                                     \
        X(DENIED, "AccessDenied", 16, "polkit did not allow it")                                       \
        X(UNSUPPORTED, "NotSupported", 17, "the domain or host cannot do this")                        \
        X(TIMED_OUT, "TimedOut", 18, "no answer in time")                                              \
        X(PROBLEM, "Problem", 19, "doctor found a problem")

typedef enum OutcomeCode {
#define X(code, name, exit_code, meaning) OUTCOME_##code,
        OUTCOMES(X)
#undef X
        _OUTCOME_MAX,
} OutcomeCode;

typedef struct Outcome {
        OutcomeCode code;
        char text[512];
} Outcome;

const char *outcome_bus_name(OutcomeCode code);          /* "org.hmvisor1.Error.NoSuchDomain"; NULL for OK */
OutcomeCode outcome_from_bus_name(const char *name);     /* FAILED when not known */
int outcome_exit_code(OutcomeCode code);
const char *outcome_meaning(OutcomeCode code);

/* Fills o (may be NULL) and returns -EINVAL for BAD_ARGUMENT, else -EIO; 0 for OK: handy as `return`. */
int outcome_set(Outcome *o, OutcomeCode code, const char *format, ...) _printf_(3, 4);
