/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Small helpers over libxml2 that the domain-xml files share, and nobody else includes.
 */
#pragma once

#include <libxml/parser.h>
#include <libxml/tree.h>

#include "base/xmlns.h"
#include "io/domain-xml.h"

#define XML_QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"
#define XML_AGENT_CHANNEL "org.qemu.guest_agent.0"
#define XML_ALIAS_PREFIX "ua-hmvisor-"      /* plus the tier: our virtio-mem devices */
#define XML_SIZE_MAX (4 * 1024 * 1024)

static inline void xml_doc_cleanup(xmlDocPtr *doc) {
        if (*doc)
                xmlFreeDoc(*doc);
}
#define _cleanup_xml_doc_ _cleanup_(xml_doc_cleanup)

static inline void xml_str_cleanup(xmlChar **s) {
        if (*s)
                xmlFree(*s);
}
#define _cleanup_xml_str_ _cleanup_(xml_str_cleanup)

#define XML(s) ((const xmlChar *) (s))

/* The document of a <domain>; ret_root is its root element. BAD_ARGUMENT when it is none. */
int xml_parse_domain(const char *xml, xmlDocPtr *ret_doc, xmlNodePtr *ret_root, Outcome *o);
/* Indented by two, without the XML declaration; the caller frees. */
int xml_print(xmlDocPtr doc, xmlNodePtr node, bool indent, char **ret_text);

bool xml_is(xmlNodePtr node, const char *name); /* an element of that name, without a namespace */
bool xml_is_ns(xmlNodePtr node, const char *uri, const char *name);   /* name NULL: any */
xmlNodePtr xml_child(xmlNodePtr parent, const char *name);      /* first; NULL-safe */
xmlNodePtr xml_child_ns(xmlNodePtr parent, const char *uri, const char *name);
xmlNodePtr xml_find(xmlNodePtr root, const char *path); /* "features/kvm"; NULL when a step is missing */
size_t xml_count(xmlNodePtr parent);                            /* child elements */
bool xml_attr_is(xmlNodePtr node, const char *name, const char *value);
/* The attribute, "" when absent or too long for buf; returns whether it is there and fits. */
bool xml_attr_copy(xmlNodePtr node, const char *name, char *buf, size_t size);
bool xml_text_copy(xmlNodePtr node, char *buf, size_t size);    /* trimmed */
bool xml_attr_u32(xmlNodePtr node, const char *name, uint32_t *ret);
bool xml_text_u32(xmlNodePtr node, uint32_t *ret);
/* A size as libvirt writes it: a number and unit= (KiB when absent). */
bool xml_text_bytes(xmlNodePtr node, uint64_t *ret);
bool xml_attr_bytes(xmlNodePtr node, const char *name, uint64_t *ret);

xmlNodePtr xml_add(xmlNodePtr parent, const char *name, const char *text);   /* NULL when out of memory */
int xml_set(xmlNodePtr node, const char *name, const char *format, ...) _printf_(3, 4);
int xml_set_bytes(xmlNodePtr node, uint64_t bytes);             /* text in KiB, and unit= */

/* The <memory> device of a cell: virtio-mem, ours before others. */
xmlNodePtr xml_find_memory_device(xmlNodePtr root, uint32_t cell);
xmlNodePtr xml_find_binding(xmlNodePtr root); /* our element in <metadata>; NULL: not bound */

/* ---- domain-xml-parts.c ----
 *
 * The record that bind leaves in a domain's metadata: what each part that it replaced was before, and what
 * it added.
 *
 *   <hmvisor:domain xmlns:hmvisor="…" version="1" controllers="pci.0 pci.1 usb.0">
 *     <hmvisor:cell id="0" tier="dram"/>
 *     <hmvisor:was path="memory">&lt;memory unit="KiB"&gt;1048576&lt;/memory&gt;</hmvisor:was>
 *     <hmvisor:was path="numatune"/>                 there was none
 *     <hmvisor:added what="extension" value="file=…"/>
 *   </hmvisor:domain>
 *
 * The old elements are kept as text, as libvirt lays the metadata's elements out anew.
 */
#define RECORD_VERSION "1"
#define RECORD_PATH_MAX 64

typedef struct PartType {
        const char *path;
        bool container; /* bind only adds to it; unbind removes it if bind made it and nothing else is in it
                         */
} PartType;

/* NULL when bind never touches such a path. */
const PartType *part_type_find(const char *path);

/* Puts a fresh, empty element at path, in the place of what was there, and records that. NULL: out of
 * memory. */
xmlNodePtr part_replace(xmlNodePtr root, xmlNodePtr record, const char *path);
/* Adds the element among the children of <domain> where libvirt would write it. */
void part_insert(xmlNodePtr root, xmlNodePtr element);
/* Undoes one <was>. Returns 0, -EINVAL (damaged) or -ENOMEM. */
int part_restore(xmlNodePtr root, const char *path, const char *was);

int record_add(xmlNodePtr record, const char *what, const char *value);
/* "pci.0 pci.1 usb.0": the controllers there are; the caller frees. libvirt adds some for the devices we
 * add. */
char *controllers_list(xmlNodePtr root);
/* Removes PCI and virtio-serial controllers that are not in the list and that no device uses. */
void controllers_prune(xmlNodePtr root, const char *list);
