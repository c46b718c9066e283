#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Computes the benchmark's figures, from what 'hmvlab bench' has collected.

    bench.py record RUN      one record, from the files of one run
    bench.py line            a record on standard input, as a line for a person
    bench.py report FOLDER   report.md and plots from FOLDER/records.jsonl; exit status 1 when the harness failed its own check

It measures nothing, and leaves nothing out: a figure that is missing is a dash.
"""
import array
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

FRAME = 4096
PRESENT, PFN = 1 << 63, (1 << 55) - 1
Q35_SPLIT_FROM, Q35_LOW_RAM, HIGH_RAM_BASE = 0xb0000000, 0x80000000, 1 << 32    # as in meter.c
PLANTED_FACTOR = 2      # by how much the planted good placement must be better at least

# key, title, how it is printed, whether less is better
FIGURES = [
    ('slow_stores_per_unit', 'slow stores', '{:.3g}', True),
    ('writes_slow', 'own writes to slow', '{:.1%}', True),
    ('slow_share', 'of all stores', '{:.1%}', True),
    ('slow_loads_per_unit', 'slow loads', '{:.3g}', True),
    ('slow_write_backs_per_unit', 'slow write-backs (model)', '{:.3g}', True),
    ('units_per_s', 'work/s', '{:.4g}', False),
    ('instructions_per_unit', 'host instructions', '{:.4g}', True),
    ('gap_p99_ms', 'p99 gap, ms', '{:.0f}', True),
    ('gap_longest_ms', 'longest gap, ms', '{:.0f}', True),
    ('hot_on_dram', 'hot set on DRAM', '{:.0%}', False),
    ('pages_moved', 'pages moved', '{:.0f}', True),
    ('moved_per_useful', 'moved per useful', '{:.1f}', True),
    ('arrival_s', 'arrival, s', '{:.0f}', True),
]


# ---- one run ----

def frame_of_pfn(pfn, low_ram):
    """Number of a frame in the meter's order, or None where there is no RAM."""
    at = pfn * FRAME
    if at >= HIGH_RAM_BASE:
        return (at - HIGH_RAM_BASE + low_ram) // FRAME
    return at // FRAME if at < low_ram else None


def guest_frames(pagemap, node_bytes):
    """The host's frames that hold a guest's memory, from the page map of its QEMU."""
    low_ram = Q35_LOW_RAM if sum(node_bytes) >= Q35_SPLIT_FROM else sum(node_bytes)
    entries = array.array('Q', pagemap)
    frames = {frame_of_pfn(e & PFN, low_ram) for e in entries if e & PRESENT}
    frames.discard(None)
    return frames


def frames_between(before, after, frames, node_bytes):
    """Loads and stores of some frames between two readings: a list of (node, loads, stores)."""
    before, after = array.array('I', before), array.array('I', after)
    first_slow = node_bytes[0] // FRAME
    return [(int(f >= first_slow), (after[2 * f] - before[2 * f]) & 0xffffffff,
             (after[2 * f + 1] - before[2 * f + 1]) & 0xffffffff) for f in frames]


def oracle(pages, dram_pages):
    """Stores that still go to slow memory when the pages written most lie on DRAM and never move: the best static placement."""
    stores = sorted((s for _, _, s in pages), reverse=True)
    return sum(stores[dram_pages:])


def rate(before, after):
    """Units of work per second, or None where none was done between the two samples."""
    if None in (before['units'], before['ms'], after['units'], after['ms']) or after['ms'] <= before['ms']:
        return None
    done = (after['units'] - before['units']) / (after['ms'] - before['ms']) * 1000
    return done or None


def hot_share(sample):
    w = sample['workload'] or {}
    return w['hot_by_node'].get('0', 0) / w['hot_pages'] if w.get('hot_pages') else None


def writes_slow(sample):
    """Which share of the workload's own writes goes to slow memory: by its law, or all pages alike. It depends neither on
    how fast the guest is while it is metered, nor on what else is stored."""
    w = sample['workload'] or {}
    if w.get('writes_by_node'):
        return w['writes_by_node'].get('1', 0)
    return None if hot_share(sample) is None else 1 - hot_share(sample)


def moved_between(start, end):
    """The kernel's own counters of pages moved."""
    return {k: end['vmstat'][k] - start['vmstat'].get(k, 0) for k in end['vmstat']}


def arrivals(start, end):
    """Seconds that each move of the hot set since the start took to be on DRAM; None: it did not get there before the
    next one. The last move may be on its way still, and does not count then."""
    moves = (end['workload'] or {}).get('moves') or []
    since = (start['workload'] or {}).get('elapsed_ms') or 0
    times = [ms / 1000 if ms else None for at, ms in moves if at >= since]
    return times[:-1] if times and times[-1] is None else times


