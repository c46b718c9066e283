#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hmvctl as a process against the scripted daemon: what it prints, its exit codes, events, completion, the shell.

Texts are compared with golden/; UPDATE_GOLDEN=1 writes them anew.
"""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

from harness import AllowedTest, HERE, wait_until


class Base(AllowedTest):
    def ok(self, *args, **kwargs):
        code, output, errors = self.run_hmvctl(*args, **kwargs)
        self.assertEqual((code, errors), (0, ''), args)
        return output

    def fails(self, code, *args, **kwargs):
        """Returns the one line on standard error."""
        got, _, errors = self.run_hmvctl(*args, **kwargs)
        self.assertEqual(got, code, f'{args}: {errors}')
        self.assertRegex(errors, r'\Aerror: [^\n]{10,}\n\Z')
        return errors

    def golden(self, name, text):
        file = HERE / 'golden' / f'{name}.txt'
        if os.environ.get('UPDATE_GOLDEN'):
            file.write_text(text)
        self.maxDiff = None
        self.assertEqual(text, file.read_text(), f'golden/{file.name}')


class Output(Base):
    def test_tables(self):
        for name, words in {
                'list': ['list'], 'list-name': ['list', '--name'], 'info': ['info', 'hot'], 'info-degraded': ['info', 'odd'],
                'tiers': ['tiers'], 'heat': ['heat', 'hot'], 'stats': ['stats', 'hot'], 'verify': ['verify', 'hot'],
                'explain': ['explain', 'hot', '--lines', '2'], 'policy-get': ['policy', 'get', 'hot'],
                'market-status': ['market', 'status'], 'market-book': ['market', 'book'], 'market-history': ['market', 'history'],
                'bind-dry-run': ['bind', 'plain', '--dram', '256M', '--slow=1.5G', '--dry-run']}.items():
            with self.subTest(name):
                self.golden(name, self.ok(*words))

    def test_heat_without_utf8_and_narrow(self):
        self.golden('heat-ascii', self.ok('heat', 'hot', env={'LC_ALL': 'C', 'COLUMNS': '60'}))

    def test_help(self):
        self.golden('help', self.ok('help'))
        self.golden('usage', self.ok('--help'))
        verbs = re.findall(r'^    (\S+(?: (?:get|set|status|book|history|withdraw))?) {2,}', self.ok('help'), re.M)
        self.assertGreater(len(verbs), 14)
        for verb in verbs:
            text = self.ok('help', *verb.split())
            self.golden('help-' + verb.replace(' ', '-'), text)
            self.assertEqual(self.ok(*verb.split(), '--help'), text)
        self.assertIn('policy get', self.ok('help', 'policy'))
        self.assertIn('Host and daemon', self.ok('help', 'host'))
        self.fails(2, 'help', 'nothing')

    def test_json(self):
        for words in (['list'], ['info', 'hot'], ['tiers'], ['heat', 'hot'], ['stats', 'hot'], ['verify', 'hot'],
                      ['explain', 'hot'], ['policy', 'get', 'hot'], ['version'], ['manage', 'hot'], ['unmanage', 'hot'],
                      ['policy', 'set', 'hot', 'RateCap=9M'],
                      ['market', 'status'], ['market', 'book'], ['market', 'history'], ['market', 'withdraw', 'hot'],
                      ['market', 'set', 'hot', '--trading', 'on'], ['trade', 'hot', '--sell-dram', '32M'], ['unbind', 'hot', '--dry-run'],
                      ['bind', 'plain', '--dram', '4M', '--slow', '4M', '--dry-run']):
            for command in ([*words, '--json'], ['--json', *words], ['-j', *words]):
                with self.subTest(command):
                    json.loads(self.ok(*command))
        # Which signal led to which wish is the same for people and for programs.
        wishes = json.loads(self.ok('explain', 'odd', '--json'))
        self.assertEqual(wishes, self.ok('explain', 'odd').splitlines())
        self.assertIn('it waits 990 ms/s for its swap device, at 316 KiB/s', wishes[0])
        self.assertIn('they hold nothing warm any more', wishes[1])
        self.assertEqual([d['Name'] for d in json.loads(self.ok('list', '--json'))], ['cold', 'hot', 'odd', 'plain'])
        self.assertEqual(json.loads(self.ok('info', 'hot', '--json'))['Cells'][0]['SizeBytes'], 256 << 20)
        self.assertEqual(json.loads(self.ok('policy', 'get', 'hot', 'RateCap', '--json')), {'RateCap': '9M'})
        self.assertEqual(json.loads(self.ok('stats', 'hot', '--json'))['SkippedPages']['pinned'], 7)

    def test_quiet_and_readonly(self):
        self.assertEqual(self.ok('-q', 'manage', 'hot'), '')
        self.fails(16, '-r', 'unmanage', 'hot')
        self.assertEqual(self.fake.seen, [])
        self.ok('-r', 'list')

    def test_live_and_config(self):
        for words, expected in ((['hot'], 'live=1 config=1'), (['hot', '--live'], 'live=1 config=0'),
                                (['--config', 'hot'], 'live=0 config=1'), (['--domain', 'cold'], 'live=0 config=1'),
                                (['--domain=hot', '--live', '--config'], 'live=1 config=1')):
            self.fake.seen.clear()
            self.ok('manage', *words)
            self.ok('policy', 'set', *words, 'RateCap=5M')
            self.fake.tell('counters hot 0 0')
            self.assertIn(expected, self.fake.seen[0])
            self.assertTrue(all(s.endswith(expected) for s in self.fake.seen), self.fake.seen)

    def test_manage_says_that_nothing_is_bound(self):
        self.assertNotIn('not bound', self.ok('manage', 'hot'))
        self.assertIn('not bound', self.ok('manage', 'plain'))

    def test_command_lists(self):
        self.assertEqual(self.ok('list --name; policy get "hot" RateCap'), 'cold\nhot\nodd\nplain\nRateCap=64M\n')
        code, output, errors = self.run_hmvctl("version; info 'no such'; list")
        self.assertEqual(code, 3)
        self.assertIn("'no such'", errors)
        self.assertNotIn('Id', output, 'a failure ends the list')
        self.assertEqual(self.ok('list --name; quit; tiers').count('\n'), 4)
        self.assertEqual(self.ok(stdin='list --name\n\nversion\n').count('\n'), 7)
        self.fails(3, stdin='info nope\nlist\n')
        self.fails(2, 'list "open')


class Errors(Base):
    def test_codes(self):
        for code, words in (
                (2, ['nonsense']), (2, ['info']), (2, ['info', 'hot', 'cold']), (2, ['info', '--nope', 'hot']),
                (2, ['list', '-x']), (2, ['bind', 'plain', '--dram', '4M']), (2, ['bind', 'plain', '--dram', 'x', '--slow', '4M']),
                (2, ['bind', 'plain', '--dram', '3M', '--slow', '4M']), (2, ['explain', 'hot', '--lines', '0']),
                (2, ['explain', 'hot', '--lines']), (2, ['policy', 'set', 'hot', 'novalue']), (2, ['policy', 'set', 'hot']),
                (2, ['policy', 'set', 'hot', 'Nope=1']), (2, ['policy', 'get', 'hot', 'Nope']), (2, ['policy']),
                (2, ['info', 'hot', '--domain', 'cold']), (2, ['manage', 'hot', '--live=yes']), (2, ['info', '']),
                (2, ['info', 'x' * 300]), (2, ['-c', 'unix:path=/x', '-H', 'y', 'list']), (2, ['info', b'\xff\xfe']),
                (3, ['info', 'nope']), (3, ['heat', 'nope']), (3, ['manage', '99']),
                (4, ['verify', 'cold']), (4, ['manage', 'cold', '--live']), (4, ['heat', 'cold']),
                (6, ['heat', 'plain']), (6, ['unbind', 'plain']), (7, ['bind', 'hot', '--dram', '4M', '--slow', '4M']),
                (13, ['verify', 'odd'])):
            with self.subTest(words):
                self.fails(code, *words)
        self.assertEqual(self.run_hmvctl('--nonsense')[0], 2)
        self.fake.tell('connected no')
        self.assertIn('libvirt', self.fails(14, 'info', 'hot'))

    def test_verify_names_the_place(self):
        code, output, errors = self.run_hmvctl('verify', 'odd')
        self.golden('verify-misplaced', output + errors)
        code, output, _ = self.run_hmvctl('verify', 'odd', '--json')
        self.assertEqual((code, json.loads(output)['ok']), (13, False))

    def test_no_daemon(self):
        self.fake.stop()
        self.assertIn('systemctl start hmvisord', self.fails(15, 'list'))
        self.assertFalse((self.path / 'activated').exists(), 'who stopped the daemon wants it stopped')
        code, output, _ = self.run_hmvctl('version')
        self.assertEqual((code, output[:7]), (15, 'hmvctl:'))

    def test_no_bus(self):
        nowhere = {'DBUS_SYSTEM_BUS_ADDRESS': f'unix:path={self.path}/nowhere'}
        self.assertIn('D-Bus', self.fails(15, 'list', env=nowhere))
        self.ok('-c', self.address, 'list', env=nowhere)
        self.fails(15, '-c', 'garbage', 'list')

    @unittest.skipUnless(shutil.which('systemd-stdio-bridge'), 'no systemd-stdio-bridge')
    def test_other_host(self):
        """-H by way of an "ssh" that stays here: the arguments, and that the bus is spoken through it."""
        ssh = self.path / 'ssh'
        ssh.write_text(f'#!/bin/sh\necho "$@" >{self.path}/ssh.log\n'
                       f'exec systemd-stdio-bridge --bus-path={self.address}\n')
        ssh.chmod(0o755)
        there = {'PATH': f'{self.path}:{os.environ["PATH"]}', 'DBUS_SYSTEM_BUS_ADDRESS': 'unix:path=/nowhere'}
        self.assertEqual(self.ok('-H', 'root@far', 'list', '--name', env=there), 'cold\nhot\nodd\nplain\n')
        self.assertIn('root@far', (self.path / 'ssh.log').read_text())
        ssh.write_text('#!/bin/sh\nexit 255\n')
        self.fails(15, '-H', 'root@far', 'list', env=there)

    def test_full_disk_is_no_success(self):
        with open('/dev/full', 'w') as full:
            p = subprocess.run([self.hmvctl, 'list'], stdout=full, stderr=subprocess.PIPE, env=self.env, timeout=60)
        self.assertEqual(p.returncode, 1)


class Settle(Base):
    """trade --wait and market withdraw --wait."""

    def wait(self, script, *words):
        self.fake.tell('settle ' + script)
        return self.run_hmvctl(*words, '--wait')

    def test_sold(self):
        self.assertEqual(self.wait('-2', 'trade', 'hot', '--sell-dram', '64M'), (0, """\
