/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reads what a domain's XML says about cells, memory devices and agent; writes the XML of a resize and of
 * the policy's element. Changes no domain.
 */
#include "io/domain-xml.h"

#include <inttypes.h>

#include "base/units.h"
#include "io/domain-xml-internal.h"

static void read_device(xmlNodePtr root, DomainCell *c) {
        xmlNodePtr device = xml_find_memory_device(root, c->cell), target = xml_child(device, "target");

        if (!device)
                return;
        (void) xml_text_bytes(xml_child(target, "size"), &c->device_max_bytes);
        (void) xml_text_bytes(xml_child(target, "requested"), &c->device_requested_bytes);
        (void) xml_text_bytes(xml_child(target, "current"), &c->device_current_bytes);
        (void) xml_attr_copy(xml_child(device, "alias"), "name", c->device_alias, sizeof(c->device_alias));
}

static void read_binding(xmlNodePtr root, DomainCell *c) {
        xmlNodePtr numatune = xml_child(root, "numatune"), binding = xml_find_binding(root);
        uint32_t id;

        for (xmlNodePtr n = numatune ? numatune->children : NULL; n; n = n->next)
                if (xml_is(n, "memnode") && xml_attr_u32(n, "cellid", &id) && id == c->cell &&
                    xml_attr_copy(n, "nodeset", c->host_nodes, sizeof(c->host_nodes)))
                        c->bound = xml_attr_is(n, "mode", "strict") && *c->host_nodes;
        for (xmlNodePtr n = binding ? binding->children : NULL; n; n = n->next)
                if (xml_is_ns(n, DOMAIN_XML_NS, "cell") && xml_attr_u32(n, "id", &id) && id == c->cell)
                        c->tier = xml_attr_is(n, "tier", "slow") ? TIER_SLOW : TIER_DRAM;
}

static void read_cells(xmlNodePtr root, DomainInfo *info) {
        xmlNodePtr numa = xml_find(root, "cpu/numa");

        for (xmlNodePtr n = numa ? numa->children : NULL; n && info->n_cells < DOMAIN_CELLS_MAX;
             n = n->next) {
                DomainCell c = { .cell = (uint32_t) info->n_cells };

                if (!xml_is(n, "cell"))
                        continue;
                (void) xml_attr_u32(n, "id", &c.cell);
                (void) xml_attr_bytes(n, "memory", &c.boot_bytes);
                read_binding(root, &c);
                read_device(root, &c);
                info->cells[info->n_cells++] = c;
        }
}

static void read_agent(xmlNodePtr root, DomainInfo *info) {
        xmlNodePtr devices = xml_child(root, "devices");

        for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next) {
                xmlNodePtr target = xml_is(n, "channel") ? xml_child(n, "target") : NULL;

                if (!xml_attr_is(target, "name", XML_AGENT_CHANNEL))
                        continue;
                info->has_agent_channel = true;
                info->agent_connected = xml_attr_is(target, "state", "connected");
        }
}

static void read_extension(xmlNodePtr root, DomainInfo *info) {
        xmlNodePtr cmd = xml_child_ns(root, XML_QEMU_NS, "commandline");

        for (xmlNodePtr n = cmd ? cmd->children : NULL; n; n = n->next) {
                char value[1024];

                if (xml_is_ns(n, XML_QEMU_NS, "arg") && xml_attr_copy(n, "value", value, sizeof(value)))
                        info->has_extension |=
                                strncmp(value, "file=", 5) == 0 && strstr(value, "hmvisor-hotness");
        }
}

int domain_xml_read(const char *xml, DomainInfo *ret, Outcome *o) {
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        DomainInfo info = {};
        xmlNodePtr root;
        int r;

        r = xml_parse_domain(xml, &doc, &root, o);
        if (r < 0)
                return r;
        if (!xml_text_copy(xml_child(root, "name"), info.name, sizeof(info.name)))
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the domain's XML has no name, or one of more than %zu bytes",
                                   sizeof(info.name) - 1);
        (void) xml_text_copy(xml_child(root, "uuid"), info.uuid, sizeof(info.uuid));
        info.hmvisor_bound = xml_find_binding(root) != NULL;
        if (!xml_text_u32(xml_child(root, "vcpu"), &info.n_vcpus))
                info.n_vcpus = 0;
        info.has_dirty_ring = xml_attr_is(xml_find(root, "features/kvm/dirty-ring"), "state", "on");
        (void) xml_attr_copy(xml_child_ns(xml_child(root, "metadata"), DOMAIN_XML_POLICY_NS, NULL), "text",
                             info.policy_text, sizeof(info.policy_text));
        read_extension(root, &info);
        read_agent(root, &info);
        read_cells(root, &info);
        *ret = info;
        return 0;
}

int domain_xml_memory_request(const char *live_xml, uint32_t cell, uint64_t requested_bytes, char **ret_xml,
                              Outcome *o) {
        char wanted[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        uint64_t block = 0, size = 0;
        xmlNodePtr root, device, target, requested;
        int r;

        r = xml_parse_domain(live_xml, &doc, &root, o);
        if (r < 0)
                return r;
        device = xml_find_memory_device(root, cell);
        target = xml_child(device, "target");
        requested = xml_child(target, "requested");
        if (!requested || !xml_text_bytes(xml_child(target, "size"), &size) ||
            !xml_text_bytes(xml_child(target, "block"), &block) || block == 0)
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "cell %" PRIu32 " has no virtio-mem device, so its size is fixed; "
                                   "bind again with a larger --max-dram or --max-slow",
                                   cell);
        size_format(wanted, requested_bytes);
        if (requested_bytes % block != 0)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT, "%s is no multiple of the device's block of %s",
                                   wanted, size_format(limit, block));
        if (requested_bytes > size)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "%s is more than the %s that cell %" PRIu32 " can have plugged; "
                                   "bind again with a larger --max-dram or --max-slow",
                                   wanted, size_format(limit, size), cell);
        r = xml_set_bytes(requested, requested_bytes);
        if (r >= 0)
                r = xml_print(doc, device, false, ret_xml);
        return r < 0 ? outcome_set(o, OUTCOME_FAILED, "out of memory") : 0;
}

int domain_xml_get_policy(const char *metadata_xml, char **ret_text) {
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        _cleanup_xml_str_ xmlChar *text = NULL;
        xmlNodePtr root = NULL;
        char *copy;

        if (strlen(metadata_xml) <= XML_SIZE_MAX)
                doc = xmlReadMemory(metadata_xml, (int) strlen(metadata_xml), NULL, NULL,
                                    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        if (doc)
                root = xmlDocGetRootElement(doc);
        if (root && xmlStrEqual(root->name, XML("policy")))
                text = xmlGetNoNsProp(root, XML("text"));
        copy = strdup(text ? (const char *) text : "");
        if (!copy)
                return -ENOMEM;
        *ret_text = copy;
        return 0;
}

int domain_xml_policy_element(const char *text, char **ret_xml) {
        _cleanup_xml_doc_ xmlDocPtr doc = xmlNewDoc(XML("1.0"));
        xmlNodePtr root = doc ? xmlNewDocNode(doc, NULL, XML("policy"), NULL) : NULL;

        if (!root)
                return -ENOMEM;
        xmlDocSetRootElement(doc, root);
        if (!xmlSetProp(root, XML("text"), XML(text)))
                return -ENOMEM;
        return xml_print(doc, root, false, ret_xml);
}
