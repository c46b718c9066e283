#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hmvctl metrics: text that a strict reader takes, the figures in it, and the file that it is written to."""
import os
import re
import stat
import subprocess
import unittest

import openmetrics
from harness import AllowedTest, HERE


class Reader(unittest.TestCase):
    """The reader of openmetrics.py is strict: each of these is wrong in one place."""
    GOOD = ('# TYPE a counter\n# HELP a Text.\na_total{x="1"} 1\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\n'
            'b_seconds_bucket{le="1.0"} 1\nb_seconds_bucket{le="+Inf"} 2\nb_seconds_count 2\nb_seconds_sum 3.5\n# EOF\n')

    def test_good(self):
        families = openmetrics.parse(self.GOOD)
        self.assertEqual(families['a'].values('_total', x='1'), [1])

    def test_bad(self):
        for old, new in (('# EOF\n', ''), ('# EOF\n', '# EOF\n\n'), ('a_total', 'a'), ('a_total', 'c_total'), ('"1"} 1', '"1"} x'),
                         ('"1"} 1', '"1"}  1'), ('"1"} 1', '"1"} 1 '), ('x="1"', 'x="1",'), ('x="1"', 'x="1",x="2"'),
                         ('x="1"', 'x="\\q"'), ('x="1"', 'x="""'), ('x="1"', 'x=1'), ('counter', 'info'), ('counter', 'gauge'),
                         ('# TYPE a counter\n', ''), ('# HELP a Text.\n', '# HELP a Text.\n# HELP a Text.\n'),
                         ('a_total{x="1"} 1\n', 'a_total{x="1"} 1\na_total{x="1"} 1\n'), ('a_total{x="1"} 1', 'a_total{x="1"} -1'),
                         ('le="+Inf"} 2', 'le="2.0"} 2'), ('le="1.0"', 'le="1"'), ('_count 2', '_count 3'), ('b_seconds_sum 3.5\n', ''),
                         ('le="1.0"} 1', 'le="1.0"} 3'), ('le="1.0"} 1', 'le="1.0"} 0.5'), ('UNIT b_seconds seconds', 'UNIT b_seconds bytes'),
                         ('# HELP a Text.\na_total{x="1"} 1\n', 'a_total{x="1"} 1\n# HELP a Text.\n'),
                         ('# EOF', '# TYPE a counter\n# EOF'), ('# EOF', '\n# EOF'), ('# EOF', '# TYPE a_total gauge\n# EOF')):
            with self.subTest(old=old, new=new):
                self.assertIn(old, self.GOOD)
                with self.assertRaises(openmetrics.Bad):
                    openmetrics.parse(self.GOOD.replace(old, new, 1))


