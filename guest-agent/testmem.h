/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Memory on chosen nodes and the frames behind it, for the benchmark and for the checks inside a VM. Not
 * part of the agent. Everything here exits with a message on failure: its users have nothing to go on with.
 */
#pragma once

#include "mover.h"

#define TESTMEM_PAGE 4096

/* n pages of private memory, touched and on this node; huge: in huge pages. */
char *testmem_map(size_t n, int node, bool huge);
void testmem_unmap(char *memory, size_t n);

/* The frames behind n pages of a process (0: this one); 0 for a page that is not there. */
void testmem_pfns(pid_t pid, const char *memory, size_t n, uint64_t ret_pfns[]);

/* How many of these pages the kernel says are on this node. */
size_t testmem_count(const char *memory, size_t n, int node);

/* move_pages(2) on pages of a process, all in one call; pages[] are indexes. Returns the call's result. */
long testmem_move(pid_t pid, char *memory, const size_t pages[], size_t n, int node);

void testmem_die(const char *format, ...) _printf_(1, 2) __attribute__((noreturn));
