# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests and QEMUs that lack something, or answer nonsense: DEGRADED with a reason, and running all the same."""
import json
import shlex
import sys

from labhost import check, equal, guest, hmvctl, host, lab, main, matches, wait_for

NAME = "odd1"


def info():
    return hmvctl("info", NAME, "--json").json()


def degraded_for(pattern):
    seen = wait_for(f"'{NAME}' degraded for /{pattern}/", 120, lambda: info()["Phase"] == "degraded" and info())
    matches(pattern, seen["Reason"], "reason")
    equal(host("virsh", "-q", "domstate", NAME).out.strip(), "running", "the domain")


def restart_with(edit):
    """Changes the persistent XML with sed and starts the guest anew."""
    host("virsh", "destroy", NAME, check=False)
    host("sh", "-c", f"virsh dumpxml --inactive {NAME} | sed {edit} >/tmp/odd.xml && virsh -q define /tmp/odd.xml")
    host("virsh", "start", NAME)


def noise_for_agent(seconds, loop):
    """In the place of the guest's agents a shell loop has their port, as descriptor 3, for so long at most."""
    # Within a time of its own, as a write to the port waits for ever while nobody at the other end reads.
    noise = f"exec 3<>/dev/virtio-ports/org.qemu.guest_agent.0; cat <&3 >/dev/null & {loop}; kill $!"
    script = (f"systemctl stop hmvisor-ga qemu-guest-agent; timeout -k 5 {seconds} sh -c {shlex.quote(noise)}; "
              "systemctl start qemu-guest-agent hmvisor-ga")
    guest(NAME, "systemd-run", "--quiet", "sh", "-c", script)


def garbage_agent():
    """A guest that answers garbage is degraded, and nobody else notices"""
    r = lab("guest", NAME, timeout=900)
    equal(r.code, 0, f"starting it: {r.err[-2000:]}")
    hmvctl("manage", NAME, "--live")
    wait_for("managed", 120, lambda: info()["Phase"] == "managed")
    noise_for_agent(120, "for i in $(seq 90); do head -c 4096 /dev/urandom >&3; printf '\\n{\"return\":[[[[[{}\\n' >&3; sleep 1; done")
    degraded_for("agent")
    pid = host("systemctl", "show", "hmvisord", "-p", "NRestarts", "--value").out.strip()
    equal(pid, "0", "restarts of hmvisord")
    wait_for("managed again", 300, lambda: info()["Phase"] == "managed")


def jammed_channel():
    """A guest whose channel QEMU no longer empties has its agent back by itself"""
    # libvirt stops reading what it cannot parse, so the port fills up; it is closed before anyone has read the rest.
    noise_for_agent(30, "while :; do printf '%05000d\\n' 0 >&3; done")
    degraded_for("agent")
    wait_for("its port jammed", 60, lambda: "throttle on" in port())
    wait_for("managed again", 300, lambda: info()["Phase"] == "managed")
    check("throttle off" in port(), f"it is managed, but: {port()}")
    said = guest(NAME, "journalctl", "--quiet", "-b", "-u", "hmvisor-ga").out
    matches("opening channel .* again", said, "what the agent says")


def port():
    return host("sh", "-c", f"virsh qemu-monitor-command {NAME} --hmp 'info qtree' | grep -A 5 virtserialport").out


def agent_gone_and_back():
    """A guest whose agent stops is degraded with the reason, and recovers by itself"""
    host("virsh", "-q", "qemu-agent-command", NAME, json.dumps(
        {"execute": "guest-exec", "arguments": {"path": "/bin/sh", "arg": [
            "-c", "sleep 2; systemctl stop hmvisor-ga; sleep 60; systemctl start hmvisor-ga"]}}))
    wait_for("degraded", 60, lambda: info()["Phase"] == "degraded")
    matches("agent", hmvctl("info", NAME, "--json").json()["Reason"], "reason")
    wait_for("managed again", 180, lambda: info()["Phase"] == "managed")


def no_extension():
    """A QEMU without the extension: degraded, with the remedy"""
    restart_with("-e '/hmvisor-hotness/d' -e \"/value='-plugin'/d\"")
    degraded_for("extension")
    hmvctl("heat", NAME, code=10)


def no_agent():
    """A guest without an agent: degraded, tracked, not touched"""
    hmvctl("unbind", NAME, code=None)
    hmvctl("bind", NAME, "--dram", "256M", "--slow", "768M", code=None)
    restart_with("-e 's/ systemd.mask=none//' -e 's|</cmdline>| systemd.mask=hmvisor-ga.service systemd.mask=qemu-guest-agent.service</cmdline>|'")
    degraded_for("agent")


def dram_left_out():
    """A guest without anything to move has its DRAM left out of samples"""
    restart_with("-e 's| systemd.mask=[^ <]*||g'")
    wait_for("observed or managed", 240, lambda: info()["Phase"] in ("observing", "managed"))
    equal(info()["TrackingLog"], "bitmap", "log")
    hmvctl("manage", NAME, "--live")
    wait_for("DRAM left out of samples, as there is nothing to move", 900, lambda: info()["TrackingScope"] == "slow")


def with_a_ring():
    """With a dirty ring of its own it works on that, looks at all, and says what the bitmap has over it"""
    restart_with("-e \"s|</features>|<kvm><dirty-ring state='on' size='4096'/></kvm></features>|\"")
    wait_for("observed or managed", 240, lambda: info()["Phase"] in ("observing", "managed"))
    equal(info()["TrackingLog"], "ring", "log")
    matches("bitmap", info()["Reason"], "reason")
    wait_for("samples", 240, lambda: info()["TrackingEpochs"] > 0)
    equal(info()["TrackingScope"], "all", "scope")


def removed():
    """The guest goes, the daemon stays"""
    lab("guest", "remove", NAME)
    check(NAME not in hmvctl("list").out, "it is still listed")
    equal(host("systemctl", "is-active", "hmvisord").out.strip(), "active", "hmvisord")


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([garbage_agent, jammed_channel, agent_gone_and_back, no_extension, no_agent, dram_left_out, with_a_ring, removed]))
