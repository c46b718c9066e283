#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's bus code over the scripted manager: objects, signals, rights, bad input, a bus that goes away."""
import os
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree as ET

from harness import FakeTest, HERE, NOBODY, dbus, wait_until

NAME, PATH = 'org.hmvisor1', '/org/hmvisor1'
MANAGER, DOMAIN, MARKET = 'org.hmvisor1.Manager', 'org.hmvisor1.Domain', 'org.hmvisor1.Market'
OBJECTS = 'org.freedesktop.DBus.ObjectManager'
PROPERTIES = 'org.freedesktop.DBus.Properties'
ERROR = 'org.hmvisor1.Error.'


# Twenty calls at once by one caller; prints the errors of those that are refused before polkit answers.
FLOOD = '''
import sys, dbus, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
loop = GLib.MainLoop()
manager = dbus.bus.BusConnection(sys.argv[1]).get_object('org.hmvisor1', '/org/hmvisor1', introspect=False)
for _ in range(20):
    manager.GetTiers(dbus_interface='org.hmvisor1.Manager', reply_handler=lambda *a: loop.quit(),
                     error_handler=lambda e: print(e.get_dbus_name()))
loop.run()
'''


class Base(FakeTest):
    def setUp(self):
        super().setUp()
        self.bus = dbus.bus.BusConnection(self.address)
        self.manager = self.bus.get_object(NAME, PATH, introspect=False)

    def tearDown(self):
        self.bus.close()
        super().tearDown()

    def path_of(self, name):
        return self.manager.FindDomain(name, dbus_interface=MANAGER)

    def domain(self, name):
        return self.bus.get_object(NAME, self.path_of(name), introspect=False)

    def fails(self, error, function, *args, **kwargs):
        with self.assertRaises(dbus.DBusException) as caught:
            function(*args, **kwargs)
        self.assertEqual(caught.exception.get_dbus_name(), error)
        return caught.exception.get_dbus_message()


