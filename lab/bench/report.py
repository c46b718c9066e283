#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's report, from the records of its runs.

    report.py line            a record on standard input, as a line for a person
    report.py FOLDER [OLDER]  report.md and plots from FOLDER/records.jsonl, with hmvisor's figures in the folder of an older run;
                              exit status 1 when the harness failed its own check

It leaves nothing out: a figure that is missing is a dash.
"""
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

PLANTED_FACTOR = 2      # by how much the planted good placement must be better at least
PAGES_PER_GIB = 1 << 18

# key, title, how it is printed, whether less is better
MEMORY = [
    ('slow_stores_per_unit', 'slow stores', '{:.3g}', True),
    ('guest_slow_stores_per_unit', "to the guest's memory", '{:.3g}', True),
    ('copy_stores_per_unit', 'and by copies', '{:.3g}', True),
    ('slow_loads_per_unit', 'slow loads', '{:.3g}', True),
    ('slow_write_backs_per_unit', 'slow write-backs (model)', '{:.3g}', True),
    ('slow_share', 'of all stores', '{:.1%}', True),
    ('guest_slow_share', "of the guest's", '{:.1%}', True),
    ('writes_slow', 'own writes to slow', '{:.1%}', True),
    ('writes_slow_since_start', '... since the start', '{:.1%}', True),
    ('hot_on_dram', 'hot set on DRAM', '{:.0%}', False),
    ('pages_moved', 'pages moved', '{:.0f}', True),
    ('moved_per_useful', 'moved per useful', '{:.1f}', True),
    ('arrival_s', 'arrival, s', '{:.0f}', True),
]
SPEED = [
    ('units_per_s', 'work/s', '{:.4g}', False),
    ('instructions_per_unit', 'host instructions', '{:.4g}', True),
    ('units_per_s_cxl', 'work/s, slow as CXL', '{:.4g}', False),
    ('units_per_s_optane', 'slow as Optane', '{:.4g}', False),
    ('modelled_units_per_s_cxl', 'model: CXL', '{:.4g}', False),
    ('modelled_units_per_s_optane', 'model: Optane', '{:.4g}', False),
    ('gap_p99_ms', 'p99 gap, ms', '{:.0f}', True),
    ('gap_longest_ms', 'longest gap, ms', '{:.0f}', True),
]
PEERS = ('tpp', 'damon', 'host')        # CMQ is compared offline
NOTHING_TO_GAIN = ('sort', 'compile', 'idle')
MAIN_SHARE = 25         # per cent of DRAM of the goals
LINES_A_PAGE = 64       # that a demotion writes to slow memory, as hmvsim counts it
CHANGED = ('slow_stores_and_copies_per_unit', 'writes_slow', 'writes_slow_since_start', 'units_per_s', 'instructions_per_unit', 'gap_longest_ms')


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


def median(records, workload, competitor, key):
    three = spread(select(records, workload, competitor), key)
    return three and three[1]


def self_check(records):
    """Whether the planted good placement came out better than the planted bad one: (ok, text)."""
    bad, good = (median(records, 'planted', c, 'slow_stores_per_unit') for c in ('planted-bad', 'planted-good'))
    if bad is None or good is None:
        return False, 'not ok: the planted placements were not both measured'
    text = f'planted bad placement {bad:.3g} slow stores per unit of work, planted good one {good:.3g}'
    ok = bad >= PLANTED_FACTOR * good
    return ok, ('ok: ' if ok else 'not ok: ') + text


def winner(records, workload, competitors, key, less):
    medians = {c: median(records, workload, c, key) for c in competitors}
    medians = {c: m for c, m in medians.items() if m is not None}
    return (min if less else max)(medians, key=medians.get) if medians else '–'


def against(records, workload, competitor, key, base='static'):
    """The competitor's median as a part of the base's, or None."""
    one, other = median(records, workload, base, key), median(records, workload, competitor, key)
    return other / one if one and other is not None else None


def table_of(records, workload, competitors, figures):
    yield '| competitor | ' + ' | '.join(title for _, title, _, _ in figures) + ' |'
    yield '| --- |' + ' --- |' * len(figures)
    for c in competitors:
        mine = select(records, workload, c)
        if mine:
            yield f'| {c} | ' + ' | '.join(show(form, spread(mine, key)) for key, _, form, _ in figures) + ' |'
    best = spread(select(records, workload, 'static'), 'oracle_slow_stores_per_unit')
    if best and figures is MEMORY:
        yield '| oracle (computed) | ' + ' | '.join([show('{:.3g}', best)] + ['–'] * (len(figures) - 1)) + ' |'


def saved_of_oracle(records, workload, competitor='hmvisor'):
    """Which part of the slow stores that the oracle saves it saves, too; None where there is nothing to be saved."""
    static, best = (median(records, workload, 'static', k) for k in ('slow_stores_per_unit', 'oracle_slow_stores_per_unit'))
    mine = median(records, workload, competitor, 'slow_stores_and_copies_per_unit')
    if None in (static, best, mine) or static <= best:
        return None
    return (static - mine) / (static - best)


def verdict_of(records, workload, competitors):
    """Who won, and hmvisor against static and the oracle."""
    yield (f"Fewest slow stores: {winner(records, workload, competitors, 'slow_stores_per_unit', True)}. "
           f"Most work per second: {winner(records, workload, competitors, 'units_per_s', False)}. "
           f"Fewest host instructions: {winner(records, workload, competitors, 'instructions_per_unit', True)}.")
    changes = [(against(records, workload, 'hmvisor', key), what) for key, what in (
        ('slow_stores_and_copies_per_unit', 'slow stores, copies too'), ('writes_slow', 'own writes to slow memory'), ('instructions_per_unit', 'host instructions'))]
    text = ', '.join(f'{ratio - 1:+.1%} {what}' for ratio, what in changes if ratio is not None)
    saved = saved_of_oracle(records, workload)
    if saved is not None:
        text += f'; of what the oracle saves, it saves {saved:.0%}'
    if text:
        yield f'hmvisor against static: {text}.'


# ---- the goals ----

def verdict(reached):
    return 'reached' if reached else 'missed'


def goal_of_writes(records):
    ratio, saved = against(records, 'skewed', 'hmvisor', 'slow_stores_and_copies_per_unit'), saved_of_oracle(records, 'skewed')
    if ratio is None or saved is None:
        return '–', 'not measured'
    return f'{ratio - 1:+.0%}; {saved:.0%} of what the oracle saves', verdict(ratio <= 0.2 and saved >= 0.9)


def goal_of_peer(records, workloads, peer):
    """Fewer slow stores, and at least as much work, on each workload on which both were measured."""
    stores = {w: against(records, w, 'hmvisor', 'slow_stores_and_copies_per_unit', peer) for w in workloads}
    work = {w: against(records, w, 'hmvisor', 'units_per_s', peer) for w in workloads}
    known = [w for w in workloads if stores[w] is not None and work[w] is not None]
    if not known:
        return '–', 'not measured'
    text = '; '.join(f'{w}: {stores[w]:.2f} of its slow stores, {work[w]:.2f} of its work/s' for w in known)
    return text, verdict(all(stores[w] < 1 and work[w] >= 1 for w in known))


def goal_of_overhead(records, workloads):
    costs = {w: against(records, w, 'hmvisor', 'instructions_per_unit') for w in workloads if w in NOTHING_TO_GAIN}
    costs = {w: c for w, c in costs.items() if c is not None}
    if not costs:
        return '–', 'not measured'
    return '; '.join(f'{w}: {c - 1:+.1%} host instructions' for w, c in costs.items()), verdict(max(costs.values()) < 1.01)


def goal_of_pauses(records, workloads):
    gaps = {w: [median(records, w, c, 'gap_longest_ms') for c in ('static', 'hmvisor')] for w in workloads}
    gaps = {w: g for w, g in gaps.items() if None not in g}
    if not gaps:
        return '–', 'not measured'
    text = '; '.join(f'{w}: {own:.0f} ms (static {base:.0f})' for w, (base, own) in gaps.items())
    return text, verdict(all(own <= base + 10 for base, own in gaps.values()))


def goal_of_memory(records):
    sizes = spread([r for r in records if r.get('daemon_rss_kib_per_gib')], 'daemon_rss_kib_per_gib')
    if not sizes:
        return '–', 'not measured'
    return f'{sizes[1] * 1024 / PAGES_PER_GIB:.0f} bytes a page, the constant included', 'see core-memory for the part that grows'


def place_ratio(place, trace, competitor, copies):
    """Stores to slow memory of a competitor as a part of static's, the lines of demoted pages too or not."""
    mine = {r['competitor']: r for r in place if r['trace'] == trace}
    lines = mine[competitor]['slow_stores'] + copies * LINES_A_PAGE * mine[competitor]['demoted_pages']
    return lines / (mine['static']['slow_stores'] or 1)


