# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job by `hmvlab demo`, then everything that must hold beside it, on the same guest."""
import json
import subprocess
import sys
import time

from labhost import HMVLAB, check, equal, guest, hmvctl, host, lab, main, matches, wait_for

NAME = "hmvdemo"
figures = {}


def phase():
    return hmvctl("info", NAME, "--json").json()["Phase"]


def agent(command):
    r = host("virsh", "-q", "qemu-agent-command", NAME, json.dumps({"execute": command}))
    return json.loads(r.out)["return"]


def demo():
    """hot pages get to DRAM while the guest runs, and what the workload had of stores to slow memory falls to a tenth"""
    r = lab("demo", "--json", "--keep", "--limit", "1800", timeout=3300)  # a machine with one fifth of the speed was halfway after 600
    equal(r.code, 0, f"demo ended: {r.err[-3000:]}")
    figures.update(json.loads(r.out.strip().splitlines()[-1]))
    check(figures["hot_set_on_dram"] >= 0.9, f"{figures}\n{r.err[-3000:]}")
    before, after = figures["slow_store_share_unmanaged"], figures["slow_store_share_managed"]
    check(before > 0.1, f"the baseline wrote no slow memory: {figures}")
    # The shares are of all stores of the host. On a slow machine most are not the workload's but of ticks and the like,
    # by time and not by work; a twentieth of those may go to slow memory, where the guest's kernel may be.
    check(after <= before / 10 + (1 - before) / 20, f"{figures}\n{r.err[-3000:]}")
    return json.dumps(figures)


def verified():
    """verify proves the placement, and the guest's two nodes are in two memory tiers"""
    cells = hmvctl("verify", NAME, "--json").json()["cells"]
    check(len(cells) == 2 and all(c["ok"] for c in cells), f"{cells}")
    tiers = guest(NAME, "sh", "-c", "ls -d /sys/devices/virtual/memory_tiering/memory_tier*").out.split()
    equal(len(tiers), 2, "memory tiers in the guest")


def told():
    """explain, stats and heat tell what was done"""
    stats = hmvctl("stats", NAME, "--json").json()
    check(stats["PromotedPages"] >= 20000, f"{stats}")
    matches(r"\d", hmvctl("explain", NAME).out, "explain")
    cells = hmvctl("heat", NAME, "--json").json()
    check(cells, "heat is empty")


def kernel_found():
    """info names the cell that the guest's kernel put its own data in"""
    iomem = guest(NAME, "cat", "/proc/iomem").out
    at = next(int(line.split("-")[0], 16) for line in iomem.splitlines() if line.endswith(" : Kernel data"))
    info = hmvctl("info", NAME, "--json").json()
    boot = {c["Cell"]: c["BootBytes"] for c in info["Cells"]}  # the cells of a small guest lie one after the other
    equal(info["AgentKernelNode"], 0 if at < boot[0] else 1, f"{iomem} {boot}")


# Prints how many MiB of a new process's 24 MiB the guest's kernel took from each of its two nodes.
NEW_PROCESS = """
rm -f /run/room; mkfifo /run/room
sleep 8 </run/room &
dd if=/dev/zero of=/run/room bs=24M count=1 2>/dev/null &
sleep 4
awk '{ for (i = 1; i <= NF; i++) if (split($i, a, "=") == 2 && a[1] ~ /^N[01]$/) n[a[1]] += a[2] }
        END { print int(n["N0"] / 256), int(n["N1"] / 256) }' /proc/$!/numa_maps
kill $!
"""


def room_made():
    """where DRAM is full of old pages, some make room, and a new process gets DRAM"""
    hmvctl("unmanage", NAME)  # or some room is made before the first process asks for it
    for _ in range(5):
        guest(NAME, "dd", "if=/dev/vda", "of=/dev/null", "bs=1M", "count=300")
        first = seen = guest(NAME, "sh", "-c", NEW_PROCESS).out.split()
        if int(first[1]) >= 12:
            break
    check(int(first[1]) >= 12, f"DRAM was not full: {first}")
    hmvctl("manage", NAME)
    for _ in range(60):
        if int(seen[0]) >= 18:
            break
        seen = guest(NAME, "sh", "-c", NEW_PROCESS).out.split()
    check(int(seen[0]) >= 18, f"{seen} MiB on the nodes: {hmvctl('explain', NAME).out}")
    matches("to make room", hmvctl("explain", NAME).out, "explain")
    return f"MiB on DRAM and slow memory: first {' and '.join(first)}, then {' and '.join(seen)}"


def stock_agent():
    """The stock agent's functions work through ours"""
    agent("guest-ping")
    check("debian" in agent("guest-get-osinfo")["id"], "osinfo")
    equal(agent("guest-fsfreeze-status"), "thawed", "fsfreeze")
    names = [c["name"] for c in agent("guest-info")["supported_commands"]]
    check("guest-shutdown" in names and "__org.hmvisor_migrate-submit" in names, f"{names}")
    matches("/", host("virsh", "domfsinfo", NAME).out, "domfsinfo")
    matches("<domain", host("virsh", "dumpxml", NAME).out, "dumpxml")


