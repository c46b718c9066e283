/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The proof, on the running QEMU, that each cell's memory is on its own host nodes: QEMU says where in its
 * address space each RAM block is (proto/ramblock.h), and the kernel says on which nodes those pages are.
 * Changes nothing.
 */
#include <json-c/json.h>

#include "manager-action.h"
#include "proto/ramblock.h"

static int cell_bytes(Action *a, const DomainCell *c, const RamBlock *blocks, size_t n_blocks, pid_t pid,
                      uint64_t *ret_bytes, Outcome *o) {
        size_t found = 0;

        for (size_t i = 0; i < n_blocks; i++) {
                uint64_t bytes[HOST_NODES_MAX] = {};
                int r;

                if (!cell_owns_block(c, blocks[i].name, NULL))
                        continue;
                found++;
                r = host_mapping_node_bytes("/", pid, blocks[i].hva, bytes);
                if (r == -EACCES || r == -EPERM)
                        return action_outcome(a, o, OUTCOME_DENIED,
                                              "hmvisord may not read /proc/%d/numa_maps; it needs "
                                              "CAP_SYS_PTRACE, as its unit gives it",
                                              (int) pid);
                if (r < 0)
                        return action_outcome(a, o, OUTCOME_FAILED,
                                              "where QEMU's block '%s' is cannot be read from "
                                              "/proc/%d/numa_maps: %s",
                                              blocks[i].name, (int) pid, strerror(-r));
                for (size_t k = 0; k < HOST_NODES_MAX; k++)
                        ret_bytes[k] += bytes[k];
        }
        if (found == 0)
                return action_outcome(a, o, OUTCOME_FAILED,
                                      "QEMU has no RAM block of cell %u; was it bound by another "
                                      "version? Unbind and bind it again",
                                      c->cell);
        return 0;
}

/* Returns 1 when all of the cell is where it should be, 0 when not. */
static int cell_report(const DomainCell *c, const uint64_t *bytes, json_object *list) {
        json_object *cell = json_object_new_object(), *nodes = json_object_new_object();
        bool ok = c->bound;

        for (unsigned i = 0; i < HOST_NODES_MAX; i++) {
                char key[16];

                if (bytes[i] == 0)
                        continue;
                snprintf(key, sizeof(key), "%u", i);
                json_object_object_add(nodes, key, json_object_new_uint64(bytes[i]));
                ok = ok && host_nodelist_has(c->host_nodes, i);
        }
        json_object_object_add(cell, "cell", json_object_new_int64(c->cell));
        json_object_object_add(cell, "tier", json_object_new_string(tier_to_string(c->tier)));
        json_object_object_add(cell, "expected", json_object_new_string(c->host_nodes));
        json_object_object_add(cell, "bytes", nodes);
        json_object_object_add(cell, "ok", json_object_new_boolean(ok));
        json_object_array_add(list, cell);
        return ok;
}

static void verify_report(Action *a, const RamBlock *blocks, size_t n_blocks) {
        json_object *root, *list;
        Outcome o = {};
        bool ok = true;
        int pid;

        pid = virt_domain_pid(a->manager->virt, action_name(a));
        if (pid < 0) {
                (void) action_outcome(a, &o, OUTCOME_DOMAIN_OFF,
                                      "its QEMU process is not found (%s); does it run on this "
                                      "host?",
                                      strerror(-pid));
                action_end(a, &o, NULL);
                return;
        }
        root = json_object_new_object();
        list = json_object_new_array();
        json_object_object_add(root, "cells", list);
        for (size_t i = 0; i < a->info.n_cells && o.code == OUTCOME_OK; i++) {
                uint64_t bytes[HOST_NODES_MAX] = {};

                if (cell_bytes(a, &a->info.cells[i], blocks, n_blocks, pid, bytes, &o) >= 0)
                        ok = cell_report(&a->info.cells[i], bytes, list) && ok;
        }
        json_object_object_add(root, "ok", json_object_new_boolean(ok));
        if (o.code == OUTCOME_OK && !ok)
                (void) action_outcome(a, &o, OUTCOME_MISPLACED,
                                      "some of its memory is not on the nodes of its cell; "
                                      "see the table, and 'numastat -p %d'",
                                      pid);
        action_end(a, &o, o.code == OUTCOME_OK || o.code == OUTCOME_MISPLACED ?
                   json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN) : NULL);
        json_object_put(root);
}

static void on_blocks(Virt *v, const VirtResult *r, void *userdata) {
        _cleanup_free_ RamBlock *blocks = calloc(RAMBLOCKS_MAX, sizeof(*blocks));
        Action *a = userdata;
        size_t n = 0;
        Outcome o = {}, named = {};

        if (!r->text)
                action_end(a, &r->outcome, NULL);
        else if (!blocks || ramblock_reply_parse(r->text, blocks, &n, &o) < 0) {
                (void) action_outcome(a, &named, blocks ? o.code : OUTCOME_FAILED, "%s",
                                      blocks ? o.text : "out of memory");
                action_end(a, &named, NULL);
        } else
                verify_report(a, blocks, n);
}

static void on_live_xml(Virt *v, const VirtResult *r, void *userdata) {
        _cleanup_free_ char *request = NULL;
        Action *a = userdata;
        Outcome o = {}, named = {};

        if (!r->text) {
                action_end(a, &r->outcome, NULL);
                return;
        }
        if (domain_xml_read(r->text, &a->info, &o) < 0)
                (void) action_outcome(a, &named, o.code, "%s", o.text);
        else if (!a->info.hmvisor_bound)
                (void) action_outcome(a, &named, OUTCOME_NOT_BOUND,
                                      "it runs unbound, so there is nothing to verify; "
                                      "'hmvctl bind' it, then power it off and on");
        else if (ramblock_request(&request) < 0 || virt_qmp(v, a->uuid, request, -1, on_blocks, a) < 0)
                (void) action_outcome(a, &named, OUTCOME_DOMAIN_BUSY,
                                      "too much is asked of libvirt at once; try again "
                                      "later");
        if (named.code != OUTCOME_OK)
                action_end(a, &named, NULL);
}

int manager_verify(Manager *m, const char *uuid, ManagerReply reply, void *userdata, Outcome *o) {
        _cleanup_(action_freep) Action *a = NULL;
        const Domain *d;
        int r;

        r = action_new(m, uuid, reply, userdata, &a, o);
        if (r < 0)
                return r;
        d = manager_domain(m, uuid);
        if (d->id < 0)
                return outcome_set(o, OUTCOME_DOMAIN_OFF, "domain '%s' is off; start it first", d->name);
        r = virt_get_xml(m->virt, a->uuid, false, on_live_xml, a);
        if (r < 0)
                return action_outcome(a, o, OUTCOME_DOMAIN_BUSY,
                                      "too much is asked of libvirt at once (%s); try again "
                                      "later",
                                      strerror(-r));
        (void) TAKE_PTR(a);
        return 0;
}
