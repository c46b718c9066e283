# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU as Debian runs it: as libvirt-qemu, confined by AppArmor, with libvirt's own settings."""
import sys

from labhost import check, equal, guest, hmvctl, host, lab, main, matches, wait_for

NAME = "confined1"
LOCAL = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
CONF = "/etc/libvirt/qemu.conf"


def restart_libvirtd():
    host("systemctl", "restart", "libvirtd")
    wait_for("hmvisord reaches libvirt again", 60, lambda: host("busctl", "get-property", "org.hmvisor1", "/org/hmvisor1",
                                                                "org.hmvisor1.Manager", "Connected").out.strip() == "b true")


def info():
    return hmvctl("info", NAME, "--json").json()


def confinement_on():
    """libvirt confines QEMU, and doctor finds the rules for the extension"""
    host("systemctl", "unmask", "apparmor")
    host("systemctl", "start", "apparmor", timeout=300)
    host("sh", "-c", f"cp {CONF} {CONF}.lab && sed -i '/^# Set by the lab/,$d' {CONF} && "
                     f"printf 'security_driver = \"apparmor\"\\n' >>{CONF}")
    # The lab's guests lie above a whole disk, which libvirt's helper cannot read to see what else they need.
    host("sh", "-c", f"mkdir -p $(dirname {LOCAL}) && echo '/dev/vd[a-z] rk,' >>{LOCAL}")
    host("sysctl", "-q", "kernel.printk_ratelimit=0")   # each refusal is to be in the journal, between hundreds of profiles loaded
    restart_libvirtd()
    matches("apparmor", host("virsh", "capabilities").out, "libvirt's capabilities")
    matches(r"ok +apparmor: ", hmvctl("doctor", code=None).out, "doctor")


def tracked_when_confined():
    """A bound guest is confined, tracked and managed"""
    r = lab("guest", NAME, timeout=900)
    equal(r.code, 0, f"starting it: {r.err[-2000:]}")
    pid = host("sh", "-c", f"cat /run/libvirt/qemu/{NAME}.pid").out.strip()
    matches(r"^libvirt-[-0-9a-f]+ \(enforce\)", host("cat", f"/proc/{pid}/attr/apparmor/current").out, "profile")
    equal(host("stat", "-c", "%U", f"/proc/{pid}").out.strip(), "libvirt-qemu", "user of QEMU")
    hmvctl("manage", NAME, "--live")
    wait_for("managed", 180, lambda: info()["Phase"] == "managed")
    guest(NAME, "sh", "-c", "head -c 32M /dev/urandom >/dev/shm/some")
    wait_for("some of its pages are hot", 180, lambda: any(
        sum(c["Pages"][1:]) for c in hmvctl("heat", NAME, "--json").json()))


def refused_when_denied():
    """It is AppArmor's rules that let QEMU load the extension: with one against it the domain does not start"""
    host("virsh", "-q", "destroy", NAME)
    host("sh", "-c", f"cp {LOCAL} /root/rules && echo 'audit deny /usr/lib/**/hmvisor-hotness.so rm,' >>{LOCAL}")
    try:
        equal(host("virsh", "-q", "start", NAME, check=False).code, 1, "start of the domain")
        matches(r'apparmor="DENIED".*hmvisor-hotness', host("journalctl", "-k", "--no-pager").out, "journal")
    finally:
        host("mv", "/root/rules", LOCAL)
    host("virsh", "-q", "start", NAME)


def put_back():
    """The guest goes, and the lab's own settings come back"""
    lab("guest", "remove", NAME)
    host("mv", f"{CONF}.lab", CONF)
    host("rm", LOCAL)
    restart_libvirtd()
    host("systemctl", "stop", "apparmor", check=False)
    host("systemctl", "mask", "apparmor")
    check(NAME not in hmvctl("list").out, "it is still listed")


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([confinement_on, tracked_when_confined, refused_when_denied, put_back]))
