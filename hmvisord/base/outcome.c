/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The table behind base/outcome.h. Owns no state, never logs.
 */
#include "base/outcome.h"

#include <stdarg.h>

#define BUS_PREFIX "org.hmvisor1.Error."

static const struct {
        const char *bus_name;
        int exit_code;
        const char *meaning;
} outcomes[_OUTCOME_MAX] = {
#define X(code, name, exit_code, meaning) [OUTCOME_##code] = { BUS_PREFIX name, exit_code, meaning },
        OUTCOMES(X)
#undef X
};

const char *outcome_bus_name(OutcomeCode code) {
        return code > OUTCOME_OK && code < _OUTCOME_MAX ? outcomes[code].bus_name : NULL;
}

OutcomeCode outcome_from_bus_name(const char *name) {
        for (OutcomeCode c = OUTCOME_OK + 1; name && c < _OUTCOME_MAX; c++)
                if (streq(name, outcomes[c].bus_name))
                        return c;
        return OUTCOME_FAILED;
}

int outcome_exit_code(OutcomeCode code) {
        return code < _OUTCOME_MAX ? outcomes[code].exit_code : 1;
}

const char *outcome_meaning(OutcomeCode code) {
        return code < _OUTCOME_MAX ? outcomes[code].meaning : "unknown";
}

int outcome_set(Outcome *o, OutcomeCode code, const char *format, ...) {
        va_list ap;

        if (o) {
                o->code = code;
                va_start(ap, format);
                vsnprintf(o->text, sizeof(o->text), format, ap);
                va_end(ap);
        }
        return code == OUTCOME_OK ? 0 : code == OUTCOME_BAD_ARGUMENT ? -EINVAL : -EIO;
}
