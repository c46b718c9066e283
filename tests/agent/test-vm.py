#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent in a real VM with two memory nodes, under plain emulation: no KVM, no root, no network.

Boots a Debian 13 kernel with an initramfs of busybox and our programs; moves real pages with both movers (vm-check),
times them against raw move_pages (hmvisor-ga-bench), then talks to hmvisor-ga through a real virtio port.
usage: test-vm.py HMVISOR_GA HMVISOR_GA_BENCH VM_CHECK
"""

import glob
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

CACHE = os.environ.get('HMVISOR_CACHE', '/var/cache/hmvisor')
PORT = 'org.qemu.guest_agent.0'
HELD_PAGES = 3000
INIT = f'''#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
mount -t tmpfs none /run; mount -t tmpfs none /tmp
echo 0 >/proc/sys/kernel/numa_balancing
vm-check
hmvisor-ga-bench -j -n 15
echo 1 >/proc/sys/kernel/numa_balancing
port=$(grep -l {PORT} /sys/class/virtio-ports/*/name); port=${{port%/name}}
[ "$port" ] || echo NOPORT
hmvisor-ga --channel /dev/${{port##*/}} &
vm-check hold 1 {HELD_PAGES} &
while sleep 1; do
        echo "BALANCING $(cat /proc/sys/kernel/numa_balancing)"
        # Ticks that the agent has used: it must not spin while nobody is connected.
        echo "TICKS $(cut -d' ' -f14,15 /proc/$!/stat /proc/$(pidof hmvisor-ga)/stat | tail -1 | tr ' ' +)"
done
'''


class Tap:
    def __init__(self):
        self.n, self.bad = 0, 0

    def result(self, ok, name):
        self.n += 1
        self.bad += not ok
        print(f'{"ok" if ok else "not ok"} {self.n} - {name}', flush=True)
        return ok

    def end(self):
        print(f'1..{self.n}')
        return 1 if self.bad else 0


def skip(reason):
    print(f'1..0 # SKIP {reason}')
    sys.exit(0)


def find_kernel():
    if 'HMVISOR_TEST_KERNEL' in os.environ:
        return os.environ['HMVISOR_TEST_KERNEL']
    found = [k for pattern in ('guestimg-*/vmlinuz', 'hostimg-*/vmlinuz') for k in glob.glob(os.path.join(CACHE, pattern))]
    return max(found, key=os.path.getmtime) if found else None


def make_initrd(path, programs):
    """busybox, the programs and the libraries that they want."""
    root = path + '.d'
    for d in ('bin', 'proc', 'sys', 'dev', 'run', 'tmp'):
        os.makedirs(os.path.join(root, d))
    shutil.copy(shutil.which('busybox'), os.path.join(root, 'bin'))
    for program in programs:
        shutil.copy(program, os.path.join(root, 'bin'))
        for library in re.findall(r'(/\S+) \(0x', subprocess.check_output(['ldd', program], text=True)):
            os.makedirs(root + os.path.dirname(library), exist_ok=True)
            shutil.copy(os.path.realpath(library), root + library)
    with open(os.path.join(root, 'init'), 'w') as f:
        f.write(INIT)
    os.chmod(os.path.join(root, 'init'), 0o755)
    names = '\n'.join(os.path.relpath(os.path.join(d, n), root) for d, dirs, files in os.walk(root) for n in dirs + files)
    archive = subprocess.run([shutil.which('busybox'), 'cpio', '-o', '-H', 'newc'], cwd=root, input=names.encode(),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    with gzip.open(path, 'wb', compresslevel=1) as f:
        f.write(archive)


class Vm:
    def __init__(self, kernel, directory):
        self.channel = os.path.join(directory, 'channel')
        self.lines, self.changed = [], threading.Condition()
        self.process = subprocess.Popen(
            ['qemu-system-x86_64', '-M', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '768',
             '-object', 'memory-backend-ram,id=m0,size=256M', '-object', 'memory-backend-ram,id=m1,size=512M',
             '-numa', 'node,nodeid=0,memdev=m0,cpus=0-1', '-numa', 'node,nodeid=1,memdev=m1',
             '-kernel', kernel, '-initrd', os.path.join(directory, 'initrd'), '-append', 'console=ttyS0 quiet panic=-1',
             '-nodefaults', '-display', 'none', '-no-reboot', '-serial', 'stdio', '-device', 'virtio-serial-pci',
             '-chardev', f'socket,id=ga,path={self.channel},server=on,wait=off',
             '-device', f'virtserialport,chardev=ga,name={PORT}'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for raw in self.process.stdout:
            with self.changed:
                self.lines.append(raw.decode(errors='replace').strip())
                self.changed.notify_all()
        with self.changed:
            self.lines.append('END')
            self.changed.notify_all()

    def wait(self, pattern, start=0, timeout=600):
        """The first line from start on that matches: (match, index), or (None, index) at the end."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                while start < len(self.lines):
                    found = re.search(pattern, self.lines[start])
                    start += 1
                    if found:
                        return found, start
                    if self.lines[start - 1] == 'END':
                        return None, start
                if not self.changed.wait(max(0, end - time.monotonic())):
                    return None, start

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        s.connect(self.channel)
        return s


