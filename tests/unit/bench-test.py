#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of lab/bench/bench.py and report.py: what a run's files are made into, the oracle, and the report, on small scripted data."""
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


def load(name):
    spec = importlib.util.spec_from_file_location(name, REPO / 'lab' / 'bench' / (name + '.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench, report = load('bench'), load('report')

MACHINE = {'date': '2026-01-02', 'commit': 'abc', 'host': ['6.12'], 'memory_mib': 1024, 'dram_share': 25, 'cache': '2M'}
TWO_NODES = [2 * bench.FRAME, 2 * bench.FRAME]


def rec(workload, competitor, repetition=1, **figures):
    base = {'slow_stores_per_unit': 4.0, 'slow_stores_and_copies_per_unit': figures.get('slow_stores_per_unit', 4.0), 'slow_share': 0.5, 'slow_loads_per_unit': 2.0, 'units_per_s': 100.0,
            'instructions_per_unit': 50.0}
    return {'workload': workload, 'competitor': competitor, 'repetition': repetition, **base, **figures}


def planted(bad=8.0, good=1.0):
    return [rec('planted', 'planted-bad', slow_stores_per_unit=bad), rec('planted', 'planted-good', slow_stores_per_unit=good)]


def sample(ms, **more):
    workload = {'hot_pages': 1000, 'hot_by_node': {'0': more.pop('hot', 0)}, 'elapsed_ms': ms, 'moves': more.pop('moves', []),
                'longest_gap_ms': 12.5, 'p99_gap_ms': 11}
    return {'now_ms': ms, 'workload': workload, 'free_dram': 0, 'vmstat': more, 'settings': ''}


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


    def test_trace(self):
        frames = bench.guest_frame_list(array.array('Q', [bench.PRESENT | 3, 2, bench.PRESENT | 1]).tobytes(), TWO_NODES)
        self.assertEqual(frames, [3, None, 1])
        readings = [[0, 0, 7, 0xffffffff, 9, 9, 1, 1], [0, 0, 7, 4, 0, 0, 3, 6], [0, 0, 7, 4, 9, 9, 3, 6]]
        lines = bench.trace_lines(frames, iter([array.array('I', r).tobytes() for r in readings]))
        self.assertEqual(list(lines), ['hmvisor-trace 1', 'pages 3', 'second', '0 5 2', '2 5 0', 'second'])


class Run(unittest.TestCase):
    METER = {'seconds': 10, 'instructions': 5000, 'nodes': [{'loads': 10, 'stores': 30, 'fills': 0, 'write_backs': 0},
                                                            {'loads': 20, 'stores': 10, 'fills': 5, 'write_backs': 4}]}

    PARTS = {'cxl': ((100, 100), (200, 300))}

    def figures(self, start, end, competitor='tpp', rates=None):
        samples = {'start': start, 'plain-before': sample(0, pgmigrate_success=605), 'plain-after': end}
        pages = [(0, 0, 2), (1, 1, 8), (1, 5, 6)]
        return bench.figures({'dram_pages': 1, 'competitor': competitor}, samples, (7, 3), {'plain': self.METER, 'metered': self.METER},
                             {'plain': 10, 'metered': 4, 'cxl': 3} if rates is None else rates, (0.125, 0.25), pages, self.PARTS)

    def test_per_unit(self):
        f = self.figures(sample(0, pgmigrate_success=5), sample(30000, hot=800, pgmigrate_success=1605))
        self.assertEqual(f['units_per_s'], 10)
        self.assertEqual(f['instructions_per_unit'], 50)        # 5,000 in 10 s of 10 units a second
        self.assertEqual(f['slow_stores_per_unit'], 0.25)       # 10 in 10 s of 4 units a second
        self.assertEqual(f['slow_write_backs_per_unit'], 0.1)
        self.assertEqual(f['guest_stores'], [2, 14])
        self.assertEqual(f['guest_slow_share'], 0.875)
        self.assertEqual(f['oracle_slow_stores_per_unit'], 0.2)
        self.assertEqual(f['slow_share'], 0.25)
        self.assertEqual((f['pages_moved'], f['moved_per_useful']), (1600, 2))
        self.assertEqual(f['copy_stores_per_unit'], 500 * 512 / 100)    # half of 1,000 pages, 100 units
        self.assertEqual(f['slow_stores_and_copies_per_unit'], 2560.25)
        self.assertEqual((f['writes_slow'], f['writes_slow_since_start']), (0.125, 0.25))
        self.assertEqual((f['gap_longest_ms'], f['gap_p99_ms']), (12.5, 11))
        self.assertEqual(f['units_per_s_cxl'], 3)
        # 50 instructions at 1/3 ns, and (5 fills of 200 ns and 4 write-backs of 300 ns) for 40 units
        self.assertAlmostEqual(f['modelled_units_per_s_cxl'], 1e9 / (50 / 3 + 2200 / 40))

    def test_host_moves_the_pages_of_a_guest_of_one_node(self):
        f = self.figures(sample(0, pgmigrate_success=5), sample(30000, hot=800, pgmigrate_success=5), competitor='host')
        self.assertEqual((f['pages_moved'], f.get('hot_on_dram'), f.get('writes_slow')), (7, None, None))
        self.assertEqual(f['copy_stores_per_unit'], 1.5 * 512 / 100)

    def test_no_work_is_no_figure(self):
        f = self.figures(sample(0), sample(20000), rates={'plain': None, 'metered': None})
        for key in 'slow_stores_per_unit', 'instructions_per_unit', 'units_per_s_cxl', 'modelled_units_per_s_cxl':
            self.assertIsNone(f[key])

    def test_rate_is_that_within_the_window(self):
        log = bench.log_read('1000 5\n2000 10\n3000 20\nhalf\n4000 30\n5000 99\n')
        self.assertEqual(bench.rate(log, [1500, 4500], -500), 10)       # 2,000 to 3,500 on the guest's clock
        self.assertIsNone(bench.rate(log, [1500, 3000], -500))          # one line is no rate
        self.assertIsNone(bench.rate([(2000, 5), (3000, 5)], [500, 9000], 0))

    def test_writes_slow_within_the_window(self):
        log = bench.log_read('1000 5 9999\n2000 10 1000\n3000 20 3000\n3200 20 -22\n4000 30 9999\n')
        self.assertAlmostEqual(bench.writes_slow_within(log, [1500, 4000], -500), 0.2)
        self.assertIsNone(bench.writes_slow_within([(2000, 5)], [0, 9000], 0))

    def test_clocks_are_compared(self):
        asked = [{'asked_ms': [0, 100], 'guest': {'now_ms': 1060}}, {'asked_ms': [1000, 1300], 'guest': {'now_ms': 2020}}]
        self.assertEqual(bench.clock_offset(asked), (960 + 1020) / 2)   # from 960 to 1,060, and from 720 to 1,020

    def test_parts(self):
        parts = bench.parts_read(bench.PARTS.read_text())
        self.assertEqual(parts['optane'][1][0], 305)
        self.assertGreater(parts['cxl'][1], parts['cxl'][0])

    def test_arrivals(self):
        start, moves = sample(1000), [[500, 100], [2000, 3000], [6000, None], [9000, 1500], [12000, None]]
        self.assertEqual(bench.arrivals(start, sample(13000, moves=moves)), [3.0, None, 1.5])
        f = self.figures(start, sample(30000, hot=1000, pgmigrate_success=9, moves=moves))
        self.assertEqual((f['arrival_s'], f['arrivals_missed'], f['moved_per_useful']), (2.25, 1, None))


class Report(unittest.TestCase):
    def test_self_check(self):
        self.assertTrue(report.self_check(planted())[0])
        for wrong in planted(bad=1.0, good=8.0), planted(bad=1.5), planted()[:1], []:
            self.assertFalse(report.self_check(wrong)[0])

    def test_bad_figures_stay(self):
        records = planted() + [rec('skewed', 'static', oracle_slow_stores_per_unit=1.0),
                               rec('skewed', 'hmvisor', 1, slow_stores_per_unit=5.0, instructions_per_unit=100.0),
                               rec('skewed', 'hmvisor', 2, slow_stores_per_unit=7.0, instructions_per_unit=100.0),
                               rec('skewed', 'tpp', slow_stores_per_unit=2.0), rec('large', 'static')]
        text = '\n'.join(report.report(records, MACHINE))
        self.assertIn('| hmvisor | 6 (5 to 7) |', text)
        self.assertIn('| oracle (computed) | 1 |', text)
        self.assertIn('Fewest slow stores: tpp. Most work per second: static.', text)
        self.assertIn('+50.0% slow stores, copies too, +100.0% host instructions; of what the oracle saves, it saves -67%.', text)
        self.assertIn('Not measured: large/hmvisor, large/tpp.', text)
        self.assertIn('2026-01-02', text)
        self.assertIn('| slow-node stores against static, skewed | -80%, 90% of the oracle | +50%; -67% of what the oracle saves | missed |', text)
        self.assertIn('skewed: 3.00 of its slow stores, 1.00 of its work/s | missed |', text)

    def test_goals(self):
        def rows(hmvisor, **tpp):
            records = [rec(w, 'static', oracle_slow_stores_per_unit=0.0, gap_longest_ms=20.0) for w in ('skewed', 'sort')] + [
                rec('skewed', 'tpp', **tpp), rec('skewed', 'hmvisor', **hmvisor), rec('sort', 'hmvisor', **hmvisor)]
            return [row.split(' | ')[-1].rstrip(' |') for row in report.goals(records, ['skewed', 'sort'], [])][2:]

        good = {'slow_stores_per_unit': 0.3, 'instructions_per_unit': 50.4, 'gap_longest_ms': 25.0}
        self.assertEqual(rows(good), ['reached', 'reached', 'not measured', 'not measured', 'not measured', 'reached', 'reached', 'not measured'])
        self.assertEqual(rows({**good, 'instructions_per_unit': 50.6})[5], 'missed')
        self.assertEqual(rows({**good, 'gap_longest_ms': 31.0})[6], 'missed')
        self.assertEqual(rows({**good, 'slow_stores_per_unit': 0.5})[0], 'missed')
        self.assertEqual(rows(good, slow_stores_per_unit=0.2)[1], 'missed')
        self.assertEqual(rows(good, units_per_s=101.0)[1], 'missed')
        tick = [['1 GiB: ratio 1.20; x', ' 1024 GiB: ratio 1.51; x'], ['1 GiB: ratio 9.00; x', ' 1024 GiB: ratio 1.50; x']]
        self.assertEqual([list(report.goals([], [], t))[-1].split(' | ')[-1] for t in tick], ['missed |', 'reached |'])

    def test_shares_of_dram_have_sections_of_their_own(self):
        records = planted() + [rec('skewed', c, slow_stores_and_copies_per_unit=v, dram_share=share)
                               for share, a, b in ((10, 9.0, 8.0), (25, 4.0, 1.0)) for c, v in (('static', a), ('hmvisor', b))]
        text = '\n'.join(report.report(records, MACHINE))
        self.assertLess(text.index('## skewed\n'), text.index('## skewed, 10% DRAM'))
        self.assertIn('-75.0% slow stores', text)   # of 25%
        self.assertIn('-11.1% slow stores', text)

    def test_before_and_after(self):
        old, new = ([rec('skewed', 'hmvisor', slow_stores_and_copies_per_unit=v, commit=c)] for v, c in ((4.0, 'old'), (1.0, 'new')))
        self.assertIn('| skewed | 4 → 1 | – → – |', '\n'.join(report.report(planted() + new, MACHINE, before=old)))
        self.assertIn('before (old) and after', '\n'.join(report.report(planted() + new, MACHINE, before=old)))
        self.assertNotIn('before (', '\n'.join(report.report(planted() + new, MACHINE)))

    def test_against_cmq(self):
        place = [{'trace': 'zipf', 'competitor': c, 'slow_stores': s, 'demoted_pages': d}
                 for c, s, d in (('static', 1000, 0), ('cmq', 200, 10), ('hmvisor', 300, 1))]
        self.assertEqual(report.goal_of_cmq(place), ('zipf: 36% of static (CMQ 84%)', 'reached'))
        self.assertEqual(report.goal_of_cmq([]), ('–', 'not measured'))
        text = '\n'.join(report.report(planted(), MACHINE, place=place))
        self.assertIn('| zipf | 100.0% | 20.0% | 30.0% |', text)
        self.assertIn('| zipf | 100.0% | 84.0% | 36.4% |', text)

    def test_plots(self):
        script = report.plot_script([rec('skewed', 'static'), rec('skewed', 'tpp', units_per_s=50.0), rec('idle', 'static')] + planted(),
                                   'units_per_s', 'work', 'x.png')
        self.assertIsNone(report.plot_script([rec('skewed', 'tpp')], 'units_per_s', 'work', 'x.png'))
        self.assertIn('workload static tpp\nskewed 1.0000 0.5000\nidle 1.0000 ?\nEND', script)

    def test_bars(self):
        records = [rec('skewed', 'static'), rec('skewed', 'tpp', slow_stores_per_unit=1.0), rec('skewed', 'damon', slow_stores_per_unit=40.0)]
        lines = list(report.bars(records, ['skewed', 'idle'], ['static', 'tpp', 'damon'], 'slow_stores_and_copies_per_unit'))
        self.assertEqual([line.count('#') for line in lines], [40, 10, 60])
        self.assertTrue(lines[1].endswith('| 0.25') and lines[2].endswith('> 10.00') and lines[0].startswith('skewed    static'))

    def test_exit_status_is_that_of_the_self_check(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = pathlib.Path(folder)
            (path / 'machine.json').write_text(json.dumps(MACHINE))
            report.shutil.which = lambda name: None
            for records, code in (planted(), 0), (planted(1.0, 1.0), 1):
                (path / 'records.jsonl').write_text('\n'.join(map(json.dumps, records)) + '\n')
                with contextlib.redirect_stderr(io.StringIO()):
                    self.assertEqual(report.main([folder]), code)
            self.assertIn('not ok', (path / 'report.md').read_text())


if __name__ == '__main__':
    unittest.main()