class Objects(Base):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_polkit()

    def test_managed_objects(self):
        objects = self.manager.GetManagedObjects(dbus_interface=OBJECTS)
        names = sorted(str(o[DOMAIN]['Name']) for o in objects.values() if DOMAIN in o)
        self.assertEqual(names, ['cold', 'hot', 'odd', 'plain'])
        hot = objects[self.path_of('hot')][DOMAIN]
        self.assertEqual((hot['Phase'], hot['Id'], bool(hot['Managed'])), ('managed', 1, True))
        self.assertEqual(hot['PromotedPages'], 24576)
        cell = hot['Cells'][0]
        self.assertIsInstance(cell['SizeBytes'], dbus.UInt64)
        self.assertEqual(cell['SizeBytes'], 256 << 20)
        self.assertEqual(cell['GuestFreeBytes'], 16 << 20)
        self.assertNotIn('GuestFreeBytes', hot['Cells'][1], 'not known is left out, not a huge number')

    def test_guest_texts_are_cleaned(self):
        self.assertEqual(self.domain('odd').Get(DOMAIN, 'AgentVersion', dbus_interface=PROPERTIES), '??[31mred?(')

    def test_find_by_name_id_uuid(self):
        path = self.path_of('hot')
        uuid = self.domain('hot').Get(DOMAIN, 'UUID', dbus_interface=PROPERTIES)
        self.assertEqual(self.path_of('1'), path)
        self.assertEqual(self.path_of(str(uuid)), path)
        self.assertIn("'nope'", self.fails(ERROR + 'NoSuchDomain', self.path_of, 'nope'))
        self.fake.tell('connected no')
        self.fails(ERROR + 'NoLibvirt', self.path_of, 'hot')

    def test_list_domains(self):
        listed = self.manager.ListDomains(dbus_interface=MANAGER)
        self.assertEqual([str(d[0]) for d in listed], ['hot', 'cold', 'plain', 'odd'])
        self.assertEqual(listed[0][2], self.path_of('hot'))

    def test_tiers(self):
        dram, slow = self.manager.GetTiers(dbus_interface=MANAGER)
        self.assertEqual((dram['Tier'], dram['TotalBytes'], bool(dram['Suggested'])), ('dram', 4 << 30, False))
        self.assertEqual((slow['Tier'], slow['Source'], bool(slow['Suggested'])), ('slow', 'distance', True))

    def test_heat_stats_explain(self):
        hot = self.domain('hot')
        heat = hot.GetHeat(dbus_interface=DOMAIN)
        self.assertEqual(list(heat[0]['Pages']), [40960, 0, 0, 512, 0, 0, 0, 0, 24064])
        self.assertIn("'cold' is off", self.fails(ERROR + 'DomainOff', self.domain('cold').GetHeat, dbus_interface=DOMAIN))
        self.assertIn("'plain'", self.fails(ERROR + 'NotBound', self.domain('plain').GetHeat, dbus_interface=DOMAIN))
        stats = hot.GetStats(dbus_interface=DOMAIN)
        self.assertEqual(stats['PromotedBytes'], 24576 * 4096)
        self.assertEqual(stats['SkippedPages']['pinned'], 7)
        self.assertEqual([str(s) for s in hot.Explain(dbus.UInt32(2), dbus_interface=DOMAIN)],
                         ['2: ordered 200 pages', '3: ordered 300 pages'])
        self.assertEqual(len(hot.Explain(dbus.UInt32(4294967295), dbus_interface=DOMAIN)), 3)
        swapping, cold = (str(s) for s in self.domain('odd').Explain(dbus.UInt32(9), dbus_interface=DOMAIN))
        self.assertTrue(swapping.startswith('market: would sell 1 lot of 32 MiB DRAM, each for 96 MiB more memory: '
                                            'it waits 990 ms/s for its swap device, at 316 KiB/s'), swapping)
        self.assertIn('would sell 2 lots of 32 MiB DRAM of those that it bought', cold)

    def test_asynchronous_answers(self):
        self.assertIn('"ok":true', self.domain('hot').Verify(dbus_interface=DOMAIN))
        self.assertIn('"ok":false', self.domain('odd').Verify(dbus_interface=DOMAIN), 'the report, not an error')
        self.fails(ERROR + 'DomainOff', self.domain('cold').Verify, dbus_interface=DOMAIN)
        diff = self.manager.Bind('plain', dbus.Dictionary({'DramBytes': dbus.UInt64(4 << 20), 'DryRun': True}, 'sv'),
                                 dbus_interface=MANAGER)
        self.assertIn("memory='4194304'", diff)
        self.assertFalse(self.domain('plain').Get(DOMAIN, 'Bound', dbus_interface=PROPERTIES))
        self.manager.Bind('plain', dbus.Dictionary({'DramBytes': dbus.UInt64(4 << 20)}, 'sv'), dbus_interface=MANAGER)
        self.fails(ERROR + 'AlreadyBound', self.manager.Bind, 'plain', dbus.Dictionary({}, 'sv'), dbus_interface=MANAGER)
        self.manager.Unbind('plain', dbus.Dictionary({}, 'sv'), dbus_interface=MANAGER)

    def test_policy(self):
        cold = self.domain('cold')
        cold.SetPolicy('RateCap=7M', False, True, dbus_interface=DOMAIN)
        self.assertIn('RateCap=7M', cold.GetPolicy(dbus_interface=DOMAIN))
        cold.Manage(False, True, dbus_interface=DOMAIN)
        self.assertTrue(cold.Get(DOMAIN, 'Managed', dbus_interface=PROPERTIES))
        cold.Unmanage(False, True, dbus_interface=DOMAIN)
        self.assertFalse(cold.Get(DOMAIN, 'Managed', dbus_interface=PROPERTIES))
        self.fails(ERROR + 'BadArgument', cold.SetPolicy, 'Nope=1', False, True, dbus_interface=DOMAIN)
        self.fails(ERROR + 'BadArgument', cold.Manage, False, False, dbus_interface=DOMAIN)
        self.fake.tell('counters cold 0 0')
        self.assertEqual(self.fake.seen[0], "set cold 'RateCap=7M' live=0 config=1")

    def test_bad_input(self):
        bind = self.manager.Bind
        big = 'x' * 300
        for error, name, options in (
                ('BadArgument', big, {}),
                ('BadArgument', 'a\nb', {}),
                ('NoSuchDomain', '', {}),
                ('BadArgument', 'plain', {'Nope': True}),
                ('BadArgument', 'plain', {'DramBytes': '4M'}),
                ('BadArgument', 'plain', {'DramBytes': dbus.Int32(-1)}),
                ('BadArgument', 'plain', {'DramBytes': dbus.UInt64(5)})):
            with self.subTest(name=name[:5], options=options):
                self.fails(ERROR + error, bind, name, dbus.Dictionary(options, 'sv'), dbus_interface=MANAGER)
        self.fails(ERROR + 'BadArgument', self.manager.Unbind, 'hot', dbus.Dictionary({'DramBytes': dbus.UInt64(1)}, 'sv'),
                   dbus_interface=MANAGER)
        self.fails(ERROR + 'BadArgument', self.domain('hot').SetPolicy, 'x' * 5000, True, True, dbus_interface=DOMAIN)
        nowhere = self.bus.get_object(NAME, PATH + '/domain/_00', introspect=False)
        self.fails('org.freedesktop.DBus.Error.UnknownObject', nowhere.Verify, dbus_interface=DOMAIN)
        self.assertIn('hmvisord.conf:3', self.fails(ERROR + 'BadArgument', self.manager.Reload, dbus_interface=MANAGER))

    def test_installed_introspection(self):
        """What is installed below dbus-1/interfaces is what the daemon says of itself."""
        for path, interface in ((PATH, MANAGER), (PATH, MARKET), (self.path_of('hot'), DOMAIN)):
            thing = self.bus.get_object(NAME, path, introspect=False)
            told = ET.fromstring(thing.Introspect(dbus_interface='org.freedesktop.DBus.Introspectable'))
            told = told.find(f"interface[@name='{interface}']")
            file = HERE.parent.parent / 'hmvisord' / 'bus' / f'{interface}.xml'
            if os.environ.get('UPDATE_GOLDEN'):
                for element in told.iter():
                    element.text = element.tail = None
                ET.indent(told, '  ', 1)
                text = ET.tostring(told, encoding='unicode').rstrip()
                file.write_text('<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
                                ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
                                '<!-- SPDX-License-Identifier: GPL-2.0-or-later -->\n'
                                f'<node>\n  {text}\n</node>\n')
            kept = ET.parse(file).getroot().find('interface')
            self.assertEqual(ET.canonicalize(ET.tostring(kept), strip_text=True),
                             ET.canonicalize(ET.tostring(told), strip_text=True),
                             f'{file.name} differs; UPDATE_GOLDEN=1 writes it anew')


