/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The helpers behind domain-xml-internal.h. Own no state; network and entities stay off.
 */
#include "io/domain-xml-internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>

/* NULL also for what would not survive being printed and read again: prefixes that nobody declared, and a
 * DTD, whose entities would need it (and may grow without bound). libvirt writes neither. */
static xmlDocPtr parse(const char *xml, size_t size) {
        xmlParserCtxtPtr ctxt = xmlNewParserCtxt();
        xmlDocPtr doc;

        if (!ctxt)
                return NULL;
        doc = xmlCtxtReadMemory(ctxt, xml, (int) size, NULL, NULL,
                                XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOERROR |
                                        XML_PARSE_NOWARNING);
        if (doc && (!ctxt->nsWellFormed || doc->intSubset)) {
                xmlFreeDoc(doc);
                doc = NULL;
        }
        xmlFreeParserCtxt(ctxt);
        return doc;
}

int xml_parse_domain(const char *xml, xmlDocPtr *ret_doc, xmlNodePtr *ret_root, Outcome *o) {
        size_t size = strlen(xml);
        xmlNodePtr root;
        xmlDocPtr doc;

        if (size > XML_SIZE_MAX)
                return outcome_set(o, OUTCOME_BAD_ARGUMENT,
                                   "the domain's XML has %zu bytes; at most %d are read", size,
                                   XML_SIZE_MAX);
        doc = parse(xml, size);
        root = doc ? xmlDocGetRootElement(doc) : NULL;
        if (!root || !xml_is(root, "domain")) {
                if (doc)
                        xmlFreeDoc(doc);
                return outcome_set(
                        o, OUTCOME_BAD_ARGUMENT,
                        "this is not the XML of a domain; take it from 'virsh dumpxml --inactive'");
        }
        *ret_doc = doc;
        *ret_root = root;
        return 0;
}

int xml_print(xmlDocPtr doc, xmlNodePtr node, bool indent, char **ret_text) {
        xmlBufferPtr buf = xmlBufferCreate();
        char *text = NULL;

        if (!buf)
                return -ENOMEM;
        if (xmlNodeDump(buf, doc, node, 0, indent) >= 0) {
                if (indent)
                        xmlBufferCat(buf, XML("\n"));
                text = strdup((const char *) xmlBufferContent(buf));
        }
        xmlBufferFree(buf);
        if (!text)
                return -ENOMEM;
        *ret_text = text;
        return 0;
}

bool xml_is(xmlNodePtr node, const char *name) {
        return node && node->type == XML_ELEMENT_NODE && !node->ns && xmlStrEqual(node->name, XML(name));
}

bool xml_is_ns(xmlNodePtr node, const char *uri, const char *name) {
        return node && node->type == XML_ELEMENT_NODE && node->ns && xmlStrEqual(node->ns->href, XML(uri)) &&
                (!name || xmlStrEqual(node->name, XML(name)));
}

xmlNodePtr xml_child(xmlNodePtr parent, const char *name) {
        xmlNodePtr n = parent ? parent->children : NULL;

        while (n && !xml_is(n, name))
                n = n->next;
        return n;
}

xmlNodePtr xml_child_ns(xmlNodePtr parent, const char *uri, const char *name) {
        xmlNodePtr n = parent ? parent->children : NULL;

        while (n && !xml_is_ns(n, uri, name))
                n = n->next;
        return n;
}

xmlNodePtr xml_find(xmlNodePtr root, const char *path) {
        char step[64];

        while (root && *path) {
                size_t n = strcspn(path, "/");

                if (n >= sizeof(step))
                        return NULL;
                memcpy(step, path, n);
                step[n] = '\0';
                root = xml_child(root, step);
                path += n + (path[n] == '/');
        }
        return root;
}

size_t xml_count(xmlNodePtr parent) {
        return parent ? xmlChildElementCount(parent) : 0;
}

bool xml_attr_is(xmlNodePtr node, const char *name, const char *value) {
        _cleanup_xml_str_ xmlChar *s = node ? xmlGetNoNsProp(node, XML(name)) : NULL;

        return s && xmlStrEqual(s, XML(value));
}

static bool copy(const xmlChar *s, char *buf, size_t size) {
        if (!s || strlen((const char *) s) >= size) {
                *buf = '\0';
                return false;
        }
        strcpy(buf, (const char *) s);
        return true;
}

bool xml_attr_copy(xmlNodePtr node, const char *name, char *buf, size_t size) {
        _cleanup_xml_str_ xmlChar *s = node ? xmlGetNoNsProp(node, XML(name)) : NULL;

        return copy(s, buf, size);
}

