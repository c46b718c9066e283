#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hmvctl doctor: hosts below a folder, each with one thing wrong, and what the scripted daemon tells."""
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import unittest

from harness import AllowedTest

EXTENSION = re.search(r'#define HMV_EXTENSION_PATH "(.*)"',
                      (pathlib.Path(os.environ['HMVCTL']).parent.parent / 'config.h').read_text())[1]
HEALTHY = {
    'proc/sys/kernel/osrelease': '6.12.1-amd64\n',
    'dev/kvm': '',
    'usr/sbin/libvirtd': '#!/bin/sh\necho "libvirtd (libvirt) 11.3.0"\n',
    'usr/bin/qemu-system-x86_64': '#!/bin/sh\necho "QEMU emulator version 10.0.2 (Debian)"\necho Copyright\n',
    EXTENSION.lstrip('/'): 'ELF',
    'sys/kernel/mm/numa/demotion_enabled': 'false\n',
    'sys/devices/system/node/has_memory': '0-1\n',
    'sys/devices/system/node/has_cpu': '0\n',
    'var/lib/hmvisor/market': '',
}


class Base(AllowedTest):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(tempfile.mkdtemp(dir=self.path))
        for name, text in HEALTHY.items():
            self.put(name, text)

    def tearDown(self):
        super().tearDown()
        shutil.rmtree(self.root)

    def put(self, name, text, mode=0o755):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def doctor(self, *args):
        """(exit code, [(state, what, finding, remedy)])"""
        code, output, errors = self.run_hmvctl('doctor', '--root', str(self.root), '--json', *args)
        found = [(f['State'], f['What'], f['Finding'], f['Remedy']) for f in json.loads(output)]
        problems = sum(f[0] == 'problem' for f in found)
        self.assertEqual(code, 19 if problems else 0, errors)
        self.assertEqual(errors, f'error: doctor found {problems} problem{"s" * (problems > 1)}\n' if problems else '')
        return found

    def about(self, what):
        return [f for f in self.doctor() if f[1] == what]

    def one(self, what, state, finding, remedy=''):
        found = self.about(what)
        self.assertEqual([f[0] for f in found], [state], found)
        self.assertIn(finding, found[0][2])
        self.assertIn(remedy, found[0][3])


class Host(Base):
    def test_healthy(self):
        host = [f for f in self.doctor() if not f[1].startswith('domain') and f[1] != 'tiers']
        self.assertEqual({f[0] for f in host}, {'ok'}, host)
        self.assertEqual([f[1] for f in host], ['hmvisord', 'connection', 'market', 'kernel', 'kvm', 'libvirt',
                                                'qemu', 'extension', 'demotion', 'confinement', 'journal'])

    def test_each_fault(self):
        for name, text, what, state, finding, remedy in (
                ('proc/sys/kernel/osrelease', '5.6.0-8\n', 'kernel', 'warning', 'all of a guest', '5.7'),
                ('proc/sys/kernel/osrelease', None, 'kernel', 'warning', 'cannot be read', ''),
                ('dev/kvm', None, 'kvm', 'problem', 'no /dev/kvm', 'kvm_amd'),
                ('usr/sbin/libvirtd', None, 'libvirt', 'problem', 'no libvirtd', 'install'),
                ('usr/sbin/libvirtd', '#!/bin/sh\necho "libvirtd (libvirt) 10.0.9"\n', 'libvirt', 'problem', 'older than 10.1', '10.1'),
                ('usr/sbin/libvirtd', '#!/bin/sh\nexit 1\n', 'libvirt', 'problem', 'no libvirtd', ''),
                ('usr/sbin/virtqemud', '#!/bin/sh\necho "virtqemud (libvirt) 10.1.0"\n', 'libvirt', 'ok', 'virtqemud', ''),
                ('usr/bin/qemu-system-x86_64', None, 'qemu', 'problem', 'no QEMU', 'install'),
                ('usr/bin/qemu-system-x86_64', '#!/bin/sh\necho "QEMU emulator version 9.2.0"\n', 'qemu', 'problem', 'older', '10.0'),
                ('usr/bin/qemu-system-x86_64', '#!/bin/sh\necho "QEMU emulator version 12.0.0"\n', 'qemu', 'problem', 'not known', '11'),
                ('usr/bin/qemu-system-x86_64', '#!/bin/sh\necho nonsense\n', 'qemu', 'problem', 'older', ''),
                (EXTENSION.lstrip('/'), None, 'extension', 'problem', 'missing', 'hmvisor-qemu'),
                ('sys/kernel/mm/numa/demotion_enabled', 'true\n', 'demotion', 'warning', 'slow nodes', 'echo 0'),
                ('sys/module/apparmor/parameters/enabled', 'Y\n', 'apparmor', 'warning', 'is missing', 'hmvisor-qemu'),
                ('sys/fs/selinux/enforce', '1\n', 'selinux', 'warning', 'not been tested', 'ausearch'),
                ('sys/fs/selinux/enforce', '0\n', 'confinement', 'ok', 'neither', '')):
            with self.subTest(name=name, text=text):
                if text is None:
                    (self.root / name).unlink()
                else:
                    self.put(name, text)
                self.one(what, state, finding, remedy)
                if name in HEALTHY:
                    self.put(name, HEALTHY[name])
                else:
                    (self.root / name).unlink()

    def test_extension_that_qemu_cannot_read(self):
        self.put(EXTENSION.lstrip('/'), 'ELF', mode=0o700)
        self.one('extension', 'problem', 'cannot be read', 'reinstall')

    def test_apparmor_with_our_rules(self):
        self.put('sys/module/apparmor/parameters/enabled', 'Y\n')
        self.put('etc/apparmor.d/abstractions/libvirt-qemu.d/hmvisor', '')
        self.one('apparmor', 'ok', 'lets QEMU load')

    def test_program_that_floods(self):
        self.put('usr/bin/qemu-system-x86_64', '#!/bin/sh\nexec yes "QEMU emulator version 10.1"\n')
        self.one('qemu', 'ok', '10.1')

    def test_program_that_hangs(self):
        self.put('usr/sbin/libvirtd', '#!/bin/sh\nexec sleep 60\n')
        before = time.monotonic()
        self.one('libvirt', 'problem', 'tells its version')
        self.assertLess(time.monotonic() - before, 40)

    def test_root_and_host_exclude_each_other(self):
        self.assertEqual(self.run_hmvctl('-H', 'far', 'doctor', '--root', '/x')[0], 2)


