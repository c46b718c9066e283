/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * When slow memory alone is looked at.
 */
#include "core/scope.h"

void scope_step(Scope *s, bool wants, uint64_t slow_heat, uint64_t total_heat, usec_t now) {
        bool has_news = slow_heat > s->slow_heat && slow_heat - s->slow_heat > total_heat / SCOPE_NEWS;

        if (wants || (s->slow_only && (has_news || now >= s->until)))
                *s = (Scope){ 0 };
        else if (!s->slow_only && ++s->calm_epochs >= SCOPE_CALM_EPOCHS)
                *s = (Scope){ .slow_only = true, .slow_heat = slow_heat, .until = now + SCOPE_USEC };
}
