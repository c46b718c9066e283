#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as a process, against libvirt's own test driver and without a bus.

    hmvisord-test.py HMVISORD
"""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

HMVISORD = sys.argv[1]


def check(what, ok):
    print(f'{"ok" if ok else "not ok"} - {what}', flush=True)
    if not ok:
        sys.exit(1)


def expect(notify, words, seconds=20):
    """Waits for a message of the daemon to its service manager that has all words."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        notify.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            text = notify.recv(4096).decode()
        except TimeoutError:
            break
        if all(w in text for w in words):
            return True
    return False


def main():
    with tempfile.TemporaryDirectory(prefix='hmvisor-') as root:
        (pathlib.Path(root) / 'run').mkdir()
        conf = pathlib.Path(root) / 'etc' / 'hmvisor' / 'hmvisord.conf'
        conf.parent.mkdir(parents=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(f'{root}/notify')
        env = dict(os.environ, NOTIFY_SOCKET=f'{root}/notify',
                   DBUS_SYSTEM_BUS_ADDRESS=f'unix:path={root}/none')
        command = [HMVISORD, '--config-root', root, '--libvirt-uri', 'test:///default']

        with open(f'{root}/log', 'w+') as log:
            daemon = subprocess.Popen(command, env=env, stderr=log)
            try:
                check('it starts and says so', expect(notify, ['READY=1']))
                second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
                check('a second one is refused in one line',
                      second.returncode == 1 and second.stderr.count('\n') == 1 and
                      'Another hmvisord runs' in second.stderr)
                daemon.send_signal(signal.SIGHUP)
                check('it says that it reloads', expect(notify, ['RELOADING=1', 'MONOTONIC_USEC=']))
                check('and that it did', expect(notify, ['READY=1']))
                conf.write_text('[Policy]\nEpoch=nonsense\n')
                daemon.send_signal(signal.SIGHUP)
                check('a bad file does not end it', expect(notify, ['READY=1']) and daemon.poll() is None)
                daemon.send_signal(signal.SIGTERM)
                check('it stops cleanly', daemon.wait(20) == 0)
            finally:
                if daemon.poll() is None:
                    daemon.kill()
                    daemon.wait()
            log.seek(0)
            text = log.read()
        check('it reached libvirt', 'connected to libvirt' in text)
        check('it said what was wrong with the file', 'Epoch' in text and 'old configuration' in text)
        check('it said that it stops', 'stopping' in text)

        bad = subprocess.run(command + ['--check-config'], env=env, capture_output=True, text=True,
                             timeout=30)
        check('--check-config names the file', bad.returncode != 0 and 'hmvisord.conf' in bad.stderr)
        odd = subprocess.run([HMVISORD, 'odd'], capture_output=True, text=True, timeout=30)
        check('an argument that is none is refused', odd.returncode == 2 and "'odd'" in odd.stderr)


main()
