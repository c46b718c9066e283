/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Undoes domain-xml-bind.c by the record that it left. Edits made since to other parts stay.
 */
#include "io/domain-xml-internal.h"

static void node_remove(xmlNodePtr n) {
        if (n) {
                xmlUnlinkNode(n);
                xmlFreeNode(n);
        }
}

static void remove_memory_devices(xmlNodePtr root) {
        xmlNodePtr devices = xml_child(root, "devices"), next;

        for (xmlNodePtr n = devices ? devices->children : NULL; n; n = next) {
                char alias[64];

                next = n->next;
                if (xml_is(n, "memory") &&
                    xml_attr_copy(xml_child(n, "alias"), "name", alias, sizeof(alias)) &&
                    strncmp(alias, XML_ALIAS_PREFIX, strlen(XML_ALIAS_PREFIX)) == 0)
                        node_remove(n);
        }
}

static void remove_agent_channel(xmlNodePtr root) {
        xmlNodePtr devices = xml_child(root, "devices"), next;

        for (xmlNodePtr n = devices ? devices->children : NULL; n; n = next) {
                next = n->next;
                if (xml_is(n, "channel") && xml_attr_is(xml_child(n, "target"), "name", XML_AGENT_CHANNEL))
                        node_remove(n);
        }
}

/* What was restored from text knows no namespaces: there the prefix is part of the name. */
static bool name_is_of(const xmlChar *name, const xmlNs *name_ns, const xmlNs *ns) {
        const char *prefix = ns->prefix ? (const char *) ns->prefix : "";
        size_t size = strlen(prefix);

        return name_ns ? name_ns == ns
                       : strncmp((const char *) name, prefix, size) == 0 && name[size] == ':';
}

static bool namespace_is_used(xmlNodePtr n, const xmlNs *ns) {
        if (name_is_of(n->name, n->ns, ns))
                return true;
        for (xmlAttrPtr a = n->properties; a; a = a->next)
                if (name_is_of(a->name, a->ns, ns))
                        return true;
        for (xmlNodePtr c = n->children; c; c = c->next)
                if (c->type == XML_ELEMENT_NODE && namespace_is_used(c, ns))
                        return true;
        return false;
}

/* The QEMU namespace goes when nothing of it is left. */
static void remove_qemu_namespace(xmlNodePtr root) {
        for (xmlNsPtr *p = &root->nsDef; *p; p = &(*p)->next)
                if (xmlStrEqual((*p)->href, XML(XML_QEMU_NS))) {
                        xmlNsPtr ns = *p;

                        if (namespace_is_used(root, ns))
                                return;
                        *p = ns->next;
                        ns->next = NULL;
                        xmlFreeNs(ns);
                        return;
                }
}

static void remove_extension(xmlNodePtr root, const char *value) {
        xmlNodePtr cmd = xml_child_ns(root, XML_QEMU_NS, "commandline");

        for (xmlNodePtr n = cmd ? cmd->children : NULL; n; n = n->next)
                if (xml_is_ns(n, XML_QEMU_NS, "arg") && xml_attr_is(n, "value", value) && n->prev &&
                    xml_attr_is(n->prev, "value", "-plugin")) {
                        node_remove(n->prev);
                        node_remove(n);
                        break;
                }
        if (cmd && xml_count(cmd) == 0)
                node_remove(cmd);
}

static int undo_added(xmlNodePtr root, xmlNodePtr added) {
        char what[32], value[512];

        (void) xml_attr_copy(added, "what", what, sizeof(what));
        if (streq(what, "agent-channel"))
                remove_agent_channel(root);
        else if (streq(what, "extension") && xml_attr_copy(added, "value", value, sizeof(value)))
                remove_extension(root, value);
        else
                return -EINVAL;
        return 0;
}

static int undo_was(xmlNodePtr root, xmlNodePtr was) {
        _cleanup_xml_str_ xmlChar *text = xmlNodeGetContent(was);
        char path[RECORD_PATH_MAX];

        if (!text || !xml_attr_copy(was, "path", path, sizeof(path)))
                return -EINVAL;
        return part_restore(root, path, (const char *) text);
}

int domain_xml_unbind(const char *xml, char **ret_xml, Outcome *o) {
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        _cleanup_xml_str_ xmlChar *controllers = NULL;
        xmlNodePtr root, record, metadata;
        char name[256];
        int r;

        r = xml_parse_domain(xml, &doc, &root, o);
        if (r < 0)
                return r;
        (void) xml_text_copy(xml_child(root, "name"), name, sizeof(name));
        record = xml_find_binding(root);
        if (!record)
                return outcome_set(o, OUTCOME_NOT_BOUND,
                                   "domain '%s' is not bound; there is nothing to undo", name);
        if (!xml_attr_is(record, "version", RECORD_VERSION))
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "domain '%s' was bound by another version of hmvisor; unbind it with "
                                   "that one",
                                   name);
        metadata = record->parent;
        xmlUnlinkNode(record);     /* what is undone below is searched in the rest only */
        remove_memory_devices(root);
        /* Last first: a container was recorded before what was put into it. */
        r = 0;
        for (xmlNodePtr n = record->last; n && r >= 0; n = n->prev) {
                if (xml_is_ns(n, DOMAIN_XML_NS, "was"))
                        r = undo_was(root, n);
                else if (xml_is_ns(n, DOMAIN_XML_NS, "added"))
                        r = undo_added(root, n);
        }
        controllers = xmlGetNoNsProp(record, XML("controllers"));
        xmlFreeNode(record);
        if (r < 0)
                return outcome_set(o, OUTCOME_UNSUPPORTED,
                                   "the record of what domain '%s' was before is damaged; edit it by "
                                   "hand with 'virsh edit'",
                                   name);
        if (controllers)
                controllers_prune(root, (const char *) controllers);
        if (xml_count(metadata) == 0)
                node_remove(metadata);
        remove_qemu_namespace(root);
        if (xml_print(doc, root, true, ret_xml) < 0)
                return outcome_set(o, OUTCOME_FAILED, "out of memory");
        return 0;
}
