/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The record that bind leaves in a domain's metadata: what each part that it replaced was before, and what it
 * added. Only domain-xml-{bind,unbind}.c include this.
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
#pragma once

#include "io/domain-xml-internal.h"

#define RECORD_VERSION "1"
#define RECORD_PATH_MAX 64

typedef struct PartType {
        const char *path;
        bool container;    /* bind only adds to it; unbind removes it if bind made it and nothing else is in it */
} PartType;

/* NULL when bind never touches such a path. */
const PartType *part_type_find(const char *path);

/* Puts a fresh, empty element at path, in the place of what was there, and records that. NULL: out of memory. */
xmlNodePtr part_replace(xmlNodePtr root, xmlNodePtr record, const char *path);
/* Adds the element among the children of <domain> where libvirt would write it. */
void part_insert(xmlNodePtr root, xmlNodePtr element);
/* Undoes one <was>. Returns 0, -EINVAL (damaged) or -ENOMEM. */
int part_restore(xmlNodePtr root, const char *path, const char *was);

int record_add(xmlNodePtr record, const char *what, const char *value);
/* "pci.0 pci.1 usb.0": the controllers there are; the caller frees. libvirt adds some for the devices we add. */
char *controllers_list(xmlNodePtr root);
/* Removes PCI and virtio-serial controllers that are not in the list and that no device uses. */
void controllers_prune(xmlNodePtr root, const char *list);