def figures(run, samples, meters, pages):
    """All figures of one run. samples and meters: by the files' names; pages: of the guest, (node, loads, stores)."""
    plain, metered = meters['plain'], meters['metered']
    plain_rate = rate(samples['plain-before'], samples['plain-after'])
    metered_rate = rate(samples['metered-before'], samples['metered-after'])
    units = metered_rate and metered_rate * metered['seconds']
    start, end = samples['start'], samples['metered-after']
    dram_pages = run['dram_pages']
    by_node = [[sum(p[k] for p in pages if p[0] == n) for k in (1, 2)] for n in (0, 1)]
    slow = metered['nodes'][1]
    moved = moved_between(start, end)
    out = {
        'units_per_s': plain_rate,
        'metered_units_per_s': metered_rate,
        'instructions_per_unit': plain_rate and plain['instructions'] / (plain_rate * plain['seconds']),
        'stores': [n['stores'] for n in metered['nodes']],
        'loads': [n['loads'] for n in metered['nodes']],
        'guest_loads': [n[0] for n in by_node],
        'guest_stores': [n[1] for n in by_node],
        'guest_pages': [sum(1 for p in pages if p[0] == n) for n in (0, 1)],
        'slow_share': slow['stores'] / max(1, sum(n['stores'] for n in metered['nodes'])),
        'gap_longest_ms': (samples['plain-after']['workload'] or {}).get('longest_gap_ms'),
        'gap_p99_ms': (samples['plain-after']['workload'] or {}).get('p99_gap_ms'),
        'free_dram_at_start': start['free_dram'],
        'hot_on_dram_at_start': hot_share(start),
        'hot_on_dram': hot_share(end),
        'writes_slow_at_start': writes_slow(start),
        'writes_slow': writes_slow(end),
        'vmstat': moved,
        'pages_moved': moved.get('pgmigrate_success'),
        'arrivals_s': arrivals(start, end),
    }
    for name, value in (('slow_stores', slow['stores']), ('slow_loads', slow['loads']), ('slow_write_backs', slow['write_backs']),
                        ('slow_fills', slow['fills']), ('guest_slow_stores', by_node[1][1]), ('guest_slow_loads', by_node[1][0]),
                        ('oracle_slow_stores', oracle(pages, dram_pages))):
        out[name + '_per_unit'] = units and value / units
    useful = None
    if samples['start']['workload'] and not out['arrivals_s'] and out['hot_on_dram'] is not None:
        useful = (out['hot_on_dram'] - out['hot_on_dram_at_start']) * samples['start']['workload']['hot_pages']
    out['moved_per_useful'] = out['pages_moved'] / useful if useful and useful >= 64 else None
    reached = [a for a in out['arrivals_s'] if a is not None]
    out['arrival_s'] = statistics.median(reached) if reached else None
    out['arrivals_missed'] = len(out['arrivals_s']) - len(reached)
    return out


def daemon_figures(before, after, seconds, gib):
    if not before or not after:
        return {}
    return {'daemon_cpu_percent': (after['cpu_ms'] - before['cpu_ms']) / seconds / 10, 'daemon_rss_kib': after['rss_kib'],
            'daemon_rss_kib_per_gib': after['rss_kib'] / gib, 'daemon_stats': after['stats']}


def record(folder):
    def load(name):
        return json.loads((folder / name).read_text())

    run = load('run.json')
    node_bytes = run['host_nodes']
    frames = guest_frames((folder / 'pagemap').read_bytes(), node_bytes)
    pages = frames_between((folder / 'before.frames').read_bytes(), (folder / 'after.frames').read_bytes(), frames, node_bytes)
    run['dram_pages'] = run['dram_mib'] * 2**20 // FRAME
    names = ('start', 'plain-before', 'plain-after', 'metered-before', 'metered-after')
    out = figures(run, {n: load(n + '.json') for n in names}, {n: load(n + '-meter.json') for n in ('plain', 'metered')}, pages)
    seconds = load('plain-meter.json')['seconds']
    out.update(daemon_figures(load('plain-before-daemon.json'), load('plain-after-daemon.json'), seconds,
                              len(pages) * FRAME / 2**30))
    return {**run, **out, 'settings': (folder / 'settings').read_text().strip(), 'settings_at_end': load('metered-after.json')['settings']}


# ---- many runs ----

