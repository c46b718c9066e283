#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon with many domains, over a scripted libvirt and a private bus.

    load.py check            50 domains: what is answered is whole and nothing leaks; no figure is judged
    load.py day [HOURS] [N]  24 hours of the daemon's own time with 20 domains: nothing grows
    load.py flood            one guest of ten is hostile, in each way, or the clock is: what that costs the daemon and the others
    load.py bench [N] [SEC]  1,000 domains: prints memory, CPU and the bus's latency, as a table and as JSON
"""
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'bus'))
from harness import BusTest, Daemon, dbus, wait_until   # noqa: E402

MIB = 1 << 20
NAME, PATH = 'org.hmvisor1', '/org/hmvisor1'
# Of ten domains in a row, as load-host.c scripts them.
PHASES = {'managed': 7, 'observing': 1, 'degraded': 2}


def host_files(root, n):
    """A node of each tier with room for all and half as much again for the pool, and a configuration with the market on."""
    for node, per_vm in ((0, 192), (1, 256)):
        folder = root / f'sys/devices/system/node/node{node}'
        folder.mkdir(parents=True)
        kib = n * per_vm * 1024 * 3 // 2
        (folder / 'meminfo').write_text(f'Node {node} MemTotal: {kib} kB\nNode {node} MemFree: {kib} kB\n')
        (folder / 'cpulist').write_text('\n' if node else '0-1\n')
        (folder / 'distance').write_text('28 10\n' if node else '10 28\n')
    (root / 'sys/devices/system/node/online').write_text('0-1\n')
    conf = root / 'etc/hmvisor/hmvisord.conf'
    conf.parent.mkdir(parents=True)
    conf.write_text(f'[Daemon]\nLogLevel=err\n[Tiers]\nDramNodes=0\nSlowNodes=1\n[Market]\nEnabled=yes\nPool=yes\nMinTrade=8M\n'
                    f'MaxTrade=32M\nHostReserveDram=0\nJournalPath={root}/journal\n')


class Load:
    """A private bus with the daemon on it; to be used with `with`."""

    def __init__(self, n, *args):
        self.n, self.args = n, [str(a) for a in args]

    def __enter__(self):
        class Bus(BusTest):
            pass
        os.environ.setdefault('HMVCTL', '/bin/true')
        self.bus = Bus
        Bus.setUpClass()
        host_files(Bus.path, self.n)
        if os.geteuid() != 0:
            Bus.start_polkit()
        self.daemon = Daemon([os.environ['LOAD_HMVISORD'], str(Bus.path), str(self.n), *self.args], Bus.env)
        self.first = self.read()
        return self

    def __exit__(self, *exc):
        if self.daemon.process.poll() is None:
            self.daemon.process.kill()
            self.daemon.process.wait()
        self.bus.tearDownClass()

    def read(self):
        line = self.daemon.line(120)
        return json.loads(line) if line else None

    def report(self):
        self.daemon.process.stdin.write(b'\n')
        return self.read()

    def stop(self):
        code = self.daemon.stop()
        assert code == 0, f'load-hmvisord ends with {code}'


class Client:
    """Calls, and what each took, in ms. Answers are only taken apart where they are asked for."""

    def __init__(self, address):
        self.connection = dbus.bus.BusConnection(address)
        self.took = {}

    def call(self, what, path, interface, member, signature='', *args):
        message = dbus.lowlevel.MethodCallMessage(NAME, path, interface, member)
        if signature:
            message.append(*args, signature=signature)
        began = time.monotonic()
        reply = self.connection.send_message_with_reply_and_block(message, 60)
        self.took.setdefault(what, []).append((time.monotonic() - began) * 1000)
        return reply

    def list(self):
        return self.call('ListDomains', PATH, NAME + '.Manager', 'ListDomains').get_args_list()[0]

    def everything(self, path, name):
        """The usual calls, one after the other, of which the last ones are about all domains."""
        domain, props = NAME + '.Domain', 'org.freedesktop.DBus.Properties'
        yield lambda: self.call('FindDomain', PATH, NAME + '.Manager', 'FindDomain', 's', name)
        yield lambda: self.call('Get (phase)', path, props, 'Get', 'ss', domain, 'Phase')
        yield lambda: self.call('GetAll (domain)', path, props, 'GetAll', 's', domain)
        yield lambda: self.call('GetStats', path, domain, 'GetStats')
        yield lambda: self.call('Explain', path, domain, 'Explain', 'u', 10)
        yield lambda: self.call('GetAll (market)', PATH, props, 'GetAll', 's', NAME + '.Market')
        yield lambda: self.call('Market.Book', PATH, NAME + '.Market', 'Book')
        yield lambda: self.call('ListDomains', PATH, NAME + '.Manager', 'ListDomains')
        yield lambda: self.call('Market.List', PATH, NAME + '.Market', 'List')
        yield lambda: self.call('GetMetrics', PATH, NAME + '.Manager', 'GetMetrics')
        yield lambda: self.call('GetManagedObjects', PATH, 'org.freedesktop.DBus.ObjectManager', 'GetManagedObjects')


def settle(load, seconds, step=1.0):
    """Until the domains have the phases that they are to have; those that start or stop just now left out."""
    spare = load.n // 10 + 1
    expected = {p: load.n * k // 10 for p, k in PHASES.items()}

    def settled():
        time.sleep(step)
        now = load.report()
        return all(abs(now[p] - expected[p]) <= spare for p in PHASES) and now['probing'] <= spare
    wait_until(f'{load.n} domains are up', settled, seconds)


def check():
    """Each domain is there, each answer has what it is to have, and after many of them nothing is left over."""
    with Load(50) as load:
        client = Client(load.bus.address)
        settle(load, 300, 0.2)
        domains = client.list()
        names = {str(d[0]): str(d[2]) for d in domains}
        assert 45 <= len(names) <= 50 and len(names) == len(domains), f'{len(names)} of 50 domains'
        objects = client.call('', PATH, 'org.freedesktop.DBus.ObjectManager', 'GetManagedObjects').get_args_list()[0]
        assert {str(p) for p in objects} >= set(names.values()) or len(objects) >= 45, f'{len(objects)} objects'
        for name in sorted(names)[:10]:
            found = client.call('', PATH, NAME + '.Manager', 'FindDomain', 's', name).get_args_list()[0]
            assert found == names[name], f'{name} is found at {found}'
            p = client.call('', found, 'org.freedesktop.DBus.Properties', 'GetAll', 's', NAME + '.Domain').get_args_list()[0]
            assert p['Name'] == name and len(p['Cells']) == 2, f'{name}: {p}'
        holdings = client.call('', PATH, NAME + '.Market', 'List').get_args_list()[0]
        assert len(holdings) >= 45, f'{len(holdings)} holdings'
        wait_until('pages move', lambda: load.report()['promoted_pages'] > 0, 60)
        calls = itertools.cycle(client.everything(names['vm0004-0'], 'vm0004-0'))
        fds = set()
        for i in range(330):
            next(calls)()
            if i % 66 == 65:
                fds.add(load.report()['fds'])
        bus_goes_and_comes(load, names)
        last = load.report()
        # the scripted QEMUs have one each; the daemon keeps none once they have it
        assert max(fds) <= 30 + 50, f'file descriptors: {sorted(fds)}'
        assert last['lapses'] == 0 and last['refused'] == 0, last
        load.stop()
    print('50 domains: ok')


def bus_goes_and_comes(load, names):
    """Without a bus pages are moved on and no lease lapses; when it is back, so is the daemon."""
    before = load.report()
    load.bus.bus_process.kill()
    load.bus.bus_process.wait()
    (load.bus.path / 'bus').unlink()
    wait_until('orders go on without a bus', lambda: load.report()['orders'] > before['orders'], 120)
    load.bus.start_bus()
    if os.geteuid() != 0:
        load.bus.start_polkit()
    connection = dbus.bus.BusConnection(load.bus.address)
    wait_until('the daemon is back on the bus', lambda: connection.name_has_owner(NAME), 60)
    again = Client(load.bus.address).list()
    assert len({str(d[0]) for d in again} & set(names)) >= 40, f'{len(again)} domains'


def day(hours=24, n=20):
    """What is in use in the second hour and in the last one, each at the least of its 60 samples."""
    with Load(n, hours * 60) as load:
        samples = []
        while (line := load.read()) is not None:
            samples.append(line)
        code = load.daemon.process.wait(20)
        assert code == 0, f'load-hmvisord ends with {code}'
        load.daemon.process.stdout.close()
    per_hour = [samples[i:i + 60] for i in range(0, len(samples) - 59, 60)]
    assert len(per_hour) >= hours - 1, f'{len(samples)} samples of {hours} hours'
    print('hour  heap KiB  least..most   fds   RSS MiB  starts  orders  resizes  trades of market epochs')
    for i, hour in enumerate(per_hour):
        heap = [s['heap_bytes'] // 1024 for s in hour]
        print(f'{i + 1:4}  {min(heap):8}  ..{max(heap):8}  {min(s["fds"] for s in hour):4}  {hour[-1]["rss_bytes"] / MIB:8.1f}  '
              f'{hour[-1]["starts"]:6}  {hour[-1]["orders"]:6}  {hour[-1]["resizes"]:7}  {hour[-1]["trades"]} of {hour[-1]["market_epoch"]}')
    early, late = per_hour[1], per_hour[-1]
    for key, slack in (('heap_bytes', 64 * 1024), ('fds', 2)):
        grown = min(s[key] for s in late) - min(s[key] for s in early)
        assert grown <= slack, f'{key} grew by {grown} from the second hour to the last'
    last = samples[-1]
    assert last['lapses'] == 0 and last['orders'] > 0 and last['resizes'] > 0 and last['starts'] > 0, last
    assert last['market'] == 'on', last
    print(json.dumps({'hours': hours, 'domains': n, 'second': early[-1], 'last': last}))


# the last one is no agent: the host's clock jumps by years, to and fro
HOSTILE = ('stock', 'silent', 'nested', 'huge', 'eager', 'other', 'stale', 'late', 'clock')


def flood():
    """Ten minutes of ten domains, of which one's agent is hostile: the others' orders are done as if it were not."""
    print('agent       answers   others\' orders   daemon\'s CPU sec   loop held ms   peak MiB')
    for agent in ('none',) + HOSTILE:
        with Load(10, 10, agent) as load:
            samples = [load.first]
            while (line := load.read()) is not None:
                samples.append(line)
            assert load.daemon.process.wait(20) == 0
            load.daemon.process.stdout.close()
        last = samples[-1]
        if agent == 'none':
            peace = last
        cpu, held = (last['cpu_usec'] - last['peers_usec']) / 1e6, max(s['longest_usec'] for s in samples) / 1e3
        print(f'{agent:10} {last["hostile"]:8} {last["orders"]:16} {cpu:19.2f} {held:14.1f} {last["peak_bytes"] / MIB:10.1f}')
        assert last['lapses'] == 0 and last['refused'] == 0 and last['market'] == 'on', last
        assert last['managed'] >= peace['managed'] - 1, last
        assert last['orders'] >= peace['orders'] * 49 // 50, f'{agent}: others had {last["orders"]} orders, not {peace["orders"]}'
        if last['heap_bytes'] > 0:   # else a sanitizer keeps what is freed
            assert last['peak_bytes'] <= peace['peak_bytes'] + 16 * MIB, f'{agent}: {last["peak_bytes"]} bytes'


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * p // 100)]


def bench(n=1000, seconds=60):
    with Load(n) as load:
        client = Client(load.bus.address)
        began = time.monotonic()
        settle(load, 900, 5)
        up = time.monotonic() - began
        time.sleep(60)   # one life of each domain: trades and orders are under way
        names = {str(d[0]): str(d[2]) for d in client.list() if int(d[0][2:6]) % 10 != 8}
        client.took = {}
        first, began = load.report(), time.monotonic()
        quiet_cpu = None
        time.sleep(seconds)   # without any client
        quiet = load.report()
        quiet_cpu = (quiet['cpu_usec'] - quiet['peers_usec'] - first['cpu_usec'] + first['peers_usec']) / (quiet['usec'] - first['usec'])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            name = random.choice(list(names))
            for call in client.everything(names[name], name):
                call()
                time.sleep(0.02)
        last = load.report()
        cpu = (last['cpu_usec'] - last['peers_usec'] - quiet['cpu_usec'] + quiet['peers_usec']) / (last['usec'] - quiet['usec'])
        load.stop()
    span = (last['usec'] - first['usec']) / 1e6
    print(f'{n} domains, of which {last["managed"]} managed, {last["degraded"]} degraded; all up after {up:.0f} s')
    print(f'memory     {load.first["rss_bytes"] / MIB:.1f} MiB without domains, {last["rss_bytes"] / MIB:.1f} MiB with them: '
          f'{(last["rss_bytes"] - load.first["rss_bytes"]) / n / 1024:.0f} KiB each, of which tables {last["tables_bytes"] / n / 1024:.0f} KiB; '
          f'heap {last["heap_bytes"] / MIB:.1f} MiB; {last["fds"]} files')
    print(f'CPU        {quiet_cpu:.1%} of a core without clients, {cpu:.1%} with one that calls all the time')
    for key in ('tick_usec', 'core_step_usec'):
        print(f'{key[:-5]:10} CPU time p50 {quiet[key]["p50"] / 1000:.1f} ms, p99 {quiet[key]["p99"] / 1000:.1f} ms, most {quiet[key]["max"] / 1000:.1f} ms, '
              f'of {quiet[key]["n"]}')
    print(f'loop held  {quiet["longest_usec"] / 1000:.1f} ms at most, {last["longest_usec"] / 1000:.1f} ms with the client')
    print(f'libvirt    {(last["calls_control"] - first["calls_control"]) / span:.0f} calls a second and '
          f'{(last["calls_agent"] - first["calls_agent"]) / span:.0f} to agents; waited for a worker for '
          f'{last["wait_control_usec"] / 1000:.0f} and {last["wait_agent_usec"] / 1000:.0f} ms at most, where the guest may not answer '
          f'{last["wait_doubtful_usec"] / 1000:.0f}; {last["refused"]} refused, '
          f'{last["timed_out"]} timed out, {last["lapses"]} leases lapsed')
    print(f'work       {last["orders"] - first["orders"]} orders, {last["resizes"] - first["resizes"]} sizes, '
          f'{last["starts"] - first["starts"]} starts, {last["trades"]} trades kept; market: {last["market"]}')
    print('call                     n    p50 ms    p99 ms    most ms')
    for what, took in client.took.items():
        print(f'{what:20} {len(took):5} {percentile(took, 50):9.2f} {percentile(took, 99):9.2f} {max(took):10.2f}')
    print(json.dumps({'domains': n, 'up_sec': up, 'empty': load.first, 'quiet': quiet, 'quiet_cpu': quiet_cpu, 'cpu': cpu, 'last': last,
                      'calls_ms': {w: {'n': len(t), 'p50': percentile(t, 50), 'p99': percentile(t, 99), 'max': max(t)}
                                   for w, t in client.took.items()}}))


if __name__ == '__main__':
    {'check': check, 'day': day, 'flood': flood, 'bench': bench}[sys.argv[1]](*(int(a) for a in sys.argv[2:]))
