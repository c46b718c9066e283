# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bus tests share: a private dbus-daemon as system bus, the fake daemon, a mocked polkit, hmvctl.

Nothing here touches the real system bus. Run as root, hmvctl can also be run as an unprivileged user.
"""
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
NOBODY = 65534
BUS_CONFIG = '''<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%(path)s/bus</listen>
  <servicedir>%(path)s/services</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
  </policy>
</busconfig>
'''


def skip_all(reason):
    print(f'skipped: {reason}')
    sys.exit(77)


try:
    import dbus
    import dbus.mainloop.glib
    from gi.repository import GLib
    import dbusmock   # noqa: F401: started as a process, but must be there
except ImportError as e:
    skip_all(f'{e}: tools/install-deps build')
if not shutil.which('dbus-daemon'):
    skip_all('no dbus-daemon: tools/install-deps build')
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)


def wait_until(what, condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {seconds} s: {what}')
        context = GLib.MainContext.default()
        while context.pending():
            context.iteration(False)
        time.sleep(0.01)


class Daemon:
    """A process that says "ready" on its output and takes lines of script."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.seen = []
        self.rest = b''

    def line(self, seconds=20):
        """The next line of output; '' at its end."""
        while b'\n' not in self.rest:
            if not select.select([self.process.stdout], [], [], seconds)[0]:
                raise AssertionError('the fake daemon says nothing')
            more = self.process.stdout.read(4096)
            if not more:
                return ''
            self.rest += more
        line, self.rest = self.rest.split(b'\n', 1)
        return line.decode()

    def tell(self, text):
        """One line of script; what is printed before its answer is kept in .seen."""
        self.process.stdin.write(text.encode() + b'\n')
        while (answer := self.line()) not in ('ok', 'error'):
            if answer == '':
                raise AssertionError('the fake daemon ended')
            self.seen.append(answer)
        if answer != 'ok':
            raise AssertionError(f'the fake daemon does not know: {text}')

    def stop(self):
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        return code


class BusTest(unittest.TestCase):
    """One private bus per class; build artefacts come from the environment that meson.build sets."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix='hmv-bus-')
        cls.path = pathlib.Path(cls.folder.name)
        cls.path.chmod(0o755)
        cls.address = f'unix:path={cls.path}/bus'
        (cls.path / 'bus.conf').write_text(BUS_CONFIG % {'path': cls.path})
        # As installed, the daemon can be activated; what does so leaves a mark.
        (cls.path / 'services').mkdir()
        (cls.path / 'services' / 'org.hmvisor1.service').write_text(
            f'[D-BUS Service]\nName=org.hmvisor1\nUser=root\nExec=/usr/bin/touch {cls.path}/activated\n')
        # Another user may not see into the build folder.
        cls.hmvctl = cls.path / 'hmvctl'
        shutil.copy(os.environ['HMVCTL'], cls.hmvctl)
        cls.env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=cls.address, LC_ALL='C.UTF-8', TZ='UTC', COLUMNS='80')
        os.environ['DBUS_SYSTEM_BUS_ADDRESS'] = cls.address
        cls.processes = []
        cls.start_bus()

    @classmethod
    def tearDownClass(cls):
        for p in reversed(cls.processes):
            p.kill()
            p.wait()
        cls.folder.cleanup()

    @classmethod
    def start_bus(cls):
        cls.bus_process = subprocess.Popen(['dbus-daemon', f'--config-file={cls.path}/bus.conf', '--nofork'])
        cls.processes.append(cls.bus_process)
        wait_until('the bus listens', (cls.path / 'bus').exists)

    @classmethod
    def start_fake(cls):
        fake = Daemon([os.environ['FAKE_HMVISORD']], cls.env)
        cls.processes.append(fake.process)
        answer = fake.line()
        if answer != 'ready':
            raise AssertionError(f'the fake daemon says {answer!r}')
        return fake

    @classmethod
    def start_polkit(cls, code='ret = (True, False, {})'):
        """code sets ret to (authorized, challenge, details) from args: subject, action, details, flags, id."""
        log = cls.path / 'polkit.log'
        process = subprocess.Popen([sys.executable, '-m', 'dbusmock', '--system', '--logfile', log,
                                    'org.freedesktop.PolicyKit1', '/org/freedesktop/PolicyKit1/Authority',
                                    'org.freedesktop.PolicyKit1.Authority'], env=cls.env)
        cls.processes.append(process)
        connection = dbus.bus.BusConnection(cls.address)
        wait_until('polkit is there', lambda: connection.name_has_owner('org.freedesktop.PolicyKit1'), 20)
        connection.close()
        cls.polkit_says(code)
        return process

    @classmethod
    def polkit_says(cls, code):
        connection = dbus.bus.BusConnection(cls.address)
        mock = connection.get_object('org.freedesktop.PolicyKit1', '/org/freedesktop/PolicyKit1/Authority')
        mock.AddMethod('org.freedesktop.PolicyKit1.Authority', 'CheckAuthorization', '(sa{sv})sa{ss}us', '(bba{ss})', code,
                       dbus_interface='org.freedesktop.DBus.Mock')
        connection.close()

    def run_hmvctl(self, *args, unprivileged=False, stdin='', env=None):
        """Returns (exit code, output, errors)."""
        user = NOBODY if unprivileged and os.geteuid() == 0 else None
        p = subprocess.run([self.hmvctl, *args], input=stdin, capture_output=True, text=True, timeout=60, user=user,
                           env=dict(self.env, **(env or {})))
        self.assertNotIn('Sanitizer', p.stderr)
        return p.returncode, p.stdout, p.stderr


class FakeTest(BusTest):
    """A fake daemon for each test, which has to end well."""

    def setUp(self):
        self.fake = self.start_fake()

    def tearDown(self):
        if self.fake.process.poll() is None:
            self.assertEqual(self.fake.stop(), 0)


class AllowedTest(FakeTest):
    """With a polkit that allows everything: who runs the tests need not be root."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_polkit()