def spread(records, key):
    """Least, median and greatest of a figure, or None."""
    values = [r[key] for r in records if r.get(key) is not None]
    return (min(values), statistics.median(values), max(values)) if values else None


def show(form, three):
    if three is None:
        return '–'
    low, middle, high = (form.format(v) for v in three)
    return middle if low == high else f'{middle} ({low} to {high})'


def ordered(values):
    return list(dict.fromkeys(values))


def select(records, workload, competitor):
    return [r for r in records if r['workload'] == workload and r['competitor'] == competitor]


def self_check(records):
    """Whether the planted good placement came out better than the planted bad one: (ok, text)."""
    bad, good = (spread(select(records, 'planted', c), 'slow_stores_per_unit') for c in ('planted-bad', 'planted-good'))
    if not bad or not good:
        return False, 'not ok: the planted placements were not both measured'
    text = f'planted bad placement {bad[1]:.3g} slow stores per unit of work, planted good one {good[1]:.3g}'
    ok = bad[1] >= PLANTED_FACTOR * good[1]
    return ok, ('ok: ' if ok else 'not ok: ') + text


def winner(records, workload, competitors, key, less):
    medians = {c: spread(select(records, workload, c), key) for c in competitors}
    medians = {c: m[1] for c, m in medians.items() if m}
    return (min if less else max)(medians, key=medians.get) if medians else '–'


def against_static(records, workload, competitor, key):
    static, other = (spread(select(records, workload, c), key) for c in ('static', competitor))
    return other[1] / static[1] if static and other and static[1] else None


def table_of(records, workload, competitors):
    yield '| competitor | ' + ' | '.join(title for _, title, _, _ in FIGURES) + ' |'
    yield '| --- |' + ' --- |' * len(FIGURES)
    for c in competitors:
        mine = select(records, workload, c)
        if mine:
            yield f'| {c} | ' + ' | '.join(show(form, spread(mine, key)) for key, _, form, _ in FIGURES) + ' |'
    static = select(records, workload, 'static')
    best = spread(static, 'oracle_slow_stores_per_unit')
    if best:
        yield '| oracle (computed) | ' + ' | '.join([show('{:.3g}', best)] + ['–'] * (len(FIGURES) - 1)) + ' |'


def verdict_of(records, workload, competitors):
    """Who won, and hmvisor against static and the oracle."""
    yield (f"Fewest slow stores: {winner(records, workload, competitors, 'slow_stores_per_unit', True)}. "
           f"Most work per second: {winner(records, workload, competitors, 'units_per_s', False)}. "
           f"Fewest host instructions: {winner(records, workload, competitors, 'instructions_per_unit', True)}.")
    stores = against_static(records, workload, 'hmvisor', 'slow_stores_per_unit')
    if stores is None:
        return
    cost = against_static(records, workload, 'hmvisor', 'instructions_per_unit')
    text = f'hmvisor against static: {stores - 1:+.1%} slow stores'
    own = against_static(records, workload, 'hmvisor', 'writes_slow')
    if own is not None:
        text += f', {own - 1:+.1%} own writes to slow memory'
    if cost is not None:
        text += f', {cost - 1:+.1%} host instructions'
    static = spread(select(records, workload, 'static'), 'slow_stores_per_unit')
    best = spread(select(records, workload, 'static'), 'oracle_slow_stores_per_unit')
    mine = spread(select(records, workload, 'hmvisor'), 'slow_stores_per_unit')
    if best and static[1] > best[1]:
        text += f'; of what the oracle saves, it saves {(static[1] - mine[1]) / (static[1] - best[1]):.0%}'
    yield text + '.'


