#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of docs/protocol.md, section 2, asked of a real agent process below a made-up root."""

import json
import os
import signal
import time
import unittest

from harness import AgentCase


def submit(**arguments):
    return json.dumps({'execute': '__org.hmvisor_migrate-submit',
                       'arguments': {k.replace('_', '-'): v for k, v in arguments.items()}}) + '\n'


PAGES = {'node': 0, 'ranges': [32768, 1]}


class Checks(AgentCase):
    def test_bad_orders(self):
        cases = [
            (submit(promote=PAGES), "'order' is missing"),
            (submit(order=0, promote=PAGES), "'order'"),
            (submit(order=-1, promote=PAGES), "'order'"),
            (submit(order=1.5, promote=PAGES), "'order'"),
            (submit(order='1', promote=PAGES), "'order'"),
            (submit(order=1 << 63, promote=PAGES), "'order'"),
            (submit(order=1 << 70, promote=PAGES), "'order'"),
            (submit(order=1), "'promote' or 'demote'"),
            (submit(order=1, promote=PAGES, demote=PAGES), 'same node'),
            (submit(order=1, promote=[]), 'object'),
            (submit(order=1, promote={'node': 0}), "'ranges'"),
            (submit(order=1, promote={'ranges': [1, 1]}), "'node'"),
            (submit(order=1, promote={'node': 0, 'ranges': [1, 1], 'why': 1}), "'why'"),
            (submit(order=1, promote={'node': 0, 'ranges': [1, 1], 'most': 1}), "'most'"),
            (submit(order=1, promote=PAGES, demote={'node': 1, 'ranges': [1, 1], 'most': 1}), "'most'"),
            (submit(order=1, demote={'node': 1, 'ranges': [1, 1], 'most': 0}), "'most'"),
            (submit(order=1, demote={'node': 1, 'ranges': [1, 1], 'most': 65537}), "'most'"),
            (submit(order=1, promote={'node': 1024, 'ranges': [1, 1]}), "'node'"),
            (submit(order=1, promote={'node': 0, 'ranges': [1]}), 'pairs'),
            (submit(order=1, promote={'node': 0, 'ranges': [1, 0]}), 'pair 0'),
            (submit(order=1, promote={'node': 0, 'ranges': [-1, 1]}), 'pair 0'),
            (submit(order=1, promote={'node': 0, 'ranges': [1, 1, 2, 'x']}), 'pair 1'),
            (submit(order=1, promote={'node': 0, 'ranges': [(1 << 52) + 1, 1]}), 'pair 0'),
            (submit(order=1, promote={'node': 0, 'ranges': [1 << 64, 1]}), 'pair 0'),
            (submit(order=1, promote={'node': 0, 'ranges': [0, 65537]}), 'pair 0'),
            (submit(order=1, promote={'node': 0, 'ranges': [0, 65536, 65536, 1]}), 'more than 65536'),
            (submit(order=1, promote={'node': 0, 'ranges': [1, 1] * 16385}), 'at most 16384'),
            (submit(order=1, promote=PAGES, deadline_ms=0), 'deadline-ms'),
            (submit(order=1, promote=PAGES, deadline_ms=600001), 'deadline-ms'),
            ('{"execute":"__org.hmvisor_migrate-status"}\n', "'order' is missing"),
            ('{"execute":"__org.hmvisor_migrate-status","arguments":{"order":1,"x":1}}\n', "'x'"),
            ('{"execute":"__org.hmvisor_migrate-cancel","arguments":{"order":null}}\n', "'order'"),
            ('{"execute":"__org.hmvisor_prepare"}\n', "'manage'"),
            ('{"execute":"__org.hmvisor_prepare","arguments":{"manage":1}}\n', "'manage'"),
            ('{"execute":"__org.hmvisor_prepare","arguments":{"manage":true,"force":true}}\n', "'force'"),
            ('{"execute":"__org.hmvisor_stats","arguments":{"x":1}}\n', "'x'"),
            ('{"execute":"__org.hmvisor_stats","control":{}}\n', "'control'"),
        ]
        for text, part in cases:
            with self.subTest(text=text[:120]):
                # json-c 0.18 refuses such numbers itself, older ones make them the largest that there is.
                beyond = f'{1 << 70}' in text or f'{1 << 64}' in text
                self.refused(text, *([part, 'beyond 64 bits'] if beyond else [part]))
        self.assertEqual(self.ours('migrate-status', order=1)['state'], 'unknown')

    def test_largest_order_is_taken(self):
        ranges = [n for i in range(16384) for n in (i * 4, 4)]
        status = self.ours('migrate-submit', order=1, promote={'node': 0, 'ranges': ranges},
                           demote={'node': 1, 'ranges': ranges})
        self.assertIn(status['state'], ('queued', 'running', 'done'))

    def test_what_the_frames_hold(self):
        """No process maps anything here: nothing can move, and each reason is told."""
        self.ours('migrate-submit', order=9, promote={'node': 1, 'ranges': [
            5, 2,            # movable, but nobody has them
            40000, 3,        # free, slab, no page
            40010, 4,        # already on node 1
            1 << 40, 5,      # beyond the memory
            5, 1]})          # named twice: counts once
        status = self.wait_state(9, 'done')
        self.assertEqual(status['promoted'], 0)
        self.assertEqual(status['mover'], '')
        self.assertEqual(status['skipped'], {'free': 1, 'already-there': 4, 'unmovable': 1, 'pinned': 0, 'no-room': 0,
                                             'not-ram': 6, 'other': 2})
        self.assertEqual(set(status), {'order', 'state', 'mover', 'promoted', 'demoted', 'elapsed-us', 'skipped'})

    def test_node_without_memory(self):
        self.ours('migrate-submit', order=1, promote={'node': 7, 'ranges': [5, 2]})
        self.assertEqual(self.wait_state(1, 'done')['skipped']['no-room'], 2)
        self.ours('migrate-submit', order=2, demote={'node': 7, 'ranges': [5, 2]})
        self.assertEqual(self.wait_state(2, 'done')['skipped']['no-room'], 2)

    def test_stats(self):
        stats = self.ours('stats')
        self.assertEqual(stats, {
            'nodes': [{'node': 0, 'total': 100 << 10, 'free': 50 << 10, 'file': 20 << 10, 'anon': 30 << 10, 'foreign': 4711},
                      {'node': 1, 'total': 110 << 10, 'free': 51 << 10, 'file': 21 << 10, 'anon': 31 << 10, 'foreign': 0}],
            'available': 700 << 10, 'swap-total': 64 << 10, 'swap-free': 32 << 10, 'swap-in': 11, 'swap-out': 12,
            'oom-kills': 3, 'psi-some-us': 4711, 'psi-full-us': 815, 'promoted': 0, 'demoted': 0})


