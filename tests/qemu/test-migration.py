#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest, migrated time and again from QEMU to QEMU while its writes are tracked: not a page is lost.

Usage: test-migration.py EXTENSION.so GUEST.elf CARELESS.so [ROUNDS]

Tracking is forced on before each migration, started anew while it runs, and comes back on the target; some rounds
are cancelled once, some go by way of a file, as `virsh save` does. CARELESS.so is the extension without its check for
migrations: with it, pages must be lost, or this test could not see it.

The guest writes each page once at most in a round: under TCG, QEMU by itself can lose pages that are written all the
time. KVM's ring ends in the same bitmap; HMV_ACCEL=kvm,dirty-ring-size=4096 runs this with it, where there is KVM."""
import os
import random
import sys
import tempfile
import time

import vm
from vm import CELL, CONTROL, MIB, PAGE, QmpError, Table, Vm

SEED = 7
BURST = 64
PAGES = range(16 * MIB, 2 * CELL, PAGE)
FILLED = range(16 * MIB, 80 * MIB, MIB)     # with what does not compress, so that a round has some length


class Journey:
    def __init__(self, folder, plugin, guest, rounds):
        self.folder, self.plugin, self.guest, self.rounds = folder, plugin, guest, rounds
        self.random = random.Random(SEED)
        self.bursts = self.restarts = self.cancelled = 0
        self.machines = []
        self.source = self.make_vm()
        self.source.run()
        noise = self.random.randbytes(MIB)
        for address in FILLED:
            self.source.poke(address, noise)

    def make_vm(self, **options):
        machine = Vm(self.folder, self.plugin, self.guest, name=f'vm{len(self.machines)}', **options)
        self.machines.append(machine)
        return machine

    def close(self):
        for machine in self.machines:
            machine.close()

    def track(self, machine):
        """Forces tracking on, with a table of its own."""
        try:
            machine.start(Table(machine.query()['counters']), interval_ms=20)
        except QmpError as e:
            raise AssertionError(f'tracking does not start: {e}') from None

    def has_stopped(self):
        return self.source.call('query-status')['status'] != 'running'

    def migrate(self, uri, pages):
        """Writes pages and starts tracking anew while it runs; returns how it ended."""
        self.source.call('migrate', {'uri': uri})
        while True:
            status = self.source.call('query-migrate')['status']
            if status in ('completed', 'failed', 'cancelled'):
                return status
            if status in ('setup', 'active') and pages:
                self.source.write_pages_once([pages.pop() for _ in range(min(BURST, len(pages)))], self.has_stopped)
                self.bursts += 1
                if self.random.randrange(4) == 0:
                    self.track(self.source)
                    self.restarts += 1
            time.sleep(self.random.random() / 50)

    def cancel_one(self, pages):
        self.source.call('migrate-set-parameters', {'max-bandwidth': MIB, 'downtime-limit': 20})
        self.source.call('migrate', {'uri': 'exec:cat >/dev/null'})
        self.source.write_pages_once([pages.pop() for _ in range(BURST)])
        self.source.call('migrate_cancel')
        while self.source.call('query-migrate')['status'] != 'cancelled':
            time.sleep(0.02)
        self.cancelled += 1

    def round(self, number):
        """Returns the pages that differ on the target."""
        pages = list(PAGES)
        self.random.shuffle(pages)
        self.track(self.source)
        for _ in range(self.random.randrange(4)):
            self.source.write_pages_once([pages.pop() for _ in range(BURST)])
        if number % 5 == 2:
            self.cancel_one(pages)
            self.track(self.source)
        self.source.call('migrate-set-parameters', {'max-bandwidth': 48 * MIB, 'downtime-limit': 20})
        if number % 4 == 3:
            path = os.path.join(self.folder, 'saved')
            status = self.migrate(f'exec:cat >{path}', pages)
            target = self.make_vm(incoming=f'exec:cat {path}')
        else:
            path = os.path.join(self.folder, 'migration')
            target = self.make_vm(incoming='unix:' + path)
            status = self.migrate('unix:' + path, pages)
        if status != 'completed':
            raise AssertionError(f'migration {number} {status}: ' + self.source.errors() + target.errors())
        while target.call('query-status')['status'] == 'inmigrate':
            time.sleep(0.02)
        lost = [page for page in range(0, 2 * CELL, PAGE)
                if page != CONTROL and self.source.peek(page, PAGE) != target.peek(page, PAGE)]
        target.poke(CONTROL, self.source.peek(CONTROL, PAGE))    # ours: no dirty bit tells of what we write from outside
        self.source.close()
        self.source = target
        target.call('cont')
        return lost

    def travel(self):
        """Returns the first round in which pages were lost, and how many: (0, 0) if none were."""
        for number in range(1, self.rounds + 1):
            lost = self.round(number)
            if lost:
                return number, len(lost)
        return 0, 0


def check(name, plugin, guest, rounds, must_lose):
    with tempfile.TemporaryDirectory(prefix='hmv-migration-') as folder:
        journey = Journey(folder, plugin, guest, rounds)
        try:
            number, lost = journey.travel()
        finally:
            journey.close()
    what = (f'{lost} pages lost in migration {number}' if number else f'no page lost in {rounds} migrations')
    print(f'{name}: {what}; {journey.bursts} bursts of writes and {journey.restarts} starts of tracking meanwhile, '
          f'{journey.cancelled} cancelled', flush=True)
    return bool(number) == must_lose and journey.bursts > 0 and journey.restarts > 0


def main():
    extension, guest, careless = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 20
    why_not = vm.find_why_not()
    if why_not:
        print('skipped: ' + why_not)
        return 77
    kept = check('as shipped', extension, guest, rounds, must_lose=False)
    seen = check('without the check', careless, guest, rounds, must_lose=True)
    return 0 if kept and seen else 1


if __name__ == '__main__':
    sys.exit(main())
