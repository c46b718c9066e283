/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Configuration files and drop-ins, and the text form of a domain's policy, into plain structs. Reads files,
 * decides nothing, and never logs: problems come back as text.
 */
#pragma once

#include "base/outcome.h"
#include "core/policy.h"

typedef struct Conf {
        HostPolicy host;
        DomainPolicy domain;          /* what a domain without a policy of its own gets */
        bool manage_bound;            /* manage every bound domain unless its policy says no (default: no) */
        char *libvirt_uri;            /* NULL: qemu:///system */
        char *dram_nodes, *slow_nodes;   /* NULL: discover */
        usec_t sample_usec;           /* of the extension */
        usec_t duty_on_usec, duty_off_usec;   /* off 0: always on */
        usec_t cost_limit_usec, watch_cost_limit_usec;   /* of each second of processor time; 0: none */
        usec_t fault_cost_usec;       /* 0: as measured */
        usec_t lease_usec;
        uint32_t dirty_ring_size;     /* that bind gives a domain; 0: none */
        char *extension_path;
        char *journal_path;           /* of the market's ledger */
        uint64_t reserve_bytes[_TIER_MAX];    /* of each tier's nodes, for all that is not a bound domain */
        int log_level;
} Conf;

/* Defaults, then the files in order /usr/lib < /etc < drop-ins (by name), below root ("" for the real ones);
 * none has to be there. A problem ends it with -EINVAL and o naming file, line, key and what is allowed. */
int conf_load(const char *root, Conf *ret, Outcome *o);
void conf_done(Conf *c);
/* The effective configuration as a file that conf_load() reads back; the caller frees. */
int conf_dump(const Conf *c, char **ret_text);

/* A domain's policy as KEY=VALUE words ("Managed=yes RateCap=64M"), kept in the domain's metadata and used
 * by hmvctl policy. Keys not named keep the values already in p. BAD_ARGUMENT names key and allowed values.
 */
int policy_parse(const char *text, DomainPolicy *p, Outcome *o);
int policy_format(const DomainPolicy *p, const DomainPolicy *defaults,
                  char **ret_text); /* only what differs; defaults NULL: all */
