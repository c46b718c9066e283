# SPDX-License-Identifier: GPL-2.0-or-later
"""A small VM under the distribution's own QEMU, and the daemon's end of the counter table.

Owns the QEMU process, its QMP connection and the guest's memory, mapped. Knows nothing of what the tests check."""
import fcntl
import json
import mmap
import os
import re
import shutil
import socket
import struct
import subprocess
import time

QEMU = os.environ.get('HMV_QEMU', 'qemu-system-x86_64')
# In the lab: kvm, or kvm,dirty-ring-size=4096
ACCEL = os.environ.get('HMV_ACCEL', 'tcg')
HAS_RING = 'dirty-ring-size' in ACCEL
PAGE = 4096
MIB = 1 << 20
CELL = 64 * MIB
CONTROL = 4 * MIB
LISTED_MAX = (PAGE - 8) // 4

MAGIC = 0x31544F48564D4800
HEADER = struct.Struct('<QIIQQQIIQQ')
GENERATION, EPOCH, BUSY, HOLD, RENEW, SKIP = 24, 32, 40, 44, 48, 56


class QmpError(Exception):
    pass


def find_why_not():
    """Returns why these tests cannot run here, or None."""
    if not shutil.which(QEMU):
        return f"there is no '{QEMU}'"
    text = subprocess.run([QEMU, '--version'], capture_output=True, text=True, check=True).stdout
    version = re.search(r'version (\d+)\.(\d+)', text)
    if not version or (int(version[1]), int(version[2])) < (7, 2):
        return f"'{QEMU}' is older than 7.2: {text.splitlines()[0]}"
    return None