bool xml_text_copy(xmlNodePtr node, char *buf, size_t size) {
        _cleanup_xml_str_ xmlChar *s = node ? xmlNodeGetContent(node) : NULL;
        const xmlChar *p = s;
        size_t n;

        while (p && isspace(*p))
                p++;
        if (!copy(p, buf, size))
                return false;
        for (n = strlen(buf); n > 0 && isspace((unsigned char) buf[n - 1]); n--)
                buf[n - 1] = '\0';
        return true;
}

static bool parse_u64(const char *text, uint64_t *ret) {
        char *end;

        if (!isdigit((unsigned char) *text))
                return false;
        errno = 0;
        *ret = strtoull(text, &end, 10);
        return errno == 0 && *end == '\0';
}

static bool parse_u32(const char *text, uint32_t *ret) {
        uint64_t v;

        if (!parse_u64(text, &v) || v > UINT32_MAX)
                return false;
        *ret = (uint32_t) v;
        return true;
}

bool xml_attr_u32(xmlNodePtr node, const char *name, uint32_t *ret) {
        char buf[32];

        return xml_attr_copy(node, name, buf, sizeof(buf)) && parse_u32(buf, ret);
}

bool xml_text_u32(xmlNodePtr node, uint32_t *ret) {
        char buf[32];

        return xml_text_copy(node, buf, sizeof(buf)) && parse_u32(buf, ret);
}

/* libvirt's virScaleInteger(): KB is 1000, K and KiB are 1024, upper or lower case. */
static bool scale(const char *number, const char *unit, uint64_t *ret) {
        static const char letters[] = "kmgtpe";
        uint64_t v, base = 1024;

        if (!parse_u64(number, &v))
                return false;
        if (!*unit)
                unit = "k";
        if (strcasecmp(unit, "b") != 0 && strcasecmp(unit, "bytes") != 0) {
                const char *l = strchr(letters, tolower((unsigned char) *unit));

                if (!l || (unit[1] && strcasecmp(unit + 1, "b") != 0 && strcasecmp(unit + 1, "ib") != 0))
                        return false;
                if (strcasecmp(unit + 1, "b") == 0)
                        base = 1000;
                for (const char *i = letters; i <= l; i++)
                        if (__builtin_mul_overflow(v, base, &v))
                                return false;
        }
        *ret = v;
        return true;
}

bool xml_text_bytes(xmlNodePtr node, uint64_t *ret) {
        char number[32], unit[16];

        (void) xml_attr_copy(node, "unit", unit, sizeof(unit));
        return xml_text_copy(node, number, sizeof(number)) && scale(number, unit, ret);
}

bool xml_attr_bytes(xmlNodePtr node, const char *name, uint64_t *ret) {
        char number[32], unit[16];

        (void) xml_attr_copy(node, "unit", unit, sizeof(unit));
        return xml_attr_copy(node, name, number, sizeof(number)) && scale(number, unit, ret);
}

xmlNodePtr xml_add(xmlNodePtr parent, const char *name, const char *text) {
        return parent ? xmlNewTextChild(parent, NULL, XML(name), XML(text)) : NULL;
}

int xml_set(xmlNodePtr node, const char *name, const char *format, ...) {
        char buf[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(buf, sizeof(buf), format, ap);
        va_end(ap);
        return node && xmlSetProp(node, XML(name), XML(buf)) ? 0 : -ENOMEM;
}

int xml_set_bytes(xmlNodePtr node, uint64_t bytes) {
        char buf[32];

        if (!node)
                return -ENOMEM;
        snprintf(buf, sizeof(buf), "%" PRIu64, bytes / 1024);
        xmlNodeSetContent(node, XML(buf));
        return xml_set(node, "unit", "KiB");
}

xmlNodePtr xml_find_memory_device(xmlNodePtr root, uint32_t cell) {
        xmlNodePtr devices = xml_child(root, "devices"), found = NULL;

        for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next) {
                char alias[64];
                uint32_t node;

                if (!xml_is(n, "memory") || !xml_attr_is(n, "model", "virtio-mem") ||
                    !xml_text_u32(xml_find(n, "target/node"), &node) || node != cell)
                        continue;
                (void) xml_attr_copy(xml_child(n, "alias"), "name", alias, sizeof(alias));
                if (strncmp(alias, XML_ALIAS_PREFIX, strlen(XML_ALIAS_PREFIX)) == 0)
                        return n;
                if (!found)
                        found = n;
        }
        return found;
}

xmlNodePtr xml_find_binding(xmlNodePtr root) {
        return xml_child_ns(xml_child(root, "metadata"), DOMAIN_XML_NS, "domain");
}
