# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages on the lab host: service, bus, configuration, tiers."""
import pathlib
import re
import sys

from labhost import check, equal, hmvctl, host, lab, main, matches, wait_for

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "bus"))
import openmetrics  # noqa: E402 - of another folder of tests


def service_runs():
    """hmvisord runs as installed, and says that it is ready"""
    wait_for("hmvisord is active", 60, lambda: host("systemctl", "is-active", "hmvisord", check=False).out.strip() == "active")
    matches(r"Type=notify", host("systemctl", "show", "hmvisord", "-p", "Type").out, "unit")
    wait_for("hmvisord reaches libvirt", 60, lambda: host("busctl", "get-property", "org.hmvisor1", "/org/hmvisor1",
                                                         "org.hmvisor1.Manager", "Connected").out.strip() == "b true")


def packages_only():
    """Nothing of ours is there but by its packages"""
    out = host("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", "hmvisor*").out
    check("hmvisor installed" in out and "hmvisor-qemu installed" in out, f"packages: {out!r}")
    for path in ("/usr/sbin/hmvisord", "/usr/bin/hmvctl"):
        matches(r"^hmvisor: ", host("dpkg", "-S", path).out, path)


def tiers_found():
    """The two tiers are found without configuration"""
    nodes = {n["Node"]: n for n in hmvctl("tiers", "--json").json()}
    equal(nodes[0]["Tier"], "dram", "tier of node 0")
    equal(nodes[1]["Tier"], "slow", "tier of node 1")
    check(nodes[1]["LatencyNSec"] > nodes[0]["LatencyNSec"] > 0, f"latencies from the HMAT: {nodes}")


def configuration_checked():
    """A wrong configuration is refused with file and line, a right one is dumped"""
    host("hmvisord", "--check-config")
    dump = host("hmvisord", "--dump-config").out
    matches(r"\[Policy\]", dump, "dump")
    host("sh", "-c", "mkdir -p /etc/hmvisor/hmvisord.conf.d && printf '[Policy]\\nRateCap=lots\\n' >/etc/hmvisor/hmvisord.conf.d/bad.conf")
    try:
        r = host("hmvisord", "--check-config", check=False)
        check(r.code != 0, "a bad rate was accepted")
        matches(r"bad\.conf:2.*RateCap", r.err, "message")
        check(host("systemctl", "reload", "hmvisord", check=False).code != 0, "systemctl says that it was reloaded")
        equal(host("systemctl", "is-active", "hmvisord").out.strip(), "active", "after a reload with a bad file")
    finally:
        host("rm", "/etc/hmvisor/hmvisord.conf.d/bad.conf")
    host("systemctl", "reload", "hmvisord")


def second_daemon_refused():
    """A second daemon ends with one line and leaves the first alone"""
    pid = host("systemctl", "show", "hmvisord", "-p", "MainPID", "--value").out.strip()
    r = host("timeout", "30", "/usr/sbin/hmvisord", check=False)
    check(r.code not in (0, 124), f"the second daemon ended with {r.code}")
    equal(len(r.err.strip().splitlines()), 1, f"lines of {r.err!r}")
    equal(host("systemctl", "show", "hmvisord", "-p", "MainPID", "--value").out.strip(), pid, "pid of the first")


def unknown_domain():
    """An unknown domain has its own message and exit code"""
    for verb in ("info", "verify", "manage", "heat", "stats", "explain"):
        r = hmvctl(verb, "nosuch", code=3)
        matches(r"^error: .*'nosuch'", r.err, verb)


def fault_costs_something():
    """What a tracked write costs is measured before the daemon starts, by a guest under KVM"""
    host("sh", "-c", "rm -f /var/lib/hmvisor/fault-cost && systemctl restart hmvisord")
    cost = int(host("cat", "/var/lib/hmvisor/fault-cost").out)
    check(cost > 100, f"{cost} ns: no fault was taken")     # an emulated KVM has no PML
    matches(rf"costs a tracked guest {cost // 1000}\.[0-9] us, measured", host("journalctl", "-u", "hmvisord", "--no-pager").out,
            "journal")
    service_runs()
    return f"{cost} ns"


def hardening():
    """The units' exposure scores are what systemd itself says"""
    scores = []
    for unit in ("hmvisord", "hmvisor-fault-cost"):
        out = host("systemd-analyze", "security", "--no-pager", unit, timeout=120).out
        score = re.search(rf"Overall exposure level for {unit}.service: ([0-9.]+)", out)
        check(score, f"no score in {out[-300:]!r}")
        check(float(score[1]) <= 2.0, f"exposure of {unit}: {score[1]}")
        scores.append(score[1])
    return f"exposure {' and '.join(scores)}"


def doctor_finds_no_fault():
    """doctor finds nothing wrong with the host"""
    found = {f["What"]: f for f in hmvctl("doctor", "--json", code=None).json()}
    for what in ("hmvisord", "connection", "tiers", "kernel", "kvm", "libvirt", "qemu", "extension"):
        check(what in found, f"nothing of {what} in {sorted(found)}")
        equal(found[what]["State"], "ok", f"{what} ({found[what]['Finding']})")


def metrics_for_collectors():
    """Metrics are text that a strict reader takes; their service is off, and writes them from within its sandbox"""
    families = openmetrics.parse(hmvctl("metrics").out.strip() + "\n")
    equal(families["hmvisor_up"].values(), [1.0], "hmvisor_up")
    check(families["hmvisor_process_resident_memory_bytes"].values()[0] > 1 << 20, "memory of hmvisord")
    equal(host("systemctl", "is-enabled", "hmvisor-metrics.timer", check=False).out.strip(), "disabled", "the timer")
    place = "/var/lib/prometheus/node-exporter"
    host("mkdir", "-p", place)
    try:
        host("systemctl", "start", "hmvisor-metrics.service")
        families = openmetrics.parse(host("cat", place + "/hmvisor.prom").out.strip() + "\n")
        equal(families["hmvisor_up"].values(), [1.0], "hmvisor_up in the file")
        equal(host("ls", "-A", place).out.split(), ["hmvisor.prom"], "files there")
    finally:
        host("rm", "-r", place)


def messages_explained():
    """journalctl explains the messages that have an id"""
    matches("42a0f35141ac46859ab7f58f8dda9bd8 HMvisor: ", host("journalctl", "--list-catalog").out, "catalog")


if __name__ == "__main__":
    r = lab("up", timeout=3600)
    if r.code != 0:
        print(f"1..1\nnot ok 1 - the lab comes up\n# {r.err[-2000:]}")
        sys.exit(1)
    sys.exit(main([service_runs, packages_only, tiers_found, configuration_checked, second_daemon_refused, unknown_domain,
                   fault_costs_something, hardening, doctor_finds_no_fault, metrics_for_collectors, messages_explained]))