class ByDaemon(Base):
    def test_lines(self):
        code, output, _ = self.run_hmvctl('doctor', '--root', str(self.root))
        self.assertEqual(code, 19)
        for line in output.splitlines():
            self.assertRegex(line, r'\A(ok      |warning |problem ) \S.*: \S')
        self.assertIn('\nproblem  domain odd: it is degraded: ', output)
        quiet = self.run_hmvctl('-q', 'doctor', '--root', str(self.root))[1]
        self.assertEqual(quiet, ''.join(l for l in output.splitlines(True) if not l.startswith('ok ')))

    def test_no_problem_is_success(self):
        self.fake.tell('remove odd')
        found = self.doctor()
        self.assertEqual({f[1] for f in found if f[0] == 'problem'}, {'tiers'})   # its one slow node is a guess

    def test_tiers(self):
        self.one('tiers', 'problem', 'node 1 looks slow', '[Tiers]')

    def test_libvirt_away(self):
        self.fake.tell('connected no')
        self.one('connection', 'problem', 'cannot reach libvirt', 'systemctl status libvirtd')

    def test_market(self):
        self.one('market', 'ok', 'it is on')
        self.fake.tell("market the journal '/x' cannot be written: No space left on device")
        self.one('market', 'problem', 'No space left')

    def test_domains(self):
        self.one('domain hot', 'ok', 'managed')
        self.one('domain plain', 'ok', 'not bound')
        self.assertIn('hmvisor-guest-agent', [f for f in self.about('domain odd') if f[0] == 'problem'][0][2])
        self.assertEqual([f[0] for f in self.about('domain cold')], ['warning', 'warning'])   # two cells without devices
        self.assertIn('--max-dram', self.about('domain cold')[0][3])

    def test_guest(self):
        self.fake.tell('guest hot ring online')
        self.one('domain hot', 'warning', "as 'online'", 'online_movable')
        self.fake.tell('guest hot ring')
        self.one('domain hot', 'ok', 'managed')
        self.fake.tell('guest hot bitmap online_movable')
        self.one('domain hot', 'ok', 'managed')
        self.fake.tell('guest hot ring a\tb\x1bc')
        self.assertRegex(self.about('domain hot')[0][2], "'a b.c'")
        self.fake.tell('phase odd managed')
        self.fake.tell('guest odd ring')
        self.assertEqual(len(self.about('domain odd')), 1)   # its cell has no device; the agent has answered


class WithoutDaemon(Base):
    def test_says_so_and_goes_on(self):
        self.fake.stop()
        self.one('hmvisord', 'problem', 'systemctl start hmvisord')
        self.assertIn('libvirt', [f[1] for f in self.doctor()])
        self.one('tiers', 'warning', 'nodes 0-1, processors are on 0', 'start hmvisord')
        self.put('sys/devices/system/node/has_memory', '0\n')
        self.one('tiers', 'problem', 'no slow tier', 'daxctl')
        (self.root / 'sys/devices/system/node/has_memory').unlink()
        self.one('tiers', 'problem', 'no memory nodes', 'NUMA')
        self.assertFalse((self.path / 'activated').exists(), 'who stopped the daemon wants it stopped')

    def test_no_bus(self):
        code, output, _ = self.run_hmvctl('-c', 'unix:path=/nowhere', 'doctor', '--root', str(self.root))
        self.assertEqual(code, 19)
        self.assertIn('is D-Bus running', output)


if __name__ == '__main__':
    unittest.main()
