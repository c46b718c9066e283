#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Adds up what tests/run has run.

    summary.py RESULTS [SUITE...]

RESULTS holds meson's test logs (tests-*.json, one JSON object a line) and failed-stages. Each SUITE must have
run at least one test. The last line is 'N passed, N failed' with ', N skipped' where there are any.
"""
import json
import pathlib
import sys

PASSED = {'OK', 'EXPECTEDFAIL'}
SKIPPED = {'SKIP'}
TAIL = 30


def suites_of(test):
    """meson's log has them in the name only: 'hmvisor:unit / base-log'."""
    return test['name'].split(' / ')[0].split(':')[-1].split('+')


def show_failure(test):
    print(f"FAILED: {test['name']}: {test['result'].lower()}")
    output = ((test.get('stdout') or '') + (test.get('stderr') or '')).splitlines()
    for line in output[-TAIL:]:
        print('        | ' + line)


def main():
    results, suites = pathlib.Path(sys.argv[1]), set(sys.argv[2:])
    seen = set()
    n_passed = n_failed = n_skipped = 0
    for log in sorted(results.glob('tests-*.json')):
        for line in log.read_text().splitlines():
            test = json.loads(line)
            if test['result'] in SKIPPED:
                n_skipped += 1
                reason = (test.get('stdout') or test.get('stderr') or '').strip().splitlines()
                print(f"SKIPPED: {test['name']}: {reason[-1] if reason else 'no reason given'}")
                continue
            seen |= set(suites_of(test))
            if test['result'] in PASSED:
                n_passed += 1
            else:
                n_failed += 1
                show_failure(test)
    stages = results / 'failed-stages'
    for stage in stages.read_text().splitlines() if stages.exists() else []:
        print(f'FAILED: stage {stage}')
        n_failed += 1
    for suite in sorted(suites - seen):
        print(f"FAILED: suite '{suite}': not one of its tests ran")
        n_failed += 1
    if n_passed + n_failed == 0:
        print('FAILED: no test ran')
        n_failed = 1
    skipped = f', {n_skipped} skipped' if n_skipped else ''
    print(f'{n_passed} passed, {n_failed} failed{skipped}')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