class Market(Base):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start_polkit()

    def get(self, name):
        return self.manager.Get(MARKET, name, dbus_interface=PROPERTIES)

    def test_properties(self):
        self.assertEqual((self.get('DramPrice'), self.get('SlowPrice'), self.get('LotDramBytes'), self.get('LotSlowBytes')),
                         (4, 1, 32 << 20, 128 << 20))
        self.assertEqual((bool(self.get('Enabled')), self.get('Reason'), self.get('Epoch')), (True, '', 12))
        self.assertEqual((self.get('DramBytes'), self.get('SlowBytes')), (3 << 30, 8 << 30))

    def test_list_book_history(self):
        hot, cold = self.manager.List(dbus_interface=MARKET)
        self.assertEqual((hot['Name'], hot['Standing'], hot['SwapDevice']), ('hot', 'busy', 'vdb'))
        self.assertEqual((hot['Value'], hot['EntitledValue']), (4 * 160 + 256, 4 * 128 + 384), 'the same: 896 blocks')
        self.assertEqual((hot['PositionDramBytes'], hot['OfferDramBytes']), (64 << 20, -32 << 20))
        self.assertEqual((hot['CanSellDramBytes'], hot['CanBuyDramBytes']), (128 << 20, 96 << 20))
        self.assertNotIn('Value', cold)
        book = self.manager.Book(dbus_interface=MARKET)
        self.assertEqual((book['DemandDramBytes'], book['SupplyDramBytes'], book['PoolDramBytes']),
                         (96 << 20, 64 << 20, -32 << 20))
        first, second = self.manager.History(dbus.UInt32(9), dbus_interface=MARKET)
        self.assertEqual((first['DramBytes'], first['SlowBytes'], first['Name']), (64 << 20, -256 << 20, 'hot'))
        self.assertEqual((second['DramBytes'], second['SlowBytes'], second['Name']), (-64 << 20, 256 << 20, ''))
        self.assertEqual(len(self.manager.History(dbus.UInt32(1), dbus_interface=MARKET)), 1)

    def test_trade_withdraw_set(self):
        trade = lambda *args: self.manager.Trade(*args, dbus_interface=MARKET)   # noqa: E731
        self.assertEqual(trade('hot', dbus.Int64(-64 << 20), False), 'sells 2 lots')
        self.assertEqual(self.fake.line(), 'trade -64 dry_run=0')
        self.assertEqual(trade('hot', dbus.Int64(32 << 20), True), 'buys 1 lots')
        self.assertEqual(self.fake.line(), 'trade 32 dry_run=1')
        self.fails(ERROR + 'BadArgument', trade, 'hot', dbus.Int64(1), False)
        self.fails(ERROR + 'NoSuchDomain', trade, 'nope', dbus.Int64(32 << 20), False)
        self.fails(ERROR + 'DomainOff', trade, 'cold', dbus.Int64(32 << 20), False)
        self.manager.Withdraw('hot', dbus_interface=MARKET)
        self.assertEqual(self.fake.line(), 'withdraw')
        self.fails(ERROR + 'NoSuchDomain', self.manager.Withdraw, 'nope', dbus_interface=MARKET)
        self.fails(ERROR + 'NotBound', self.manager.Withdraw, 'plain', dbus_interface=MARKET)
        self.manager.Set('hot', 'Trading=yes', dbus_interface=MARKET)
        self.assertEqual(self.fake.line(), "set hot 'Trading=yes' live=1 config=1")
        self.manager.Set('cold', 'Trading=no', dbus_interface=MARKET)
        self.assertEqual(self.fake.line(), "set cold 'Trading=no' live=0 config=1")
        self.fails(ERROR + 'BadArgument', self.manager.Set, 'hot', 'Nonsense', dbus_interface=MARKET)
        self.fails(ERROR + 'BadArgument', self.manager.Set, 'hot', 'x' * 5000, dbus_interface=MARKET)


