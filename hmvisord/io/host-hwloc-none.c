/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Takes the place of host-hwloc.c where hwloc >= 2.10 was not there at build: knows nothing.
 */
#include "io/host-internal.h"

void host_hwloc_hints(NodeHint *hints) {
}
