#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The real hmvisord over libvirt's test driver, and hmvctl against it: no root, no QEMU, no guest."""
import json
import os
import pathlib
import re
import signal
import subprocess
import unittest

import openmetrics
from harness import BusTest, dbus, wait_until

DOMAIN = '''<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
  <test:runstate>%d</test:runstate>
  <name>%s</name>
  <uuid>%s</uuid>
  <memory unit='MiB'>1024</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
</domain>
'''
RUNNING, OFF = 1, 5
DB1, WEB = '11111111-2222-4333-8444-555566667777', '99999999-2222-4333-8444-555566667777'


class Real(BusTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_polkit()
        (cls.path / 'node.xml').write_text('<node>\n' + DOMAIN % (RUNNING, 'db1', DB1) + DOMAIN % (OFF, 'web', WEB) + '</node>\n')
        cls.conf = cls.path / 'etc' / 'hmvisor' / 'hmvisord.conf'
        cls.conf.parent.mkdir(parents=True)

    def setUp(self):
        self.conf.write_text('[Policy]\nEpoch=500ms\n')
        self.start_daemon()

    def tearDown(self):
        if self.daemon.poll() is None:
            self.daemon.kill()
        self.daemon.communicate()

    def command(self):
        return [os.environ['HMVISORD'], '--libvirt-uri', f'test://{self.path}/node.xml', '--config-root', str(self.path)]

    def start_daemon(self):
        self.log = open(self.path / 'daemon.log', 'w+')
        self.addCleanup(self.log.close)
        self.daemon = subprocess.Popen(self.command(), env=self.env, stderr=self.log, stdout=self.log)
        self.processes.append(self.daemon)
        wait_until('both domains are known', lambda: self.run_hmvctl('list', '--name')[1] == 'db1\nweb\n', 30)

    def stop_daemon(self):
        self.daemon.send_signal(signal.SIGTERM)
        code = self.daemon.wait(20)
        self.log.seek(0)
        text = self.log.read()
        self.assertNotIn('Sanitizer', text)
        return code

    def ok(self, *args):
        code, output, errors = self.run_hmvctl(*args)
        self.assertEqual((code, errors), (0, ''), args)
        return output

    def fails(self, code, *args):
        got, _, errors = self.run_hmvctl(*args)
        self.assertEqual(got, code, f'{args}: {errors}')
        self.assertRegex(errors, r'\Aerror: [^\n]{10,}\n\Z')
        return errors

    def test_metrics_and_doctor(self):
        m = openmetrics.parse(self.ok('metrics'))
        resident = int(re.search(r'VmRSS:\s+(\d+) kB', pathlib.Path(f'/proc/{self.daemon.pid}/status').read_text())[1]) * 1024
        self.assertAlmostEqual(m['hmvisor_process_resident_memory_bytes'].values()[0] / resident, 1, delta=0.2)
        before = m['hmvisor_process_cpu_seconds'].values('_total')[0]
        self.assertTrue(0 < before < 60, before)
        for _ in range(20):
            self.ok('list')
        later = openmetrics.parse(self.ok('metrics'))['hmvisor_process_cpu_seconds'].values('_total')[0]
        self.assertTrue(before < later < 60, later)
        self.assertEqual(m['hmvisor_libvirt_connected'].values(), [1])
        self.assertEqual(m['hmvisor_orders'].samples, [], 'neither domain is bound')
        found = {f['What']: f for f in json.loads(self.run_hmvctl('doctor', '--json')[1])}
        for what in 'hmvisord', 'connection', 'domain db1', 'domain web':
            self.assertEqual(found[what]['State'], 'ok', found[what])

    def test_list_and_info(self):
        db1, web = json.loads(self.ok('list', '--json'))
        self.assertEqual((db1['Name'], db1['UUID'], db1['Phase'], db1['Bound']), ('db1', DB1, 'discovered', False))
        self.assertGreater(db1['Id'], 0)
        self.assertEqual(web['Id'], -1)
        for name in ('db1', DB1, str(db1['Id'])):
            self.assertEqual(json.loads(self.ok('info', name, '--json'))['UUID'], DB1)
        self.assertIn('Phase:        discovered', self.ok('info', 'web'))

    def test_all_verbs_answer(self):
        for words in (['tiers'], ['version'], ['stats', 'db1'], ['explain', 'db1'], ['policy', 'get', 'db1'], ['list'],
                      ['info', 'db1']):
            self.ok(*words)
            json.loads(self.ok(*words, '--json'))
        self.assertEqual(json.loads(self.ok('version', '--json'))['Daemon']['EpochUSec'], 500000)
        self.assertEqual(json.loads(self.ok('version', '--json'))['Daemon']['Connected'], True)

    def test_errors(self):
        for code, words in (
                (3, ['info', 'nope']), (3, ['manage', '77']), (6, ['verify', 'db1']), (6, ['unbind', 'db1']),
                (2, ['policy', 'set', 'db1', 'Nope=1']), (2, ['policy', 'set', 'db1', 'RateCap=soon']),
                (4, ['manage', 'web', '--live'])):
            with self.subTest(words):
                self.fails(code, *words)
        self.assertRegex(self.fails(6, 'heat', 'db1'), "'db1' runs unbound.*'hmvctl bind'.*off and on")
        self.assertRegex(self.fails(6, 'heat', 'web', '--json'), "'web' is not bound.*'hmvctl bind'.*start it")
        before = self.ok('info', 'db1', '--json')
        code, _, errors = self.run_hmvctl('bind', 'db1', '--dram', '256M', '--slow', '256M')
        self.assertNotEqual(code, 0, 'neither the test driver nor this host can have it')
        self.assertRegex(errors, r'\Aerror: [^\n]{10,}\n\Z')
        self.assertEqual(self.ok('info', 'db1', '--json'), before)

    def test_market(self):
        self.assertFalse(json.loads(self.ok('market', 'status', '--json'))['Enabled'])
        self.assertIn('[Market]', self.fails(17, 'trade', 'db1', '--sell-dram', '32M'))
        self.conf.write_text(f'[Market]\nEnabled=yes\nDramPrice=3\nJournalPath={self.path}/journal\n')
        self.daemon.send_signal(signal.SIGHUP)
        status = lambda: json.loads(self.ok('market', 'status', '--json'))   # noqa: E731
        wait_until('the market is on', lambda: status()['Enabled'])
        market = status()
        self.assertEqual((market['DramPrice'], market['SlowPrice'], market['Domains']), (3, 1, []))
        self.assertEqual(market['LotSlowBytes'], 3 * market['LotDramBytes'])
        for words in (['market', 'book'], ['market', 'history'], ['market', 'status']):
            self.ok(*words)
            json.loads(self.ok(*words, '--json'))
        before = self.ok('policy', 'get', 'db1')
        for code, words in (
                (6, ['trade', 'db1', '--sell-dram', '32M']), (4, ['trade', 'web', '--buy-dram', '32M']),
                (3, ['trade', 'nope', '--buy-dram', '32M']), (2, ['trade', 'db1']), (6, ['market', 'withdraw', 'db1']),
                (2, ['trade', 'db1', '--buy-dram', '32M', '--sell-dram', '32M']), (3, ['market', 'withdraw', 'nope']),
                (2, ['market', 'set', 'db1']), (2, ['market', 'set', 'db1', '--trading', 'maybe']),
                (3, ['market', 'set', 'nope', '--trading', 'on']), (2, ['market', 'set', 'db1', '--floor-dram', '3M']),
                (2, ['market', 'set', 'db1', '--floor-dram', '4M', '--ceiling-dram', '2M']),
                (2, ['market', 'set', 'db1', '--entitled-dram', '64M']), (2, ['market', 'set', 'db1', '--swap-device', 'a/b']),
                (9, ['market', 'set', 'db1', '--entitled-dram', '32T', '--entitled-slow', '2M'])):
            with self.subTest(words):
                self.fails(code, *words)
        self.assertEqual(self.ok('policy', 'get', 'db1'), before)
        self.ok('market', 'set', 'db1', '--trading', 'on', '--swap-device', 'vdb')
        set_before = self.ok('policy', 'get', 'db1')
        self.assertIn('Trading=yes', set_before)
        self.assertIn('SwapDevice=vdb', set_before)
        self.ok('market', 'set', 'db1', '--swap-device', '')
        self.assertNotIn('SwapDevice=vdb', self.ok('policy', 'get', 'db1'))
        self.ok('market', 'set', 'db1', '--swap-device', 'vdb')
        manager = dbus.bus.BusConnection(self.address).get_object('org.hmvisor1', '/org/hmvisor1', introspect=False)
        for text, says in (('DramPrice=0', 'DramPrice=0 is not possible'), ('SlowPrice=0', 'SlowPrice=0 is not possible'),
                           ('SlowPrice=-1', 'SlowPrice=-1 is not possible'), ('DramPrice=999983', 'no trade of whole blocks'),
                           ('MinTrade=3', 'MinTrade=3 is not possible')):
            with self.subTest(text):
                self.conf.write_text(f'[Market]\nEnabled=yes\n{text}\n')
                with self.assertRaises(dbus.DBusException) as caught:
                    manager.Reload(dbus_interface='org.hmvisor1.Manager')
                self.assertEqual(caught.exception.get_dbus_name(), 'org.hmvisor1.Error.BadArgument')
                self.assertIn(says, caught.exception.get_dbus_message())
                self.assertEqual(status()['DramPrice'], 3, 'the old configuration stays')
        self.assertEqual(self.ok('policy', 'get', 'db1'), set_before)

    def test_policy(self):
        self.ok('policy', 'set', 'db1', 'RateCap=3M', 'Hysteresis=9')
        policy = json.loads(self.ok('policy', 'get', 'db1', '--json'))
        self.assertEqual((policy['RateCap'], policy['Hysteresis'], policy['Managed']), ('3M', '9', 'no'))
        self.ok('manage', 'db1')
        self.assertTrue(json.loads(self.ok('info', 'db1', '--json'))['Managed'])
        self.assertEqual(json.loads(self.ok('policy', 'get', 'db1', '--json'))['RateCap'], '3M', 'kept')
        self.ok('unmanage', 'db1')
        self.assertFalse(json.loads(self.ok('info', 'db1', '--json'))['Managed'])
        self.ok('manage', 'web')
        self.assertIn('Managed=yes', self.ok('policy', 'get', 'web'))

    def test_events(self):
        p = subprocess.Popen([self.hmvctl, 'events', '--event', 'policy', '--json', '--timeout', '20s'], env=self.env,
                             stdout=subprocess.PIPE, text=True)
        while p.poll() is None:   # until its match is in place
            self.ok('policy', 'set', 'db1', 'RateCap=3M', '--live')
        event = json.loads(p.communicate()[0])
        self.assertEqual((p.returncode, event['Domain'], event['UUID']), (0, 'db1', DB1))

    def test_reload(self):
        self.conf.write_text('[Policy]\nEpoch=2s\n')
        self.daemon.send_signal(signal.SIGHUP)
        epoch = lambda: json.loads(self.ok('version', '--json'))['Daemon']['EpochUSec']   # noqa: E731
        wait_until('the new epoch is there', lambda: epoch() == 2000000)
        self.conf.write_text('[Policy]\nEpoch=never\n')
        manager = dbus.bus.BusConnection(self.address).get_object('org.hmvisor1', '/org/hmvisor1', introspect=False)
        with self.assertRaises(dbus.DBusException) as caught:
            manager.Reload(dbus_interface='org.hmvisor1.Manager')
        self.assertEqual(caught.exception.get_dbus_name(), 'org.hmvisor1.Error.BadArgument')
        self.assertIn('Epoch', caught.exception.get_dbus_message())
        self.assertEqual(epoch(), 2000000, 'the old configuration stays')

    def test_second_daemon_refuses(self):
        root = self.path / 'other'
        root.mkdir()
        p = subprocess.run([*self.command()[:-1], root], env=self.env, capture_output=True, text=True, timeout=30)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn('org.hmvisor1', p.stderr)
        self.ok('list')

    def test_stop_kill_restart(self):
        self.assertEqual(self.stop_daemon(), 0)
        self.assertIn('systemctl start hmvisord', self.fails(15, 'list'))
        self.start_daemon()
        self.daemon.kill()
        self.daemon.wait()
        self.start_daemon()
        self.assertEqual(self.stop_daemon(), 0)


if __name__ == '__main__':
    unittest.main(verbosity=2)
