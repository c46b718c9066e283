# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults, one after the other, while a guest checks its own memory and its pages are moved. After each of them that
memory is as it was written, the daemon is at work again, and what it orders is done."""
import os
import subprocess
import sys
import tempfile
import time

from labhost import boot_id, check, equal, expect_reboot, guest, hmvctl, host, lab, main, matches, wait_for

NAME, OTHER = "faulty1", "faulty2"
MEMORY_MIB = 32
AGAIN_PAGES = 1000  # promoted after a fault: orders are carried out again
CONF = "/etc/hmvisor/hmvisord.conf.d/lab-faults.conf"
JOURNAL = "/var/lib/hmvisor"
LONG = 300          # seconds for what takes the emulated host some

# In the guest. Puts the pages back on slow memory, and waits until they are being moved to DRAM again.
MID_ORDER = """
moved() { while read -r name n; do [ "$name" != pgmigrate_success ] || echo "$n"; done </proc/vmstat; }
migratepages "$(pidof remember)" 0 1
start=$(moved)
while [ "$(moved)" -lt $((start + 300)) ]; do sleep 0.05; done
"""


def info(name=NAME):
    return hmvctl("info", name, "--json").json()


def managed(name=NAME):
    return wait_for(f"'{name}' managed", LONG, lambda: (lambda i: i["Phase"] == "managed" and i["TrackingState"] in (
        "tracking", "resting") and i)(info(name)))


def rounds():
    """How often all of the guest's memory was found as it was written; fails when a page was not."""
    state = guest(NAME, "sh", "-c", "systemctl is-active remember; journalctl -u remember -n 3 -o cat --no-pager; "
                  "cat /run/rounds").out.split()
    equal(state[0], "active", f"the guest's memory is not what it wrote: {' '.join(state)}; its check")
    return int(state[-1])


def intact():
    """Each page is looked at once at least from now on."""
    before = rounds()
    wait_for("the guest's memory looked at twice", LONG, lambda: rounds() >= before + 2)


def converged():
    """The domain is managed, pages on slow memory are promoted, and the guest's memory is as it was written."""
    equal(host("virsh", "-q", "domstate", NAME).out.strip(), "running", "the domain")
    before = managed()["PromotedPages"]
    guest(NAME, "sh", "-c", "migratepages $(pidof remember) 0 1")
    wait_for("orders are done", LONG, lambda: info()["PromotedPages"] >= before + AGAIN_PAGES)
    intact()


def restarts():
    return int(host("systemctl", "show", "hmvisord", "-p", "NRestarts", "--value").out)


def in_mid_order(then):
    """Runs a command in the host while an order is under way: more were sent than have ended."""
    guest(NAME, "systemd-run", "--quiet", "sh", "-c", "sleep 2; migratepages $(pidof remember) 0 1")
    script = ("for i in $(seq 200); do hmvctl metrics | grep '\"" + NAME + "\"' | awk '"
              "/^hmvisor_orders_total/ { sent = $2 } /^hmvisor_order_latency_seconds_count/ { ended = $2 } "
              "END { exit sent <= ended }' && exec " + then + "; done; exit 9")
    r = host("sh", "-c", script, check=False, timeout=LONG)
    check(r.code != 9, "no order was seen under way")
    equal(r.code, 0, f"{then}: {r.err}")