def ask(s, command, **arguments):
    s.sendall((json.dumps({'execute': command, 'arguments': arguments}) + '\n').encode())
    data = b''
    while not data.endswith(b'\n'):
        more = s.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    return json.loads(data.lstrip(b'\xff'))


def check_movers(vm, tap):
    """Every line of vm-check is a check of its own."""
    at = 0
    while True:
        found, at = vm.wait(r'^.{0,20}?\b(not ok|ok) (.*)|vm-check: (\w+)', at)
        if not found or found[3]:
            return tap.result(bool(found) and found[3] == 'PASSED', 'vm-check ran to its end'), at
        tap.result(found[1] == 'ok', found[2].replace('#', ''))


def check_speed(vm, tap, at):
    seen = 0
    while True:
        found, after = vm.wait(r'(\{"scenario".*\})|HOLD', at)
        if not found or not found[1]:
            tap.result(seen > 0, 'the benchmark ran to its end')
            return at
        at, seen = after, seen + 1
        b = json.loads(found[1])
        name = f'{b["scenario"]}: {b["speed_of_raw"] * 100:.0f}% of raw move_pages by {b["mover"]}'
        # What the agent chooses by itself must reach half the speed of one raw call; DAMON forced is for the record.
        tap.result(b['moved'] == b['pages'] and (b['speed_of_raw'] >= 0.5 or 'DAMON' in b['scenario']), name)


def check_channel(vm, tap, at):
    found, at = vm.wait(r'HOLD (\[.*\])|NOPORT', at)
    if not found or not found[1]:
        tap.result(bool(found), 'the channel # SKIP this kernel has virtio_console as a module')
        return
    ranges = json.loads(found[1])
    s = vm.connect()
    tap.result(ask(s, 'guest-sync', id=4711) == {'return': 4711}, 'guest-sync through the port, without a stock agent')
    report = ask(s, '__org.hmvisor_prepare', manage=True)['return']
    tap.result('pagemap' in report['movers'] and report['nodes'] == [0, 1] and
               report['kernel-node'] in (0, 1) and
               report['changed'] == ['kernel.numa_balancing'], 'prepare')
    found, at = vm.wait(r'^BALANCING 0', at, 30)
    tap.result(bool(found), 'the kernel\'s own tiering is off')
    s.sendall(b'{"execute": "__org.hmv')
    s.close()
    time.sleep(1)
    ticks = [ticks_seen(vm, at)]
    time.sleep(3)
    ticks.append(ticks_seen(vm, at))
    tap.result(ticks[1] - ticks[0] <= 100, f'the agent rests while no host is there ({ticks[1] - ticks[0]} ticks in 3 s)')
    s = vm.connect()
    tap.result('nodes' in ask(s, '__org.hmvisor_stats').get('return', {}), 'a new host after a broken request')
    ask(s, '__org.hmvisor_migrate-submit', order=1, promote={'node': 0, 'ranges': ranges})
    for _ in range(600):
        status = ask(s, '__org.hmvisor_migrate-status', order=1)['return']
        if status['state'] not in ('queued', 'running'):
            break
        time.sleep(0.05)
    tap.result(status['state'] == 'done' and status['promoted'] == HELD_PAGES, f'an order by {status["mover"]}: '
               f'{status["promoted"]} of {HELD_PAGES} promoted in {status["elapsed-us"]} us')
    found, at = vm.wait(rf'^HELD {HELD_PAGES}$', at, 30)
    tap.result(bool(found), 'the owner sees its pages on node 0')
    tap.result(ask(s, '__org.hmvisor_prepare', manage=False)['return']['changed'] == [], 'unprepare')
    found, at = vm.wait(r'^BALANCING 1', at, 30)
    tap.result(bool(found), 'the kernel\'s own tiering is back')


def ticks_seen(vm, at):
    """The last figure that init has printed of the agent's CPU time."""
    with vm.changed:
        seen = [line for line in vm.lines if line.startswith('TICKS ')]
    return sum(int(n) for n in seen[-1].split()[1].split('+')) if seen else 0


def main():
    for tool in ('qemu-system-x86_64', 'busybox', 'ldd'):
        if not shutil.which(tool):
            skip(f'{tool} is not installed')
    kernel = find_kernel()
    if not kernel:
        skip(f'no kernel in {CACHE} (lab/hmvlab up makes one) and no HMVISOR_TEST_KERNEL')
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix='hmvvm') as directory:
        make_initrd(os.path.join(directory, 'initrd'), sys.argv[1:4])
        vm = Vm(kernel, directory)
        try:
            ok, at = check_movers(vm, tap)
            if ok:
                at = check_speed(vm, tap, at)
                check_channel(vm, tap, at)
        except (OSError, EOFError, KeyError, ValueError) as e:
            tap.result(False, f'the channel: {type(e).__name__} {e}')
        finally:
            vm.process.kill()
            vm.process.wait()
        if tap.bad:
            print('\n'.join('# ' + line for line in vm.lines[-60:]))
    sys.exit(tap.end())


if __name__ == '__main__':
    main()
