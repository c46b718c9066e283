#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hmvisor-ga between host and stock agent: what passes through, what does not, and what survives."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

from harness import AgentCase

STATS = '{"execute": "__org.hmvisor_stats"}\n'


class Passthrough(AgentCase):
    def setUp(self):
        super().setUp()
        self.stock_listen()

    def connect(self):
        self.host.send('{"execute": "guest-ping"}\n')
        self.stock.accept()
        self.assertEqual(self.stock.line(), b'{"execute": "guest-ping"}\n')
        self.stock.send('{"return": {}}\n')
        self.assertEqual(self.host.line(), b'{"return": {}}\n')

    def test_requests_are_byte_exact(self):
        self.connect()
        requests = [
            b'{"execute":"guest-sync","arguments":{"id":123456789}}\n',
            b'\xff{"execute":"guest-sync-delimited", "arguments":{"id":7}}\n',
            b'  {"execute" :\t"guest-exec", "arguments":{"path":"/bin/\\"}{", "arg":["\xc3\xa4"]}}\r\n',
            b"{'execute': 'guest-ping'}\n",
            b'{"execute":\n "guest-ping"\n}\n',
            b'{"execute":"guest-ping"}{"execute":"guest-ping"}\n',
            b'{"execute":"guest-file-write","arguments":{"handle":1,"buf-b64":"' + b'A' * 3000000 + b'"}}\n',
            b'{"execute":"__org.somebody_else"}\n',
            b'{"execute":"guest-ping"}',
        ]
        for request in requests:
            self.host.send(request)
            self.assertEqual(self.stock.take(len(request)), request)

    def test_requests_in_pieces(self):
        self.connect()
        request = b'\xff{"execute":"guest-sync-delimited","arguments":{"id":7}}\n'
        for i in range(len(request)):
            self.host.send(request[i:i + 1])
            time.sleep(0.001)
        self.assertEqual(self.stock.take(len(request)), request)

    def test_answers_are_byte_exact(self):
        self.connect()
        answers = b'\xff{"return": 7}\n{"return": {"out-data": "' + b'Zm9v' * 1000000 + b'"}}\n\x00\x01 odd\r\n\n'
        sender = threading.Thread(target=self.stock.send, args=(answers,))
        sender.start()
        self.assertEqual(self.host.take(len(answers)), answers)
        sender.join()

    def test_info_lists_both(self):
        self.connect()
        self.host.send('{"execute": "guest-info", "id": "x"}\n')
        self.stock.line()
        theirs = {'enabled': True, 'name': 'guest-ping', 'success-response': True}
        self.stock.send('{"return": {"version": "10.0.2", "supported_commands": [')
        time.sleep(0.05)
        self.stock.send(json.dumps(theirs) + ']}, "id": "x"}\n')
        reply = json.loads(self.host.line())
        self.assertEqual(reply['return']['version'], '10.0.2')
        self.assertEqual(reply['id'], 'x')
        commands = reply['return']['supported_commands']
        self.assertEqual(commands[0], theirs)
        self.assertEqual({c['name'] for c in commands[1:]},
                         {'__org.hmvisor_' + n for n in ('prepare', 'migrate-submit', 'migrate-status', 'migrate-cancel',
                                                         'stats')})
        self.assertTrue(all(c['enabled'] and c['success-response'] for c in commands))
        # Only the answer to guest-info is looked at.
        line = '{"return":  {"supported_commands": []}}\n'
        self.stock.send(line)
        self.assertEqual(self.host.line().decode(), line)

    def test_info_in_single_quotes_and_refused(self):
        self.connect()
        self.host.send("{'execute': 'guest-info'}\n")
        self.assertEqual(self.stock.line(), b"{'execute': 'guest-info'}\n")
        error = b'{"error": {"class": "CommandNotFound", "desc": "disabled"}}\n'
        self.stock.send(error)
        self.assertEqual(self.host.line(), error)
        self.stock.send(b'{"return": {"supported_commands": []}}\n')
        self.assertEqual(len(json.loads(self.host.line())['return']['supported_commands']), 5)

    def test_no_answer_blocks_nothing(self):
        self.connect()
        self.host.send('{"execute": "guest-shutdown"}\n')
        self.assertEqual(self.stock.line(), b'{"execute": "guest-shutdown"}\n')
        self.assertIn('return', self.ask_raw(STATS))
        self.host.send('{"execute": "guest-ping"}\n')
        self.stock.line()
        self.stock.send('{"return": {}}\n')
        self.assertEqual(self.host.line(), b'{"return": {}}\n')

    def test_our_answer_waits_for_the_end_of_a_line(self):
        self.connect()
        self.stock.send('{"return": ')
        self.assertEqual(self.host.take(11), b'{"return": ')
        self.host.send(STATS)
        self.assertTrue(self.host.silent())
        self.stock.send('{}}\n')
        self.assertEqual(self.host.line(), b'{}}\n')
        self.assertIn('nodes', json.loads(self.host.line())['return'])

    def test_stock_goes_in_mid_line_and_returns(self):
        self.connect()
        self.stock.send('{"return": ')
        self.assertEqual(self.host.take(11), b'{"return": ')
        self.stock.hang_up()
        self.assertEqual(self.host.line(), b'\n')
        self.connect()

    def test_alone(self):
        self.stock.close()
        self.stock = None
        self.host.send(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":42}}\n')
        self.assertEqual(self.host.take(1), b'\xff')
        self.assertEqual(json.loads(self.host.line()), {'return': 42})
        self.assertEqual(self.ask('guest-sync', id=5), {'return': 5})
        self.assertEqual(self.ask('guest-ping'), {'return': {}})
        self.assertEqual(len(self.ask('guest-info')['return']['supported_commands']), 5)
        self.refused('{"execute":"guest-get-osinfo"}\n', 'qemu-guest-agent is not running')
        self.refused('{"execute":"__org.hmvisor_no-such"}\n', 'no-such', error_class='CommandNotFound')
        self.stock_listen()
        self.connect()

    def test_channel_is_opened_again_for_a_host_that_hears_nothing(self):
        self.stock.close()
        self.stock = None
        self.assertEqual(self.ask('guest-ping'), {'return': {}})
        for i in range(3):
            self.assertEqual(self.ask('guest-sync', id=i), {'return': i})
            time.sleep(4)
        self.host.send('{"execute":"guest-sync","arguments":{"id":4}}\n')
        with self.assertRaises(EOFError):
            while True:
                self.host.line()
        self.host.accept()
        self.assertEqual(self.ask('guest-sync', id=5), {'return': 5})
        self.assertEqual(self.ask('guest-ping'), {'return': {}})

    def test_unknown_command_of_ours_is_the_stock_agents(self):
        self.connect()
        self.host.send('{"execute":"__org.hmvisor_no-such"}\n')
        self.assertEqual(self.stock.line(), b'{"execute":"__org.hmvisor_no-such"}\n')

    def test_slow_host_does_not_make_it_grow(self):
        self.connect()
        self.stock.conn.settimeout(1)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += self.stock.conn.send(b'x' * 65535 + b'\n')
        except TimeoutError:
            pass
        self.assertLess(sent, 16 << 20)
        self.assertEqual(len(self.host.take(sent)), sent)


class Robust(AgentCase):
    def test_malformed(self):
        for text in ('garbage\n', '}\n', '{"execute":"__org.hmvisor_stats" x}\n', '{"execute": __org.hmvisor_stats}\n',
                     '{"execute":"__org.hmvisor_stats",}\n', '["__org.hmvisor_stats"]\n', '{"a":"__org.hmvisor_stats"}\n',
                     '{"execute":5, "b":"__org.hmvisor_stats"}\n', '{"execute":"guest-ping" @\n', '{"execute":"unclosed\n',
                     '{"execute":"__org.hmvisor_stats","arguments":[]}\n',
                     '{"execute":"__org.hmvisor_stats","x":' + '[' * 40 + ']' * 40 + '}\n'):
            with self.subTest(text=text):
                self.refused(text, '')
                self.assertTrue(self.host.silent(0.05))
        self.assertIn('return', self.ask_raw(STATS))

    def test_sentinel_drops_what_is_unfinished(self):
        self.host.send(b'{"execute": "__org.hmvisor_stats", "argu\xff' + STATS.encode())
        self.assertIn('return', json.loads(self.host.line()))
        self.assertTrue(self.host.silent())

    def test_oversized(self):
        self.host.send('{"execute": "' + 'x' * (5 << 20) + '"}\n' + STATS)
        self.assertIn('more than', json.loads(self.host.line())['error']['desc'])
        self.assertIn('return', json.loads(self.host.line()))

    def test_flood(self):
        """What is longer than any order is not parsed, ours or not, and costs no memory to speak of."""
        for command, says in (('__org.hmvisor_migrate-submit', 'more than 1 MiB'), ('guest-exec', 'not running')):
            many = ',1' * (3 << 19)
            self.refused(f'{{"execute":"{command}","arguments":{{"order":1,"promote":{{"node":0,"ranges":[0{many}]}}}}}}\n', says)
        self.host.send('{"execute":"__org.hmvisor_stats","x":' + '[{"a":' * 600000 + '\n')
        self.host.send(b'\xff' + STATS.encode())
        self.assertIn('return', json.loads(self.host.line()))
        with open(f'/proc/{self.agent.pid}/status') as f:
            status = f.read()
        size, peak = (int(status.split(f'{key}:')[1].split()[0]) for key in ('VmSize', 'VmHWM'))
        if size < 1 << 30:   # else a sanitizer's shadow is in it
            self.assertLess(peak, 32 << 10)

    def test_id_is_echoed(self):
        reply = self.ask_raw('{"execute": "__org.hmvisor_stats", "id": {"n": [1, "zwei"]}}\n')
        self.assertEqual(reply['id'], {'n': [1, 'zwei']})
        reply = self.ask_raw('{"execute": "__org.hmvisor_prepare", "id": 7}\n')
        self.assertEqual((set(reply), reply['id']), ({'error', 'id'}, 7))

    def test_host_hangs_up_in_mid_request(self):
        self.host.send('{"execute": "__org.hmvisor_st')
        time.sleep(0.1)
        self.host.hang_up()
        self.host.accept()
        self.assertIn('return', self.ask_raw(STATS))

    def test_random_bytes(self):
        state = 12345
        for _ in range(50):
            junk = bytearray()
            for _ in range(2000):
                state = (state * 1103515245 + 12345) & 0x7fffffff
                junk.append(b'{}[]"\'\\,:\n \xff\x00a12'[state >> 16 & 15] if state >> 20 & 3 else state >> 12 & 255)
            self.host.send(bytes(junk))
        self.host.send(b'\n\xff{"execute": "__org.hmvisor_stats", "id": "end"}\n')
        while b'"end"' not in self.host.line():
            pass

    def test_options(self):
        for arguments, code in ((['--help'], 0), (['--version'], 0), (['--nonsense'], 2), (['--lease-ms', '0'], 2), (['x'], 2)):
            done = subprocess.run([self.binary] + arguments, capture_output=True, timeout=20)
            self.assertEqual(done.returncode, code, arguments)


class RealStock(AgentCase):
    """The distribution's own qemu-ga behind it, as qemu-guest-agent.service's drop-in starts it."""

    def setUp(self):
        qemu_ga = os.environ.get('HMVISOR_TEST_QEMU_GA') or shutil.which('qemu-ga', path=os.environ['PATH'] + ':/usr/sbin')
        if not qemu_ga:
            self.skipTest('qemu-ga is not installed (package qemu-guest-agent)')
        super().setUp()
        self.qemu_ga = qemu_ga
        self.start()
        self.addCleanup(lambda: self.end())

    def start(self):
        path = os.path.join(self.dir, 'stock')
        self.real = subprocess.Popen([self.qemu_ga, '-m', 'unix-listen', '-p', path, '-t', self.dir],
                                     stderr=subprocess.DEVNULL)
        for _ in range(500):
            if os.path.exists(path):
                return
            time.sleep(0.02)
        self.fail('qemu-ga does not listen')

    def end(self):
        self.real.send_signal(signal.SIGTERM)
        self.real.wait(20)
        if os.path.exists(os.path.join(self.dir, 'stock')):
            os.unlink(os.path.join(self.dir, 'stock'))

    def test_all(self):
        self.host.send(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":99}}\n')
        while True:
            line = self.host.line()
            if line.startswith(b'\xff'):
                break
        self.assertEqual(json.loads(line[1:]), {'return': 99})
        self.assertEqual(self.ask('guest-sync', id=8), {'return': 8})
        self.assertEqual(self.ask('guest-ping'), {'return': {}})
        names = {c['name'] for c in self.ask('guest-info')['return']['supported_commands']}
        self.assertLessEqual({'guest-ping', 'guest-shutdown', 'guest-fsfreeze-status', '__org.hmvisor_migrate-submit'}, names)
        self.assertIn('kernel-release', self.ask('guest-get-osinfo')['return'])
        self.assertEqual(self.ask('guest-fsfreeze-status'), {'return': 'thawed'})
        self.refused('{"execute":"__org.hmvisor_no-such"}\n', 'no-such', error_class='CommandNotFound')
        self.assertIn('nodes', self.ours('stats'))
        self.end()
        self.refused('{"execute":"guest-get-osinfo"}\n', 'not running')
        self.start()
        self.assertIn('kernel-release', self.ask('guest-get-osinfo')['return'])


if __name__ == '__main__':
    unittest.main()
