/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * When slow memory alone is looked at, and in how many parts.
 */
#include "core/scope.h"

static unsigned parts(const Scope *s) {
        return 1U << s->parts_shift;
}

static void scope_begin_turn(Scope *s, unsigned parts_shift, unsigned part) {
        s->parts_shift = parts_shift;
        s->part = part % parts(s);
        s->part_epochs = 0;
        s->turn_faults = 0;
}

/* Parts grow again where two of them together would have been affordable twice over: not to and fro. */
void scope_look(Scope *s, uint64_t faults, uint64_t affordable, uint32_t n_pieces) {
        unsigned most = n_pieces == 0 ? 0 : 31U - (unsigned) __builtin_clz(n_pieces);

        most = MIN(most, (unsigned) SCOPE_PARTS_SHIFT_MOST);
        if (affordable == 0)
                most = 0;
        if (s->parts_shift > most)
                scope_begin_turn(s, most, s->part);
        else if (s->parts_shift < most && faults / SCOPE_DEAR > affordable)
                scope_begin_turn(s, s->parts_shift + 1, s->part);
        else if (s->parts_shift > 0) {
                s->turn_faults += MIN(faults, UINT64_MAX / 2 / SCOPE_PART_EPOCHS);
                if (++s->part_epochs < SCOPE_PART_EPOCHS)
                        return;
                if (s->turn_faults / SCOPE_PART_EPOCHS < affordable * (SCOPE_DEAR / 4))
                        scope_begin_turn(s, s->parts_shift - 1, s->part + 1);
                else
                        scope_begin_turn(s, s->parts_shift, s->part + 1);
        }
}

void scope_widen(Scope *s) {
        s->slow_only = false;
        s->calm_epochs = 0;
}

/* Looked at in parts, all takes as many times as long. */
void scope_plan(Scope *s, bool wants, uint64_t slow_heat, uint64_t total_heat, usec_t now) {
        bool has_news = slow_heat > s->slow_heat && slow_heat - s->slow_heat > total_heat / SCOPE_NEWS;

        if (wants || (s->slow_only && (has_news || now >= s->until)))
                scope_widen(s);
        else if (!s->slow_only && ++s->calm_epochs >= SCOPE_CALM_EPOCHS * parts(s)) {
                s->slow_only = true;
                s->slow_heat = slow_heat;
                s->until = now + SCOPE_USEC * parts(s);
        }
}

bool scope_has_piece(const Scope *s, Tier tier, uint32_t n) {
        return !(s->slow_only && tier == TIER_DRAM) && n % parts(s) == s->part;
}
