/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The XML namespaces of our two elements in a domain's metadata. libvirt keeps one element per namespace and
 * replaces it whole, so what bind must remember and what the user sets often are two elements.
 */
#pragma once

#define DOMAIN_XML_NS "https://hmvisor.org/xmlns/domain/1"          /* written by bind, removed by unbind */
#define DOMAIN_XML_PREFIX "hmvisor"
#define DOMAIN_XML_POLICY_NS                                                                                \
        "https://hmvisor.org/xmlns/policy/1" /* the policy; bind and unbind leave it alone */
#define DOMAIN_XML_POLICY_PREFIX "hmvisor-policy"
