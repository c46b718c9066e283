/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Counts answers to guest-sync that led to nothing: see hearing.h.
 */
#include "hearing.h"

/* So many were answered, and the host asks again, so long after the first; libvirt waits 5 s for each. */
#define SYNCS 3U
#define SPAN_USEC (10 * USEC_PER_SEC)
#define REOPENED_MAX 6U /* then after 192 */

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
        return h->unheard >= SYNCS << h->reopened && h->last >= h->first + SPAN_USEC;
}

void hearing_reopened(Hearing *h) {
        h->reopened = MIN(h->reopened + 1, REOPENED_MAX);
}

void hearing_forget(Hearing *h) {
        *h = (Hearing) { .reopened = h->reopened };
}
