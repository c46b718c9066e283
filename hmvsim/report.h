/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What came of a simulation, for people and programs: figures over time as CSV, their plots by gnuplot, and
 * a summary. Owns the form of all three; never changes the simulation.
 */
#pragma once

#include "sim.h"

typedef struct Report Report;

/* Writes groups.csv and market.csv into a folder, which is made if it is not there; dir NULL: nothing. The
 * scenario must live as long as the report. Returns 0 or -errno with the reason in *o. */
int report_new(const Scenario *scenario, const char *dir, Report **ret, Outcome *o);
Report *report_free(Report *r); /* NULL-safe; returns NULL */
DEFINE_CLEANUP(Report *, report_free);

/* One row per group, and one of the market, of what happened since the last ones. */
void report_row(Report *r, const Sim *s);

/* Ends the files. Returns 0, or -EIO with the reason in *o when they could not be written. */
int report_finish(Report *r, Outcome *o);

/* Draws sizes.png, heat.png, swap.png and market.png beside the files, by gnuplot. Returns 0, or -EIO with
 * the reason in *o. */
int report_plot(const Scenario *scenario, const char *dir, Outcome *o);

/* The end against the beginning, as a table or as JSON; heat and swapping are those of the last minute. */
void report_summary(const Report *r, const Sim *s, FILE *to);
void report_json(const Report *r, const Sim *s, uint64_t seed, FILE *to);
