# SPDX-License-Identifier: GPL-2.0-or-later
"""A real agent process between a host and a stock agent that both are this script, below a made-up root."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

TIMEOUT = 20
FREE, ANON, SLAB, NOPAGE = 1 << 10, 1 << 12 | 1 << 5 | 1 << 11, 1 << 7, 1 << 20


def make_root(path):
    """Two nodes of one 128 MiB block each: frames 0-32767 on node 0, 32768-65535 on node 1."""
    def put(name, text):
        full = os.path.join(path, name)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, 'w' if isinstance(text, str) else 'wb') as f:
            f.write(text)
    put('proc/sys/kernel/osrelease', '6.12.1-test\n')
    put('proc/iomem', '  08000000-08ffffff : Kernel data\n')
    put('proc/sys/kernel/numa_balancing', '1\n')
    put('sys/kernel/mm/numa/demotion_enabled', 'true\n')
    put('sys/devices/system/memory/auto_online_blocks', 'online_movable\n')
    put('sys/devices/system/memory/block_size_bytes', '8000000\n')
    put('sys/devices/system/node/has_memory', '0-1\n')
    for node in (0, 1):
        os.makedirs(os.path.join(path, f'sys/devices/system/node/node{node}/memory{node}'))
        put(f'sys/devices/system/node/node{node}/meminfo',
            f'Node {node} MemTotal:         1{node}0 kB\nNode {node} MemFree:    5{node} kB\n'
            f'Node {node} FilePages:     2{node} kB\nNode {node} AnonPages:    3{node} kB\n')
    put('sys/devices/system/node/node0/numastat', 'numa_hit 5\nnuma_miss 6\nnuma_foreign 4711\n') # node 1 has none
    put('proc/meminfo', 'MemTotal: 1000 kB\nMemAvailable:    700 kB\nSwapTotal: 64 kB\nSwapFree: 32 kB\n'
                        'AnonPages: 4 kB\nMapped: 4 kB\n')
    put('proc/vmstat', 'pswpin 11\npswpout 12\noom_kill 3\npgmigrate_success 5\n')
    put('proc/pressure/memory', 'some avg10=0.00 avg60=0.00 avg300=0.00 total=4711\n'
                                'full avg10=0.00 avg60=0.00 avg300=0.00 total=815\n')
    put('proc/zoneinfo', ''.join(
        f'Node {n}, zone   Normal\n  pages free     20000\n        boost    0\n        min      10\n'
        f'        low      20\n        high     30\n        spanned  32768\n        present  32768\n'
        f'        managed  32000\n        protection: (0, 0, 0)\n  start_pfn:           {n * 32768}\n' for n in (0, 1)))
    flags = [ANON] * 65536
    flags[40000], flags[40001], flags[40002] = FREE, SLAB, NOPAGE
    put('proc/kpageflags', struct.pack('<65536Q', *flags))
    os.makedirs(os.path.join(path, 'run'))


class Peer:
    """One end of a unix socket that the agent connects to."""

    def __init__(self, path):
        self.path, self.conn, self.data = path, None, b''
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        self.listener.settimeout(TIMEOUT)

    def accept(self):
        if self.conn:
            self.conn.close()
        self.conn, _ = self.listener.accept()
        self.conn.settimeout(TIMEOUT)
        self.data = b''
        return self

    def send(self, data):
        self.conn.sendall(data if isinstance(data, bytes) else data.encode())

    def take(self, n):
        while len(self.data) < n:
            more = self.conn.recv(65536)
            if not more:
                raise EOFError(f'closed after {self.data!r}')
            self.data += more
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def line(self):
        while b'\n' not in self.data:
            more = self.conn.recv(65536)
            if not more:
                raise EOFError(f'closed after {self.data!r}')
            self.data += more
        line, _, self.data = self.data.partition(b'\n')
        return line + b'\n'

    def silent(self, seconds=0.3):
        """Nothing comes for so long."""
        self.conn.settimeout(seconds)
        try:
            self.data += self.conn.recv(65536)
        except socket.timeout:
            pass
        finally:
            self.conn.settimeout(TIMEOUT)
        return self.data == b''

    def hang_up(self):
        self.conn.close()
        self.conn = None

    def close(self):
        if self.conn:
            self.conn.close()
        self.listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


class AgentCase(unittest.TestCase):
    binary = os.environ.get('HMVISOR_GA', 'hmvisor-ga')
    options = []

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='hmvga')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.root = os.path.join(self.dir, 'root')
        make_root(self.root)
        self.host = Peer(os.path.join(self.dir, 'host'))
        self.addCleanup(self.host.close)
        self.stock = None
        self.agent = None
        self.addCleanup(self.agent_stop)
        self.agent_start()

    def agent_start(self):
        self.agent = subprocess.Popen([self.binary, '--channel', self.host.path, '--root', self.root, '--stock',
                                       os.path.join(self.dir, 'stock')] + self.options, stderr=subprocess.PIPE)
        self.host.accept()

    def agent_stop(self, sig=signal.SIGTERM):
        """Ends the agent; it must do so quickly and, unless killed, without complaint (of a sanitizer, say)."""
        if not self.agent:
            return
        self.agent.send_signal(sig)
        _, self.said = self.agent.communicate(timeout=TIMEOUT)
        code, self.agent = self.agent.returncode, None
        if sig != signal.SIGKILL:
            self.assertEqual(code, 0, self.said.decode(errors='replace'))

    def stock_listen(self):
        self.stock = Peer(os.path.join(self.dir, 'stock'))
        self.addCleanup(lambda: self.stock and self.stock.close())
        return self.stock

    def ask_raw(self, text):
        self.host.send(text)
        return json.loads(self.host.line())

    def ask(self, command, **arguments):
        request = {'execute': command}
        if arguments:
            request['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        return self.ask_raw(json.dumps(request) + '\n')

    def ours(self, command, **arguments):
        reply = self.ask('__org.hmvisor_' + command, **arguments)
        self.assertIn('return', reply)
        return reply['return']

    def refused(self, text, *parts, error_class='GenericError'):
        reply = self.ask_raw(text)
        self.assertEqual(list(reply), ['error'])
        self.assertEqual(reply['error']['class'], error_class)
        self.assertTrue(any(part in reply['error']['desc'] for part in parts), (parts, reply))

    def wait_state(self, order, *states):
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            status = self.ours('migrate-status', order=order)
            if status['state'] in states:
                return status
            time.sleep(0.01)
        self.fail(f'order {order} stays {status}')

    def read(self, name):
        with open(os.path.join(self.root, name)) as f:
            return f.read().strip()
