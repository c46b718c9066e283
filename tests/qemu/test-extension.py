#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The extension inside the distribution's real QEMU, with a guest that writes exactly the pages it is told to.

Usage: test-extension.py EXTENSION.so GUEST.elf MISSPELT.so"""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import vm
from vm import CELL, CONTROL, MIB, PAGE, QmpError, Table, Vm

EXTENSION = GUEST = MISSPELT = None
EPOCHS = 'epochs'


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix='hmv-qemu-')
        self.addCleanup(self.folder.cleanup)

    def make_vm(self, plugin=None, **options):
        machine = Vm(self.folder.name, plugin or EXTENSION, GUEST, **options)
        self.addCleanup(machine.close)
        return machine

    def make_tracked(self, **settings):
        machine = self.make_vm()
        machine.run()
        table = Table(machine.query()['counters'])
        machine.start(table, **settings)
        return machine, table

    def wait_epochs(self, machine, n):
        """Waits for n whole samples from now, the running one not counted."""
        goal = machine.query()[EPOCHS] + n + 1
        return machine.wait(f'{n} samples', lambda answer: answer[EPOCHS] >= goal)

    def counters_of(self, answer, addresses):
        found = []
        for address in addresses:
            for r in answer['ranges']:
                if r['gpa'] <= address < r['gpa'] + r['pages'] * PAGE:
                    found.append(r['offset'] + (address - r['gpa']) // PAGE)
        self.assertEqual(len(found), len(addresses))
        return found

    def assert_refused(self, text, machine, counters=None, **arguments):
        with self.assertRaises(QmpError) as caught:
            machine.start(counters, **arguments)
        self.assertIn(text, str(caught.exception))
        self.assertNotIn('\n', str(caught.exception))


class Layout(Case):
    def test_ranges_are_the_cells(self):
        answer = self.make_vm().query()
        self.assertEqual(answer['state'], 'off')
        self.assertEqual(answer['reason'], '')
        self.assertEqual(answer['log'], 'ring' if vm.HAS_RING else 'bitmap')
        self.assertEqual(answer['counters'], 2 * CELL // PAGE)
        self.assertEqual([(r['block'], r['gpa'], r['pages']) for r in answer['ranges']],
                         [('ram-node0', 0, CELL // PAGE), ('ram-node1', CELL, CELL // PAGE)])
        self.assertEqual(sorted(r['offset'] for r in answer['ranges']), [0, CELL // PAGE])
        self.assertEqual(sorted(r.get('skip-bit', -1) for r in answer['ranges']), [-1, -1] if vm.HAS_RING else [0, 1])

    def test_a_hotplugged_dimm_is_a_new_generation(self):
        machine, table = self.make_tracked()
        before = self.wait_epochs(machine, 1)
        machine.call('object-add', {'qom-type': 'memory-backend-ram', 'id': 'extra', 'size': 128 * MIB})
        machine.call('device_add', {'driver': 'pc-dimm', 'id': 'dimm', 'memdev': 'extra', 'node': 1})
        answer = machine.wait('failure', lambda a: a['state'] == 'failed')
        self.assertIn(f"RAM now needs {(2 * CELL + 128 * MIB) // PAGE}", answer['reason'])
        self.assertGreater(answer['generation'], before['generation'])

        larger = Table(answer['counters'])
        machine.start(larger)
        machine.write_pages([CELL + PAGE])
        answer = self.wait_epochs(machine, 2)
        self.assertEqual([r['gpa'] for r in answer['ranges'] if r['block'] == 'extra'], [1 << 32])
        self.assertEqual(list(larger.written(answer['counters'])), self.counters_of(answer, [CELL + PAGE]))
        self.assertEqual(larger.get(vm.GENERATION), answer['generation'])


class Counting(Case):
    def test_exactly_the_written_pages_are_counted(self):
        machine, table = self.make_tracked()
        self.wait_epochs(machine, 1)
        self.assertEqual(table.written(2 * CELL // PAGE), {})

        choice = random.Random(1)
        pages = [0x1000, 8 * MIB, 8 * MIB + PAGE, CELL - PAGE, CELL, 2 * CELL - PAGE]
        pages += [PAGE * page for page in choice.sample(range(5 * MIB // PAGE, 2 * CELL // PAGE), 300)]
        pages = sorted(set(pages))
        machine.write_pages(pages)
        expected = sorted(self.counters_of(machine.query(), pages))
        machine.wait('written pages', lambda a: all(table.map[PAGE + counter] >= 5 for counter in expected))
        answer = self.wait_epochs(machine, 1)
        written = table.written(answer['counters'])
        self.assertEqual(sorted(written), expected)
        self.assertLessEqual(max(written.values()), answer[EPOCHS] + 1)
        self.assertEqual(answer['state'], 'tracking')
        self.assertGreaterEqual(answer['dropped'], 1)
        self.assertGreater(answer['cost-ns'], answer['last-cost-ns'])

    def test_counters_saturate(self):
        machine, table = self.make_tracked(interval_ms=20)
        machine.write_pages([8 * MIB])
        answer = self.wait_epochs(machine, 1)
        counter = self.counters_of(answer, [8 * MIB])[0]
        table.map[PAGE + counter] = 254
        answer = self.wait_epochs(machine, 4)
        self.assertEqual(table.written(answer['counters']), {counter: 255})

    def test_the_first_sample_is_thrown_away(self):
        machine = self.make_vm()
        machine.run()
        table = Table(machine.query()['counters'])
        for _ in range(3):
            machine.start(table)
            self.wait_epochs(machine, 1)
            self.assertEqual(table.written(2 * CELL // PAGE), {})
            self.assertEqual(machine.stop()['state'], 'off')

    def test_stop_stops(self):
        machine, table = self.make_tracked()
        machine.write_pages([8 * MIB])
        self.wait_epochs(machine, 2)
        self.assertEqual(machine.stop()['state'], 'off')
        before = table.map[:]
        time.sleep(0.3)
        self.assertEqual(table.map[:], before)
        self.assertEqual(machine.stop()['state'], 'off')

    def test_start_again_replaces_table_and_settings(self):
        machine, table = self.make_tracked()
        machine.write_pages([8 * MIB])
        self.wait_epochs(machine, 2)
        other = Table(2 * CELL // PAGE + 5)
        machine.start(other, interval_ms=30)
        before = table.map[:]
        answer = self.wait_epochs(machine, 2)
        self.assertEqual(table.map[:], before)
        self.assertEqual(list(other.written(answer['counters'])), self.counters_of(answer, [8 * MIB]))
        self.assertEqual(other.get(vm.EPOCH), answer[EPOCHS])

    def test_a_block_can_be_left_out(self):
        machine, table = self.make_tracked()
        bits = {r['block']: r.get('skip-bit') for r in machine.query()['ranges']}
        one, two = self.counters_of(machine.query(), [8 * MIB, CELL + 8 * MIB])
        machine.write_pages([8 * MIB, CELL + 8 * MIB])
        self.wait_epochs(machine, 3)
        table.set(vm.SKIP, 1 << (bits['ram-node0'] or 0))
        answer = self.wait_epochs(machine, 1)
        before = table.written(answer['counters'])
        after = table.written(self.wait_epochs(machine, 5)['counters'])
        self.assertGreaterEqual(after[two], before[two] + 4)
        if vm.HAS_RING:
            self.assertGreaterEqual(after[one], before[one] + 4)
            return
        self.assertEqual(after[one], before[one])
        # What was written meanwhile is older than a sample
        machine.write_pages([9 * MIB, CELL + 8 * MIB])
        self.wait_epochs(machine, 2)
        machine.write_pages([8 * MIB])
        time.sleep(0.2)
        table.set(vm.SKIP, 0)
        answer = machine.wait('the look at all', lambda a: a['dropped'] > answer['dropped'])
        machine.wait('samples', lambda a: table.map[PAGE + one] > after[one] + 2)
        self.assertEqual(sorted(table.written(answer['counters'])), sorted([one, two]))

    def test_duty_cycle_rests(self):
        machine, table = self.make_tracked(interval_ms=40, on_ms=400, off_ms=300)
        machine.write_pages([8 * MIB])
        first = machine.wait('rest', lambda a: a['state'] == 'resting')
        self.assertGreaterEqual(first[EPOCHS], 2)
        machine.wait('work', lambda a: a['state'] == 'tracking' and a[EPOCHS] > first[EPOCHS])
        answer = machine.wait('rest', lambda a: a['state'] == 'resting')
        # Stale bits of the off part are thrown away at each start
        self.assertGreaterEqual(answer['dropped'], 2)
        self.assertEqual(list(table.written(answer['counters'])), self.counters_of(answer, [8 * MIB]))

    def test_a_paused_vm_and_a_reset(self):
        machine, table = self.make_tracked()
        machine.call('stop')
        answer = machine.wait('block', lambda a: a['state'] == 'blocked')
        self.assertEqual(answer['reason'], 'the VM is not running')
        self.assertEqual(machine.stop()['state'], 'off')
        machine.start(table)
        self.assertEqual(machine.query()['state'], 'blocked')
        machine.call('cont')
        machine.wait('tracking', lambda a: a['state'] == 'tracking')
        machine.call('system_reset')
        self.assertEqual(self.wait_epochs(machine, 2)['state'], 'tracking')


class Sharing(Case):
    def test_lease_runs_out(self):
        machine, table = self.make_tracked(lease_ms=1000)
        for _ in range(5):
            time.sleep(0.4)
            table.renew()
        self.assertEqual(machine.query()['state'], 'tracking')
        answer = machine.wait('expiry', lambda a: a['state'] == 'expired', seconds=5)
        self.assertIn('did not renew its lease of 1000 ms', answer['reason'])
        before = table.map[:]
        machine.write_pages([8 * MIB])
        time.sleep(0.3)
        self.assertEqual(table.map[:], before)

    def test_lease_runs_out_while_resting(self):
        machine, _ = self.make_tracked(lease_ms=1000, interval_ms=20, on_ms=20, off_ms=60000)
        machine.wait('rest', lambda a: a['state'] == 'resting')
        machine.wait('expiry', lambda a: a['state'] == 'expired', seconds=5)

    def test_hold_keeps_the_sample_for_later(self):
        machine, table = self.make_tracked()
        self.wait_epochs(machine, 1)
        table.set(vm.HOLD, 1)
        before = machine.wait('hold', lambda a: a['dropped'] >= 3)
        machine.write_pages([8 * MIB])
        time.sleep(0.2)
        machine.write_pages([])
        time.sleep(0.2)
        self.assertEqual(table.written(before['counters']), {})
        self.assertEqual(table.get(vm.BUSY), 0)
        self.assertEqual(machine.query()[EPOCHS], before[EPOCHS])
        table.set(vm.HOLD, 0)
        answer = self.wait_epochs(machine, 2)
        self.assertEqual(table.written(answer['counters']), {self.counters_of(answer, [8 * MIB])[0]: 1})

    def test_hold_may_let_the_log_rest(self):
        machine, table = self.make_tracked()
        self.wait_epochs(machine, 1)
        table.set(vm.HOLD, 2)
        machine.wait('rest', lambda a: a['state'] == 'resting')
        machine.write_pages([8 * MIB])
        time.sleep(0.2)
        machine.write_pages([])
        time.sleep(0.2)
        table.set(vm.HOLD, 1)
        self.assertEqual(machine.query()['state'], 'resting')
        table.set(vm.HOLD, 0)
        machine.wait('tracking', lambda a: a['state'] == 'tracking')
        answer = self.wait_epochs(machine, 2)
        self.assertEqual(table.written(answer['counters']), {})


class Refusals(Case):
    def test_arguments(self):
        machine = self.make_vm()
        table = Table(2 * CELL // PAGE)
        for text, arguments in [
                ("'interval-ms' is 19: give 20 to 60000", {'interval_ms': 19}),
                ("'interval-ms' is 60001", {'interval_ms': 60001}),
                ("'interval-ms' is missing", {'interval_ms': None}),
                ("'interval-ms' is not an integer", {'interval_ms': '50'}),
                ("'interval-ms' is not an integer", {'interval_ms': 1e300}),
                ("'lease-ms' is 999: give 1000 to 600000", {'lease_ms': 999}),
                ("'lease-ms' is missing", {'lease_ms': None}),
                ("'off-ms' is -1", {'off_ms': -1}),
                ("'off-ms' is 100 without 'on-ms'", {'off_ms': 100}),
                ("'on-ms' is 40: give at least 'interval-ms', 50", {'on_ms': 40, 'off_ms': 100}),
                ("'table' is missing or not a string", {'table': None}),
                ("'table' is missing or not a string", {'table': 3}),
                ("no argument 'colour': leave it out", {'colour': 'red'})]:
            with self.subTest(text):
                self.assert_refused(text, machine, table, **arguments)
        self.assert_refused("'nowhere'", machine, table='nowhere')
        for command in ('query', 'stop'):
            with self.assertRaisesRegex(QmpError, "no argument 'x'"):
                machine.call('__org.hmvisor_hotness-' + command, {'x': 1})
        self.assertEqual(machine.query()['state'], 'off')

    def test_tables(self):
        machine = self.make_vm()
        n = 2 * CELL // PAGE
        for text, table in [
                (f"it has {n - 1} counters, the guest's RAM needs {n}", Table(n - 1)),
                ('pass a memfd with F_SEAL_SHRINK', Table(n, seal=False)),
                ('smaller than its header says', Table(n, size=PAGE + n - 1)),
                ('smaller than its header says', Table((1 << 64) - 1, size=PAGE + n)),
                ('smaller than its header:', Table(n, size=100)),
                ('magic, layout or header size', Table(n, magic=1)),
                ('magic, layout or header size', Table(n, layout=2)),
                ('magic, layout or header size', Table(n, header_size=0))]:
            with self.subTest(text):
                self.assert_refused(text, machine, table)
        with open(GUEST, 'rb') as plain:
            machine.call('getfd', {'fdname': 'table'}, fd=plain.fileno())
            self.assert_refused('pass a memfd with F_SEAL_SHRINK', machine)

    def test_a_refused_start_leaves_tracking_as_it_was(self):
        machine, table = self.make_tracked()
        self.assert_refused('table too small', machine, Table(3))
        self.assertEqual(self.wait_epochs(machine, 1)['state'], 'tracking')

    def test_a_qemu_without_a_symbol_still_starts(self):
        machine = self.make_vm(plugin=MISSPELT)
        reason = "does not export 'memory_global_dirty_log_sink'"
        lines = [line for line in machine.errors().splitlines() if 'hmvisor' in line]
        self.assertEqual(len(lines), 1)
        self.assertIn(reason, lines[0])
        machine.run()
        answer = machine.query()
        self.assertEqual(answer['state'], 'failed')
        self.assertIn(reason, answer['reason'])
        self.assert_refused(reason, machine, Table(2 * CELL // PAGE))
        machine.stop()


class Migration(Case):
    """A page lost here is a guest corrupted: these compare the whole memory of both sides."""

    def fill(self, machine):
        noise = random.Random(2).randbytes(MIB)
        for i in range(16 * MIB, 2 * CELL, MIB):
            machine.poke(i, noise)

    def wait_migrated(self, machine):
        deadline = time.monotonic() + 120
        while True:
            answer = machine.call('query-migrate')
            if answer['status'] in ('completed', 'failed', 'cancelled'):
                return answer
            self.assertLess(time.monotonic(), deadline, answer)
            time.sleep(0.02)

    def test_blocked_while_migrating_and_nothing_is_lost(self):
        """Each page is written once at most: under TCG, QEMU by itself can lose pages that are written all the time."""
        path = os.path.join(self.folder.name, 'migration')
        machine = self.make_vm()
        target = self.make_vm(name='target', incoming='unix:' + path)
        machine.run()
        self.fill(machine)
        table = Table(machine.query()['counters'])
        machine.start(table, interval_ms=20)
        before = self.wait_epochs(machine, 3)
        pages = list(range(16 * MIB, 2 * CELL, PAGE))
        random.Random(3).shuffle(pages)
        machine.write_pages_once(pages[:100])
        machine.call('migrate-set-parameters', {'max-bandwidth': 48 * MIB, 'downtime-limit': 20})
        machine.call('migrate', {'uri': 'unix:' + path})
        first = machine.wait('block', lambda a: a['state'] == 'blocked')
        self.assertEqual(first['reason'], 'a migration or snapshot is running')
        bursts = 0
        while machine.call('query-migrate')['status'] in ('setup', 'active') and bursts < 60:
            bursts += 1
            machine.write_pages_once(pages[bursts * 100:bursts * 100 + 100])
            time.sleep(0.03)
        self.assertGreater(bursts, 20)
        last = machine.query()
        self.assertEqual((last['state'], last[EPOCHS]), ('blocked', first[EPOCHS]))
        self.assertEqual(self.wait_migrated(machine)['status'], 'completed')
        # The control page is ours: no dirty bit tells of what we write from outside
        lost = [page for page in range(0, 2 * CELL, PAGE)
                if page != CONTROL and machine.peek(page, PAGE) != target.peek(page, PAGE)]
        self.assertEqual(lost, [])
        self.assertGreaterEqual(before[EPOCHS], 3)

    def test_resumes_after_a_migration_to_a_file(self):
        machine, table = self.make_tracked()
        self.fill(machine)
        machine.write_pages([8 * MIB])
        self.wait_epochs(machine, 1)
        machine.call('migrate-set-parameters', {'max-bandwidth': 8 * MIB})
        machine.call('migrate', {'uri': 'exec:cat>/dev/null'})
        machine.wait('block', lambda a: a['state'] == 'blocked')
        machine.call('migrate_cancel')
        self.assertEqual(self.wait_migrated(machine)['status'], 'cancelled')
        machine.wait('tracking', lambda a: a['state'] == 'tracking')
        answer = self.wait_epochs(machine, 3)
        self.assertEqual(list(table.written(answer['counters'])), self.counters_of(answer, [8 * MIB]))

    def test_start_during_a_migration_waits(self):
        machine = self.make_vm()
        machine.run()
        self.fill(machine)
        machine.call('migrate-set-parameters', {'max-bandwidth': 8 * MIB})
        machine.call('migrate', {'uri': 'exec:cat>/dev/null'})
        answer = machine.start(Table(2 * CELL // PAGE))
        self.assertEqual(answer['state'], 'blocked')
        machine.call('migrate_cancel')
        self.wait_migrated(machine)
        machine.wait('tracking', lambda a: a['state'] == 'tracking')

    def test_measuring_the_dirty_rate_keeps_its_log(self):
        """It shares our bit, and QEMU aborts where someone else clears it."""
        machine, table = self.make_tracked()
        if machine.query()['qemu'].startswith('7.') and vm.ACCEL == 'tcg':
            self.skipTest('QEMU 7.2 crashes by itself in calc-dirty-rate without KVM')
        machine.write_pages([8 * MIB])
        self.wait_epochs(machine, 1)
        for stop in (False, True):
            machine.call('calc-dirty-rate', {'calc-time': 1, 'mode': 'dirty-ring' if vm.HAS_RING else 'dirty-bitmap'})
            answer = machine.wait('block', lambda a: a['state'] == 'blocked', seconds=5)
            self.assertEqual(answer['reason'], 'QEMU measures the dirty rate')
            if stop:
                self.assertEqual(machine.stop()['state'], 'off')
            while machine.call('query-dirty-rate')['status'] == 'measuring':
                time.sleep(0.05)
            if stop:
                machine.start(table)
            machine.wait('tracking', lambda a: a['state'] == 'tracking')
            answer = self.wait_epochs(machine, 2)
            self.assertEqual(list(table.written(answer['counters'])), self.counters_of(answer, [8 * MIB]))

    @unittest.skipUnless(shutil.which('qemu-img'), "there is no 'qemu-img'")
    def test_a_snapshot_of_the_vm(self):
        """savevm needs a disk that can hold it."""
        disk = os.path.join(self.folder.name, 'disk.qcow2')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', disk, '1G'], check=True)
        machine = self.make_vm(arguments=['-drive', f'file={disk},if=none,id=disk,format=qcow2'])
        machine.run()
        table = Table(machine.query()['counters'])
        machine.start(table)
        machine.write_pages([8 * MIB])
        self.wait_epochs(machine, 1)
        for command in ('savevm one', 'loadvm one'):
            text = machine.call('human-monitor-command', {'command-line': command})
            self.assertEqual(text, '')
            answer = self.wait_epochs(machine, 2)
            self.assertEqual(answer['state'], 'tracking')
        self.assertIn(self.counters_of(answer, [8 * MIB])[0], table.written(answer['counters']))


if __name__ == '__main__':
    EXTENSION, GUEST, MISSPELT = sys.argv[1:4]
    why_not = vm.find_why_not()
    if why_not:
        print('skipped: ' + why_not)
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
