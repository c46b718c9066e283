/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Replaces parts of a domain's XML, remembers what was there, and puts it back. Knows paths, not their
 * meaning.
 */
#include "io/domain-xml-internal.h"

#include <inttypes.h>

static const PartType part_types[] = {
        { "maxMemory", false },
        { "memory", false },
        { "currentMemory", false },
        { "memoryBacking", true },
        { "memoryBacking/nosharepages", false },
        { "cputune", true },
        { "cputune/emulatorpin", false },
        { "numatune", false },
        { "features", true },
        { "features/kvm", true },
        { "features/kvm/dirty-ring", false },
        { "cpu", true },
        { "cpu/numa", false },
};

const PartType *part_type_find(const char *path) {
        for (size_t i = 0; i < ELEMENTSOF(part_types); i++)
                if (streq(part_types[i].path, path))
                        return part_types + i;
        return NULL;
}

/* The order in which libvirt writes the children of <domain>; those not named come with the last. */
static size_t rank(xmlNodePtr n) {
        static const char *const order[] = {
                "name",      "uuid",     "genid",         "title",         "description",     "metadata",
                "maxMemory", "memory",   "currentMemory", "memoryBacking", "blkiotune",       "memtune",
                "vcpu",      "vcpus",    "iothreads",     "iothreadids",   "defaultiothread", "cputune",
                "numatune",  "resource", "keywrap",       "sysinfo",       "bootloader",      "os",
                "idmap",     "features", "cpu",           "clock",         "on_poweroff",     "on_reboot",
                "on_crash",  "pm",       "perf",          "devices",
        };
        size_t i = 0;

        while (i < ELEMENTSOF(order) && !xml_is(n, order[i]))
                i++;
        return i;
}

void part_insert(xmlNodePtr root, xmlNodePtr element) {
        xmlNodePtr after = NULL;

        for (xmlNodePtr n = root->children; n; n = n->next)
                if (n->type == XML_ELEMENT_NODE && n != element && rank(n) <= rank(element))
                        after = n;
        if (after)
                xmlAddNextSibling(after, element);
        else if (root->children)
                xmlAddPrevSibling(root->children, element);
        else
                xmlAddChild(root, element);
}

static int record_was(xmlNodePtr record, const char *path, const char *was) {
        xmlNodePtr n = xmlNewTextChild(record, record->ns, XML("was"), XML(was));

        return xml_set(n, "path", "%s", path);
}

int record_add(xmlNodePtr record, const char *what, const char *value) {
        xmlNodePtr n = xmlNewChild(record, record->ns, XML("added"), NULL);
        int r = xml_set(n, "what", "%s", what);

        return r >= 0 && value && !xmlSetProp(n, XML("value"), XML(value)) ? -ENOMEM : r;
}

static void split(const char *path, char parent[static RECORD_PATH_MAX], const char **ret_name) {
        const char *slash = strrchr(path, '/');

        snprintf(parent, RECORD_PATH_MAX, "%.*s", slash ? (int) (slash - path) : 0, path);
        *ret_name = slash ? slash + 1 : path;
}

/* The container at path; one that has to be made is recorded. */
static xmlNodePtr container_get(xmlNodePtr root, xmlNodePtr record, const char *path) {
        char parent_path[RECORD_PATH_MAX];
        xmlNodePtr n = xml_find(root, path), parent;
        const char *name;

        if (n)
                return n;
        split(path, parent_path, &name);
        parent = *parent_path ? container_get(root, record, parent_path) : root;
        n = parent ? xmlNewDocNode(root->doc, NULL, XML(name), NULL) : NULL;
        if (!n)
                return NULL;
        if (parent == root)
                part_insert(root, n);
        else
                xmlAddChild(parent, n);
        return record_was(record, path, NULL) < 0 ? NULL : n;
}

xmlNodePtr part_replace(xmlNodePtr root, xmlNodePtr record, const char *path) {
        char parent_path[RECORD_PATH_MAX];
        _cleanup_free_ char *was = NULL;
        xmlNodePtr parent, old, n;
        const char *name;

        split(path, parent_path, &name);
        parent = *parent_path ? container_get(root, record, parent_path) : root;
        n = parent ? xmlNewDocNode(root->doc, NULL, XML(name), NULL) : NULL;
        if (!n)
                return NULL;
        old = xml_child(parent, name);
        if (old && xml_print(root->doc, old, false, &was) < 0) {
                xmlFreeNode(n);
                return NULL;
        }
        if (old) {
                xmlReplaceNode(old, n);
                xmlFreeNode(old);
        } else if (parent == root)
                part_insert(root, n);
        else
                xmlAddChild(parent, n);
        return record_was(record, path, was) < 0 ? NULL : n;
}

