# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that checks its own memory migrates between two hosts, each with a libvirt and a hmvisord of its own, is saved,
restored and reverted, while tracking is forced on around the start of each: not a page of it is lost. On either host
the daemon stands aside meanwhile, and manages the guest again from its metadata alone.

The last test has the extension without its check for migrations: pages must be lost then, and the guest must see it."""
import os
import re
import subprocess
import sys
import tempfile
import time

from labhost import HMVLAB, Failure, check, equal, host, lab, main, matches, wait_for

NAME = "migrant1"
FIRST, SECOND = "first", "second"
URI = {FIRST: "qemu+unix:///system?socket=/run/first/libvirt-sock", SECOND: "qemu:///system"}   # as seen in the second
ROUNDS = 20
AGAIN_PAGES = 200       # promoted after each arrival: orders are carried out
SHARED = "/var/lib/hmvlab"
DISK = f"{SHARED}/guests/{NAME}.qcow2"
INSIST, CARELESS, END = f"{SHARED}/insist", f"{SHARED}/careless.so", f"{SHARED}/end"
QMP = f"/run/{NAME}.qmp"                            # a monitor of our own: libvirt's takes no other command meanwhile
CONSOLE = f"/var/log/libvirt/qemu/{NAME}.console"
CONF = "/etc/hmvisor/hmvisord.conf.d/lab-migration.conf"
LOST = "not what was written"
LONG = 300              # seconds for what takes the emulated host some
# Two programs in the guest: one that writes all of its pages all the time, so that there is something to migrate again and
# again, and one that writes each page every few minutes only: what is lost of it stays lost.
CHECKS = {"remember": ("16", "/run/remember-rounds"), "recall": ("32", "/run/recall-rounds", "64")}

place = FIRST           # where the guest is


def other(where):
    return SECOND if where == FIRST else FIRST


def command_at(where, *command):
    return command if where == FIRST else ("hmvlab-second", "exec", *command)


def at(where, *command, **options):
    return host(*command_at(where, *command), **options)


def inside(*command, **options):
    return at(place, "hmvlab-guest", "exec", NAME, "--", *command, **options)


def info(where=None):
    return at(where or place, "hmvctl", "info", NAME, "--json").json()


def market(where=None):
    return {d["Name"]: d for d in at(where or place, "hmvctl", "market", "status", "--json").json()["Domains"]}


def console(where=None):
    return at(where or place, "sh", "-c", f"cat {CONSOLE} 2>/dev/null", check=False).out


def rounds():
    """How often each program found all of its memory as it was written; fails when a page was not."""
    script = "".join(f"systemctl is-active {unit}; cat {words[1]};" for unit, words in CHECKS.items())
    out = inside("sh", "-c", script, check=False).out.split()
    equal(out[0::2], ["active"] * len(CHECKS), f"{' '.join(CHECKS)}; the console ends: {console()[-500:]}")
    return [int(n) for n in out[1::2]]


def intact():
    """Each page is looked at once at least from now on."""
    before = rounds()
    wait_for("the guest's memory looked at twice", LONG, lambda: all(n >= b + 2 for n, b in zip(rounds(), before)), 1)


def managed_and_intact(with_orders=True):
    """The guest is managed here, its memory is as it was written, and orders are carried out."""
    equal(at(place, "virsh", "-q", "domstate", NAME).out.strip(), "running", f"the domain on the {place} host")
    wait_for(f"managed on the {place} host", LONG, lambda: info()["Phase"] == "managed")
    before = wait_for("tracked", LONG, lambda: (lambda i: i["TrackingState"] in ("tracking", "resting") and i)(info()))
    if with_orders:
        inside("sh", "-c", "migratepages $(systemctl show -P MainPID remember) 0 1")
        wait_for("orders are done", LONG, lambda: info()["PromotedPages"] >= before["PromotedPages"] + AGAIN_PAGES)
    intact()


class Insisting:
    """Forces tracking on in the guest's QEMU, from before the block until that QEMU is gone or the block is left."""

    def __init__(self, where):
        self.where, self.lines = where, []

    def __enter__(self):
        host("rm", "-f", END)
        self.process = subprocess.Popen([HMVLAB, "exec", "--", *command_at(self.where, INSIST, QMP, END)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while self.counted() == 0 and len(self.lines) < 60:
            line = self.process.stdout.readline()
            if not line:
                break
            self.lines.append(line)
        check(self.counted() > 0, f"tracking was not forced on: {self.lines}")
        return self

    def end(self):
        host("touch", END)
        if self.process.returncode is None:
            self.lines += self.process.communicate(timeout=LONG)[0].splitlines()
        equal(self.process.returncode, 0, f"insist: {self.lines[-3:]}; its exit code")

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.end()
        else:
            host("touch", END, check=False)
            self.process.communicate(timeout=LONG)

    def counted(self):
        """Starts of which samples were counted."""
        return sum(1 for line in self.lines if re.match(r"tracking [1-9]", line))

    def refused(self):
        """Starts that found a migration under way, and left it alone."""
        return sum(1 for line in self.lines if re.match("blocked .*migration", line))


def migrate_words(*options):
    return ("virsh", "-c", URI[place], "migrate", "--live", "--persistent", "--undefinesource", "--unsafe", "--timeout-suspend",
            *options, NAME, URI[other(place)], "--migrateuri", f"unix://{SHARED}/migration.sock")


def arrived():
    global place
    place = other(place)


def begin_migration(*options):
    """Does not wait for it; what virsh says of its progress is of no interest."""
    return subprocess.Popen([HMVLAB, "exec", "--", *command_at(SECOND, *migrate_words(*options))],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def migrate(*options):
    """To the other host. It converges in any case: after the timeout the guest is suspended for the rest."""
    with Insisting(place) as insisting:
        at(SECOND, *migrate_words(*(options or ("--timeout", "60"))), timeout=900)
    arrived()
    return insisting


def edit_domain():
    """Gives it our monitor; libvirt takes it along to the other host."""
    r = host("sh", "-c", f"virsh dumpxml --inactive {NAME} | sed \"s|<qemu:commandline>|&<qemu:arg value='-qmp'/>"
             f"<qemu:arg value='unix:{QMP},server=on,wait=off'/>|\" >/root/{NAME}.xml && virsh -q define /root/{NAME}.xml")
    equal(r.code, 0, "defining it")


def run_checks():
    """Starts the programs in the guest, on slow memory; what they find goes to the serial console, past all else."""
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "remember")
        subprocess.run(["cc", "-O1", "-o", program, os.path.join(here, "remember.c")], check=True)
        equal(lab("guest", "push", NAME, program, "/run/remember").code, 0, "pushing the program")
    for unit, words in CHECKS.items():
        inside("systemd-run", "--quiet", f"--unit={unit}", "-p", "OOMScoreAdjust=-1000", "-p", "Nice=5", "-p",
               "StandardError=tty", "-p", "TTYPath=/dev/ttyS0", "numactl", "--preferred=1", "/run/remember", *words)
    wait_for("a first round", LONG, lambda: min(rounds()) >= 1)


def create():
    """The guest, bound by hmvctl, on the first host."""
    global place
    place = FIRST
    r = lab("guest", NAME, "--dram", "128M", "--slow", "256M", "--max-dram", "128M", "--max-slow", "256M", "--no-start",
            timeout=900)
    equal(r.code, 0, f"defining it: {r.err[-2000:]}")
    edit_domain()
    host("virsh", "-q", "start", NAME)
    equal(lab("guest", "wait", NAME).code, 0, "waiting for its agent")
    run_checks()


def remove():
    for where in (FIRST, SECOND):
        at(where, "virsh", "-q", "snapshot-delete", NAME, "live", "--metadata", check=False)
        at(where, "hmvlab-guest", "remove", NAME)
        at(where, "sh", "-c", f": >{CONSOLE}", check=False)
    host("sh", "-c", f"rm -f {DISK}.*")


def keep_definition():
    """What was restored elsewhere is not defined there yet."""
    at(place, "sh", "-c", f"virsh dumpxml --inactive {NAME} >/root/{NAME}.xml && virsh -q define /root/{NAME}.xml")


def two_hosts():
    """A second host is up: it and the first have a libvirt, a bus and a hmvisord each"""
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "insist")
        subprocess.run(["cc", "-O1", "-I", os.path.join(here, "..", "..", "qemu"), "-o", program,
                        os.path.join(here, "insist.c")], check=True)
        equal(lab("push", program, INSIST).code, 0, "pushing insist")
    lab("second", "down")
    lab("guest", "remove", NAME)
    host("sh", "-c", f"printf '[Market]\\nEnabled=yes\\n' >{CONF} && systemctl restart hmvisord")
    r = lab("second", "up", timeout=600)
    equal(r.code, 0, f"starting the second host: {r.err[-2000:]}")
    who = "hostname; cat /etc/machine-id; virsh capabilities | sed -n 's|.*<uuid>||p'; busctl call org.freedesktop.DBus / " \
          "org.freedesktop.DBus GetId; busctl status org.hmvisor1 | grep ^PID="
    seen = {where: at(where, "sh", "-c", who).out.splitlines() for where in (FIRST, SECOND)}
    check(len(seen[FIRST]) == 5 and all(a != b for a, b in zip(seen[FIRST], seen[SECOND])), f"{seen}")


def start():
    """A guest that checks its own memory is managed on the first, and may trade"""
    remove()
    create()
    at(place, "hmvctl", "manage", NAME)
    at(place, "hmvctl", "market", "set", NAME, "--trading", "on")
    managed_and_intact()


def stands_aside():
    """While it migrates nothing is tracked, ordered or traded; the migration is cancelled, and all goes on"""
    process = begin_migration("--timeout", "900", "--bandwidth", "1")
    try:
        wait_for("the migration", LONG, lambda: process.poll() is not None or
                 "Iteration:" in at(place, "virsh", "domjobinfo", NAME, check=False).out)
        equal(process.poll(), None, "virsh migrate ended at once: its exit code")
        before = wait_for("tracking stands aside", 60, lambda: (
            lambda i: i["TrackingState"] in ("resting", "blocked") and i)(info()))
        inside("sh", "-c", "migratepages $(systemctl show -P MainPID remember) 0 1")
        r = at(place, "hmvctl", "trade", NAME, "--sell-dram", "32M", check=False)
        check(r.code != 0, "a trade was taken on")
        matches("migrates", r.err, "why")
        time.sleep(20)
        after = info()
        for what in ("Orders", "TrackingEpochs", "TrackingState"):
            equal(after[what], before[what], what)
    finally:
        at(place, "virsh", "-q", "domjobabort", NAME, check=False)
        code = process.wait(LONG)
    check(code != 0, "the migration was not cancelled")
    managed_and_intact()


def migrated():
    """20 migrations, with tracking forced on around the start of each: no page is lost"""
    counted = refused = 0
    for number in range(1, ROUNDS + 1):
        try:
            insisting = migrate(*(("--timeout", "90", "--bandwidth", "4") if number % 10 == 5 else ()))
            check(insisting.refused() > 0, f"tracking was not tried while it migrated: {insisting.lines}")
            managed_and_intact(with_orders=number <= 2 or number % 5 == 0)  # on either host, and minutes for all
            wait_for("an account in the market", LONG, lambda: market().get(NAME, {}).get("Value"))
            check(NAME not in at(other(place), "hmvctl", "list").out, f"it is still listed on the {other(place)} host")
        except Failure as e:
            raise Failure(f"migration {number}: {e}") from None
        counted += insisting.counted()
        refused += insisting.refused()
    return f"tracking was started anew {counted + refused} times, and stood aside in {refused} of them"


def saved():
    """Saved on one host and restored on the other, to and fro: no page is lost"""
    file = f"{SHARED}/saved"
    for _ in range(2):
        with Insisting(place):
            at(place, "virsh", "-q", "save", NAME, file, timeout=600)
        at(place, "virsh", "-q", "undefine", NAME)
        arrived()
        at(place, "virsh", "-q", "restore", file, timeout=600)
        managed_and_intact()
        keep_definition()
        host("rm", file)


def reverted():
    """A snapshot of disk and memory while it runs, and the way back to it: no page is lost"""
    with Insisting(place) as insisting:
        at(place, "virsh", "-q", "snapshot-create-as", NAME, "live", "--live", "--atomic", "--memspec",
           f"file={DISK}.memory,snapshot=external", "--diskspec", f"vda,snapshot=external,file={DISK}.live", timeout=900)
        insisting.end()
    check(insisting.refused() > 0, f"tracking was not tried meanwhile: {insisting.lines}")
    managed_and_intact()
    at(place, "virsh", "-q", "snapshot-revert", NAME, "live", timeout=900)
    managed_and_intact()
    at(place, "virsh", "-q", "snapshot-delete", NAME, "live", "--metadata")


def is_copied_once():
    """All of the memory has been sent, or soon will be: what is lost of what is written now is not made good by chance."""
    out = at(FIRST, "virsh", "domjobinfo", NAME, check=False).out
    left = re.search(r"Memory remaining: +([0-9.]+) MiB", out)
    return not out or (left and float(left[1]) < 128) or re.search(r"Iteration: +([2-9]|1\d)", out)


def lose_pages():
    """Migrates a new guest without the check. Returns what the guest says of it; nothing if its kernel did not live on."""
    remove()
    create()
    intact()
    with Insisting(FIRST) as insisting:
        process = begin_migration("--timeout", "180", "--bandwidth", "4")
        wait_for("its memory was sent once", 600, is_copied_once, 3)
        insisting.end()     # what the guest's kernel needs to live on is written again in the rest, and mostly gets there
    equal(process.wait(900), 0, "virsh migrate")
    arrived()
    equal(insisting.refused(), 0, "starts of tracking that were refused")
    wait_for("pages are lost", LONG, lambda: "pages lost" in console() or "Kernel panic" in console())
    return "; ".join(re.findall(r"\d+ of \d+ pages lost", console())) if LOST in console() else ""


def seen_when_careless():
    """With the extension's check for migrations disabled pages are lost, and the guest sees it"""
    careless = os.environ.get("HMV_CARELESS")
    check(careless, "HMV_CARELESS is not set: give it the path of hmvisor-hotness-careless.so in a build folder")
    equal(lab("push", careless, CARELESS).code, 0, "pushing it")
    module = host("sh", "-c", "ls /usr/lib/*/hmvisor/hmvisor-hotness.so").out.strip()
    host("mount", "--bind", CARELESS, module)
    try:
        for panics in range(4):     # pages of the guest's kernel are lost, too, and not every one survives that
            said = lose_pages()
            if said:
                return f"{said}; {panics} guests before it panicked"
        raise Failure("the guest's kernel panicked each time, before the guest's check found a page")
    finally:
        host("umount", module)
        remove()


def removed():
    """The guest and the second host go, the daemon stays"""
    remove()
    equal(lab("second", "down").code, 0, "stopping the second host")
    host("sh", "-c", f"rm -f {CONF} {INSIST} {CARELESS} {END} && systemctl reload hmvisord")
    wait_for("no domains", 60, lambda: not at(FIRST, "hmvctl", "list", "--json").json())


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([two_hosts, start, stands_aside, saved, reverted, migrated, seen_when_careless, removed]))
