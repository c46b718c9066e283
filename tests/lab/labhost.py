# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab, for tests: runs commands in the lab host and its guests, and reports results as TAP.

Owns nothing: the lab itself is lab/hmvlab, which boots on first use and stays up between tests.
"""
import json
import os
import re
import subprocess
import sys
import time
import traceback

HMVLAB = os.environ.get("HMVLAB") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "lab", "hmvlab")


booted = ""     # the boot of the guest that a run of tests is about; empty: not known, so nothing is excused by another


class Failure(AssertionError):
    """A check that did not hold; its text is what a person reads."""


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)


def lab(*words, timeout=900):
    p = subprocess.run([HMVLAB, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=timeout, text=True, errors="replace")
    return Result(p.returncode, p.stdout, p.stderr)


def host(*command, check=True, timeout=300):
    """Runs a command as root in the lab host."""
    r = lab("exec", "--", *command, timeout=timeout)
    if check and r.code != 0:
        raise Failure(f"in the host: {' '.join(command)}: exit {r.code}: {r.err.strip() or r.out.strip()}")
    return r


def guest(name, *command, check=True, timeout=300):
    """Runs a command as root in a guest, through its agent."""
    r = lab("guest", "exec", name, "--", *command, timeout=timeout)
    if check and r.code != 0:
        raise Failure(f"in guest '{name}': {' '.join(command)}: exit {r.code}: {r.err.strip() or r.out.strip()}")
    return r


def hmvctl(*words, code=0, timeout=300):
    """Runs hmvctl in the host and expects an exit code; None accepts any."""
    r = host("hmvctl", *words, check=False, timeout=timeout)
    if code is not None and r.code != code:
        raise Failure(f"hmvctl {' '.join(words)}: exit {r.code}, not {code}: {(r.err + r.out).strip()}")
    return r


def check(condition, text):
    if not condition:
        raise Failure(text)


def equal(seen, wanted, what):
    check(seen == wanted, f"{what}: {seen!r}, not {wanted!r}")


def matches(pattern, text, what):
    check(re.search(pattern, text, re.S), f"{what}: nothing matches /{pattern}/ in {text[-1500:]!r}")


def wait_for(what, seconds, probe, step=2.0):
    """Calls probe() until it returns something true; the bound is generous, since the lab is slow."""
    end = time.monotonic() + seconds
    last = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except Failure as e:
            last = e
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s; last seen: {last!r}")
        time.sleep(step)


def boot_id(name):
    return guest(name, "cat", "/proc/sys/kernel/random/boot_id", timeout=120).out.strip()


def expect_reboot():
    """A test resets the guest itself: that is not the emulator's doing."""
    global booted
    booted = ""


def emulator_failed(guest_name):
    """Says what the emulated machine did wrong, or nothing: nested virtualization under emulation sometimes
    loses an interrupt, so that the host hangs, or resets a guest. That is no finding about HMvisor."""
    try:
        if lab("exec", "--", "true", timeout=120).code != 0:
            return "the emulated host does not answer"
        if guest_name and booted:
            lab("guest", "wait", guest_name, timeout=300)
            if boot_id(guest_name) != booted:
                return f"the emulated guest '{guest_name}' was reset"
    except subprocess.TimeoutExpired:
        return "the emulated host hangs"
    except Failure:
        pass
    return ""


def run_one(test):
    """Returns (result line's end, whether it failed)."""
    start = time.monotonic()
    try:
        note = test()
        return f"({time.monotonic() - start:.0f} s{'; ' + note if note else ''})", None
    except Exception as e:  # noqa: BLE001 - every failure is reported, none ends the run
        return "", str(e) if isinstance(e, Failure) else traceback.format_exc()


def main(tests, guest_name=None):
    """Runs test functions in order and prints TAP. A test's first doc line is its name. Where the emulated machine
    failed, the tests that it took along are skipped with that reason, and the lab is booted anew next time."""
    global booted
    only = sys.argv[1:]
    print(f"1..{len(tests)}", flush=True)
    failed, broken = 0, ""
    for i, test in enumerate(tests, 1):
        name = (test.__doc__ or test.__name__).strip().splitlines()[0]
        if broken or (only and test.__name__ not in only):
            print(f"ok {i} - {name} # SKIP {broken or 'not asked for'}", flush=True)
            continue
        end, why = run_one(test)
        if why is None:
            print(f"ok {i} - {name} {end}", flush=True)
            if guest_name and not booted:
                booted = guest_boot_or_nothing(guest_name)
            continue
        broken = emulator_failed(guest_name)
        if broken:
            print(f"ok {i} - {name} # SKIP {broken}", flush=True)
        else:
            failed += 1
            print(f"not ok {i} - {name}", flush=True)
        for line in why.splitlines():
            print(f"# {line}", flush=True)
    if broken:
        lab("down", timeout=120)
    return 1 if failed else 0


def guest_boot_or_nothing(name):
    try:
        return boot_id(name)
    except (Failure, subprocess.TimeoutExpired):
        return ""
