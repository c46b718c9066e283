# SPDX-License-Identifier: GPL-2.0-or-later
"""Binding a plain domain, as virt-install writes it, and undoing it; what cannot be bound stays as it was."""
import sys

from labhost import check, equal, hmvctl, host, lab, main, matches

NAME = "bind1"


def xml():
    return host("virsh", "dumpxml", "--inactive", NAME).out


def plain_domain():
    """A plain domain is listed, and is not bound"""
    lab("guest", "remove", NAME)
    r = lab("guest", NAME, "--plain", "--no-start")
    equal(r.code, 0, f"defining it: {r.err}")
    d = [d for d in hmvctl("list", "--json").json() if d["Name"] == NAME]
    check(d and not d[0]["Bound"], f"list: {d}")


def dry_run():
    """bind --dry-run shows the change and changes nothing"""
    before = xml()
    diff = hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M", "--dry-run").out
    for line in (r"\+.*memnode cellid=.1. mode=.strict.", r"\+.*model=.virtio-mem.",
                 r"\+.*hmvisor-hotness\.so", r"\+.*<latency ", r"\+.*<bandwidth "):
        matches(line, diff, "diff")
    equal(xml(), before, "the domain after a dry run")


def bad_sizes():
    """Sizes that do not fit have a message and an exit code each, and change nothing"""
    before = xml()
    matches("2 MiB", hmvctl("bind", NAME, "--dram", "255M", "--slow", "768M", code=2).err, "odd size")
    hmvctl("bind", NAME, "--dram", "0", "--slow", "768M", code=2)
    hmvctl("bind", NAME, "--dram", "apple", "--slow", "768M", code=2)
    hmvctl("bind", NAME, "--dram", "64G", "--slow", "64G", code=9)
    hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M", "--max-dram", "128M", code=2)
    equal(xml(), before, "the domain after refused binds")


def bind_and_undo():
    """bind, then unbind, gives back the very XML; in between libvirt accepts and keeps it"""
    before = xml()
    hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M")
    bound = xml()
    matches(r"<cell id='1' memory='786432'", bound, "slow cell")
    hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M", code=7)
    equal(xml(), bound, "after a second bind")
    host("sh", "-c", f"virsh dumpxml --inactive {NAME} >/tmp/x.xml && virsh define /tmp/x.xml")
    hmvctl("unbind", NAME)
    equal(xml(), before, "after unbind")
    hmvctl("unbind", NAME, code=6)


def edits_survive():
    """What was edited between bind and unbind elsewhere stays"""
    hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M")
    host("virsh", "desc", NAME, "--config", "a note of the owner")
    hmvctl("unbind", NAME)
    matches("a note of the owner", xml(), "description")
    check("virtio-mem" not in xml() and "hmvisor-hotness" not in xml(), "something of bind is left")


def off_domain():
    """What needs a running domain says so"""
    matches(NAME, hmvctl("verify", NAME, code=4).err, "verify")


def locked_refused():
    """A domain with locked memory is refused with the reason, unchanged"""
    host("sh", "-c", f"virsh dumpxml --inactive {NAME} | sed 's|<vcpu |<memoryBacking><locked/></memoryBacking><vcpu |' "
                     ">/tmp/x.xml && virsh define /tmp/x.xml")
    before = xml()
    matches("locked", hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M", code=17).err, "message")
    equal(xml(), before, "the domain after the refusal")


def removed():
    """A domain that is undefined is no longer listed"""
    lab("guest", "remove", NAME)
    check(NAME not in hmvctl("list").out, "it is still listed")


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([plain_domain, dry_run, bad_sizes, bind_and_undo, edits_survive, off_domain, locked_refused, removed]))
