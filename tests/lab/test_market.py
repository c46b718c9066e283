# SPDX-License-Identifier: GPL-2.0-or-later
"""Two guests trade, and one of them is hostile: it gives nothing, lies, or goes away. The other loses nothing."""
import json
import sys

from labhost import check, equal, guest, hmvctl, host, lab, main, matches, wait_for

HONEST, HOSTILE = "honest1", "hostile1"
MIB = 1 << 20
LOT_DRAM, LOT_SLOW = 16 * MIB, 64 * MIB
PATIENT, IMPATIENT = 400, 60  # seconds of SettleTime=: more than any trade takes here, and to run out
CONF = "/etc/hmvisor/hmvisord.conf.d/lab-market.conf"
REFUSES = "/sys/module/virtio_mem/parameters/unplug_online"
# DRAM and slow memory at boot, the least, the most
SIZES = {HONEST: ("256M", "256M", "128M", "192M", "128M", "512M"),
         HOSTILE: ("192M", "384M", "160M", "128M", "192M", "128M")}


def status():
    s = hmvctl("market", "status", "--json").json()
    return s, {d["Name"]: d for d in s["Domains"]}


def log_since(cursor):
    return host("journalctl", "-u", "hmvisord", "-o", "cat", "--after-cursor", cursor).out


def log_cursor():
    return json.loads(host("journalctl", "-u", "hmvisord", "-n1", "-o", "json").out)["__CURSOR"]


def invariants():
    """Nobody is worth more than its entitlement, nor holds more than it owns; the tiers hold all of it."""
    s, domains = status()
    for d in domains.values():
        if "Value" not in d:
            continue
        check(d["Value"] <= d["EntitledValue"], f"{d['Name']} is worth {d['Value']}, of {d['EntitledValue']}")
    for tier in ("Dram", "Slow"):
        held = sum(d[f"{tier}Bytes"] for d in domains.values())
        check(held <= s[f"{tier}Bytes"], f"{held} bytes of {tier} are held, of {s[f'{tier}Bytes']}")
    equal(host("systemctl", "show", "hmvisord", "-p", "NRestarts", "--value").out.strip(), "0", "restarts of hmvisord")
    return domains


def settle_within(seconds):
    host("sh", "-c", f"mkdir -p $(dirname {CONF}) && printf '[Market]\\nEnabled=yes\\nMinTrade=16M\\nEpoch=20s\\nCoolDown=1s\\n"
         f"Dwell=1s\\nSettleTime={seconds}s\\n' >{CONF} && systemctl reload hmvisord")


def settled(*positions):
    """Waits until no ticket is open and sizes are what positions (in lots: honest, hostile) stand for."""
    def probe():
        domains = invariants()
        for name, lots in zip((HONEST, HOSTILE), positions):
            d = domains.get(name)
            if lots is None:
                continue
            if not d or d.get("TicketDramBytes") != 0 or d["PositionDramBytes"] != lots * LOT_DRAM:
                return None
            if (d["DramBytes"], d["SlowBytes"]) != (d["EntitledDramBytes"] + lots * LOT_DRAM,
                                                    d["EntitledSlowBytes"] - lots * LOT_SLOW):
                return None
        return domains
    return wait_for(f"settled at {positions} lots", 2 * PATIENT, probe)


def memory_sum():
    return guest(HONEST, "sha256sum", "/dev/shm/known").out.split()[0]


def order(name, *words):
    wait_for(f"an order of {name}", 120, lambda: hmvctl("trade", name, *words, code=None).code == 0)


def honest_sells_two_lots():
    """Opens a ticket for each: the honest guest sells two lots, and the other one buys them."""
    def both():
        order(HONEST, "--sell-dram", "32M")
        order(HOSTILE, "--buy-dram", "32M")
        return wait_for("both tickets", 25, lambda: all(
            status()[1][n].get("TicketDramBytes") == lots * LOT_DRAM for n, lots in ((HONEST, -2), (HOSTILE, 2))))
    # an order is for the next clearing: where one is between the two, they are given again
    wait_for("two orders in one clearing", 2 * PATIENT, both)


def escrow_of(name):
    d = status()[1][name]
    return d["TicketDeliveredLots"] - d["TicketPaidLots"] if d["TicketDramBytes"] else 0


def set_refusal(on):
    guest(HOSTILE, "sh", "-c", f"echo {'N' if on else 'Y'} >{REFUSES}")


def start():
    """Two guests are started, and trade two lots with each other and back"""
    for name, (dram, slow, min_dram, min_slow, more_dram, more_slow) in SIZES.items():
        lab("guest", "remove", name)
        r = lab("guest", name, "--dram", dram, "--slow", slow, "--min-dram", min_dram, "--min-slow", min_slow,
                "--max-dram", more_dram, "--max-slow", more_slow, timeout=900)
        equal(r.code, 0, f"starting '{name}': {r.err[-2000:]}")
    settle_within(PATIENT)
    host("systemctl", "restart", "hmvisord")  # the count of its restarts begins anew
    for name in SIZES:  # it has to find libvirt and them first
        wait_for(f"'{name}' known", 60, lambda: hmvctl("market", "set", name, "--trading", "on", code=None).code == 0)
    guest(HONEST, "sh", "-c", "head -c 64M /dev/urandom >/dev/shm/known")
    settled(0, 0)
    before = memory_sum()
    honest_sells_two_lots()
    settled(-2, 2)
    hmvctl("market", "withdraw", HONEST)
    settled(0, 0)
    equal(memory_sum(), before, "what the honest guest had in memory")


