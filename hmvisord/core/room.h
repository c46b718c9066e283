/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Room in DRAM for pages to come: how many a guest lacked, and when cold pages shall make way for as many.
 * Owns the account of what the guest says; never names pages.
 *
 * A new page comes from DRAM only if some is free. Promotion makes room for what it promotes and no more, so
 * where DRAM is full of files, all that is new goes to slow memory: short-lived processes live there, and
 * are gone before they are seen to be hot. Linux counts such pages (numa_foreign), and as many are demoted.
 */
#pragma once

#include "base/cleanup.h"

#define ROOM_PAUSE_USEC (10 * USEC_PER_SEC) /* as often as the guest is asked how it is */
#define ROOM_BACKOFF_MAX 6                  /* doublings: of files that are read once there is no end */
#define ROOM_PART 8 /* at most one part in so many of a DRAM cell is cleared at a time */
#define ROOM_LEAST_PART 256 /* and at least one in so many */
/* Below its watermarks a guest's kernel gives nothing to a process that can have memory of another cell. One
 * part in 16 covers them: seen full with 13 of 256 MiB free. */
#define ROOM_RESERVE_PART 16

/* All zero is a new account. */
typedef struct RoomAccount {
        bool known;
        uint64_t foreign_pages; /* what the guest said last */
        uint64_t lacked_pages;  /* that no order has made room for */
        uint64_t cleared_pages; /* by orders since the pause last grew */
        usec_t next;            /* no order before */
        unsigned backoff;
} RoomAccount;

/* Takes in what the guest says at a tick: all pages, ever, that were meant for the cell and found no room in
 * it (UINT64_MAX: not known). A count that goes back is a guest that started anew. */
void room_look(RoomAccount *a, uint64_t foreign_pages, usec_t now);

/* How many pages are to make way in a cell of so many, of which so many are free (UINT64_MAX: not known); 0:
 * none, or not yet. */
uint64_t room_wanted(const RoomAccount *a, uint64_t cell_pages, uint64_t free_pages, usec_t now);

/* So many of them were ordered. Once there was an order for all, or for as much as may be cleared at a time,
 * the pause until the next one doubles; as long a time without need halves it. */
void room_ordered(RoomAccount *a, uint64_t pages, uint64_t cell_pages, usec_t now);