class Signals(Base):
    def setUp(self):
        super().setUp()
        self.signals = []
        self.bus.add_signal_receiver(lambda *args, **kw: self.signals.append((kw['member'], kw['path'], args)),
                                     bus_name=NAME, member_keyword='member', path_keyword='path')

    def expect(self, member, condition):
        wait_until(f'signal {member}', lambda: any(s[0] == member and condition(s) for s in self.signals))

    def test_domains_come_and_go(self):
        self.fake.tell('add fresh')
        self.expect('InterfacesAdded', lambda s: s[2][1][DOMAIN]['Name'] == 'fresh')
        path = self.path_of('fresh')
        self.fake.tell('remove fresh')
        self.expect('InterfacesRemoved', lambda s: s[1] == PATH and s[2][0] == path and DOMAIN in s[2][1])

    def test_state_and_counters(self):
        path = self.path_of('hot')
        self.fake.tell('phase hot degraded the extension is gone')
        self.expect('PropertiesChanged', lambda s: s[1] == path and s[2][1].get('Phase') == 'degraded' and
                    s[2][1]['Reason'] == 'the extension is gone')
        self.signals.clear()
        self.fake.tell('counters hot 30000 1')
        self.expect('PropertiesChanged', lambda s: s[1] == path and s[2][1].get('PromotedPages') == 30000)
        self.assertNotIn('Phase', self.signals[-1][2][1], 'counters travel without the state')

    def test_events(self):
        self.fake.tell('event hot order promoted 12 pages')
        self.expect('Event', lambda s: [str(x) for x in s[2][1:]] ==
                    ['hot', str(self.domain('hot').Get(DOMAIN, 'UUID', dbus_interface=PROPERTIES)), 'order',
                     'promoted 12 pages'])
        self.fake.tell('connected no')
        self.fake.tell('event - connected libvirt went away')
        self.expect('PropertiesChanged', lambda s: s[1] == PATH and s[2][1].get('Connected') == False)  # noqa: E712


