/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Domain XML, text in and text out, by libxml2: binding, undoing it, and reading what a bound domain has.
 * Pure apart from memory; never talks to libvirt.
 */
#pragma once

#include "base/outcome.h"
#include "base/tier.h"
#include "base/xmlns.h"

#define DOMAIN_CELLS_MAX 8

typedef struct BindTier {
        char nodes[64];            /* host node list, e.g. "0" or "2-3" */
        char cpus[128];            /* host CPUs near it; "" when none */
        uint32_t latency_ns;       /* becomes the guest's HMAT; 0: a documented default */
        uint32_t bandwidth_mibs;
        uint32_t distance;         /* from the DRAM tier; 10 for itself */
} BindTier;

typedef struct BindOptions {
        uint64_t dram_bytes, slow_bytes;           /* cell sizes at start; multiples of 2 MiB (block) */
        uint64_t max_dram_bytes, max_slow_bytes; /* cell plus virtio-mem; 0: the sum of both for each tier */
        uint64_t min_dram_bytes, min_slow_bytes; /* boot memory, which cannot be unplugged; 0: all at boot */
        uint64_t block_bytes;                      /* virtio-mem block; 0: 2 MiB */
        uint32_t dirty_ring_size;                  /* 0: none is added */
        const char *extension_path;                /* of hmvisor-hotness.so on the host */
        BindTier tiers[_TIER_MAX];
} BindOptions;

/* Rewrites a domain's inactive XML into two cells bound strictly to the tiers (design.md of the project says
 * with what). What was there is kept in the domain's metadata so that unbind can restore it. *ret_xml is the
 * caller's. Errors: ALREADY_BOUND, BAD_ARGUMENT, NO_ROOM, UNSUPPORTED (what in the XML excludes it, and the
 * remedy). */
int domain_xml_bind(const char *xml, const BindOptions *options, char **ret_xml, Outcome *o);

/* Restores what bind replaced; edits made since to other parts stay. Errors: NOT_BOUND, UNSUPPORTED (written
 * by a later version, or damaged). */
int domain_xml_unbind(const char *xml, char **ret_xml, Outcome *o);

typedef struct DomainCell {
        uint32_t cell;
        Tier tier;                  /* as the metadata of bind says */
        bool bound;                 /* memnode strict with a nodeset */
        char host_nodes[64];
        uint64_t boot_bytes;        /* of the cell, without memory devices */
        uint64_t device_max_bytes;  /* virtio-mem <size>; 0: none */
        uint64_t device_requested_bytes, device_current_bytes;
        char device_alias[64]; /* of our devices "ua-hmvisor-dram" and so on; RAM block is "mem" plus it */
} DomainCell;

/* What matters of a domain's XML, live or inactive. */
typedef struct DomainInfo {
        char name[256];
        char uuid[37];
        uint32_t n_vcpus;           /* at most; 0: it does not say */
        bool hmvisor_bound;         /* our metadata says so */
        bool has_dirty_ring, has_extension, has_agent_channel;
        bool agent_connected;       /* live XML only */
        DomainCell cells[DOMAIN_CELLS_MAX];
        size_t n_cells;
        char policy_text[1024];     /* as domain_xml_get_policy(); "" when there is none (or a longer one) */
} DomainInfo;
int domain_xml_read(const char *xml, DomainInfo *ret, Outcome *o);

/* The XML of one memory device of the live domain with another <requested>; for virDomainUpdateDeviceFlags.
 * Every other byte of the element stays. Errors: UNSUPPORTED (no such device), BAD_ARGUMENT (no block
 * multiple, above size). */
int domain_xml_memory_request(const char *live_xml, uint32_t cell, uint64_t requested_bytes, char **ret_xml,
                              Outcome *o);

/* The policy is one element of its own namespace in the metadata (base/xmlns.h): <policy
 * text='Managed=yes'/>, with policy_parse() words. Reads what virt_get_metadata() brought; "" when there is
 * none. The caller frees. */
int domain_xml_get_policy(const char *metadata_xml, char **ret_text);
/* The element for virt_set_metadata(); libvirt adds the namespace. Returns 0 or -ENOMEM. */
int domain_xml_policy_element(const char *text, char **ret_xml);

/* Unified diff of two texts, for --dry-run; "" when equal. XML is laid out alike before (quotes, indent),
 * and passwords are left out. The caller frees. */
int domain_xml_diff(const char *before, const char *after, char **ret_diff);
