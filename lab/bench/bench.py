#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Computes the figures of one run of the benchmark, from what 'hmvlab bench' has collected in its folder RUN, and prints
them as one line of JSON. It measures nothing; a figure that cannot be told is null.

    bench.py RUN
    bench.py RUN --trace      what was counted of each page in each second, as a trace for 'hmvsim place'
"""
import array
import json
import pathlib
import statistics
import sys

FRAME = 4096
PRESENT, PFN = 1 << 63, (1 << 55) - 1
Q35_SPLIT_FROM, Q35_LOW_RAM, HIGH_RAM_BASE = 0xb0000000, 0x80000000, 1 << 32    # as in meter.c
NS_PER_INSTRUCTION = 1 / 3      # of the modelled processor: one a cycle at 3 GHz
STORES_A_PAGE = 512
PARTS = pathlib.Path(__file__).resolve().parent / 'parts'


# ---- one run ----

def frame_of_pfn(pfn, low_ram):
    """Number of a frame in the meter's order, or None where there is no RAM."""
    at = pfn * FRAME
    if at >= HIGH_RAM_BASE:
        return (at - HIGH_RAM_BASE + low_ram) // FRAME
    return at // FRAME if at < low_ram else None


def guest_frame_list(pagemap, node_bytes):
    """The host's frame of each page of the guest, in the order of the page map of its QEMU; None where there is none."""
    low_ram = Q35_LOW_RAM if sum(node_bytes) >= Q35_SPLIT_FROM else sum(node_bytes)
    return [frame_of_pfn(e & PFN, low_ram) if e & PRESENT else None for e in array.array('Q', pagemap)]


def guest_frames(pagemap, node_bytes):
    """The host's frames that hold a guest's memory."""
    return set(guest_frame_list(pagemap, node_bytes)) - {None}


def frames_between(before, after, frames, node_bytes):
    """Loads and stores of some frames between two readings: a list of (node, loads, stores)."""
    before, after = array.array('I', before), array.array('I', after)
    first_slow = node_bytes[0] // FRAME
    return [(int(f >= first_slow), (after[2 * f] - before[2 * f]) & 0xffffffff,
             (after[2 * f + 1] - before[2 * f + 1]) & 0xffffffff) for f in frames]


def trace_lines(frame_list, readings):
    """hmvsim's format (hmvsim(1)), from readings of all frames, a second between two of them."""
    yield 'hmvisor-trace 1'
    yield f'pages {len(frame_list)}'
    before = array.array('I', next(readings))
    for text in readings:
        after = array.array('I', text)
        yield 'second'
        for page, f in enumerate(frame_list):
            if f is not None and (before[2 * f] != after[2 * f] or before[2 * f + 1] != after[2 * f + 1]):
                yield f'{page} {(after[2 * f + 1] - before[2 * f + 1]) & 0xffffffff} {(after[2 * f] - before[2 * f]) & 0xffffffff}'
        before = after


def trace(folder):
    node_bytes = json.loads((folder / 'run.json').read_text())['host_nodes']
    files = sorted(folder.glob('trace.*'), key=lambda p: int(p.suffix[1:]))
    return trace_lines(guest_frame_list((folder / 'pagemap').read_bytes(), node_bytes), (p.read_bytes() for p in files))


def oracle(pages, dram_pages):
    """Stores that still go to slow memory when the pages written most lie on DRAM and never move: the best static placement."""
    stores = sorted((s for _, _, s in pages), reverse=True)
    return sum(stores[dram_pages:])


def clock_offset(samples):
    """By how many ms the guest's clock is ahead of ours: each sample says that it was taken between two times."""
    low = max(s['guest']['now_ms'] - s['asked_ms'][1] for s in samples)
    high = min(s['guest']['now_ms'] - s['asked_ms'][0] for s in samples)
    return (low + high) / 2


def log_read(text):
    """The guest's log: [(ms, units, ...)]."""
    return [tuple(map(int, line.split())) for line in text.splitlines() if len(line.split()) >= 2]


def log_within(log, window, offset):
    """The lines of a window of our clock. The clocks are not known to the second, so the first one of the window is left
    out, and the last half."""
    return [line for line in log if window[0] + offset + 1000 <= line[0] <= window[1] + offset - 500]


def writes_slow_within(log, window, offset):
    """Which share of the workload's own writes went to slow memory meanwhile, by pages drawn each second; None: not told."""
    shares = [line[2] / 10000 for line in log_within(log, window, offset) if len(line) > 2 and line[2] >= 0]
    return statistics.mean(shares) if shares else None


def rate(log, window, offset):
    """Units of work per second within a window of our clock, or None."""
    mine = log_within(log, window, offset)
    if len(mine) < 2 or mine[-1][0] <= mine[0][0]:
        return None
    return (mine[-1][1] - mine[0][1]) / (mine[-1][0] - mine[0][0]) * 1000 or None


def hot_share(sample):
    """Of the hot set, as its guest sees it; None where that has one node only."""
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


def modelled_rate(instructions, nodes, seconds, units_per_s, part):
    """Units of work per second of a processor that does an instruction in NS_PER_INSTRUCTION and waits for each line that its
    cache fills or writes back as long as part says, by what was counted; None where nothing was."""
    if not instructions or not units_per_s:
        return None
    waits = sum(n['fills'] * fill + n['write_backs'] * write_back for n, (fill, write_back) in zip(nodes, part))
    return 1e9 / (instructions * NS_PER_INSTRUCTION + waits / (seconds * units_per_s))