def refuses():
    """A guest that refuses to unplug: the other one gets back what it gave, and the log says so"""
    before, cursor = memory_sum(), log_cursor()
    set_refusal(True)
    settle_within(IMPATIENT)
    honest_sells_two_lots()
    wait_for("the honest guest's DRAM in escrow", IMPATIENT, lambda: escrow_of(HONEST) > 0)
    settled(0, 0)
    log = log_since(cursor)
    matches(f"{HOSTILE}.*did not give its memory back.*did not come", log, "log")
    matches(f"{HONEST}.*gets . lots? of 16 MiB DRAM back", log, "log")
    equal(memory_sum(), before, "what the honest guest had in memory")


def agent_pid():
    return guest(HOSTILE, "systemctl", "show", "-P", "MainPID", "hmvisor-ga").out.strip()


def lies():
    """A guest that lies in its statistics gets nothing by it"""
    before = status()[1]
    set_refusal(False)
    settle_within(PATIENT)
    was = agent_pid()
    # not at once: the answer to this goes through the agent that is restarted
    guest(HOSTILE, "sh", "-c", "sed 's/^MemAvailable:.*/MemAvailable: 99999999999 kB/' /proc/meminfo >/run/lie && "
          "mount --bind /run/lie /proc/meminfo && systemd-run --quiet --on-active=2 systemctl restart hmvisor-ga")
    wait_for("the agent was restarted", PATIENT, lambda: agent_pid() != was)
    guest(HOSTILE, "sh", "-c", "grep -q 99999999999 /proc/meminfo")
    honest_sells_two_lots()  # of memory that it says it can do without, it gives no more than it trades
    settled(-2, 2)
    hmvctl("market", "withdraw", HOSTILE)
    after = settled(0, 0)
    for name in SIZES:
        equal(after[name]["Value"], before[name]["Value"], f"value of {name}")
    guest(HOSTILE, "umount", "/proc/meminfo")


def goes_away():
    """A guest that goes away in mid-trade: what is in escrow goes back to who gave it, and the log says so"""
    before, cursor = memory_sum(), log_cursor()
    settle_within(PATIENT)
    set_refusal(True)
    honest_sells_two_lots()
    wait_for("the honest guest's DRAM in escrow", PATIENT, lambda: escrow_of(HONEST) > 0)
    host("virsh", "destroy", HOSTILE)
    settled(0, None)
    matches(f"{HONEST}.*gets . lots? of 16 MiB DRAM back", log_since(cursor), "log")
    equal(memory_sum(), before, "what the honest guest had in memory")


def killed():
    """hmvisord is killed in mid-trade: it goes on where it was"""
    host("virsh", "start", HOSTILE)
    equal(lab("guest", "wait", HOSTILE, timeout=900).code, 0, "waiting for it")
    settled(0, 0)
    before = memory_sum()
    honest_sells_two_lots()
    host("systemctl", "kill", "-s", "KILL", "hmvisord")
    wait_for("it runs again", 60, lambda: host("systemctl", "is-active", "hmvisord", check=False).out.strip() == "active")
    host("systemctl", "reset-failed", "hmvisord", check=False)
    # the ticket outlives it, and is kept
    wait_for("settled", 2 * PATIENT, lambda: (lambda d: all(
        "Value" in v and v["TicketDramBytes"] == 0 and v["Value"] == v["EntitledValue"] for v in d.values()) and d)(status()[1]))
    equal(memory_sum(), before, "what the honest guest had in memory")


def swap_is_seen():
    """What a guest reads from its swap device is seen"""
    hmvctl("market", "set", HONEST, "--swap-device", "vda")  # any disk will do
    guest(HONEST, "systemd-run", "--quiet", "sh", "-c",
          "for i in $(seq 30); do dd if=/dev/vda of=/dev/null bs=64k count=160 iflag=direct; sleep 1; done")
    wait_for("bytes of its swap device", 120, lambda: status()[1][HONEST].get("SwapBytesPerSec", 0) > 0)


def removed():
    """The guests go, the market stays"""
    for name in SIZES:
        lab("guest", "remove", name)
    wait_for("no domains", 60, lambda: not status()[1])
    host("sh", "-c", f"rm -f {CONF} && systemctl reload hmvisord")


if __name__ == "__main__":
    lab("up", timeout=3600)
    sys.exit(main([start, refuses, lies, goes_away, killed, swap_is_seen, removed], HONEST))
