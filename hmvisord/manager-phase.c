/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The phases of a domain: one table of what may follow what, and the one setter. Decides nothing: which
 * phase fits is domain_evaluate()'s to say.
 */
#include "base/log.h"
#include "manager-internal.h"

static const char *const names[_PHASE_MAX] = {
        [PHASE_DISCOVERED] = "discovered", [PHASE_PROBING] = "probing",   [PHASE_OBSERVING] = "observing",
        [PHASE_MANAGED] = "managed",       [PHASE_DEGRADED] = "degraded", [PHASE_GONE] = "gone",
};

const char *phase_to_string(Phase p) {
        return p < _PHASE_MAX ? names[p] : "unknown";
}

/* MANAGED is only reached by way of OBSERVING, or back from DEGRADED: the guest must have answered before.
 * GONE ends it: a domain that comes back is a new one. */
static const bool transitions[_PHASE_MAX][_PHASE_MAX] = {
        [PHASE_DISCOVERED] = { [PHASE_PROBING] = true, [PHASE_GONE] = true },
        [PHASE_PROBING] = { [PHASE_DISCOVERED] = true, [PHASE_OBSERVING] = true, [PHASE_DEGRADED] = true,
                            [PHASE_GONE] = true },
        [PHASE_OBSERVING] = { [PHASE_DISCOVERED] = true, [PHASE_PROBING] = true, [PHASE_MANAGED] = true,
                              [PHASE_DEGRADED] = true, [PHASE_GONE] = true },
        [PHASE_MANAGED] = { [PHASE_DISCOVERED] = true, [PHASE_PROBING] = true, [PHASE_OBSERVING] = true,
                            [PHASE_DEGRADED] = true, [PHASE_GONE] = true },
        [PHASE_DEGRADED] = { [PHASE_DISCOVERED] = true, [PHASE_PROBING] = true, [PHASE_OBSERVING] = true,
                             [PHASE_MANAGED] = true, [PHASE_GONE] = true },
};

bool phase_may_follow(Phase from, Phase to) {
        return from < _PHASE_MAX && to < _PHASE_MAX && transitions[from][to];
}

LogEvent phase_event(Phase from, Phase to, bool tracking_failed) {
        if (to == PHASE_DEGRADED)
                return tracking_failed ? LOG_EVENT_TRACKING_FAILED : LOG_EVENT_DOMAIN_DEGRADED;
        if (from == PHASE_DEGRADED && (to == PHASE_OBSERVING || to == PHASE_MANAGED))
                return LOG_EVENT_DOMAIN_RECOVERED;
        if (to == PHASE_MANAGED)
                return from == to ? LOG_EVENT_NONE : LOG_EVENT_DOMAIN_MANAGED;
        return from == PHASE_MANAGED && to == PHASE_OBSERVING ? LOG_EVENT_DOMAIN_UNMANAGED : LOG_EVENT_NONE;
}

bool domain_set_phase(Domain *d, Phase phase, const char *reason) {
        bool changed = phase != d->phase, failed = d->source && source_health(d->source) == SOURCE_FAILED;
        LogEvent event = phase_event(d->phase, phase, failed);

        if (!changed && streq(reason, d->reason))
                return false;
        if (changed && !phase_may_follow(d->phase, phase)) {
                log_full(LOG_ERR, 0, d->name, d->uuid,
                         "Domain '%s' cannot go from %s to %s: a bug of hmvisord, ignoring", d->name,
                         phase_to_string(d->phase), phase_to_string(phase));
                return false;
        }
        d->phase = phase;
        snprintf(d->reason, sizeof(d->reason), "%s", reason);
        manager_tell_event(d->manager, d, event, phase == PHASE_DEGRADED ? LOG_NOTICE : LOG_INFO, "phase",
                           "%s%s%s", phase_to_string(phase), *reason ? ": " : "", reason);
        if (d->manager->hooks.domain_changed && phase != PHASE_GONE)
                d->manager->hooks.domain_changed(d->uuid, d->manager->hooks.userdata);
        return true;
}