class Rights(Base):
    """Calls come from an unprivileged user: hmvctl is run as one when the test runs as root."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.polkit = None

    def with_polkit(self, code):
        if not Rights.polkit:
            Rights.polkit = self.start_polkit(code)
        self.polkit_says(code)

    def without_polkit(self):
        if Rights.polkit:
            Rights.polkit.kill()
            Rights.polkit.wait()
            Rights.polkit = None

    def log(self):
        return (self.path / 'polkit.log').read_text()

    def test_without_polkit_only_root(self):
        self.without_polkit()
        code, _, errors = self.run_hmvctl('manage', 'hot', unprivileged=True)
        self.assertEqual(code, 16)
        self.assertIn('polkit does not answer', errors)
        self.assertEqual(self.run_hmvctl('list', unprivileged=True)[0], 0, 'properties are open to all')
        if os.geteuid() == 0:
            self.assertEqual(self.run_hmvctl('manage', 'hot')[0], 0)

    def test_denied(self):
        self.with_polkit("ret = (args[1] == 'org.hmvisor1.monitor', False, {})")
        for words in (['manage', 'hot'], ['unmanage', 'hot'], ['verify', 'hot'], ['unbind', 'hot'],
                      ['bind', 'plain', '--dram', '4M', '--slow', '4M'], ['policy', 'set', 'hot', 'RateCap=1M'],
                      ['trade', 'hot', '--sell-dram', '32M'], ['market', 'withdraw', 'hot'],
                      ['market', 'set', 'hot', '--trading', 'on']):
            code, _, errors = self.run_hmvctl(*words, unprivileged=True)
            self.assertEqual(code, 16, words)
            self.assertIn('polkit says no', errors)
        self.assertTrue(self.domain('hot').Get(DOMAIN, 'Managed', dbus_interface=PROPERTIES), 'nothing was changed')
        self.assertEqual(self.run_hmvctl('heat', 'hot', unprivileged=True)[0], 0)
        if os.geteuid() == 0:
            self.assertEqual(self.run_hmvctl('verify', 'hot')[0], 0, 'root is not asked')

    def test_monitor_can_be_denied(self):
        self.with_polkit('ret = (False, False, {})')
        for words in (['heat', 'hot'], ['stats', 'hot'], ['explain', 'hot'], ['policy', 'get', 'hot'], ['tiers']):
            self.assertEqual(self.run_hmvctl(*words, unprivileged=True)[0], 16, words)

    def test_market_is_read_by_its_own_right(self):
        for action, code in (('org.hmvisor1.monitor', 16), ('org.hmvisor1.read-market', 0)):
            self.with_polkit(f"ret = (args[1] == '{action}', False, {{}})")
            for words in (['market', 'status'], ['market', 'book'], ['market', 'history']):
                self.assertEqual(self.run_hmvctl(*words, unprivileged=True)[0], code, (action, words))
        self.assertEqual(self.run_hmvctl('heat', 'hot', unprivileged=True)[0], 16, 'it is no right to see all else')

    def test_allowed_and_asked_rightly(self):
        self.with_polkit('ret = (True, False, {})')
        self.assertEqual(self.run_hmvctl('manage', 'hot', unprivileged=True)[0], 0)
        asked = self.log().splitlines()[-1]
        self.assertIn('org.hmvisor1.manage-domain', asked)
        self.assertRegex(asked, r"'name'\): dbus.String\(':\d+\.\d+'")
        self.assertRegex(asked, r' 1 ""$', 'hmvctl allows polkit to ask for a password')

    def test_challenge(self):
        self.with_polkit('ret = (False, True, {})')
        code, _, errors = self.run_hmvctl('manage', 'hot', unprivileged=True)
        self.assertEqual(code, 16)
        self.assertIn('password', errors)

    def call_as_user(self, member):
        return subprocess.Popen(['busctl', '--system', 'call', NAME, PATH, MANAGER, member], env=self.env,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                user=NOBODY if os.geteuid() == 0 else None)

    def test_slow_polkit_holds_nobody_up(self):
        self.with_polkit("import time; time.sleep(2); ret = (True, False, {})")
        waiting = self.call_as_user('GetTiers')
        wait_until('polkit was asked', lambda: self.log().count('CheckAuthorization') > 0)
        self.manager.FindDomain('hot', dbus_interface=MANAGER, timeout=1)
        self.assertIsNone(waiting.poll())
        self.assertIn('aa{sv} 2', waiting.communicate(timeout=20)[0])

    def test_requests_are_bounded(self):
        self.with_polkit("import time; time.sleep(0.2); ret = (True, False, {})")
        p = subprocess.run([sys.executable, '-c', FLOOD, self.address], capture_output=True, text=True, timeout=60,
                           user=NOBODY if os.geteuid() == 0 else None)
        self.assertEqual(p.stdout.split(), [ERROR + 'AccessDenied'] * 4, p.stderr)


class Connection(Base):
    def test_second_owner(self):
        p = subprocess.run([os.environ['FAKE_HMVISORD']], stdin=subprocess.DEVNULL, env=self.env, timeout=20)
        self.assertEqual(p.returncode, 17)
        self.assertEqual(self.path_of('hot')[:len(PATH)], PATH, 'the first one is unharmed')

    def test_bus_comes_back(self):
        self.bus_process.kill()
        self.bus_process.wait()
        (self.path / 'bus').unlink()
        self.assertEqual(self.run_hmvctl('list')[0], 15)
        self.start_bus()
        self.bus = dbus.bus.BusConnection(self.address)
        wait_until('the name is back', lambda: self.bus.name_has_owner(NAME))
        self.assertEqual(self.run_hmvctl('info', 'hot')[0], 0)


class DataFiles(unittest.TestCase):
    def test_polkit_actions_exist(self):
        """Each action that the code asks for is declared, and the daemon's user may ask for it."""
        folder = HERE.parent.parent / 'hmvisord' / 'bus'
        declared = ET.parse(folder / 'org.hmvisor1.policy').getroot()
        used = set()
        for file in folder.glob('*.c'):
            used |= set(re.findall(r'"(org\.hmvisor1\.[a-z-]+)"', file.read_text()))
        self.assertEqual(used, {a.get('id') for a in declared.findall('action')})
        for action in declared.findall('action'):
            self.assertEqual(action.find("annotate[@key='org.freedesktop.policykit.owner']").text, 'unix-user:hmvisor')
        allowed = {a.get('id').split('.')[-1]: tuple(a.find('defaults/' + d).text for d in ('allow_any', 'allow_active'))
                   for a in declared.findall('action')}
        self.assertEqual(allowed.pop('monitor'), ('yes', 'yes'))
        self.assertEqual(allowed.pop('read-market'), ('auth_admin_keep', 'yes'))
        self.assertEqual(set(allowed.values()), {('auth_admin_keep', 'auth_admin_keep')}, 'nobody changes anything unasked')

    def test_bus_policy(self):
        """Only root and the daemon's user own the name; all may talk to it, as polkit decides."""
        policy = ET.parse(HERE.parent.parent / 'hmvisord' / 'bus' / 'org.hmvisor1.conf').getroot()
        owners = {p.get('user') for p in policy.findall('policy') if p.find('allow[@own]') is not None}
        self.assertEqual(owners, {'root', 'hmvisor'})
        everybody = policy.find("policy[@context='default']")
        self.assertEqual([dict(rule.attrib) for rule in everybody], [{'send_destination': NAME}])


if __name__ == '__main__':
    unittest.main(verbosity=2)
