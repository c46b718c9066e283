#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How far the services are shut in, as systemd itself scores it, and that each exception has its reason in the unit.

    units-test.py UNIT...

UNIT: a unit file as it is installed. Skipped where systemd-analyze cannot judge files.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

WORST = 2.0   # 0 is safe, 10 is open to all
UNITS = [pathlib.Path(name) for name in sys.argv[1:]]


def analyze(path, *args):
    return subprocess.run(['systemd-analyze', '--no-pager', '--offline=true', *args, 'security', path],
                          capture_output=True, text=True, timeout=60)


def exposure(path):
    done = analyze(path)
    found = re.search(r'Overall exposure level for \S+: ([0-9.]+)', done.stdout)
    return float(found[1]) if found else None


def exceptions(path):
    """What systemd would have shut, by name: ('PrivateUsers=', what is missing)."""
    for row in json.loads(analyze(path, '--json=short').stdout):
        if not row['set'] and row['exposure'] is not None:
            yield row['name'], row['description']


def words(name):
    """What a comment could call it: the directive, or the capability, group or family behind it."""
    behind = name.partition('=~')[2]
    if not behind or behind.startswith('…'):
        return re.findall(r'\w+(?==)', name)
    prefix = re.match(r'CAP_(?:SYS_|NET_)?', behind)[0] if '(' in behind and behind.startswith('CAP_') else ''
    return [prefix + w for w in re.findall(r'[@\w]+', behind.removeprefix(prefix))]


def unexplained(path):
    comments = '\n'.join(line for line in path.read_text().splitlines() if line.startswith('#'))
    return [f'{name}: {what}' for name, what in exceptions(path)
            if not any(re.search(rf'(?<![\w@]){w}(?!\w)', comments) for w in words(name))]


class Hardening(unittest.TestCase):
    def test_score(self):
        for unit in UNITS:
            with self.subTest(unit.name):
                score = exposure(unit)
                self.assertIsNotNone(score)
                self.assertLessEqual(score, WORST)

    def test_each_exception_has_a_reason(self):
        for unit in UNITS:
            with self.subTest(unit.name):
                self.assertEqual(unexplained(unit), [])

    def test_the_check_can_fail(self):
        """The same units with one thing open are seen to be worse, and lack a reason for it."""
        for unit in UNITS:
            text = unit.read_text()
            with self.subTest(unit.name), tempfile.TemporaryDirectory() as folder:
                worse = pathlib.Path(folder, unit.name)
                worse.write_text(re.sub(r'^(PrivateNetwork|PrivateTmp|ProtectHome)=.*\n', '', text, flags=re.M))
                self.assertGreater(exposure(worse), exposure(unit))
                self.assertEqual(len(unexplained(worse)), 3, unexplained(worse))


if __name__ == '__main__':
    if not shutil.which('systemd-analyze') or exposure(UNITS[0]) is None:
        print('skipped: no systemd-analyze that judges unit files (systemd 250)')
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
