# SPDX-License-Identifier: GPL-2.0-or-later
"""Three guests come to an allocation by themselves: 'hmvlab market-demo', and what it says is checked once more. Not in
suite 'lab', as it takes a quarter of an hour: meson test --suite lab-long."""
import json
import sys

from labhost import check, equal, lab, main

LIMIT = 3000  # seconds; the demonstration's own limits are far below


def demo(*words):
    r = lab("market-demo", "--json", *words, timeout=LIMIT)
    lines = r.out.strip().splitlines()
    check(lines, f"it said nothing: {r.err[-2000:]}")
    return r, json.loads(lines[-1])


def allocation():
    """A write-hot, a hungry and an idle guest trade to what serves them, each worth what it was"""
    r, said = demo()
    equal(r.code, 0, f"exit code; {r.err[-3000:]}")
    hot, hungry, idle = said["guests"]
    check(said["passed"], "it did not pass")
    check(hot["dram_after"] > hot["dram_before"], f"the write-hot guest got no DRAM: {hot}")
    check(hungry["dram_after"] + hungry["slow_after"] > hungry["dram_before"] + hungry["slow_before"],
          f"the hungry guest got no memory: {hungry}")
    equal((idle["dram_after"], idle["slow_after"]), (idle["dram_before"], idle["slow_before"]), "what the idle guest holds")
    for g in said["guests"]:
        check(isinstance(g["value_after"], int) and g["value_after"] <= g["entitled_value"] == g["value_before"], f"worth: {g}")


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([allocation]))
