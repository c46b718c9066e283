/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Carries one order out: sorts its pages by what they hold, chooses the mover, makes room on the promotion's
 * node by demoting no more than it lacks, moves in chunks, retries what one mover could not reach with the
 * other, and counts. Runs in the worker thread only.
 */
#pragma once

#include "order.h"

typedef struct Executor Executor;

int executor_new(int root, Executor **ret);
Executor *executor_free(Executor *e);
DEFINE_CLEANUP(Executor *, executor_free);

/* Use one mover only ("damon", "pagemap"), or NULL for both: for tests and measurements. */
void executor_force(Executor *e, const char *mover);

int executor_run(Executor *e, const OrderRequest *request, const Stop *stop, OrderProgress progress,
                 void *progress_userdata, OrderResult *ret);

OrderRunner executor_runner(Executor *e);