def goal_of_cmq(place):
    pairs = {t: [place_ratio(place, t, c, True) for c in ('hmvisor', 'cmq')] for t in ordered(r['trace'] for r in place)}
    if not pairs:
        return '–', 'not measured'
    text = '; '.join(f'{t}: {own:.0%} of static (CMQ {cmq:.0%})' for t, (own, cmq) in pairs.items())
    return text, verdict(all(own < cmq for own, cmq in pairs.values()))


def goals(records, workloads, tick, place=()):
    yield '| figure | goal | measured | |'
    yield '| --- | --- | --- | --- |'
    rows = [('slow-node stores against static, skewed', '-80%, 90% of the oracle', *goal_of_writes(records))]
    rows += [(f'against {peer}', 'fewer slow stores, no less work', *goal_of_peer(records, workloads, peer)) for peer in PEERS]
    rows += [('against CMQ, on traces, copies too', 'fewer slow stores', *goal_of_cmq(place)),
             ('overhead with nothing to gain', 'below 1%', *goal_of_overhead(records, workloads)),
             ('longest gap between 10 ms ticks', 'none added that the ticker sees', *goal_of_pauses(records, workloads)),
             ("the daemon's memory", '2 bytes a page and a constant', *goal_of_memory(records))]
    if tick:
        ratios = [float(line.split('ratio ')[1].split(';')[0].split(',')[0]) for line in tick if '1024 GiB' in line]
        rows.append(('a tick for 1 TiB against reading its counters', 'at most 1.5 times',
                     f'{min(ratios):.2f} to {max(ratios):.2f} times, by how much is written (below)', verdict(max(ratios) <= 1.5)))
    for row in rows:
        yield '| ' + ' | '.join(row) + ' |'


