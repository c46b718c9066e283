# SPDX-License-Identifier: GPL-2.0-or-later
"""A strict reader of OpenMetrics text (1.0), of counters, gauges and histograms, for tests.

What the specification only recommends is demanded here, too.
"""
import math
import re

TYPES = {'counter': {'_total', '_created'}, 'gauge': {''}, 'histogram': {'_bucket', '_count', '_sum', '_created'}}
NAME = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,?)')
NUMBER = re.compile(r'[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]?Inf|NaN')


class Bad(Exception):
    pass


class Family:
    def __init__(self, name):
        self.name, self.type, self.unit, self.help = name, None, None, None
        self.samples = []   # (suffix, labels, value)

    def values(self, suffix='', **labels):
        """The values of all samples that have these labels."""
        return [v for s, l, v in self.samples if s == suffix and labels.items() <= l.items()]


def unescape(text):
    return re.sub(r'\\(.)', lambda m: '\n' if m[1] == 'n' else m[1], text)


def read_labels(text):
    labels, at = {}, 0
    while at < len(text):
        m = LABEL.match(text, at)
        if not m or (m[3] == ',') != (m.end() < len(text)):
            raise Bad(f'labels {text!r}')
        if m[1] in labels:
            raise Bad(f'label {m[1]} twice')
        labels[m[1]] = unescape(m[2])
        at = m.end()
    return labels


def read_sample(line):
    m = NAME.match(line)
    if not m:
        raise Bad(f'no name: {line!r}')
    name, rest, labels = m[0], line[m.end():], {}
    if rest.startswith('{'):
        m = re.match(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}', rest)
        if not m:
            raise Bad(f'braces: {line!r}')
        labels, rest = read_labels(m[1]), rest[m.end():]
    if not rest.startswith(' ') or not NUMBER.fullmatch(rest[1:]):
        raise Bad(f'no value, or more than it: {line!r}')
    return name, labels, float(rest[1:])


def read_meta(line, families):
    m = re.fullmatch(r'# (TYPE|UNIT|HELP) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)', line)
    if not m:
        raise Bad(f'no metadata: {line!r}')
    keyword, name, value = m.groups()
    if not families or families[-1].name != name:
        if any(f.name == name for f in families):
            raise Bad(f'{name} is in two places')
        families.append(Family(name))
    family = families[-1]
    if family.samples:
        raise Bad(f'{keyword} of {name} behind its samples')
    if getattr(family, keyword.lower()) is not None:
        raise Bad(f'{keyword} of {name} twice')
    if keyword == 'TYPE' and value not in TYPES:
        raise Bad(f'type {value}')
    if keyword == 'UNIT' and not name.endswith('_' + value):
        raise Bad(f'{name} does not end with its unit {value}')
    if keyword == 'HELP' and re.search(r'\\(?![\\n"])', value):
        raise Bad(f'help of {name} is not escaped')
    setattr(family, keyword.lower(), value)


def check_histogram(family):
    """Buckets of one set of labels stand together, rise, end with +Inf, and agree with _count and _sum."""
    sets = {}
    for suffix, labels, value in family.samples:
        key = tuple(sorted((k, v) for k, v in labels.items() if k != 'le'))
        sets.setdefault(key, []).append((suffix, labels, value))
    at = 0
    for key, samples in sets.items():
        if family.samples[at:at + len(samples)] != samples:
            raise Bad(f'{family.name}{key}: mixed with others')
        at += len(samples)
        buckets = [(l.get('le'), v) for s, l, v in samples if s == '_bucket']
        if not buckets or buckets[-1][0] != '+Inf':
            raise Bad(f'{family.name}{key}: no bucket +Inf at the end')
        bounds = [math.inf if b == '+Inf' else float(b) for b, _ in buckets]
        if any('.' not in b and 'e' not in b for b, _ in buckets[:-1]):
            raise Bad(f'{family.name}: a bound is no float')
        if any(a >= b for a, b in zip(bounds, bounds[1:])) or any(a > b for a, b in zip(buckets, buckets[1:]) if a[1] > b[1]):
            raise Bad(f'{family.name}{key}: buckets do not rise')
        count = [v for s, _, v in samples if s == '_count']
        total = [v for s, _, v in samples if s == '_sum']
        if count != [buckets[-1][1]] or len(total) != 1:
            raise Bad(f'{family.name}{key}: _count or _sum')


def check_family(family):
    if family.type is None:
        raise Bad(f'{family.name} has no type')
    for suffix, labels, value in family.samples:
        if family.type in ('counter', 'histogram') and (value < 0 or math.isnan(value)):
            raise Bad(f'{family.name}: {value}')
        if ('le' in labels) != (suffix == '_bucket'):
            raise Bad(f'{family.name}{suffix}: le')
        if suffix in ('_bucket', '_count') and value != int(value):
            raise Bad(f'{family.name}{suffix}: {value} is no whole number')
    keys = [(s, tuple(sorted(l.items()))) for s, l, _ in family.samples]
    if len(set(keys)) != len(keys):
        raise Bad(f'{family.name}: the same sample twice')
    if family.type == 'histogram':
        check_histogram(family)


def parse(text):
    """Returns the families by name, or raises Bad."""
    if not text.endswith('# EOF\n'):
        raise Bad('no # EOF at the end')
    families = []
    for line in text[:-len('# EOF\n')].splitlines():
        if line.startswith('#'):
            read_meta(line, families)
            continue
        name, labels, value = read_sample(line)
        family = families[-1] if families else None
        suffix = name[len(family.name):] if family and name.startswith(family.name) else None
        if suffix is None or suffix not in TYPES.get(family.type, ()):
            raise Bad(f'sample {name} does not belong where it stands')
        family.samples.append((suffix, labels, value))
    names = set()
    for family in families:
        check_family(family)
        mine = {family.name} | {family.name + s for s in TYPES[family.type]}
        if mine & names:
            raise Bad(f'{family.name}: {mine & names} could be of another family')
        names |= mine
    return {f.name: f for f in families}
