#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of tests/check-includes and tests/check-style: each rule is broken once, in a tree of its own."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent
HEAD = '/* SPDX-License-Identifier: GPL-2.0-or-later\n *\n * A file.\n */\n'


def run(check, files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([sys.executable, TESTS / check, root], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class Includes(unittest.TestCase):
    def kept(self, name, include):
        code, out = run('check-includes', {name: f'#include {include}\n'})
        self.assertEqual((code, out), (0, 'include rules: kept\n'))

    def broken(self, name, *includes):
        text = ''.join(f'#include {i}\n' for i in includes)
        code, out = run('check-includes', {name: text})
        self.assertEqual(code, 1, out)
        self.assertTrue(out.startswith(name + ': '), out)

    def test_core_is_pure(self):
        self.kept('hmvisord/core/a.c', '"base/cleanup.h"')
        self.kept('hmvisord/core/a.c', '<uthash.h>')
        for bad in '<json-c/json.h>', '<systemd/sd-event.h>', '<libvirt/libvirt.h>', '"io/virt.h"':
            self.broken('hmvisord/core/a.c', bad)

    def test_proto_is_pure(self):
        self.kept('hmvisord/proto/a.c', '<json-c/json.h>')
        for bad in '<systemd/sd-bus.h>', '"core/facts.h"', '"io/virt.h"':
            self.broken('hmvisord/proto/a.c', bad)

    def test_adapters_are_apart(self):
        self.kept('hmvisord/io/virt-link.c', '"io/virt-internal.h"')
        self.kept('hmvisord/io/source-qmp.c', '"io/source.h"')
        for bad in '"io/host.h"', '"core/core.h"', '"manager.h"', '<systemd/sd-bus.h>':
            self.broken('hmvisord/io/virt.c', bad)
        self.broken('hmvisord/io/virt.c', '<libvirt/libvirt.h>', '<libxml/tree.h>')

    def test_bus_goes_through_the_manager(self):
        self.kept('hmvisord/bus/bus.c', '"manager.h"')
        self.broken('hmvisord/bus/bus.c', '"core/core.h"')
        self.broken('hmvisord/bus/bus.c', '"io/virt.h"')

    def test_outer_programs(self):
        self.broken('hmvctl/list.c', '"io/virt.h"')
        self.broken('hmvctl/list.c', '"core/core.h"')
        self.broken('guest-agent/main.c', '"core/order.h"')
        self.broken('qemu/hotness.c', '"base/log.h"')
        self.broken('hmvisord/main.c', '"../hmvctl/verb.h"')

    def test_an_empty_tree_is_no_pass(self):
        self.assertEqual(run('check-includes', {'README': ''})[0], 1)


class Style(unittest.TestCase):
    def broken(self, name, text, why):
        code, out = run('check-style', {name: text})
        self.assertEqual(code, 1, out)
        self.assertIn(why, out)

    def test_kept(self):
        self.assertEqual(run('check-style', {'hmvctl/a.c': HEAD + 'int x;\n'})[0], 0)

    def test_broken(self):
        self.broken('a.c', 'int x;\n', 'SPDX')
        self.broken('a.c', '/* SPDX-License-Identifier: GPL-2.0-or-later */\nint x;\n', 'opening paragraph')
        self.broken('a.sh', '#!/bin/sh\n', 'SPDX')
        self.broken('a.c', HEAD + '\tint x;\n', 'tab')
        self.broken('a.c', HEAD + 'int x; \n', 'space at the end')
        self.broken('a.c', HEAD + 'int x;', 'no newline')
        self.broken('a.c', HEAD + f'/* {"x" * 109} */\n', '115 columns')
        self.broken('qemu/a.c', HEAD + f'/* {"x" * 80} */\n', '86 columns')
        self.broken('a.md', '.'.join(('http://deb', 'debian', 'org/debian\n')), 'no registry')
        self.broken('a.md', 'see /wor' + 'k/main\n', 'no path of one machine')


if __name__ == '__main__':
    unittest.main()
