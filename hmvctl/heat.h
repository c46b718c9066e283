/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The picture of a domain's heat: one histogram per cell, as bars. Owns no state.
 */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#include "base/cleanup.h"

/* cells: as GetHeat gives them. width: columns there are; utf8: block characters may be used. */
void heat_print(json_object *cells, unsigned width, bool utf8, FILE *out);
