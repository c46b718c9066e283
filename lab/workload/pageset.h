/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Anonymous pages that are put on a node first, and asked afterwards where they are. Nothing here moves a
 * page, or holds it where it is.
 */

#include <stdbool.h>
#include <stdint.h>

#define PAGE      UINT64_C(4096)
#define NODES_MAX 64

typedef struct PageSet {
        void *base;
        uint64_t size;          /* bytes in use */
        uint64_t reserved;      /* bytes mapped */
} PageSet;

/* Adds to by_node the number of pages of the set on each node; ret_elsewhere: not present or unknown. With a
 * stride of more than one, only each so many'th page is asked for. 0 or -errno. */
int pages_locate(const PageSet *set, unsigned stride, uint64_t by_node[NODES_MAX], uint64_t *ret_elsewhere);

/* Adds to by_node the weights of the pages on each node; weight has one for each page of the set. 0 or
 * -errno. */
int pages_weigh(const PageSet *set, const double *weight, double by_node[NODES_MAX]);

/* How many of n pages are on the node, of those that are anywhere (ret_known). 0 or -errno. */
int pages_count_on(void *const *pages, unsigned long n, int node, unsigned *ret_on, unsigned *ret_known);

/* Touches size bytes, wholly on the node or -ENOMEM; node -1: wherever the kernel likes. The policy is gone
 * afterwards. 0 or -errno. */
int set_place(PageSet *set, uint64_t size, int node, bool thp);

/* Touches pages that prefer the node until they land elsewhere: then the node is full. 0 or -errno. */
int set_fill(PageSet *set, int node, bool thp);