def guest_tiering_off_while_managed():
    """The guest's own tiering is off while managed, and is put back by unmanage"""
    equal(guest(NAME, "cat", "/proc/sys/kernel/numa_balancing").out.strip(), "0", "while managed")
    hmvctl("unmanage", NAME)
    wait_for("numa_balancing is back", 30,
             lambda: guest(NAME, "cat", "/proc/sys/kernel/numa_balancing").out.strip() == "1")
    hmvctl("manage", NAME)
    wait_for("managed again", 60, lambda: phase() == "managed")


def killed_daemon():
    """kill -9 of hmvisord: the guest runs on, tracking stops by itself, a restart carries on"""
    host("systemctl", "kill", "-s", "KILL", "hmvisord")
    host("systemctl", "stop", "hmvisord", check=False)
    equal(host("virsh", "-q", "domstate", NAME).out.strip(), "running", "the domain")
    query = '{"execute":"__org.hmvisor_hotness-query"}'

    def expired():
        state = json.loads(host("virsh", "-q", "qemu-monitor-command", NAME, query).out)["return"]["state"]
        return state in ("expired", "off")
    wait_for("tracking stops", 90, expired)
    guest(NAME, "true")
    host("systemctl", "start", "hmvisord")
    wait_for("managed again", 90, lambda: phase() == "managed")


def restarted_libvirt():
    """libvirt restarted: the daemon finds it and the domain again"""
    units = host("sh", "-c", "systemctl list-units --plain --no-legend 'libvirtd.service' 'virtqemud.service' | awk '{print $1}'").out.split()
    check(units, "no libvirt service runs")
    host("systemctl", "restart", *units)
    wait_for("managed again", 120, lambda: phase() == "managed")


def paused():
    """A paused domain is left alone, and taken up again"""
    host("virsh", "suspend", NAME)
    time.sleep(5)
    host("virsh", "resume", NAME)
    wait_for("managed again", 90, lambda: phase() == "managed")


def saved():
    """virsh save of the tracked guest and its restore: tracking stands aside, the guest goes on"""
    wait_for("tracking", 90, lambda: hmvctl("info", NAME, "--json").json()["TrackingState"] in ("tracking", "resting"))
    before = guest(NAME, "hmv-workload", "--query").out
    host("virsh", "save", NAME, "/var/lib/hmvlab/saved", timeout=600)
    host("virsh", "restore", "/var/lib/hmvlab/saved", timeout=600)
    host("rm", "/var/lib/hmvlab/saved")
    after = json.loads(wait_for("the restored guest answers", 120, lambda: guest(NAME, "hmv-workload", "--query").out))
    check(after["writes"] >= json.loads(before)["writes"], f"the workload did not go on: {before} {after}")
    wait_for("managed again", 120, lambda: phase() == "managed")
    wait_for("tracked again", 90, lambda: hmvctl("info", NAME, "--json").json()["TrackingEpochs"] > 0)


def events_told():
    """events --loop prints what happens"""
    p = subprocess.Popen([HMVLAB, "exec", "--", "timeout", "60", "hmvctl", "events", "--loop", "--json"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(10)
    hmvctl("unmanage", NAME)
    hmvctl("manage", NAME)
    line = p.stdout.readline()
    p.terminate()
    p.wait()
    check(NAME in line, f"first line of events: {line!r}")


def clean_stop():
    """Stopping the service undoes what was changed in the guest"""
    wait_for("managed", 60, lambda: phase() == "managed")
    wait_for("prepared", 30, lambda: guest(NAME, "cat", "/proc/sys/kernel/numa_balancing").out.strip() == "0")
    host("systemctl", "stop", "hmvisord")
    equal(guest(NAME, "cat", "/proc/sys/kernel/numa_balancing").out.strip(), "1", "numa_balancing after the stop")
    host("systemctl", "start", "hmvisord")
    wait_for("managed again", 90, lambda: phase() == "managed")


def shutdown_by_agent():
    """virsh shutdown --mode agent ends the guest, and the daemon lets it go"""
    host("virsh", "shutdown", NAME, "--mode", "agent")
    wait_for("off", 180, lambda: host("virsh", "-q", "domstate", NAME).out.strip() == "shut off")
    wait_for("let go", 30, lambda: phase() == "discovered")
    lab("guest", "remove", NAME)


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([demo, verified, told, kernel_found, room_made, stock_agent, guest_tiering_off_while_managed,
                   killed_daemon, restarted_libvirt, paused, saved, events_told, clean_stop, shutdown_by_agent], NAME))