class Metrics(AllowedTest):
    def metrics(self, **kwargs):
        code, output, errors = self.run_hmvctl('metrics', **kwargs)
        self.assertEqual((code, errors), (0, ''))
        return openmetrics.parse(output)

    def test_figures(self):
        m = self.metrics()
        hot = {'domain': 'hot'}
        for name, suffix, labels, expected in (
                ('up', '', {}, 1), ('libvirt_connected', '', {}, 1), ('process_resident_memory_bytes', '', {}, 12345678),
                ('process_cpu_seconds', '_total', {}, 1.5), ('node_memory_bytes', '', {'node': '0', 'tier': 'dram'}, 4 << 30),
                ('node_free_bytes', '', {'tier': 'dram'}, 3 << 30), ('domain_managed', '', hot, 1),
                ('domain_phase', '', {**hot, 'phase': 'managed'}, 1), ('domain_phase', '', {**hot, 'phase': 'degraded'}, 0),
                ('domain_phase', '', {'domain': 'odd', 'phase': 'degraded'}, 1),
                ('domain_memory_bytes', '', {**hot, 'tier': 'slow'}, 768 << 20), ('orders', '_total', hot, 3),
                ('failed_orders', '_total', hot, 1), ('promoted_pages', '_total', hot, 24576), ('demoted_pages', '_total', hot, 20000),
                ('skipped_pages', '_total', {**hot, 'reason': 'pinned'}, 7), ('skipped_pages', '_total', {**hot, 'reason': 'no-room'}, 2),
                ('tracking_samples', '_total', hot, 600), ('tracking_sightings', '_total', hot, 123456), ('tracking_dropped_samples', '_total', hot, 1),
                ('tracking_seconds', '_total', hot, 1.234567), ('order_latency_seconds', '_bucket', {**hot, 'le': '0.5'}, 1),
                ('order_latency_seconds', '_bucket', {**hot, 'le': '2.0'}, 5), ('order_latency_seconds', '_bucket', {**hot, 'le': '60.0'}, 5),
                ('order_latency_seconds', '_bucket', {**hot, 'le': '+Inf'}, 6), ('order_latency_seconds', '_count', hot, 6),
                ('order_latency_seconds', '_sum', hot, 74.25), ('order_latency_seconds', '_count', {'domain': 'cold'}, 0),
                ('market_enabled', '', {}, 1), ('market_halted', '', {}, 0), ('market_price', '', {'tier': 'dram'}, 4),
                ('market_price', '', {'tier': 'slow'}, 1), ('market_lot_bytes', '', {'tier': 'slow'}, 128 << 20),
                ('market_capacity_bytes', '', {'tier': 'dram'}, 3 << 30), ('market_epochs', '_total', {}, 12),
                ('trades', '_total', {**hot, 'result': 'partial'}, 1), ('bought_bytes', '_total', {**hot, 'tier': 'dram'}, 96 << 20),
                ('sold_bytes', '_total', {**hot, 'tier': 'slow'}, 384 << 20), ('sold_bytes', '_total', {**hot, 'tier': 'dram'}, 0),
                ('entitled_bytes', '', {**hot, 'tier': 'dram'}, 256 << 20), ('owned_bytes', '', {**hot, 'tier': 'slow'}, 512 << 20)):
            with self.subTest(name, labels=labels):
                self.assertEqual(m['hmvisor_' + name].values(suffix, **labels), [expected])
        self.assertEqual([l['version'] for _, l, _ in m['hmvisor_build_info'].samples], ['0.1.0'])
        self.assertEqual(m['hmvisor_node_memory_bytes'].values(node='1'), [], 'a guess is no tier')
        self.assertEqual({l['domain'] for _, l, _ in m['hmvisor_orders'].samples}, {'hot', 'cold', 'odd'}, 'bound ones only')
        self.assertEqual({l['domain'] for _, l, _ in m['hmvisor_owned_bytes'].samples}, {'hot'}, 'those with an account')

    def test_manual_has_each_family(self):
        page = (HERE.parent.parent / 'man' / 'hmvctl.1').read_text()
        self.assertEqual(sorted(self.metrics()), sorted(re.findall(r'^(hmvisor_\w+)\|T\{', page, re.M)))

    def test_names_are_escaped(self):
        name = 'a"b\\c}d,e="f" # EOF'
        self.fake.tell(f'add {name}')
        self.assertEqual(self.run_hmvctl('bind', name, '--dram', '4M', '--slow', '4M')[0], 0)
        m = self.metrics()
        self.assertEqual(m['hmvisor_orders'].values('_total', domain=name), [0])
        self.assertEqual(m['hmvisor_order_latency_seconds'].values('_count', domain=name), [0])

    def test_other_language(self):
        locales = subprocess.run(['locale', '-a'], capture_output=True, text=True).stdout.split()
        commas = [l for l in locales if l.startswith(('de_', 'fr_', 'ru_'))]
        self.metrics(env={'LC_ALL': commas[0] if commas else 'C'})

    def test_who_may_not_read_the_market(self):
        # It would be allowed to who types a password; nobody is asked for one.
        self.polkit_says('ret = ("read-market" not in args[1] or args[3] == 1, False, {})')
        try:
            m = self.metrics(unprivileged=True)
        finally:
            self.polkit_says('ret = (True, False, {})')
        self.assertEqual(m['hmvisor_promoted_pages'].values('_total', domain='hot'), [24576])
        if os.geteuid() == 0:   # root is not asked for
            self.assertEqual(m['hmvisor_owned_bytes'].samples, [])

    def test_no_daemon(self):
        self.fake.stop()
        code, output, errors = self.run_hmvctl('metrics')
        self.assertEqual(code, 15)
        self.assertIn('hmvisord', errors)
        m = openmetrics.parse(output)
        self.assertEqual(list(m), ['hmvisor_up'])
        self.assertEqual(m['hmvisor_up'].values(), [0])

    def test_file(self):
        folder = self.path / 'collector'
        folder.mkdir()
        file = folder / 'hmvisor.prom'
        self.assertEqual(self.run_hmvctl('metrics', '--output', str(file)), (0, '', ''))
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o644)
        self.assertEqual(openmetrics.parse(file.read_text())['hmvisor_up'].values(), [1])
        with open(file) as before:   # who has it open goes on reading the old one
            before.read(10)
            self.fake.tell('counters hot 7 8')
            self.assertEqual(self.run_hmvctl('metrics', f'--output={file}')[0], 0)
            self.assertIn('# EOF', before.read())
        self.assertEqual(openmetrics.parse(file.read_text())['hmvisor_promoted_pages'].values('_total', domain='hot'), [7])
        self.fake.stop()
        self.assertEqual(self.run_hmvctl('metrics', '--output', str(file))[0], 15)
        self.assertEqual(openmetrics.parse(file.read_text())['hmvisor_up'].values(), [0], 'no old figures stay')
        self.assertEqual([f.name for f in folder.iterdir()], ['hmvisor.prom'])

    def test_file_that_cannot_be_written(self):
        for path in self.path / 'nowhere' / 'x', self.path:
            code, _, errors = self.run_hmvctl('metrics', '--output', str(path))
            self.assertEqual(code, 1)
            self.assertIn(str(path), errors)
        self.assertEqual(list(self.path.parent.glob(self.path.name + '.*')), [])


if __name__ == '__main__':
    unittest.main()