def report(records, machine):
    competitors = ordered(r['competitor'] for r in records if not r['competitor'].startswith('planted'))
    workloads = ordered(r['workload'] for r in records if r['workload'] != 'planted')
    yield f"# Benchmark of {machine.get('date', '?')}"
    yield ''
    yield (f"Commit {machine.get('commit')}, {machine.get('hmvisor')}. One lab host (emulated by {machine.get('qemu')}, on {machine.get('cpus')} CPUs), in it "
           f"{', '.join(machine.get('host', []))}; one guest of {machine.get('memory_mib')} MiB, {machine.get('dram_share')}% of it DRAM, kernel {machine.get('guest_kernel')}.")
    yield ''
    yield f'The harness checks itself: {self_check(records)[1]}.'
    for w in workloads:
        yield from ('', f'## {w}', '')
        yield from table_of(records, w, competitors)
        yield ''
        yield from verdict_of(records, w, competitors)
    daemon = [r for r in records if r.get('daemon_cpu_percent') is not None]
    if daemon:
        yield from ('', '## The daemon', '')
        yield (f"hmvisord took {show('{:.2f}', spread(daemon, 'daemon_cpu_percent'))} per cent of the emulated processor and "
               f"{show('{:.0f}', spread(daemon, 'daemon_rss_kib'))} KiB of memory, "
               f"{show('{:.0f}', spread(daemon, 'daemon_rss_kib_per_gib'))} KiB for each GiB of guest.")
    yield from ('', '## How to read this', '')
    yield ('Median (least to greatest) of the repetitions, which took turns; every competitor had the same warm-up and the same two windows. '
           'Stores, loads and write-backs are of the whole host on the slow node, per unit of work, counted one by one in the second window; '
           'what guests and host store besides weighs more per unit the slower the work is. Own writes to slow: which share of the workload\'s writes goes to slow '
           'memory as its pages lie at the end, by the law that they follow. '
           f"write-backs are what a cache of {machine.get('cache')}, 8 ways, one for the CPU, would make of them. Work, host instructions and gaps "
           'between 10 ms ticks are of the first window, in which only instructions are counted. Pages moved: all that the guest\'s kernel moved, '
           'from the start of the work to its end, for whatever reason; per useful page: for each page by which the hot set on DRAM grew. Arrival: '
           'median time until 90% of a hot set that moved was on DRAM, where it got there. The oracle puts the pages that were written most under "static" on DRAM, the kernel\'s own among '
           'them, and never moves one: it is the least that a static placement can reach, and one that follows a moving hot set can be better.')
    yield ''
    yield ('What this cannot show: speed. Both nodes are equally fast here, and all is emulated, so work per second tells of overhead only, and more of it than '
           'there is on hardware: a page fault of a guest passes two emulated levels of virtualization. There is no PML and no PEBS. While accesses are '
           'counted, the machine is several times slower, and daemons that go by the clock take a larger part of it.')
    missing = [f'{w}/{c}' for w in workloads for c in competitors if not select(records, w, c)]
    if missing:
        yield from ('', 'Not measured: ' + ', '.join(missing) + '.')


PLOTS = [('slow-stores', 'slow_stores_per_unit', 'slow stores per unit of work, static = 1'),
         ('work', 'units_per_s', 'work per second, static = 1'),
         ('instructions', 'instructions_per_unit', 'host instructions per unit of work, static = 1')]


def plot_script(records, key, title, out):
    """Bars for each workload, relative to static; the script for gnuplot."""
    competitors = ordered(r['competitor'] for r in records if not r['competitor'].startswith('planted'))
    workloads = [w for w in ordered(r['workload'] for r in records) if w != 'planted']
    lines = ['$data << END', 'workload ' + ' '.join(competitors)]
    for w in workloads:
        ratios = (against_static(records, w, c, key) for c in competitors)
        lines.append(w + ' ' + ' '.join('?' if r is None else f'{r:.4f}' for r in ratios))
    lines += ['END', "set terminal pngcairo size 1100,500", f"set output '{out}'", "set datafile missing '?'",
              'set style data histograms', 'set style fill solid 0.8', 'set key outside', 'set grid ytics', 'set yrange [0:*]',
              f"set title '{title}'", "plot for [i=2:%d] $data using i:xtic(1) title columnheader(i)" % (len(competitors) + 1)]
    return '\n'.join(lines) + '\n'


def write_report(folder):
    records = [json.loads(line) for line in (folder / 'records.jsonl').read_text().splitlines()]
    machine = json.loads((folder / 'machine.json').read_text())
    text = '\n'.join(report(records, machine)) + '\n'
    if shutil.which('gnuplot'):
        for name, key, title in PLOTS:
            subprocess.run(['gnuplot'], input=plot_script(records, key, title, folder / (name + '.png')), text=True, check=True)
            text += f'\n![{title}]({name}.png)\n'
    else:
        print('hmvlab: no plots: gnuplot is not installed (Debian: gnuplot-nox)', file=sys.stderr)
    (folder / 'report.md').write_text(text)
    print(text)
    return 0 if self_check(records)[0] else 1


def main(argv):
    if argv[:1] == ['record'] and len(argv) == 2:
        print(json.dumps(record(pathlib.Path(argv[1])), separators=(',', ':')))
        return 0
    if argv == ['line']:
        r = json.load(sys.stdin)
        print('  ' + ', '.join(f'{title} {form.format(r[key])}' for key, title, form, _ in FIGURES if r.get(key) is not None))
        return 0
    if argv[:1] == ['report'] and len(argv) == 2:
        return write_report(pathlib.Path(argv[1]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
