/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Sizes carried out: asks a domain's virtio-mem devices for another size through libvirt, one at a time per
 * domain. Decides no size. What was asked for counts as held until libvirt's XML, read after it, shows what
 * came of it: so no memory is ever given away twice.
 */
#include <inttypes.h>

#include "base/units.h"
#include "manager-internal.h"

static void resize_end(Domain *d, const Outcome *o) {
        Resize *z = &d->resize;
        char size[SIZE_TEXT_MAX];

        if (o->code != OUTCOME_OK) {
                z->failures++;
                if (z->failures == 1) /* once: it is asked for again as long as it is wanted */
                        manager_tell(d->manager, d, "resize", "cell %" PRIu32 " does not get %s: %s",
                                     z->cell, size_format(size, z->bytes), o->text);
        } else
                z->failures = 0;
        /* The call may yet take effect when it only was not answered. */
        z->state =
                o->code == OUTCOME_TIMED_OUT || o->code == OUTCOME_NO_LIBVIRT ? RESIZE_UNSURE : RESIZE_DONE;
        domain_read_xml(d);
}

static void on_resized(Domain *d, const VirtResult *r) {
        resize_end(d, &r->outcome);
}

static void on_device_xml(Domain *d, const VirtResult *r) {
        _cleanup_free_ char *device = NULL;
        Outcome o = r->outcome;
        DomainCall *c;

        if (r->text && domain_xml_memory_request(r->text, d->resize.cell,
                                                 d->resize.bytes - d->resize.boot_bytes, &device, &o) >= 0) {
                if (domain_call_new(d, on_resized, &c) < 0)
                        (void) outcome_set(&o, OUTCOME_FAILED, "out of memory");
                else if (virt_update_device(d->manager->virt, d->uuid, device, true, false, domain_on_call,
                                            c) < 0) {
                        free(c);
                        (void) outcome_set(&o, OUTCOME_FAILED, "too much is asked of libvirt at once");
                } else
                        return;
        }
        resize_end(d, &o);
}

static int resize_ask(Domain *d) {
        DomainCall *c;
        int r;

        r = domain_call_new(d, on_device_xml, &c);
        if (r < 0)
                return r;
        r = virt_get_xml(d->manager->virt, d->uuid, false, domain_on_call, c);
        if (r < 0) {
                free(c);
                return r;
        }
        d->resize.state = RESIZE_ASKED;
        return 0;
}

static int resize_with_libvirt(Domain *d, const DomainCell *cell, uint64_t bytes) {
        Resize *z = &d->resize;

        if (z->state != RESIZE_IDLE)
                return -EBUSY;
        z->cell = cell->cell;
        z->boot_bytes = cell->boot_bytes;
        z->bytes = bytes;
        return resize_ask(d);
}

static int resize_dry(Domain *d, const DomainCell *cell, uint64_t bytes) {
        char size[SIZE_TEXT_MAX];

        if (d->resize.bytes == bytes && d->resize.cell == cell->cell)
                return 0;
        d->resize.bytes = bytes;
        d->resize.cell = cell->cell;
        manager_tell(d->manager, d, "resize", "cell %" PRIu32 " would be asked for %s (dry run)", cell->cell,
                     size_format(size, bytes));
        return 0;
}

/* A dry run is another carrier, not another policy. */
int domain_resize(Domain *d, const DomainCell *cell, uint64_t bytes) {
        static int (*const carriers[])(Domain *, const DomainCell *, uint64_t) = { resize_with_libvirt,
                                                                                    resize_dry };

        return carriers[domain_is_dry(d)](d, cell, bytes);
}

void domain_resize_again(Domain *d) {
        if (d->resize.state == RESIZE_UNSURE)
                (void) resize_ask(d);
}

/* XML has been read that is newer than the last answer. */
void domain_size_seen(Domain *d) {
        Resize *z = &d->resize;

        if (z->state == RESIZE_DONE)
                z->state = RESIZE_IDLE;
        for (size_t i = 0; i < d->info.n_cells; i++)
                if (z->state == RESIZE_UNSURE && d->info.cells[i].cell == z->cell &&
                    d->info.cells[i].boot_bytes + d->info.cells[i].device_requested_bytes == z->bytes)
                        z->state = RESIZE_IDLE;
}

uint64_t domain_size_asked(const Domain *d, const DomainCell *cell) {
        uint64_t asked = cell->boot_bytes + cell->device_requested_bytes;

        return d->resize.state != RESIZE_IDLE && d->resize.cell == cell->cell ? MAX(asked, d->resize.bytes)
                                                                              : asked;
}