/* The element that a <was> holds, made a node of root's document. */
static xmlNodePtr was_parse(xmlNodePtr root, const char *name, const char *was) {
        _cleanup_xml_doc_ xmlDocPtr doc = NULL;
        xmlNodePtr old;

        doc = xmlReadMemory(was, (int) strlen(was), NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        old = doc ? xmlDocGetRootElement(doc) : NULL;
        return xml_is(old, name) ? xmlDocCopyNode(old, root->doc, 1) : NULL;
}

int part_restore(xmlNodePtr root, const char *path, const char *was) {
        const PartType *type = part_type_find(path);
        char parent_path[RECORD_PATH_MAX];
        xmlNodePtr now, old, parent;
        const char *name;

        if (!type || (type->container && *was))
                return -EINVAL;
        now = xml_find(root, path);
        if (type->container) {
                if (now && xml_count(now) == 0) {
                        xmlUnlinkNode(now);
                        xmlFreeNode(now);
                }
                return 0;
        }
        split(path, parent_path, &name);
        old = *was ? was_parse(root, name, was) : NULL;
        if (*was && !old)
                return -EINVAL;
        parent = xml_find(root, parent_path);
        if (now) {
                if (old)
                        xmlReplaceNode(now, old);
                else
                        xmlUnlinkNode(now);
                xmlFreeNode(now);
        } else if (old && parent == root)
                part_insert(root, old);
        else if (old && parent)
                xmlAddChild(parent, old);
        else if (old)
                xmlFreeNode(old);   /* someone removed all around it since: that edit stays */
        return 0;
}

/* ---- controllers ---- */

static bool controller_name(xmlNodePtr n, char *buf, size_t size) {
        char type[32];
        uint32_t index;

        if (!xml_is(n, "controller") || !xml_attr_copy(n, "type", type, sizeof(type)) ||
            !xml_attr_u32(n, "index", &index))
                return false;
        snprintf(buf, size, "%s.%" PRIu32, type, index);
        return true;
}

char *controllers_list(xmlNodePtr root) {
        xmlNodePtr devices = xml_child(root, "devices");
        char *text = NULL, name[64];
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return NULL;
        for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next)
                if (controller_name(n, name, sizeof(name)))
                        fprintf(f, "%s%s", ftell(f) > 0 ? " " : "", name);
        if (fclose(f) != 0) {
                free(text);
                return NULL;
        }
        return text;
}

static bool list_has(const char *list, const char *name) {
        for (const char *p = list; *p;) {
                size_t n = strcspn(p, " ");

                if (n == strlen(name) && strncmp(p, name, n) == 0)
                        return true;
                p += n + (p[n] == ' ');
        }
        return false;
}

/* Does any device below `node` sit on that bus? libvirt writes a PCI bus as "0x05". */
static bool bus_is_used(xmlNodePtr node, const char *type, const char *attribute, unsigned long index) {
        for (xmlNodePtr n = node->children; n; n = n->next) {
                char text[32];

                if (n->type != XML_ELEMENT_NODE)
                        continue;
                if (xml_is(n, "address") && xml_attr_is(n, "type", type) &&
                    xml_attr_copy(n, attribute, text, sizeof(text)) && strtoul(text, NULL, 0) == index)
                        return true;
                if (bus_is_used(n, type, attribute, index))
                        return true;
        }
        return false;
}

void controllers_prune(xmlNodePtr root, const char *list) {
        xmlNodePtr devices = xml_child(root, "devices"), next;
        char name[64];
        uint32_t index;

        for (xmlNodePtr n = devices ? devices->children : NULL; n; n = next) {
                bool pci = xml_is(n, "controller") && xml_attr_is(n, "type", "pci");
                bool serial = xml_is(n, "controller") && xml_attr_is(n, "type", "virtio-serial");

                next = n->next;
                if ((!pci && !serial) || !controller_name(n, name, sizeof(name)) || list_has(list, name) ||
                    !xml_attr_u32(n, "index", &index) ||
                    bus_is_used(devices, pci ? "pci" : "virtio-serial", pci ? "bus" : "controller", index))
                        continue;
                xmlUnlinkNode(n);
                xmlFreeNode(n);
                next = devices->children;   /* the bus it sat on may be free now */
        }
}
