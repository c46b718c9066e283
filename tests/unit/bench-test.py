#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of lab/bench/bench.py: what a run's files are made into, the oracle, and the report, on small scripted data."""
import array
import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import unittest

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location('bench', REPO / 'lab' / 'bench' / 'bench.py')
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

MACHINE = {'date': '2026-01-02', 'commit': 'abc', 'host': ['6.12'], 'memory_mib': 1024, 'dram_share': 25, 'cache': '2M'}
TWO_NODES = [2 * bench.FRAME, 2 * bench.FRAME]


def rec(workload, competitor, repetition=1, **figures):
    base = {'slow_stores_per_unit': 4.0, 'slow_share': 0.5, 'slow_loads_per_unit': 2.0, 'units_per_s': 100.0,
            'instructions_per_unit': 50.0}
    return {'workload': workload, 'competitor': competitor, 'repetition': repetition, **base, **figures}


def planted(bad=8.0, good=1.0):
    return [rec('planted', 'planted-bad', slow_stores_per_unit=bad), rec('planted', 'planted-good', slow_stores_per_unit=good)]


def sample(units, ms, **more):
    workload = {'hot_pages': 1000, 'hot_by_node': {'0': more.pop('hot', 0)}, 'elapsed_ms': ms, 'moves': more.pop('moves', []),
                'longest_gap_ms': 12.5, 'p99_gap_ms': 11}
    return {'units': units, 'ms': ms, 'workload': workload, 'free_dram': 0, 'vmstat': more, 'settings': ''}


class Frames(unittest.TestCase):
    def test_oracle(self):
        pages = [(0, 9, 5), (0, 9, 1), (1, 9, 100), (1, 9, 4)]
        self.assertEqual(bench.oracle(pages, 2), 5)
        self.assertEqual(bench.oracle(pages, 0), 110)
        self.assertEqual(bench.oracle(pages, 9), 0)

    def test_frame_numbers_skip_the_hole_below_4_gib(self):
        low = bench.Q35_LOW_RAM
        self.assertEqual(bench.frame_of_pfn(5, low), 5)
        self.assertIsNone(bench.frame_of_pfn(low // 4096, low))
        self.assertEqual(bench.frame_of_pfn((1 << 32) // 4096 + 3, low), low // 4096 + 3)

    def test_only_present_pages_are_the_guests(self):
        entries = array.array('Q', [bench.PRESENT | 3, 2, bench.PRESENT | 1 << 61 | 1, 0])
        self.assertEqual(bench.guest_frames(entries.tobytes(), TWO_NODES), {1, 3})

    def test_difference_by_node_wraps(self):
        before = array.array('I', [0, 0, 7, 0xffffffff, 0, 0, 1, 1]).tobytes()
        after = array.array('I', [9, 9, 8, 4, 0, 0, 3, 6]).tobytes()
        self.assertEqual(bench.frames_between(before, after, [1, 3], TWO_NODES), [(0, 1, 5), (1, 2, 5)])


class Run(unittest.TestCase):
    METER = {'seconds': 10, 'instructions': 5000, 'nodes': [{'loads': 10, 'stores': 30, 'fills': 0, 'write_backs': 0},
                                                            {'loads': 20, 'stores': 10, 'fills': 5, 'write_backs': 4}]}

    def figures(self, start, end):
        samples = {'start': start, 'plain-before': sample(0, 0), 'plain-after': sample(200, 20000),
                   'metered-before': sample(200, 20000), 'metered-after': end}
        pages = [(0, 0, 2), (1, 1, 8), (1, 5, 6)]
        return bench.figures({'dram_pages': 1}, samples, {'plain': self.METER, 'metered': self.METER}, pages)

    def test_per_unit(self):
        f = self.figures(sample(0, 0, pgmigrate_success=5), sample(240, 30000, hot=800, pgmigrate_success=1605))
        self.assertEqual(f['units_per_s'], 10)
        self.assertEqual(f['instructions_per_unit'], 50)        # 5,000 in 10 s of 10 units a second
        self.assertEqual(f['slow_stores_per_unit'], 0.25)       # 10 in 10 s of 4 units a second
        self.assertEqual(f['slow_write_backs_per_unit'], 0.1)
        self.assertEqual(f['guest_stores'], [2, 14])
        self.assertEqual(f['oracle_slow_stores_per_unit'], 0.2)
        self.assertEqual(f['slow_share'], 0.25)
        self.assertEqual(f['moved_per_useful'], 2)
        self.assertEqual((f['gap_longest_ms'], f['gap_p99_ms']), (12.5, 11))

    def test_no_work_is_no_figure(self):
        f = self.figures(sample(0, 0), sample(200, 20000))
        self.assertIsNone(f['slow_stores_per_unit'])
        self.assertIsNone(bench.rate(sample(None, 0), sample(5, 1)))

    def test_arrivals(self):
        start, moves = sample(0, 1000), [[500, 100], [2000, 3000], [6000, None], [9000, 1500], [12000, None]]
        self.assertEqual(bench.arrivals(start, sample(0, 13000, moves=moves)), [3.0, None, 1.5])
        f = self.figures(start, sample(240, 30000, hot=1000, pgmigrate_success=9, moves=moves))
        self.assertEqual((f['arrival_s'], f['arrivals_missed'], f['moved_per_useful']), (2.25, 1, None))


class Report(unittest.TestCase):
    def test_self_check(self):
        self.assertTrue(bench.self_check(planted())[0])
        for wrong in planted(bad=1.0, good=8.0), planted(bad=1.5), planted()[:1], []:
            self.assertFalse(bench.self_check(wrong)[0])

    def test_bad_figures_stay(self):
        records = planted() + [rec('skewed', 'static', oracle_slow_stores_per_unit=1.0),
                               rec('skewed', 'hmvisor', 1, slow_stores_per_unit=5.0, instructions_per_unit=100.0),
                               rec('skewed', 'hmvisor', 2, slow_stores_per_unit=7.0, instructions_per_unit=100.0),
                               rec('skewed', 'tpp', slow_stores_per_unit=2.0), rec('large', 'static')]
        text = '\n'.join(bench.report(records, MACHINE))
        self.assertIn('| hmvisor | 6 (5 to 7) |', text)
        self.assertIn('| oracle (computed) | 1 |', text)
        self.assertIn('Fewest slow stores: tpp. Most work per second: static.', text)
        self.assertIn('+50.0% slow stores, +100.0% host instructions; of what the oracle saves, it saves -67%.', text)
        self.assertIn('Not measured: large/hmvisor, large/tpp.', text)
        self.assertIn('2026-01-02', text)

    def test_plots(self):
        script = bench.plot_script([rec('skewed', 'static'), rec('skewed', 'tpp', units_per_s=50.0), rec('idle', 'static')] + planted(),
                                   'units_per_s', 'work', 'x.png')
        self.assertIn('workload static tpp\nskewed 1.0000 0.5000\nidle 1.0000 ?\nEND', script)

    def test_exit_status_is_that_of_the_self_check(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = pathlib.Path(folder)
            (path / 'machine.json').write_text(json.dumps(MACHINE))
            bench.shutil.which = lambda name: None
            for records, code in (planted(), 0), (planted(1.0, 1.0), 1):
                (path / 'records.jsonl').write_text('\n'.join(map(json.dumps, records)) + '\n')
                with contextlib.redirect_stderr(io.StringIO()):
                    self.assertEqual(bench.main(['report', folder]), code)
            self.assertIn('not ok', (path / 'report.md').read_text())


if __name__ == '__main__':
    unittest.main()
