/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The account of pages that found no room.
 */
#include "core/room.h"

#define PAGES_MAX (UINT64_C(1) << 52) /* whatever a guest says: so many that no sum overflows */

static usec_t room_pause(const RoomAccount *a) {
        return ROOM_PAUSE_USEC << a->backoff;
}

void room_look(RoomAccount *a, uint64_t foreign_pages, usec_t now) {
        if (foreign_pages == UINT64_MAX)
                return;
        foreign_pages = MIN(foreign_pages, PAGES_MAX);
        if (a->known && foreign_pages > a->foreign_pages)
                a->lacked_pages = MIN(a->lacked_pages + foreign_pages - a->foreign_pages, PAGES_MAX);
        if (a->backoff > 0 && now >= a->next + room_pause(a)) {
                a->backoff--;
                a->next = now;
        }
        a->known = true;
        a->foreign_pages = foreign_pages;
}

static uint64_t least_pages(uint64_t cell_pages) {
        return MAX(cell_pages / ROOM_LEAST_PART, 1U);
}

uint64_t room_wanted(const RoomAccount *a, uint64_t cell_pages, uint64_t free_pages, usec_t now) {
        uint64_t most = cell_pages / ROOM_PART,
                 wanted = MIN(a->lacked_pages, most - MIN(most, a->cleared_pages));

        if (free_pages != UINT64_MAX)
                wanted -= MIN(wanted, free_pages - MIN(free_pages, cell_pages / ROOM_RESERVE_PART));
        return now < a->next || wanted < least_pages(cell_pages) ? 0 : wanted;
}

void room_ordered(RoomAccount *a, uint64_t pages, uint64_t cell_pages, usec_t now) {
        a->lacked_pages -= MIN(a->lacked_pages, pages);
        a->cleared_pages += pages;
        a->next = now + ROOM_PAUSE_USEC;
        if (a->lacked_pages >= least_pages(cell_pages) &&
            a->cleared_pages + least_pages(cell_pages) <= cell_pages / ROOM_PART)
                return;
        a->lacked_pages = a->cleared_pages = 0;
        a->backoff = MIN(a->backoff + 1, (unsigned) ROOM_BACKOFF_MAX);
        a->next = now + room_pause(a);
}
