/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What came out of contests, as a table, as JSON (a record a line) and as CSV. Never computes.
 */
#pragma once

#include "place.h"

typedef struct PlaceReport {
        FILE *csv; /* or NULL */
        bool json;
} PlaceReport;

/* dir: for place.csv, made if it is not there; or NULL. The report may be ended also when this failed. */
int place_report_begin(PlaceReport *r, const char *dir, bool json, Outcome *o);
void place_report_rows(PlaceReport *r, const Contest *c);

/* Returns `so_far` if that is an error, else whether all was written. */
int place_report_end(PlaceReport *r, int so_far, Outcome *o);