# ---- the whole ----

def offline(folder):
    """What was computed without the lab: (lines of the tick's benchmark, records of 'hmvsim place')."""
    tick, place = folder / 'tick.txt', folder / 'place.jsonl'
    return ([line for line in tick.read_text().splitlines() if 'ratio ' in line] if tick.exists() else [],
            [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else [])


def place_table(place, copies):
    """hmvisor's planner and RAMinate's, on the same traces: stores to slow memory as a part of static's."""
    competitors = ordered(r['competitor'] for r in place)
    yield '| trace | ' + ' | '.join(competitors) + ' |'
    yield '| --- |' + ' --- |' * len(competitors)
    for trace in ordered(r['trace'] for r in place):
        yield f'| {trace} | ' + ' | '.join(f'{place_ratio(place, trace, c, copies):.1%}' for c in competitors) + ' |'


BAR = 40        # columns that stand for what static has


def bars(records, workloads, competitors, key):
    """A picture for a terminal: each competitor's figure as a part of static's, which is at the mark."""
    for w in workloads:
        for i, c in enumerate(competitors):
            ratio = against(records, w, c, key)
            if ratio is not None:
                drawn = '#' * min(round(ratio * BAR), BAR + 20) + ('>' if ratio * BAR > BAR + 20 else '')
                yield f"{w if i == 0 else '':<10}{c:<14}{drawn.ljust(BAR)[:BAR]}|{drawn[BAR:]} {ratio:.2f}"


def changes_table(records, before):
    """hmvisor before and after, where both were measured."""
    titles = {key: (title, form) for key, title, form, _ in MEMORY + SPEED}
    titles['slow_stores_and_copies_per_unit'] = ('slow stores, copies too', '{:.3g}')
    yield '| workload | ' + ' | '.join(titles[key][0] for key in CHANGED) + ' |'
    yield '| --- |' + ' --- |' * len(CHANGED)
    for w in ordered(r['workload'] for r in records):
        old, new = (select(rs, w, 'hmvisor') for rs in (before, records))
        if old and new:
            yield f'| {w} | ' + ' | '.join(f'{show(titles[k][1], spread(old, k))} → {show(titles[k][1], spread(new, k))}' for k in CHANGED) + ' |'


def sections(records, competitors, share):
    """Each workload, with one share of DRAM; share: what is said of it in the title."""
    for w in ordered(r['workload'] for r in records):
        yield from ('', f'## {w}{share}', '')
        yield from table_of(records, w, competitors, MEMORY)
        yield ''
        yield from table_of(records, w, competitors, SPEED)
        yield ''
        yield from verdict_of(records, w, competitors)


def main_share(records):
    """The share of DRAM that goals and plots are about: MAIN_SHARE, or the first that was measured."""
    shares = ordered(r.get('dram_share') for r in records if r['workload'] != 'planted')
    return MAIN_SHARE if MAIN_SHARE in shares or not shares else shares[0]


def of_share(records, share):
    return [r for r in records if r.get('dram_share') == share and r['workload'] != 'planted']


HOW = """Median (least to greatest) of the repetitions, which took turns; every competitor had the same warm-up and the same windows.
In the first window only instructions are counted, and everybody goes on moving pages: work, host instructions, gaps between 10 ms ticks
and own writes to slow are of this one, the last being which share of the workload's own writes went to slow memory, by pages drawn each
second; and the same since the start of the work, which tells more where the hot set moves. Then nobody moves pages any more, as the machine gets several times slower and whatever goes by the clock would weigh as many times
more, and every access is counted: stores, loads and write-backs are of the whole host on the slow node, per unit of work, with the
pages where they were by then. "By copies": what moving pages itself stored to slow memory per unit of work in the first window, at 512
stores for every second page moved. "Of the guest's" is the part of the stores to the guest's own pages that went to slow memory.
Write-backs are what a cache of {cache}, 8 ways, one for the CPU, would make of the stores. "Slow as": in two
more windows the meter makes each line that this cache fills from memory, or writes back, take as long as bench/parts says,
DRAM's too, times 3: the emulated processor is slower still. "Model": what a processor of 3 GHz, an instruction a cycle, would do
with the instructions of the first window and the lines of the second, waiting for each. Pages moved: all that the guest's kernel moved (under
"host": the host's), from the start of the work to the end of the first window, for whatever reason; per useful page: for each page by which
the hot set on DRAM grew. Arrival: median time until 90% of a hot set that moved was on DRAM, where it got there. The oracle puts the pages
that were written most under "static" on DRAM, the kernel's own among them, and never moves one: it is the least that a static placement can
reach, and one that follows a moving hot set can be better.

What this cannot show: hardware's speed. All is emulated, and an overhead is larger than on hardware: a page fault of a guest passes
two emulated levels of virtualization. There is no PML and no PEBS."""


def report(records, machine, tick=(), place=(), before=()):
    competitors = ordered(r['competitor'] for r in records if not r['competitor'].startswith('planted'))
    workloads = ordered(r['workload'] for r in records if r['workload'] != 'planted')
    shares = ordered(r.get('dram_share') for r in records if r['workload'] != 'planted')
    share = main_share(records)
    mine = of_share(records, share)
    yield f"# Benchmark of {machine.get('date', '?')}"
    yield ''
    yield (f"Commit {machine.get('commit')}, {machine.get('hmvisor')}. One lab host (emulated by {machine.get('qemu')}, on {machine.get('cpus')} CPUs), in it "
           f"{', '.join(machine.get('host', []))}; a guest of {machine.get('memory_mib')} MiB, {share}% of it DRAM where nothing else is said, kernel {machine.get('guest_kernel')}.")
    yield ''
    yield f'The harness checks itself: {self_check(records)[1]}.'
    yield from ('', '## Goals', '')
    yield from goals(mine, workloads, tick, place)
    yield from ('', '## Stores to slow memory per unit of work, copies too, static = 1', '', '```')
    yield from bars(mine, workloads, competitors, 'slow_stores_and_copies_per_unit')
    yield '```'
    if before:
        yield from ('', f"## hmvisor before ({', '.join(ordered(r.get('commit', '?') for r in before))}) and after", '')
        yield from changes_table(mine, of_share(before, share))
    for s in [share, *(s for s in shares if s != share)]:
        yield from sections(of_share(records, s), competitors, '' if s == share else f', {s}% DRAM')
    daemon = [r for r in records if r.get('daemon_cpu_percent') is not None]
    if daemon:
        yield from ('', '## The daemon', '')
        yield (f"hmvisord took {show('{:.2f}', spread(daemon, 'daemon_cpu_percent'))} per cent of the emulated processor and "
               f"{show('{:.0f}', spread(daemon, 'daemon_rss_kib'))} KiB of memory, "
               f"{show('{:.0f}', spread(daemon, 'daemon_rss_kib_per_gib'))} KiB for each GiB of guest.")
    if tick:
        yield from ('', '## A tick for large guests', '', '```', *tick, '```')
    if place:
        yield from ('', "## Against RAMinate's planner, on traces (hmvsim place)", '')
        for copies, what in ((False, 'Copies of moved pages not counted.'), (True, 'The lines that copies of demoted pages write counted, too.')):
            yield from (f'Stores to slow memory, as a part of those of static first touch. {what}', '')
            yield from place_table(place, copies)
            yield ''
    yield from ('', '## How to read this', '', HOW.format(cache=machine.get('cache')))
    missing = [f'{w}/{c}' for w in workloads for c in competitors if not select(mine, w, c)]
    if missing:
        yield from ('', 'Not measured: ' + ', '.join(missing) + '.')


PLOTS = [('slow-stores', 'slow_stores_and_copies_per_unit', 'slow stores per unit of work, copies too, static = 1'),
         ('work', 'units_per_s', 'work per second, static = 1'),
         ('work-optane', 'units_per_s_optane', 'work per second, slow memory as slow as Optane, static = 1'),
         ('instructions', 'instructions_per_unit', 'host instructions per unit of work, static = 1')]


def plot_script(records, key, title, out):
    """Bars for each workload, relative to static; the script for gnuplot, or None where there is nothing to be drawn."""
    competitors = ordered(r['competitor'] for r in records if not r['competitor'].startswith('planted'))
    workloads = [w for w in ordered(r['workload'] for r in records) if w != 'planted']
    lines = ['$data << END', 'workload ' + ' '.join(competitors)]
    if all(against(records, w, c, key) is None for w in workloads for c in competitors):
        return None     # no run under static, or none that has this figure
    for w in workloads:
        ratios = (against(records, w, c, key) for c in competitors)
        lines.append(w + ' ' + ' '.join('?' if r is None else f'{r:.4f}' for r in ratios))
    lines += ['END', "set terminal pngcairo size 1100,500", f"set output '{out}'", "set datafile missing '?'",
              'set style data histograms', 'set style fill solid 0.8', 'set key outside', 'set grid ytics', 'set yrange [0:*]',
              f"set title '{title}'", "plot for [i=2:%d] $data using i:xtic(1) title columnheader(i)" % (len(competitors) + 1)]
    return '\n'.join(lines) + '\n'


def records_of(folder):
    return [json.loads(line) for line in (folder / 'records.jsonl').read_text().splitlines()]


def write_report(folder, older=None):
    records = records_of(folder)
    machine = json.loads((folder / 'machine.json').read_text())
    text = '\n'.join(report(records, machine, *offline(folder), records_of(older) if older else ())) + '\n'
    if shutil.which('gnuplot'):
        for name, key, title in PLOTS:
            script = plot_script(of_share(records, main_share(records)), key, title, folder / (name + '.png'))
            if script:
                subprocess.run(['gnuplot'], input=script, text=True, check=True)
                text += f'\n![{title}]({name}.png)\n'
    else:
        print('hmvlab: no plots: gnuplot is not installed (Debian: gnuplot-nox)', file=sys.stderr)
    (folder / 'report.md').write_text(text)
    print(text)
    return 0 if self_check(records)[0] else 1


def main(argv):
    if argv == ['line']:
        r = json.load(sys.stdin)
        print('  ' + ', '.join(f'{title} {form.format(r[key])}' for key, title, form, _ in MEMORY + SPEED if r.get(key) is not None))
        return 0
    if len(argv) in (1, 2):
        return write_report(*map(pathlib.Path, argv))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
