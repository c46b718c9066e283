/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The interactive shell, by libedit: prompt, history, completion. Also reads commands from a pipe.
 */
#pragma once

#include "verb.h"

/* Runs commands from standard input until its end or quit. On a terminal failures are printed and it goes
 * on; else the first one ends it. Returns 0, or < 0 with o filled. */
int shell_run(Ctl *ctl, Outcome *o);
