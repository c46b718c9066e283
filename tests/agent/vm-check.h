/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the checks that run inside a VM share: orders, the executor that carries them out, files whose pages
 * nobody maps, and the verdict.
 */
#pragma once

#include "execute.h"
#include "nodes.h"
#include "testmem.h"

extern int root;

/* "ok NAME" or "not ok NAME", by which mover, and what was seen. */
void verdict(bool ok, const char *name, const char *format, ...) _printf_(3, 4);

extern const OrderList none;

/* These frames, to be moved to a node; order() frees it. */
OrderList list_of(int node, const uint64_t pfns[], size_t n);

/* Carries an order out; returns what the executor does. */
int order(OrderList promote, OrderList demote, usec_t deadline, OrderResult *ret);

/* Whether n pages still hold what testmem_map() wrote. */
bool contents_ok(const char *memory, size_t n);

/* A file whose n pages, filled as testmem_map() does, are on this node, and mapped by nobody. */
int cache_make(size_t n, int node, uint64_t ret_pfns[]);
void cache_drop(int fd);
bool cache_is_reachable(void); /* by the mover that is used */

/* Of a node's room (vm-check-room.c): that which is made for pages to come, that of a full node, and that of
 * one whose pages change places with others. */
void check_room(void);
void check_full(void);
void check_exchange(void);