def run_check():
    """Starts the program in the guest, on slow memory."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "remember.c")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "remember")
        subprocess.run(["cc", "-O1", "-o", program, source], check=True)
        equal(lab("guest", "push", NAME, program, "/run/remember").code, 0, "pushing the program")
    guest(NAME, "systemd-run", "--quiet", "--unit=remember", "-p", "OOMScoreAdjust=-1000", "-p", "Nice=5",
          "numactl", "--preferred=1", "/run/remember", str(MEMORY_MIB), "/run/rounds")
    wait_for("a first round", LONG, lambda: guest(NAME, "cat", "/run/rounds", check=False).out.strip())


def start():
    """A guest that checks its own memory is managed, and its pages are moved"""
    lab("guest", "remove", NAME)
    r = lab("guest", NAME, timeout=900)
    equal(r.code, 0, f"starting it: {r.err[-2000:]}")
    run_check()
    hmvctl("manage", NAME, "--live")
    converged()


def check_can_fail():
    """The check finds a page that somebody else wrote to"""
    guest(NAME, "systemd-run", "--quiet", "--unit=forgets", "numactl", "--preferred=1", "/run/remember", "4", "/run/rounds2")
    wait_for("a first round", LONG, lambda: guest(NAME, "cat", "/run/rounds2", check=False).out.strip())
    guest(NAME, "perl", "-e", r"""
        my $pid = `systemctl show -P MainPID forgets`; chomp $pid;
        open(my $maps, '<', "/proc/$pid/maps"); my $at = 0;
        while (<$maps>) { $at = hex $1 if /^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *$/ && hex($2) - hex($1) >= 4 << 20 }
        open(my $mem, '+<', "/proc/$pid/mem"); sysseek($mem, $at + (1 << 20), 0); syswrite($mem, 'x') or die "$at: $!";""")
    wait_for("it is found", 120, lambda: guest(NAME, "systemctl", "is-failed", "forgets", check=False).out.strip() == "failed")
    matches("not what was written", guest(NAME, "journalctl", "-u", "forgets", "-o", "cat", "--no-pager").out, "its log")


def killed_in_mid_order():
    """hmvisord is killed while the guest carries out an order"""
    before = restarts()
    in_mid_order("systemctl kill -s KILL hmvisord")
    wait_for("it was started again", 60, lambda: restarts() > before)
    converged()


def paused_in_mid_order():
    """The guest is paused while it carries out an order, for longer than the order may take"""
    in_mid_order(f"sh -c 'virsh -q suspend {NAME}; sleep 20; virsh -q resume {NAME}'")
    converged()


def agent_killed_in_mid_order():
    """The guest's agent is killed while it moves pages"""
    guest(NAME, "systemd-run", "--quiet", "sh", "-c", MID_ORDER + "systemctl kill -s KILL hmvisor-ga; touch /run/killed")
    wait_for("it was killed", LONG, lambda: guest(NAME, "test", "-e", "/run/killed", check=False).code == 0)
    converged()


def agent_hung_in_mid_order():
    """The guest's agent hangs while it moves pages, and answers long after its deadline"""
    guest(NAME, "systemd-run", "--quiet", "sh", "-c", MID_ORDER + "systemctl kill -s STOP hmvisor-ga; sleep 60; "
          "systemctl kill -s CONT hmvisor-ga; touch /run/hung")
    wait_for("degraded", LONG, lambda: info()["Phase"] == "degraded")
    matches("agent", info()["Reason"], "reason")
    wait_for("it goes on", LONG, lambda: guest(NAME, "test", "-e", "/run/hung", check=False).code == 0)
    converged()


def begins_anew(boot):
    """The guest was reset: until its agent answers again nothing is ordered, and what was hot is forgotten."""
    i = wait_for("the agent is gone", 60, lambda: (lambda i: i["Phase"] != "managed" and i)(info()), 0.5)
    orders, looks, start = i["Orders"], 0, time.monotonic()
    while i["Phase"] != "managed":
        equal(i["Orders"], orders, "orders")
        equal(i["Managed"], True, "by its metadata managed")
        heat = hmvctl("heat", NAME, "--json", code=None)    # 10 until QEMU's extension has been asked again
        check(heat.code in (0, 10), f"heat: exit {heat.code}: {heat.err}")
        i = info()
        # After a minute it may be tracked without an agent.
        if time.monotonic() - start < 30 and i["Phase"] != "managed":
            equal(heat.code == 0 and sum(sum(c["Pages"][1:]) for c in heat.json()), 0, "hot pages")
            looks += 1
    check(looks > 2, f"it was looked at {looks} times only before it was managed again")
    equal(lab("guest", "wait", NAME).code, 0, "waiting for its agent")
    check(boot_id(NAME) != boot, "it was not reset")
    run_check()
    converged()


def reset_in_mid_order():
    """The guest is reset while it carries out an order: managed again from its metadata, and begun anew"""
    boot = boot_id(NAME)
    expect_reboot()
    in_mid_order(f"virsh -q reset {NAME}")
    begins_anew(boot)


def reboots_in_mid_order():
    """The guest reboots by itself while it moves pages: managed again from its metadata, and begun anew"""
    boot = boot_id(NAME)
    expect_reboot()
    guest(NAME, "systemd-run", "--quiet", "sh", "-c", MID_ORDER + "echo b >/proc/sysrq-trigger")
    wait_for("it reboots", LONG, lambda: info()["Phase"] != "managed", 0.5)
    begins_anew(boot)