class Table:
    """The counter table, as the daemon makes it."""

    def __init__(self, n_counters, *, seal=True, size=None, magic=MAGIC, layout=1, header_size=PAGE):
        self.fd = os.memfd_create('hotness', os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        size = PAGE + n_counters if size is None else size
        os.ftruncate(self.fd, size)
        if seal:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.map = mmap.mmap(self.fd, size) if size else None
        if self.map and size >= HEADER.size:
            self.map[:HEADER.size] = HEADER.pack(magic, layout, header_size, n_counters, *[0] * 6)

    def get(self, offset):
        size = 4 if offset in (BUSY, HOLD) else 8
        return int.from_bytes(self.map[offset:offset + size], 'little')

    def set(self, offset, value):
        size = 4 if offset in (BUSY, HOLD) else 8
        self.map[offset:offset + size] = value.to_bytes(size, 'little')

    def renew(self):
        self.set(RENEW, self.get(RENEW) + 1)

    def written(self, n_counters):
        """Returns {counter: value} of those that are not 0."""
        counters = self.map[PAGE:PAGE + n_counters]
        return {m.start(): counters[m.start()] for m in re.finditer(rb'[^\0]', counters)}


class Vm:
    """128 MiB in two cells, each a memfd that the test maps as well; no device that writes memory by itself."""

    def __init__(self, folder, plugin, guest, *, name='vm', arguments=(), incoming=None, cells=2):
        self.memory = []
        fds = []
        self.errors_path = os.path.join(folder, name + '.err')
        socket_path = os.path.join(folder, name + '.qmp')
        command = [QEMU, '-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-accel', ACCEL,
                   '-M', 'q35', '-m', f'{cells * 64}M,slots=2,maxmem=1G', '-smp', '1', '-plugin', f'file={plugin}',
                   '-kernel', guest, '-S', '-qmp', f'unix:{socket_path},server=on,wait=off']
        for cell in range(cells):
            # Not on a disk: the guest would stall whenever the kernel writes pages back
            fd = os.memfd_create(f'ram-node{cell}')
            os.ftruncate(fd, CELL)
            fds.append(fd)
            self.memory.append(mmap.mmap(fd, CELL))
            backend = f'memory-backend-file,id=ram-node{cell},size=64M,mem-path=/proc/self/fd/{fd},share=on'
            command += ['-object', backend,
                        '-numa', f'node,nodeid={cell},memdev=ram-node{cell}' + (',cpus=0' if cell == 0 else '')]
        if incoming:
            command += ['-incoming', incoming]
        with open(self.errors_path, 'wb') as errors:
            self.process = subprocess.Popen(command + list(arguments), stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=errors, pass_fds=fds)
        for fd in fds:
            os.close(fd)
        self.qmp = socket.socket(socket.AF_UNIX)
        self.buffer = b''
        self._connect(socket_path)
        self._read()
        self.call('qmp_capabilities')

    def _connect(self, path):
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.qmp.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError('QEMU did not start: ' + self.errors()) from None
                time.sleep(0.02)

    def errors(self):
        with open(self.errors_path, encoding='utf-8', errors='replace') as f:
            return f.read()

    def _read(self):
        self.qmp.settimeout(30)
        while b'\n' not in self.buffer:
            data = self.qmp.recv(65536)
            if not data:
                raise RuntimeError('QEMU went away: ' + self.errors())
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def call(self, command, arguments=None, fd=None):
        request = {'execute': command}
        if arguments is not None:
            request['arguments'] = arguments
        data = json.dumps(request).encode() + b'\n'
        if fd is None:
            self.qmp.sendall(data)
        else:
            socket.send_fds(self.qmp, [data], [fd])
        while True:
            answer = self._read()
            if 'return' in answer:
                return answer['return']
            if 'error' in answer:
                raise QmpError(answer['error']['desc'])

    def start(self, counters=None, **arguments):
        """hotness-start with sensible settings; name_with_underscores=value replaces one, None leaves it out."""
        settings = {'table': 'table', 'interval-ms': 50, 'lease-ms': 60000}
        settings.update({key.replace('_', '-'): value for key, value in arguments.items()})
        if counters:
            self.call('getfd', {'fdname': 'table'}, fd=counters.fd)
        return self.call('__org.hmvisor_hotness-start', {k: v for k, v in settings.items() if v is not None})

    def stop(self):
        return self.call('__org.hmvisor_hotness-stop')

    def query(self):
        return self.call('__org.hmvisor_hotness-query')

    def wait(self, what, check, seconds=60):
        """Returns the first answer of query for which check(answer) holds."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.query()
            if check(answer):
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f'no {what} within {seconds} s: {answer}')
            time.sleep(0.02)

    def poke(self, gpa, data):
        """Writes guest memory from outside: no dirty bit is set by it."""
        self.memory[gpa // CELL][gpa % CELL:gpa % CELL + len(data)] = data

    def peek(self, gpa, size):
        return self.memory[gpa // CELL][gpa % CELL:gpa % CELL + size]

    def write_pages(self, addresses):
        """Makes the guest write these addresses over and over."""
        assert len(addresses) <= LISTED_MAX
        self.poke(CONTROL + 4, struct.pack('<I', 0))
        time.sleep(0.1)
        self.poke(CONTROL + 8, struct.pack(f'<{len(addresses)}I', *addresses))
        self.poke(CONTROL + 4, struct.pack('<I', len(addresses)))

    def write_pages_once(self, addresses, unless=lambda: False):
        """Makes the guest write each of these addresses once; does not wait for it once unless() holds."""
        burst = struct.unpack('<I', self.peek(CONTROL, 4))[0] + 1
        before = self.peek(addresses[-1], 4)
        self.poke(CONTROL + 4, struct.pack(f'<{len(addresses) + 1}I', len(addresses), *addresses))
        self.poke(CONTROL, struct.pack('<I', burst))
        deadline = time.monotonic() + 30
        while self.peek(addresses[-1], 4) == before and not unless():
            if time.monotonic() > deadline:
                raise AssertionError('the guest stands still: ' + self.errors())
            time.sleep(0.001)

    def run(self):
        """Starts the VM, and waits until the guest's program runs: firmware writes memory too."""
        self.write_pages([CONTROL + PAGE])
        self.call('cont')
        deadline = time.monotonic() + 30
        while self.peek(CONTROL + PAGE, 4) == bytes(4):
            if time.monotonic() > deadline:
                raise AssertionError('the guest did not start: ' + self.errors())
            time.sleep(0.02)
        self.write_pages([])

    def close(self):
        self.qmp.close()
        self.process.kill()
        self.process.wait()
