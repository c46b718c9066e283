/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Counts answers to guest-sync that led to nothing: see hearing.h.
 */
#include "hearing.h"

void hearing_said(Hearing *h) {
        h->said = true;
}

void hearing_asked(Hearing *h, bool sync, usec_t now) {
        if (!sync) {
                *h = (Hearing) {};
                return;
        }
        if (!h->asked)
                h->first = now;
        else if (h->said) /* or the stock agent hangs: the channel is not to blame for that */
                h->unheard++;
        h->asked = true;
        h->said = false;
        h->last = now;
}

bool hearing_is_lost(const Hearing *h) {
        return h->unheard >= HEARING_SYNCS && h->last >= h->first + HEARING_USEC;
}