class Prepare(AgentCase):
    options = ['--lease-ms', '1500']

    def state(self):
        return self.read('proc/sys/kernel/numa_balancing'), self.read('sys/kernel/mm/numa/demotion_enabled')

    def saved(self):
        return os.path.exists(os.path.join(self.root, 'run/hmvisor-ga/saved'))

    def test_there_and_back(self):
        report = self.ours('prepare', manage=True)
        self.assertEqual(self.state(), ('0', 'false'))
        self.assertTrue(self.saved())
        self.assertEqual(report['movers'], ['pagemap'])
        self.assertEqual(report['nodes'], [0, 1])
        self.assertEqual(report['kernel'], '6.12.1-test')
        self.assertEqual(report['kernel-node'], 1)
        self.assertEqual(report['online-policy'], 'online_movable')
        self.assertEqual(report['changed'], ['kernel.numa_balancing', 'mm.numa.demotion_enabled'])
        self.assertEqual(self.ours('prepare', manage=True)['changed'], report['changed'])
        self.assertEqual(self.ours('prepare', manage=False)['changed'], [])
        self.assertEqual(self.state(), ('1', 'true'))
        self.assertFalse(self.saved())
        self.assertEqual(self.ours('prepare', manage=False)['changed'], [])
        self.assertEqual(self.state(), ('1', 'true'))

    def test_back_at_the_end(self):
        self.ours('prepare', manage=True)
        self.agent_stop()
        self.assertEqual(self.state(), ('1', 'true'))
        self.assertFalse(self.saved())

    def test_back_after_a_crash(self):
        self.ours('prepare', manage=True)
        self.agent_stop(signal.SIGKILL)
        self.assertEqual(self.state(), ('0', 'false'))
        self.agent_start()
        self.ours('stats')
        self.assertEqual(self.state(), ('1', 'true'))
        self.assertFalse(self.saved())

    def test_back_when_the_host_is_silent(self):
        self.ours('prepare', manage=True)
        for _ in range(8):
            time.sleep(0.3)
            self.ours('stats')
        self.assertEqual(self.state(), ('0', 'false'))
        self.ask('guest-ping')  # not ours: renews nothing
        time.sleep(2.2)
        self.assertEqual(self.state(), ('1', 'true'))

    def test_only_what_was_on(self):
        with open(os.path.join(self.root, 'proc/sys/kernel/numa_balancing'), 'w') as f:
            f.write('0\n')
        os.unlink(os.path.join(self.root, 'sys/kernel/mm/numa/demotion_enabled'))
        self.assertEqual(self.ours('prepare', manage=True)['changed'], [])

    def test_a_doctored_file_is_not_believed(self):
        self.agent_stop()
        os.makedirs(os.path.join(self.root, 'run/hmvisor-ga'), exist_ok=True)
        with open(os.path.join(self.root, 'run/hmvisor-ga/saved'), 'w') as f:
            f.write('kernel.numa_balancing=99999999\nkernel.panic=1\nmm.numa.demotion_enabled=false\nx\n')
        self.agent_start()
        self.ours('stats')
        self.assertEqual(self.state(), ('1', 'false'))

    def test_kdamond_of_a_crashed_run_is_stopped_and_others_are_not(self):
        self.agent_stop()
        base = os.path.join(self.root, 'sys/kernel/mm/damon/admin/kdamonds')
        os.makedirs(os.path.join(base, '0'))
        for name, text in (('nr_kdamonds', '1\n'), ('0/state', 'on\n')):
            with open(os.path.join(base, name), 'w') as f:
                f.write(text)
        self.agent_start()
        self.assertEqual(self.ours('prepare', manage=True)['movers'], ['damon', 'pagemap'])
        self.ours('migrate-submit', order=1, promote={'node': 1, 'ranges': [5, 2]})
        self.wait_state(1, 'done')
        self.agent_stop()
        self.assertEqual(self.read('sys/kernel/mm/damon/admin/kdamonds/0/state'), 'on')
        self.assertEqual(self.read('sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds'), '1')
        with open(os.path.join(self.root, 'run/hmvisor-ga/kdamond'), 'w'):
            pass
        self.agent_start()
        self.ours('stats')
        self.assertEqual(self.read('sys/kernel/mm/damon/admin/kdamonds/0/state'), 'off')
        self.assertEqual(self.read('sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds'), '0')
        self.assertFalse(os.path.exists(os.path.join(self.root, 'run/hmvisor-ga/kdamond')))


