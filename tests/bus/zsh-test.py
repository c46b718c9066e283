#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion in a zsh on a terminal, against the scripted daemon: what the tabulator key makes of a line."""
import os
import pty
import shutil
import subprocess
import unittest

from harness import BusTest, HERE, skip_all, wait_until

if not shutil.which('zsh'):
    skip_all('no zsh: tools/install-deps build')

# ^X^W writes the line that was typed, and what it became, to a file.
SETTINGS = '''PS1= PATH=%(path)s:$PATH
fpath=(%(path)s/functions $fpath)
autoload -Uz compinit; compinit -D -u
unsetopt beep; setopt no_auto_menu no_list_ambiguous
write-line() { print -r -- "$BUFFER|" >%(path)s/line.new; mv %(path)s/line.new %(path)s/line; BUFFER= }
zle -N write-line
bindkey '^X^W' write-line
: >%(path)s/ready
'''


class Zsh(BusTest):
    def setUp(self):
        self.fake = self.start_fake()
        functions = self.path / 'functions'
        functions.mkdir()
        (functions / '_hmvctl').symlink_to(HERE.parent.parent / 'hmvctl' / 'completion.zsh')
        (self.path / 'settings').write_text(SETTINGS % {'path': self.path})
        self.fd, slave = pty.openpty()
        self.addCleanup(os.close, self.fd)
        shell = subprocess.Popen(['zsh', '-f', '-i'], env=dict(self.env, TERM='dumb', HOME=str(self.path)), stdin=slave,
                                 stdout=slave, stderr=slave, start_new_session=True, cwd=self.path)
        os.close(slave)
        self.processes.append(shell)
        self.type(f'source {self.path}/settings\r')
        wait_until('zsh has read its settings', (self.path / 'ready').exists, 30)

    def tearDown(self):
        self.assertEqual(self.fake.stop(), 0)

    def type(self, text):
        os.write(self.fd, text.encode())

    def completed(self, text):
        line = self.path / 'line'
        self.type(f'{text}\t\x18\x17')
        wait_until(f'{text!r} is completed', line.exists, 30)
        result = line.read_text()
        line.unlink()
        return result

    def test_lines(self):
        for text, expected in (
                ('hmvctl li', 'hmvctl list |'),
                ('hmvctl info pl', 'hmvctl info plain |'),
                ('hmvctl info --domain=pl', 'hmvctl info --domain=plain |'),
                ('hmvctl --re', 'hmvctl --readonly |'),
                (f'hmvctl -c "{self.address}" policy get hot Ra', f'hmvctl -c "{self.address}" policy get hot RateCap |'),
                ('hmvctl policy set hot Ra', 'hmvctl policy set hot RateCap=|'),
                ('hmvctl info \'$(touch x)\' p', 'hmvctl info \'$(touch x)\' p|'),
                ('hmvctl nonsense x ', 'hmvctl nonsense x |')):
            with self.subTest(text):
                self.assertEqual(self.completed(text), expected + '\n')
        self.assertFalse((self.path / 'x').exists(), 'what is typed is not run')


if __name__ == '__main__':
    unittest.main(verbosity=2)
