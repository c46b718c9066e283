#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of hmvsim as it is called: output, files, plots, mistakes, and that its page names all that it takes.

    hmvsim-cli-test.py HMVSIM ROOT
"""
import csv
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HMVSIM, ROOT = sys.argv.pop(1), pathlib.Path(sys.argv.pop(1))
SHORT = '''[simulation]
duration = 2min
[group hungry]
dram = 64M
slow = 64M
dram-boot = 32M
slow-max = 256M
used = 160M
touched = 20M
[group hot]
dram = 64M
slow = 192M
slow-boot = 32M
dram-max = 128M
used = 100M
hot = 90M
written = 50%
'''


def run(*args):
    done = subprocess.run([HMVSIM, *map(str, args)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


class Hmvsim(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self.folder.name)
        self.scenario = self.dir / 'short.ini'
        self.scenario.write_text(SHORT)

    def tearDown(self):
        self.folder.cleanup()

    def rows(self, name):
        return list(csv.DictReader((self.dir / name).read_text().splitlines()))

    def test_same_bytes_for_the_same_seed(self):
        runs = []
        for name, seed in ('a', 5), ('b', 5), ('c', 6):
            code, out, err = run(self.scenario, '--seed', seed, '--csv', self.dir / name, '--json')
            self.assertEqual((code, err), (0, ''))
            runs.append([out.replace(f'"seed": {seed}', ''),
                         *((self.dir / name / f).read_text() for f in ('groups.csv', 'market.csv'))])
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_files_and_summary_agree(self):
        code, out, _ = run(self.scenario, '--json', '--csv', self.dir)
        self.assertEqual(code, 0)
        end = {g['name']: g for g in json.loads(out)['groups']}
        rows = self.rows('groups.csv')
        self.assertEqual(len(rows), 2 * 12)
        for row in rows[-2:]:
            self.assertEqual(row['seconds'], '120')
            self.assertEqual(int(row['dram_bytes']), end[row['group']]['dram_bytes'])
            self.assertEqual(int(row['position_lots']), end[row['group']]['position_lots'])
        for name, group in end.items():
            self.assertEqual(sum(int(r['traded_lots']) for r in rows if r['group'] == name), group['traded_lots'])
        self.assertEqual(end['hot']['traded_lots'], 1)
        market = self.rows('market.csv')
        self.assertEqual(sum(int(r['traded_lots']) for r in market), json.loads(out)['market']['traded_lots'])
        code, out, _ = run(self.scenario)
        self.assertRegex(out, r'(?m)^hot +1  64 MiB -> 96 MiB +192 MiB -> 64 MiB +100\.00%')

    def test_plots(self):
        code, _, err = run(self.scenario, '--plot', self.dir / "it's $(a) folder")
        if not shutil.which('gnuplot'):
            self.assertEqual((code, 'gnuplot-nox' in err), (1, True))
            self.skipTest('no gnuplot')
        self.assertEqual((code, err), (0, ''))
        for name in 'sizes', 'heat', 'swap', 'market':
            png = (self.dir / "it's $(a) folder" / f'{name}.png').read_bytes()
            self.assertTrue(png.startswith(b'\x89PNG') and len(png) > 4000, name)

    def test_mistakes(self):
        for args in [], ['a', 'b'], ['--seed', '-1', self.scenario], ['--seed', '', self.scenario], ['--what'], \
                ['no-such-scenario'], ['--csv', '/dev/null/x', self.scenario], \
                ['--csv', self.dir / 'a', '--plot', self.dir / 'b', self.scenario]:
            code, out, err = run(*args)
            self.assertEqual((code, out), (2, ''), args)
            self.assertIn('hmvsim: ', err)
        self.scenario.write_text(SHORT + 'size = 3\n')
        self.assertIn('short.ini:18: ', run(self.scenario)[2])

    def test_place(self):
        trace = self.dir / 'a.trace'
        trace.write_text('hmvisor-trace 1\npages 400\n' + 'second\n10+5 1\n300+20 9 1\n' * 60)
        code, table, err = run('place', trace)
        self.assertEqual((code, err), (0, ''))
        self.assertEqual(len(table.splitlines()), 9)
        code, out, err = run('place', trace, trace, '--json', '--csv', self.dir)
        self.assertEqual((code, err), (0, ''))
        records = [json.loads(line) for line in out.splitlines()]
        rows = self.rows('place.csv')
        self.assertEqual(len(records), 16)
        for record, row in zip(records, rows, strict=True):
            self.assertEqual({k: str(v) for k, v in record.items()}, {k: v for k, v in row.items() if v})
        by_name = {r['competitor']: r for r in records}
        self.assertEqual(by_name['static']['slow_stores'], 60 * 20 * 9)
        self.assertEqual(by_name['oracle']['slow_stores'], 0)
        self.assertEqual(by_name['worst']['slow_stores'], by_name['static']['slow_stores'] + 60 * 5)
        self.assertLess(by_name['cmq']['slow_stores'], by_name['static']['slow_stores'] / 5)

    def test_traces_are_written_and_read(self):
        text = [run('trace', 'stream', '--seed', seed)[1] for seed in (1, 1, 2)]
        self.assertEqual(text[0], text[1])
        trace = self.dir / 'stream'
        trace.write_text(text[0])
        self.assertEqual(run('trace', trace)[1], text[0])
        self.assertEqual(run('place', trace, '--json')[1], run('place', 'stream', '--json')[1])

    def test_place_mistakes(self):
        bad = self.dir / 'bad.trace'
        bad.write_text('hmvisor-trace 1\npages 9\nsecond\n9 1\n')
        for args in ['place', 'no-such-trace'], ['place', bad], ['trace'], ['trace', 'zipf', 'moving'], \
                ['place', '--dram', '0', 'zipf'], ['place', '--dram', '100%'], ['place', '--plot', self.dir], \
                ['place', '--csv', '/dev/null/x', bad]:
            code, _, err = run(*args)
            self.assertEqual(code, 2, args)
            self.assertIn('hmvsim: ', err)

    def test_manual_names_everything(self):
        page = re.sub(r'\\f.', '', (ROOT / 'man/hmvsim.1').read_text()).replace('\\-', '-')
        source = (ROOT / 'hmvsim/scenario.c').read_text()
        words = re.findall(r'^\s+\{ "([\w-]+)", KEY_', source, re.M) + re.findall(r'\] = "(\w+)"', source)
        words += re.findall(r'(--[a-z]+)', run('--help')[1])
        words += [p.stem for p in (ROOT / 'hmvsim/scenarios').glob('*.ini')]
        words += re.findall(r'\.name = "(\w+)"', ''.join(p.read_text() for p in (ROOT / 'hmvsim').glob('place-*.c')))
        words += re.findall(r'\{ "([\w-]+)",', (ROOT / 'hmvsim/trace-make.c').read_text())
        words += re.findall(r'\\"(\w+)\\":', (ROOT / 'hmvsim/place-report.c').read_text())
        self.assertGreater(len(words), 40)
        for word in words:
            self.assertRegex(page, r'(?<![\w-])' + re.escape(word) + r'(?![\w-])')


unittest.main()
