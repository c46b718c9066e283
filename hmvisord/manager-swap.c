/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How much a guest swaps: what it reads from and writes to the disk that its owner named as SwapDevice, and
 * how long the reads take, as the hypervisor counts it. All that the disk does counts, so it has to be one
 * that is only used for swap. The guest is not asked. Decides nothing.
 */
#include <inttypes.h>

#include "base/units.h"
#include "manager-internal.h"

#define SWAP_STALE_USEC (60 * USEC_PER_SEC) /* an answer that old says nothing of now */

static void swap_count(Swap *s, uint64_t bytes, uint64_t wait_ns, usec_t now) {
        usec_t elapsed = now - s->when;

        /* fewer than before: another device of that name */
        s->bytes_per_sec = s->wait_usec = UINT64_MAX;
        if (s->when > 0 && elapsed > 0 && bytes >= s->bytes) {
                s->bytes_per_sec = rate_per_sec(bytes - s->bytes, elapsed);
                if ((wait_ns > 0 || bytes == 0) && wait_ns >= s->wait_ns)
                        s->wait_usec = rate_per_sec((wait_ns - s->wait_ns) / 1000, elapsed);
        }
        s->bytes = bytes;
        s->wait_ns = wait_ns;
        s->when = now;
}

static void on_stats(Domain *d, const VirtResult *r) {
        uint64_t read, written, sum, wait_ns = 0;
        Swap *s = &d->swap;

        s->asked = false;
        if (!streq(s->device, d->policy.swap_device))
                return;
        if (r->text && sscanf(r->text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &read, &written, &wait_ns) >= 2 &&
            !__builtin_add_overflow(read, written, &sum)) {
                s->failed = false;
                swap_count(s, sum, wait_ns, manager_now(d->manager));
                return;
        }
        s->when = 0;
        if (r->outcome.code == OUTCOME_DOMAIN_OFF || !d->manager->connected)
                return; /* said elsewhere */
        if (!s->failed)
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

static bool swap_is_known(const Domain *d) {
        return d->swap.when > 0 && manager_now(d->manager) - d->swap.when < SWAP_STALE_USEC;
}

uint64_t domain_swap_rate(const Domain *d) {
        return swap_is_known(d) ? d->swap.bytes_per_sec : UINT64_MAX;
}

uint64_t domain_swap_wait(const Domain *d) {
        return swap_is_known(d) ? d->swap.wait_usec : UINT64_MAX;
}
