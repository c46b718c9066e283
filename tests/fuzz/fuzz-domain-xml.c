/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Fuzz target: a domain's XML through everything that reads or rewrites it. What bind makes, unbind must
 * undo.
 */
#include "base/units.h"
#include "io/domain-xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const BindOptions options = {
        .dram_bytes = 256 * MIB,
        .slow_bytes = 768 * MIB,
        .extension_path = "/usr/lib/hmvisor/hmvisor-hotness.so",
        .tiers = { { .nodes = "0", .cpus = "0-1" }, { .nodes = "1", .distance = 28 } },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size), *bound = NULL, *back = NULL,
                            *other = NULL, *request = NULL, *policy = NULL, *diff = NULL;
        DomainInfo info;
        Outcome o = {};

        if (!text)
                return 0;
        if (domain_xml_read(text, &info, &o) >= 0 && info.n_cells > DOMAIN_CELLS_MAX)
                abort();
        if (domain_xml_bind(text, &options, &bound, &o) >= 0) {
                if (domain_xml_read(bound, &info, &o) < 0 || !info.hmvisor_bound || !info.has_extension ||
                    info.n_cells != 2)
                        abort();
                if (domain_xml_unbind(bound, &back, &o) < 0)
                        abort();
                if (domain_xml_read(back, &info, &o) < 0 || info.hmvisor_bound)
                        abort();
                (void) domain_xml_diff(text, bound, &diff);
        }
        (void) domain_xml_unbind(text, &other, &o);
        (void) domain_xml_memory_request(text, 1, 64 * MIB, &request, &o);
        (void) domain_xml_get_policy(text, &policy);
        return 0;
}