def out_of_memory():
    """The guest runs out of memory, and its kernel ends who took it"""
    def kills():
        return int(guest(NAME, "sh", "-c", "grep -w oom_kill /proc/vmstat").out.split()[1])
    before = kills()
    huge = "/sys/kernel/mm/transparent_hugepage/enabled"  # minutes, page by page
    guest(NAME, "sh", "-c", f"echo always >{huge}")
    guest(NAME, "systemd-run", "--quiet", "--unit=takes-all", "-p", "OOMScoreAdjust=1000",
          "perl", "-e", 'push @taken, "x" x (4 << 20) while 1')
    wait_for("its kernel ends it", LONG, lambda: kills() > before)
    guest(NAME, "sh", "-c", f"echo madvise >{huge}")
    converged()


def table_scribbled_on():
    """Somebody writes noise over the whole table of counters, time and again"""
    managed()
    wait_for("samples", LONG, lambda: info()["TrackingEpochs"] > 0)
    pid = host("systemctl", "show", "-P", "MainPID", "hmvisord").out.strip()
    before = restarts()
    # the daemon makes a new one when it notices: each is found anew
    out = host("sh", "-c", "for i in $(seq 5); do "
               f"map=/proc/{pid}/map_files/$(sed -n '/hmvisor-hotness/s/ .*//p' /proc/{pid}/maps) && "
               "dd if=/dev/urandom of=$map bs=$(stat -Lc %s $map) count=1 conv=notrunc status=none && "
               "echo written; sleep 4; done").out.split()
    check(out, "no table was found to be written over")
    wait_for("it is noticed", LONG, lambda: "counter table was written over" in host(
        "journalctl", "-u", "hmvisord", "-n", "50", "-o", "cat").out)
    equal(restarts(), before, "restarts of hmvisord")
    converged()


def journal_disk_full():
    """The disk of the market's journal is full: the market stands still and says why, pages are moved on"""
    def reason():
        return hmvctl("market", "status", "--json").json()["Reason"]

    host("sh", "-c", f"systemctl stop hmvisord && mount -t tmpfs -o size=64k,mode=0700 none {JOURNAL} && "
         f"mkdir -p $(dirname {CONF}) && "
         f"printf '[Market]\\nEnabled=yes\\nPool=yes\\nMinTrade=16M\\nEpoch=10s\\nCoolDown=1s\\nDwell=1s\\n' >{CONF} && "
         f"systemctl start hmvisord && ! dd if=/dev/zero of={JOURNAL}/full bs=4k status=none && df {JOURNAL}")
    try:
        wait_for("trading is on", LONG, lambda: hmvctl("market", "set", NAME, "--trading", "on", code=None).code == 0)
        wait_for("the market stands still, and says why", 120, lambda: "No space left on device" in reason())
        converged()
        host("rm", f"{JOURNAL}/full")
        wait_for("the market goes on", 120, lambda: not reason())
        matches(".", host("cat", f"{JOURNAL}/market").out, "journal")
    finally:
        host("sh", "-c", f"rm -f {CONF}; systemctl stop hmvisord; umount {JOURNAL}; systemctl start hmvisord")
    converged()


def bus_restarted():
    """The system's bus is restarted"""
    host("systemctl", "restart", "dbus")
    converged()


def other_killed():
    """Another guest's QEMU is killed: its domain is let go, with its table; this one is served on"""
    def tables():
        pid = host("systemctl", "show", "-P", "MainPID", "hmvisord").out.strip()
        return int(host("sh", "-c", f"grep -c memfd:hmvisor-hotness /proc/{pid}/maps", check=False).out)
    wait_for("one table of counters", LONG, lambda: tables() == 1)
    before = restarts()
    r = lab("guest", OTHER, "--dram", "192M", "--slow", "512M", "--no-wait", timeout=900)
    equal(r.code, 0, f"starting it: {r.err[-2000:]}")
    wait_for("it is tracked, too", LONG, lambda: tables() == 2)
    host("sh", "-c", f"kill -KILL $(cat /run/libvirt/qemu/{OTHER}.pid)")
    wait_for("let go", 60, lambda: info(OTHER)["Phase"] == "discovered")
    equal(tables(), 1, "tables of counters")
    equal(restarts(), before, "restarts of hmvisord")
    lab("guest", "remove", OTHER)
    converged()


def removed():
    """The guests go, the daemon stays"""
    for name in (NAME, OTHER):
        lab("guest", "remove", name)
    wait_for("no domains", 60, lambda: not hmvctl("list", "--json").json())
    equal(host("systemctl", "is-active", "hmvisord").out.strip(), "active", "hmvisord")


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([start, check_can_fail, killed_in_mid_order, paused_in_mid_order, agent_killed_in_mid_order,
                   agent_hung_in_mid_order, reset_in_mid_order, reboots_in_mid_order, out_of_memory, table_scribbled_on,
                   journal_disk_full, bus_restarted, other_killed, removed], NAME))