class Queue(AgentCase):
    binary = os.environ.get('HMVISOR_FAKE_GA', 'fake-ga')

    def order(self, n, pages, **more):
        return self.ours('migrate-submit', order=n, promote={'node': 0, 'ranges': [100, pages]}, **more)['state']

    def test_done(self):
        self.assertIn(self.order(1, 20), ('queued', 'running'))
        status = self.wait_state(1, 'done')
        self.assertEqual((status['order'], status['promoted'], status['demoted'], status['mover']), (1, 20, 0, 'damon'))
        self.assertGreaterEqual(status['elapsed-us'], 20000)
        self.assertEqual(self.ours('stats')['promoted'], 20)
        self.ours('migrate-submit', order=2, promote={'node': 0, 'ranges': [999999, 3]}, demote={'node': 1, 'ranges': [1, 4]})
        status = self.wait_state(2, 'done')
        self.assertEqual((status['promoted'], status['demoted'], status['skipped']['pinned']), (1, 4, 2))
        stats = self.ours('stats')
        self.assertEqual((stats['promoted'], stats['demoted']), (21, 4))

    def test_one_runs_one_waits_more_are_refused(self):
        self.order(1, 60000)
        self.wait_state(1, 'running')
        self.assertEqual(self.order(2, 10), 'queued')
        self.assertEqual(self.order(3, 10), 'busy')
        self.assertEqual(self.ours('migrate-status', order=3)['state'], 'unknown')
        self.assertEqual(self.order(1, 10), 'running')  # the same id: its state
        self.assertEqual(self.order(2, 10), 'queued')
        self.assertEqual(self.ours('migrate-cancel', order=1)['order'], 1)
        status = self.wait_state(1, 'cancelled')
        self.assertGreater(status['promoted'], 0)
        self.assertLess(status['promoted'], 60000)
        self.assertEqual(self.wait_state(2, 'done')['promoted'], 10)
        self.assertEqual(self.order(1, 10), 'cancelled')
        self.assertEqual(self.order(3, 10) in ('queued', 'running'), True)

    def test_cancel_the_waiting_and_the_unknown(self):
        self.order(1, 60000)
        self.wait_state(1, 'running')
        self.order(2, 10)
        self.assertEqual(self.ours('migrate-cancel', order=2)['state'], 'cancelled')
        self.assertEqual(self.ours('migrate-cancel', order=77)['state'], 'unknown')
        self.assertEqual(self.ours('migrate-status', order=1)['state'], 'running')

    def test_deadline(self):
        self.order(1, 60000, deadline_ms=150)
        self.wait_state(1, 'running')
        self.order(2, 60000, deadline_ms=50)
        status = self.wait_state(1, 'expired')
        self.assertGreater(status['promoted'], 0)
        self.assertLess(status['elapsed-us'], 2000000)
        status = self.wait_state(2, 'expired')  # while it waited
        self.assertEqual(status['promoted'], 0)

    def test_channel_answers_while_an_order_runs(self):
        self.order(1, 60000)
        self.wait_state(1, 'running')
        start = time.monotonic()
        for _ in range(100):
            self.ours('stats')
        self.assertLess(time.monotonic() - start, 5)
        first = self.ours('migrate-status', order=1)
        time.sleep(0.1)
        second = self.ours('migrate-status', order=1)
        self.assertEqual(second['state'], 'running')
        self.assertGreater(second['promoted'], first['promoted'])
        self.assertGreater(second['elapsed-us'], first['elapsed-us'])

    def test_unmanage_and_stop_end_orders(self):
        self.order(1, 60000)
        self.wait_state(1, 'running')
        self.order(2, 60000)
        self.ours('prepare', manage=False)
        self.assertEqual(self.wait_state(1, 'cancelled')['state'], 'cancelled')
        self.assertEqual(self.ours('migrate-status', order=2)['state'], 'cancelled')
        self.order(3, 60000)
        self.wait_state(3, 'running')
        self.order(4, 60000)
        start = time.monotonic()
        self.agent_stop()
        self.assertLess(time.monotonic() - start, 5)

    def test_forgets_old_orders(self):
        for n in range(1, 40):
            self.order(n, 1)
            self.wait_state(n, 'done')
        self.assertEqual(self.ours('migrate-status', order=1)['state'], 'unknown')
        self.assertEqual(self.ours('migrate-status', order=39)['state'], 'done')


if __name__ == '__main__':
    unittest.main()