Domain 'hot' waits for the next clearing.
Domain 'hot' gave 0 of 2 lots of 32 MiB DRAM, and was paid for 0.
Domain 'hot' gave 1 of 2 lots of 32 MiB DRAM, and was paid for 1.
Domain 'hot' gets what it was paid with.
Domain 'hot' sold 64 MiB of DRAM for 256 MiB of slow memory.
""", ''))
        self.fake.tell('settle 0')
        self.assertEqual(self.fake.seen, ['trade -64 dry_run=0', 'settled'], 'it has its sizes, and is asked no more')

    def test_bought_in_part(self):
        output = self.wait('1', 'trade', 'hot', '--buy-dram', '64M')[1]
        self.assertIn("'hot' gave 0 of 2 lots of 128 MiB slow memory, and was paid for 0.", output)
        self.assertIn("'hot' bought 32 MiB of DRAM for 128 MiB of slow memory; it wanted 64 MiB.", output)

    def test_json_and_quiet(self):
        code, output, errors = self.wait('-2', 'trade', 'hot', '--sell-dram', '64M', '--json')
        self.assertEqual((code, errors), (0, ''))
        self.assertEqual(json.loads(output), {'Domain': 'hot', 'DryRun': False, 'Trade': 'sells 2 lots', 'DramBytes': -64 << 20,
                                              'SlowBytes': 256 << 20})
        self.assertEqual(self.wait('-2', '-q', 'trade', 'hot', '--sell-dram', '64M'), (0, '', ''))

    def test_withdrawn(self):
        code, output, _ = self.wait('-2', 'market', 'withdraw', 'hot')
        self.assertEqual(code, 0)
        self.assertIn("'hot' sold 64 MiB of DRAM", output)

    def test_nothing(self):
        code, output, errors = self.wait('0', 'trade', 'hot', '--sell-dram', '64M')
        self.assertEqual(code, 9)
        self.assertIn('nobody took the other side', errors)
        code, output, _ = self.wait('0', 'trade', 'hot', '--sell-dram', '64M', '--json')
        self.assertEqual((code, json.loads(output)['DramBytes']), (9, 0))

    def test_not_settled(self):
        for script, code, words in (('-2', 18, ['trade', 'hot', '--sell-dram', '64M', '--timeout', '10ms']),
                                    ('vanish', 4, ['trade', 'hot', '--sell-dram', '64M']),
                                    ('0', 6, ['trade', 'plain', '--sell-dram', '64M']), ('0', 3, ['trade', 'no', '--sell-dram', '64M'])):
            with self.subTest(words):
                self.assertEqual(self.wait(script, *words)[0], code)

    def test_interrupted(self):
        self.fake.tell('settle -2')
        p = subprocess.Popen([self.hmvctl, 'trade', 'hot', '--sell-dram', '64M', '--wait'], env=self.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        self.assertIn('waits', p.stdout.readline())
        p.send_signal(signal.SIGINT)
        _, errors = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 1)
        self.assertIn("'hot', which goes on", errors)

    def test_daemon_comes_back(self):
        self.fake.tell('settle -2')
        p = subprocess.Popen([self.hmvctl, 'trade', 'hot', '--sell-dram', '64M', '--wait'], env=self.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        self.assertIn('waits', p.stdout.readline())
        self.fake.stop()
        time.sleep(1)
        self.fake = self.start_fake()
        self.fake.tell('settle 0')
        output, errors = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 9, output + errors)   # the new one knows of no trade

    def test_options(self):
        self.assertIn('exclude', self.fails(2, 'trade', 'hot', '--sell-dram', '32M', '--wait', '--dry-run'))
        self.assertIn('--wait', self.fails(2, 'trade', 'hot', '--sell-dram', '32M', '--timeout', '1s'))
        self.assertIn('--wait', self.fails(2, 'market', 'withdraw', 'hot', '--timeout', '1s'))


class Events(Base):
    def start(self, *words):
        p = subprocess.Popen([self.hmvctl, 'events', *words], env=self.env, stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.PIPE)
        self.processes.append(p)
        return p

    def until(self, what, condition, line):
        """Tells an event until it is heard: there is no sign of when hmvctl has begun to listen."""
        def told():
            self.fake.tell(line)
            time.sleep(0.05)
            return condition()
        wait_until(what, told, 20)

    def heard(self, p):
        return lambda: select.select([p.stdout], [], [], 0)[0]

    def test_one(self):
        p = self.start()
        self.until('it ends', lambda: p.poll() is not None, 'event hot order promoted 12 pages')
        self.assertEqual((p.returncode, p.communicate()[0]), (0, '2023-11-14 22:13:20 order hot: promoted 12 pages\n'))

    def test_filters_and_loop(self):
        p = self.start('--loop', '--domain', 'hot', '--event', 'order', '--json')
        self.until('it listens', self.heard(p), 'event hot order sync')
        for line in ('event cold order not this', 'event hot phase nor this', 'event hot order one', 'event hot order two'):
            self.fake.tell(line)
        lines = []
        while lines[-1:] != ['two']:
            lines.append(json.loads(p.stdout.readline())['Message'])
        self.assertEqual([text for text in lines if text != 'sync'], ['one', 'two'])
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)
        self.assertEqual(p.returncode, 0)

    def test_timeout(self):
        self.assertIn('300ms', self.fails(18, 'events', '--timeout', '300ms'))
        p = self.start('--loop', '--timeout', '1s')
        self.until('it ends', lambda: p.poll() is not None, 'event hot order one')
        self.assertEqual(p.returncode, 0)
        p.communicate()

    def test_daemon_goes(self):
        q = self.start('--loop')
        self.until('it listens', self.heard(q), 'event hot order before')
        p = self.start()
        time.sleep(0.3)   # listening or not yet: the daemon is gone for both
        self.fake.stop()
        p.communicate(timeout=20)
        self.assertEqual(p.returncode, 15)
        self.fake = self.start_fake()
        wait_until('the new daemon answers', lambda: self.run_hmvctl('list')[0] == 0)
        self.fake.tell('event hot order again')
        while 'again' not in (line := q.stdout.readline()):
            self.assertIn('before', line)
        q.terminate()
        self.assertIn('waiting for it', q.communicate(timeout=20)[1])

    def test_watch(self):
        p = subprocess.Popen([self.hmvctl, 'heat', 'hot', '--watch', '100ms'], env=self.env, stdout=subprocess.PIPE, text=True)
        seen = 0
        while seen < 3:
            seen += p.stdout.readline().startswith('Cell 0')
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)
        self.assertEqual(p.returncode, 0)


class Completion(Base):
    def complete(self, *words):
        return self.ok('complete', '--', *words).split('\n')[:-1]

    def test_words(self):
        for words, expected in (
                (['li'], ['list']),
                (['un'], ['unbind', 'unmanage']),
                (['pol'], ['policy']),
                (['policy', ''], ['get', 'set']),
                (['info', ''], ['cold', 'hot', 'odd', 'plain']),
                (['info', 'p'], ['plain']),
                (['info', '--d'], ['--domain']),
                (['info', '--domain', 'o'], ['odd']),
                (['info', '--domain=o'], ['--domain=odd']),
                (['info', 'hot', ''], []),
                (['bind', 'plain', '--dram', '4M', '--'],
                 ['--slow', '--max-dram', '--max-slow', '--min-dram', '--min-slow', '--dry-run', '--json']),
                (['bind', 'plain', '--dram', ''], []),
                (['policy', 'set', 'hot', ''], ['Managed=', 'DryRun=', 'RateCap=']),
                (['policy', 'get', 'hot', 'R'], ['RateCap']),
                (['policy', 'get', 'nope', 'R'], []),
                (['help', 'st'], ['stats']),
                (['help', 'obs'], ['observe']),
                (['events', '--event', 'ph'], ['phase']),
                (['-c', self.address, 'info', 'h'], ['hot']),
                (['--re'], ['--readonly']),
                (['nonsense', 'x', ''], [])):
            with self.subTest(words):
                self.assertEqual(self.complete(*words), expected)

    def test_without_daemon(self):
        self.fake.stop()
        self.assertEqual(self.complete('info', ''), ['--domain'])
        self.assertEqual(self.complete('he'), ['heat', 'help'])

    def test_bash(self):
        script = f'''PATH={self.path}:$PATH; source {HERE.parent.parent}/hmvctl/completion.bash
                     COMP_WORDS=(hmvctl info p); COMP_CWORD=2; _hmvctl; echo "${{COMPREPLY[@]}}"'''
        p = subprocess.run(['bash', '-c', script], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertEqual((p.stdout, p.stderr), ('plain\n', ''))


class Shell(Base):
    def setUp(self):
        super().setUp()
        master, slave = pty.openpty()
        self.fd = master
        self.shell = subprocess.Popen([self.hmvctl], env=dict(self.env, TERM='xterm', HOME=str(self.path), XDG_STATE_HOME=''),
                                      stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        self.processes.append(self.shell)
        os.close(slave)
        self.text = ''
        self.expect('hmvctl # ')

    def tearDown(self):
        os.close(self.fd)
        self.shell.wait(20)
        super().tearDown()

    def expect(self, pattern):
        deadline = time.monotonic() + 20
        while not re.search(pattern, self.text):
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                self.fail(f'the shell does not say {pattern!r}: {self.text!r}')
            self.text += os.read(self.fd, 4096).decode(errors='replace')
        self.text = self.text[re.search(pattern, self.text).end():]

    def type(self, text):
        os.write(self.fd, text.encode())

    def prompt(self):
        """Between two prompts the terminal is not libedit's, and keys mean something else."""
        self.expect('hmvctl # ')

    def test_session(self):
        self.type('li\t')
        self.expect('st ')   # of "list": libedit draws what is new only
        self.type('--name\r')
        self.expect(r'cold\r\nhot\r\nodd\r\nplain\r\n')
        self.prompt()
        self.type('info nope\r')
        self.expect("error: no domain 'nope'")
        self.prompt()
        self.type('info \t')
        self.expect(r'cold +hot +odd +plain')
        self.type('ho\t\r')
        self.expect('Phase:        managed')
        self.prompt()
        self.type('list --name; policy set ho\tRate\t8M\r')
        self.expect('Policy of domain')
        self.prompt()
        self.type('policy get hot RateCap\r')
        self.expect('RateCap=8M')
        self.prompt()
        self.type('events --loop\r')
        self.expect('Waiting for events')
        os.kill(self.shell.pid, signal.SIGINT)
        self.prompt()
        self.type('list --name\r')
        self.expect('cold\r\nhot')
        self.prompt()
        self.type('quit\r')
        self.assertEqual(self.shell.wait(20), 0)
        history = (self.path / '.local' / 'state' / 'hmvisor' / 'hmvctl-history').read_text()
        self.assertIn('policy\\040get', history)

    def test_daemon_comes_back(self):
        self.type('list --name\r')
        self.expect('plain\r\n')
        self.prompt()
        self.fake.stop()
        self.type('list\r')
        self.expect('error: hmvisord does not run')
        self.prompt()
        self.fake = self.start_fake()
        self.type('list --name\r')
        self.expect('plain\r\n')
        self.prompt()
        # libedit shows its prompt just before it takes the terminal over. An end of file in between becomes a
        # character of the line, and at the end of a line that is not empty it would mean something else.
        wait_until('the shell ends', lambda: self.type('\x15\x04') or self.shell.poll() is not None, 20)
        self.assertEqual(self.shell.returncode, 0)


if __name__ == '__main__':
    unittest.main(verbosity=2)