def figures(run, samples, host_moved, meters, rates, writes_slow_meanwhile, pages, parts):
    """All figures of one run. samples, meters and rates (units per second): by the windows' names; host_moved: pages that the
    host's kernel moved since the start, and in the first window; writes_slow_meanwhile: in the first window,
    and since the start; pages: of the guest, (node, loads, stores); parts: what slow memory may be, ((ns, ns), (ns, ns))."""
    plain, metered = meters['plain'], meters['metered']
    plain_rate, metered_rate = rates['plain'], rates['metered']
    units = metered_rate and metered_rate * metered['seconds']
    start, end = samples['start'], samples['plain-after']
    dram_pages = run['dram_pages']
    by_node = [[sum(p[k] for p in pages if p[0] == n) for k in (1, 2)] for n in (0, 1)]
    slow = metered['nodes'][1]
    moved = moved_between(start, end)
    gaps = end['workload'] or {}
    moved_meanwhile = host_moved[1] if run['competitor'] == 'host' else moved_between(samples['plain-before'], end).get('pgmigrate_success', 0)
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
        'guest_slow_share': by_node[1][1] / max(1, by_node[0][1] + by_node[1][1]),
        'gap_longest_ms': gaps.get('longest_gap_ms'),
        'gap_p99_ms': gaps.get('p99_gap_ms'),
        'free_dram_at_start': start['free_dram'],
        'vmstat': moved,
        'pages_moved': host_moved[0] if run['competitor'] == 'host' else moved.get('pgmigrate_success'),
        'arrivals_s': [],
    }
    if run['competitor'] != 'host':     # of one node only
        out.update(hot_on_dram_at_start=hot_share(start), hot_on_dram=hot_share(end), writes_slow_at_start=writes_slow(start),
                   writes_slow_at_end=writes_slow(end), writes_slow=writes_slow_meanwhile[0], writes_slow_since_start=writes_slow_meanwhile[1], arrivals_s=arrivals(start, end))
    for name, part in parts.items():
        out['units_per_s_' + name] = rates.get(name)
        out['modelled_units_per_s_' + name] = modelled_rate(out['instructions_per_unit'], metered['nodes'], metered['seconds'],
                                                            metered_rate, part)
    for name, value in (('slow_stores', slow['stores']), ('slow_loads', slow['loads']), ('slow_write_backs', slow['write_backs']),
                        ('slow_fills', slow['fills']), ('guest_slow_stores', by_node[1][1]), ('guest_slow_loads', by_node[1][0]),
                        ('oracle_slow_stores', oracle(pages, dram_pages))):
        out[name + '_per_unit'] = units and value / units
    # half of the moves are demotions, and each of them stores a page's 512 words to slow memory
    copied = plain_rate and moved_meanwhile / 2 * STORES_A_PAGE / (plain_rate * plain['seconds'])
    out['copy_stores_per_unit'] = copied
    out['slow_stores_and_copies_per_unit'] = None if None in (copied, out['slow_stores_per_unit']) else out['slow_stores_per_unit'] + copied
    useful = None
    if samples['start']['workload'] and not out['arrivals_s'] and out.get('hot_on_dram') is not None:
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


def parts_read(text):
    """The table of slow parts: {name: ((fill, write-back) of DRAM, the same of slow memory)}, in ns."""
    rows = [line.split('|') for line in text.splitlines() if line.strip() and not line.startswith('#')]
    return {r[0].strip(): tuple(tuple(map(int, field.split())) for field in r[1:3]) for r in rows}


def record(folder):
    def load(name):
        return json.loads((folder / name).read_text())

    run = load('run.json')
    node_bytes = run['host_nodes']
    frames = guest_frames((folder / 'pagemap').read_bytes(), node_bytes)
    pages = frames_between((folder / 'before.frames').read_bytes(), (folder / 'after.frames').read_bytes(), frames, node_bytes)
    run['dram_pages'] = run['dram_mib'] * 2**20 // FRAME
    asked = {n: load(n + '.json') for n in ('start', 'plain-before', 'plain-after')}
    log, offset = log_read((folder / 'units').read_text()), clock_offset(asked.values())
    windows = {n: load(n + '-window.json') for n in ('plain', 'metered', *run['parts'])}
    host_moved = [asked['plain-after']['host_moved'] - asked[n]['host_moved'] for n in ('start', 'plain-before')]
    out = figures(run, {n: s['guest'] for n, s in asked.items()}, host_moved, {n: load(n + '-meter.json') for n in windows},
                  {n: rate(log, w, offset) for n, w in windows.items()},
                  [writes_slow_within(log, w, offset) for w in (windows['plain'], [asked['start']['asked_ms'][0], windows['plain'][1]])], pages,
                  {n: part for n, part in parts_read(PARTS.read_text()).items() if n in run['parts']})
    seconds = (asked['plain-after']['asked_ms'][0] - asked['plain-before']['asked_ms'][0]) / 1000
    out.update(daemon_figures(load('plain-before-daemon.json'), load('plain-after-daemon.json'), seconds,
                              len(pages) * FRAME / 2**30))
    return {**run, **out, 'settings': (folder / 'settings').read_text().strip(), 'settings_at_end': asked['plain-after']['guest']['settings']}


def main(argv):
    if len(argv) == 2 and argv[1] == '--trace':
        sys.stdout.writelines(line + '\n' for line in trace(pathlib.Path(argv[0])))
        return 0
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    print(json.dumps(record(pathlib.Path(argv[0])), separators=(',', ':')))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
