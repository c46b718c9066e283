/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much a guest swaps: what it reads from and writes to the disk that its owner named as SwapDevice, as
 * the hypervisor counts it. The guest is not asked. Decides nothing.
 */
#include <inttypes.h>

#include "manager-internal.h"

#define SWAP_STALE_USEC (60 * USEC_PER_SEC) /* an answer that old says nothing of now */

static void swap_count(Swap *s, uint64_t bytes, usec_t now) {
        usec_t elapsed = now - s->when;

        /* fewer than before: another device of that name */
        s->bytes_per_sec = UINT64_MAX;
        if (s->when > 0 && elapsed > 0 && bytes >= s->bytes)
                s->bytes_per_sec =
                        (uint64_t) ((unsigned __int128) (bytes - s->bytes) * USEC_PER_SEC / elapsed);
        s->bytes = bytes;
        s->when = now;
}

static void on_stats(Domain *d, const VirtResult *r) {
        uint64_t read, written, sum;
        Swap *s = &d->swap;

        s->asked = false;
        if (!streq(s->device, d->policy.swap_device))
                return;
        if (r->text && sscanf(r->text, "%" SCNu64 " %" SCNu64, &read, &written) == 2 &&
            !__builtin_add_overflow(read, written, &sum)) {
                s->failed = false;
                swap_count(s, sum, manager_now(d->manager));
                return;
        }
        s->when = 0;
        if (!s->failed && r->outcome.code != OUTCOME_NO_LIBVIRT && r->outcome.code != OUTCOME_DOMAIN_OFF)
                manager_tell(d->manager, d, "market",
                             "its swapping is not known: %s; SwapDevice= names a disk by its target",
                             r->outcome.text);
        s->failed = true;
}

void domain_look_at_swap(Domain *d) {
        Swap *s = &d->swap;
        DomainCall *c;

        if (!streq(s->device, d->policy.swap_device)) {
                *s = (Swap) { .asked = s->asked };
                memcpy(s->device, d->policy.swap_device, sizeof(s->device));
        }
        if (!*s->device || s->asked || domain_call_new(d, on_stats, &c) < 0)
                return;
        if (virt_block_stats(d->manager->virt, d->uuid, s->device, domain_on_call, c) < 0)
                free(c);
        else
                s->asked = true;
}

uint64_t domain_swap_rate(const Domain *d) {
        const Swap *s = &d->swap;

        return s->when > 0 && manager_now(d->manager) - s->when < SWAP_STALE_USEC ? s->bytes_per_sec
                                                                                  : UINT64_MAX;
}
