#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each id of a message in the code is explained in the catalog, and the other way round; journalctl takes it.

    catalog-test.py ROOT
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv[1])
CATALOG = ROOT / 'systemd' / 'hmvisor.catalog'


def ids_of_code():
    """{name: id} of the table in base/log.h."""
    return dict(re.findall(r'^ +X\((\w+), "(\w+)"\)', (ROOT / 'hmvisord/base/log.h').read_text(), re.M))


def entries():
    """{id: (headers, text)} of the catalog."""
    text = '\n'.join(line for line in CATALOG.read_text().splitlines() if not line.startswith('#'))
    found = {}
    for part in re.split(r'^-- ', text, flags=re.M)[1:]:
        head, _, body = part.partition('\n\n')
        number, *lines = head.splitlines()
        assert number not in found, f'{number} twice'
        found[number] = dict(line.split(': ', 1) for line in lines), body
    return found


class Catalog(unittest.TestCase):
    def test_ids(self):
        code = ids_of_code()
        self.assertGreater(len(code), 5)
        self.assertEqual(len(set(code.values())), len(code))
        for name, number in code.items():
            self.assertRegex(number, r'\A[0-9a-f]{32}\Z', name)
        self.assertEqual(sorted(code.values()), sorted(entries()))

    def test_each_is_sent_somewhere(self):
        sources = ''.join(f.read_text() for f in (ROOT / 'hmvisord').rglob('*.c'))
        for name in ids_of_code():
            self.assertIn(f'LOG_EVENT_{name}', sources)

    def test_each_is_explained(self):
        for number, (headers, body) in entries().items():
            with self.subTest(number):
                self.assertEqual(sorted(headers), ['Defined-By', 'Documentation', 'Subject'])
                self.assertGreater(len(body), 60)
                self.assertLessEqual(max(map(len, body.splitlines())), 80)
                self.assertLessEqual(set(re.findall('@(.*?)@', headers['Subject'] + body)), {'HMVISOR_DOMAIN'})

    def test_manual_lists_each(self):
        page = (ROOT / 'man' / 'hmvisord.8').read_text()
        for name, number in ids_of_code().items():
            self.assertIn(number, page, name)

    @unittest.skipUnless(shutil.which('journalctl'), 'no journalctl')
    def test_journalctl_takes_it(self):
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder, 'usr/lib/systemd/catalog')
            place.mkdir(parents=True)
            pathlib.Path(folder, 'var/lib/systemd/catalog').mkdir(parents=True)
            shutil.copy(CATALOG, place)
            update = subprocess.run(['journalctl', f'--root={folder}', '--update-catalog'], capture_output=True, text=True)
            self.assertEqual((update.returncode, update.stderr), (0, ''))
            listed = subprocess.run(['journalctl', f'--root={folder}', '--list-catalog'], capture_output=True, text=True).stdout
            told = dict(line.split(' ', 1) for line in listed.splitlines())
            for number, (headers, _) in entries().items():
                self.assertEqual(told.get(number), f'{headers["Defined-By"]}: {headers["Subject"]}')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
