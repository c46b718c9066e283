/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The tunables of the policy, for the host and per domain, with their defaults and the reason for each.
 * Plain values: reading them from files and metadata is conf's and the manager's work.
 */
#pragma once

#include "base/cleanup.h"

typedef struct HostPolicy {
        usec_t epoch_usec;              /* one tick of the policy; samples of the extension are shorter */
        uint64_t migrate_bytes_per_sec; /* cap over all domains together, promotions plus demotions */
        bool dry_run;                   /* decide and explain, carry nothing out */
} HostPolicy;

typedef struct DomainPolicy {
        bool managed; /* receives orders; else it is observed only */
        bool dry_run;
        uint64_t migrate_bytes_per_sec; /* cap of this domain, promotions plus demotions */
        uint32_t hot_heat;   /* least heat (1..255) of a page worth promoting; 0: by the DRAM cell's size */
        uint32_t hysteresis; /* a page must be hotter by so much than the one it displaces (heat units) */
        uint32_t warmup_epochs;   /* epochs observed before the first order */
        uint32_t settle_epochs;   /* whole epochs between an order's end and the next order */
        uint64_t min_order_pages; /* fewer candidates than this are not worth an order */
} DomainPolicy;

/* Defaults, each with its reason in policy.c. */
HostPolicy host_policy_default(void);
DomainPolicy domain_policy_default(void);
