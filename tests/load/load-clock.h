/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time for a program with one sd-event loop: as it is, or, once taken over, one that stands still while
 * anything is to be done and else jumps to the next timer. All that the program and its libraries ask of the
 * clock goes through here.
 */
#pragma once

#include "base/cleanup.h"

void load_clock_take_over(void);
/* Sets the time of day, as an administrator does. */
void load_clock_set(int64_t later_sec);
/* Jumps to the next timer. Returns false when there is none. */
bool load_clock_jump(void);
