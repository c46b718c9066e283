/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The libvirt adapter against libvirt's own test driver: connection, list, events, calls, their errors and
 * bounds, and who may be taken for a guest's process. No QEMU: that is tested in the lab.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>

#include "base/xmlns.h"
#include "io/virt.h"

typedef struct Fixture {
        sd_event *loop;
        Virt *virt;
        unsigned n[VIRT_JOB_ENDED + 1];
        VirtEvent last[VIRT_JOB_ENDED + 1];
        char uuid[37];
        unsigned n_results;
        Outcome outcome;
        char *text;
} Fixture;

static void on_event(Virt *v, const VirtEvent *e, void *userdata) {
        Fixture *f = userdata;

        f->n[e->type]++;
        f->last[e->type] = *e;
        if (e->type == VIRT_DOMAIN && streq(e->name, "test"))
                memcpy(f->uuid, e->uuid, sizeof(f->uuid));
}

static void on_result(Virt *v, const VirtResult *r, void *userdata) {
        Fixture *f = userdata;

        f->n_results++;
        f->outcome = r->outcome;
        free(f->text);
        f->text = r->text ? strdup(r->text) : NULL;
}

static void run_until(Fixture *f, const unsigned *counter, unsigned wanted) {
        for (unsigned i = 0; i < 100 && *counter < wanted; i++)
                assert_true(sd_event_run(f->loop, 100 * USEC_PER_MSEC) >= 0);
        assert_true(*counter >= wanted);
}

static void setup_uri(Fixture *f, const char *uri) {
        *f = (Fixture){};
        assert_int_equal(sd_event_new(&f->loop), 0);
        assert_int_equal(virt_new(f->loop, uri, on_event, f, &f->virt), 0);
}

static void teardown(Fixture *f) {
        virt_free(f->virt);
        sd_event_unref(f->loop);
        free(f->text);
}

/* libvirt's test driver counts nothing: the linker puts this in between. */
static unsigned n_counted;

int __wrap_virDomainBlockStatsFlags(virDomainPtr domain, const char *disk, virTypedParameterPtr list, int *n,
                                    unsigned flags);

int __wrap_virDomainBlockStatsFlags(virDomainPtr domain, const char *disk, virTypedParameterPtr list, int *n,
                                    unsigned flags) {
        const struct {
                const char *name;
                long long value;
        } counted[] = {
                { VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, 8192 },
                { VIR_DOMAIN_BLOCK_STATS_READ_BYTES, 4096 },
                { VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES, 5 },
                { VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, 12600000 },
        };

        /* in a thread of its own: asserts nothing. libvirtd refuses whoever asks for more than 16 */
        if (!streq(disk, "vdb") || *n < (int) n_counted || *n > 16)
                return -1;
        *n = (int) n_counted;
        for (unsigned i = 0; i < n_counted; i++) {
                list[i] = (virTypedParameter){ .type = VIR_TYPED_PARAM_LLONG, .value.l = counted[i].value };
                snprintf(list[i].field, sizeof(list[i].field), "%s", counted[i].name);
        }
        return 0;
}

/* Nor does it have agents. One that is asked to hang does so until it is told not to. */
static atomic_uint n_hanging;
static atomic_bool released;

char *__real_virDomainQemuAgentCommand(virDomainPtr domain, const char *cmd, int timeout, unsigned flags);
char *__wrap_virDomainQemuAgentCommand(virDomainPtr domain, const char *cmd, int timeout, unsigned flags);

char *__wrap_virDomainQemuAgentCommand(virDomainPtr domain, const char *cmd, int timeout, unsigned flags) {
        if (streq(cmd, "hang")) {
                n_hanging++;
                while (!released)
                        usleep(1000);
        }
        else if (!streq(cmd, "answer"))
                return __real_virDomainQemuAgentCommand(domain, cmd, timeout, flags);
        return strdup("{}");
}

/* Nor jobs: while this is set each domain has one. */
static atomic_bool has_jobs;

int __wrap_virDomainGetJobInfo(virDomainPtr domain, virDomainJobInfoPtr info);

int __wrap_virDomainGetJobInfo(virDomainPtr domain, virDomainJobInfoPtr info) {
        *info = (virDomainJobInfo){ .type = has_jobs ? VIR_DOMAIN_JOB_UNBOUNDED : VIR_DOMAIN_JOB_NONE };
        return 0;
}

/* A migration that began before the daemon did: told with the list, and polled until it ends. */
static void test_finds_jobs_under_way(void **state) {
        Fixture f;

        has_jobs = true;
        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);
        assert_int_equal(f.n[VIRT_JOB_STARTED], 1);
        assert_string_equal(f.last[VIRT_JOB_STARTED].uuid, f.uuid);
        assert_int_equal(f.n[VIRT_JOB_ENDED], 0);
        has_jobs = false;
        run_until(&f, &f.n[VIRT_JOB_ENDED], 1);
        assert_string_equal(f.last[VIRT_JOB_ENDED].uuid, f.uuid);
        teardown(&f);
        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);
        assert_int_equal(f.n[VIRT_JOB_STARTED], 0);
        teardown(&f);
}

static void test_connects_and_lists(void **state) {
        Fixture f;

        setup_uri(&f, "test:///default");
        assert_int_equal(f.n[VIRT_CONNECTED], 0);   /* never from virt_new() itself */
        run_until(&f, &f.n[VIRT_LISTED], 1);
        assert_int_equal(f.n[VIRT_CONNECTED], 1);
        assert_int_equal(f.n[VIRT_DOMAIN], 1);
        assert_string_equal(f.last[VIRT_DOMAIN].name, "test");
        assert_int_equal(f.last[VIRT_DOMAIN].state, VIRT_STATE_RUNNING);
        assert_int_equal(f.last[VIRT_DOMAIN].id, 1);
        assert_true(f.last[VIRT_DOMAIN].persistent);
        assert_true(virt_is_connected(f.virt));
        teardown(&f);
}

static void test_lifecycle(void **state) {
        virConnectPtr conn;
        virDomainPtr domain;
        Fixture f;

        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);
        conn = virConnectOpen("test:///default");
        assert_non_null(conn);
        domain = virDomainLookupByName(conn, "test");
        assert_non_null(domain);

        assert_int_equal(virDomainSuspend(domain), 0);
        run_until(&f, &f.n[VIRT_DOMAIN], 2);
        assert_int_equal(f.last[VIRT_DOMAIN].state, VIRT_STATE_PAUSED);
        assert_string_equal(f.last[VIRT_DOMAIN].detail, "paused");
        assert_int_equal(virDomainDestroy(domain), 0);
        run_until(&f, &f.n[VIRT_DOMAIN], 3);
        assert_int_equal(f.last[VIRT_DOMAIN].state, VIRT_STATE_OFF);
        assert_int_equal(f.last[VIRT_DOMAIN].id, -1);
        assert_string_equal(f.last[VIRT_DOMAIN].detail, "destroyed");
        assert_int_equal(virDomainUndefine(domain), 0);
        run_until(&f, &f.n[VIRT_UNDEFINED], 1);
        assert_string_equal(f.last[VIRT_UNDEFINED].uuid, f.uuid);

        virDomainFree(domain);
        virConnectClose(conn);
        teardown(&f);
}

static void test_calls(void **state) {
        static const char policy[] = "<domain managed='yes'/>";
        _cleanup_free_ char *xml = NULL;
        Fixture f;

        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);

        assert_int_equal(virt_get_xml(f.virt, f.uuid, true, on_result, &f), 0);
        run_until(&f, &f.n_results, 1);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        assert_non_null(strstr(f.text, "<name>test</name>"));
        xml = strdup(f.text);

        assert_int_equal(virt_define_xml(f.virt, f.uuid, xml, on_result, &f), 0);
        run_until(&f, &f.n_results, 2);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        assert_null(f.text);

        assert_int_equal(virt_get_metadata(f.virt, f.uuid, true, on_result, &f), 0);
        run_until(&f, &f.n_results, 3);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        assert_string_equal(f.text, "");

        assert_int_equal(virt_set_metadata(f.virt, f.uuid, policy, true, true, on_result, &f), 0);
        run_until(&f, &f.n_results, 4);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        run_until(&f, &f.n[VIRT_METADATA_CHANGED], 1);
        assert_string_equal(f.last[VIRT_METADATA_CHANGED].uuid, f.uuid);
        assert_int_equal(virt_get_metadata(f.virt, f.uuid, false, on_result, &f), 0);
        run_until(&f, &f.n_results, 5);
        assert_non_null(strstr(f.text, "managed"));

        assert_int_equal(virt_set_metadata(f.virt, f.uuid, NULL, true, true, on_result, &f), 0);
        assert_int_equal(virt_get_metadata(f.virt, f.uuid, false, on_result, &f), 0);
        run_until(&f, &f.n_results, 7);
        assert_string_equal(f.text, "");
        teardown(&f);
}

static void test_block_stats(void **state) {
        Fixture f;

        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);
        n_counted = 4;
        assert_int_equal(virt_block_stats(f.virt, f.uuid, "vdb", on_result, &f), 0);
        run_until(&f, &f.n_results, 1);
        assert_string_equal(f.text, "4096 8192 12600000");
        n_counted = 3; /* no times of reads */
        assert_int_equal(virt_block_stats(f.virt, f.uuid, "vdb", on_result, &f), 0);
        run_until(&f, &f.n_results, 2);
        assert_string_equal(f.text, "4096 8192");
        n_counted = 1;
        assert_int_equal(virt_block_stats(f.virt, f.uuid, "vdb", on_result, &f), 0);
        run_until(&f, &f.n_results, 3);
        assert_int_equal(f.outcome.code, OUTCOME_UNSUPPORTED);
        assert_int_equal(virt_block_stats(f.virt, f.uuid, "sda", on_result, &f), 0);
        run_until(&f, &f.n_results, 4);
        assert_int_equal(f.outcome.code, OUTCOME_FAILED);
        assert_null(f.text);
        teardown(&f);
}

static void test_errors(void **state) {
        Fixture f;

        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);

        assert_int_equal(virt_qmp(f.virt, f.uuid, "{\"execute\":\"query-status\"}", -1, on_result, &f), 0);
        run_until(&f, &f.n_results, 1);
        assert_int_equal(f.outcome.code, OUTCOME_UNSUPPORTED);
        assert_null(f.text);
        assert_int_equal(virt_agent(f.virt, f.uuid, "{\"execute\":\"guest-ping\"}", 1, true, on_result, &f),
                         0);
        run_until(&f, &f.n_results, 2);
        assert_int_equal(f.outcome.code, OUTCOME_UNSUPPORTED);
        assert_int_equal(virt_get_xml(f.virt, "00000000-0000-0000-0000-000000000000", false, on_result, &f),
                         0);
        run_until(&f, &f.n_results, 3);
        assert_int_equal(f.outcome.code, OUTCOME_NO_DOMAIN);
        assert_non_null(strstr(f.outcome.text, "virsh list --all"));
        assert_int_equal(virt_define_xml(f.virt, f.uuid, "<domain", on_result, &f), 0);
        run_until(&f, &f.n_results, 4);
        assert_int_not_equal(f.outcome.code, OUTCOME_OK);
        assert_int_equal(virt_update_device(f.virt, f.uuid, "<memory/>", true, false, on_result, &f), 0);
        run_until(&f, &f.n_results, 5);
        assert_int_not_equal(f.outcome.code, OUTCOME_OK);
        teardown(&f);
}

/* Guests that may not answer keep nobody waiting who does, however many they are. */
static void test_hanging_agents(void **state) {
        static const char uuid[] = "%08x-2222-4333-8444-555566667777";
        char path[] = "/tmp/hmvisor-test-XXXXXX", uri[64], u[64];
        FILE *file = fdopen(mkstemp(path), "w");
        Fixture f;

        assert_non_null(file);
        fputs("<node>", file);
        for (unsigned i = 0; i < 8; i++) {
                snprintf(u, sizeof(u), uuid, i);
                fprintf(file,
                        "<domain type='test'><name>vm%u</name><uuid>%s</uuid><memory>1024</memory>"
                        "<os><type>hvm</type></os></domain>",
                        i, u);
        }
        fputs("</node>", file);
        fclose(file);
        snprintf(uri, sizeof(uri), "test://%s", path);
        setup_uri(&f, uri);
        run_until(&f, &f.n[VIRT_LISTED], 1);
        unlink(path);
        for (unsigned i = 0; i < 6; i++) {
                snprintf(u, sizeof(u), uuid, i);
                assert_int_equal(virt_agent(f.virt, u, "hang", 5, false, on_result, &f), 0);
        }
        for (unsigned i = 0; i < 20; i++) {
                snprintf(u, sizeof(u), uuid, 6 + i % 2);
                assert_int_equal(virt_agent(f.virt, u, "answer", 5, true, on_result, &f), 0);
                run_until(&f, &f.n_results, i + 1);
                assert_int_equal(f.outcome.code, OUTCOME_OK);
        }
        assert_int_equal(n_hanging, 2);
        released = true;
        run_until(&f, &f.n_results, 26);
        teardown(&f);
}

/* More than a domain's share is refused at once; what was taken is answered, each once. */
static void test_bounds(void **state) {
        unsigned taken = 0, refused = 0;
        Fixture f;

        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);
        for (unsigned i = 0; i < 5000 && refused == 0; i++) {
                int r = virt_get_xml(f.virt, f.uuid, false, on_result, &f);

                assert_true(r == 0 || r == -EBUSY);
                taken += r == 0;
                refused += r == -EBUSY;
        }
        run_until(&f, &f.n_results, taken);
        assert_int_equal(sd_event_run(f.loop, 100 * USEC_PER_MSEC) >= 0, true);
        assert_int_equal(f.n_results, taken);
        teardown(&f);
}

static void test_free_answers_everything(void **state) {
        unsigned taken = 0;
        Fixture f;

        setup_uri(&f, "test:///default");
        run_until(&f, &f.n[VIRT_LISTED], 1);
        for (unsigned i = 0; i < 16; i++)
                taken += virt_get_xml(f.virt, f.uuid, false, on_result, &f) == 0;
        virt_free(f.virt);
        f.virt = NULL;
        assert_int_equal(f.n_results, taken);
        teardown(&f);
}

static void test_no_libvirt(void **state) {
        Fixture f;

        setup_uri(&f, "qemu+unix:///system?socket=/nonexistent/hmvisor");
        run_until(&f, &f.n[VIRT_DISCONNECTED], 1);
        assert_true(*f.last[VIRT_DISCONNECTED].detail);
        assert_false(virt_is_connected(f.virt));
        assert_int_equal(virt_get_xml(f.virt, "00000000-0000-0000-0000-000000000000", false, on_result, &f),
                         0);
        assert_int_equal(f.n_results, 0);
        run_until(&f, &f.n_results, 1);
        assert_int_equal(f.outcome.code, OUTCOME_NO_LIBVIRT);
        assert_int_equal(f.n[VIRT_DISCONNECTED], 1);   /* told once, not at each attempt */
        teardown(&f);
}

static const char *libvirtd_path(void) {
        return getenv("HMVISOR_TEST_LIBVIRTD") ?: "/usr/sbin/libvirtd";
}

/* A libvirtd of our own, serving the test driver over a socket below dir. */
static pid_t daemon_start(const char *binary, const char *dir) {
        char conf[128], pidfile[128];
        pid_t pid;

        snprintf(conf, sizeof(conf), "%s/libvirtd.conf", dir);
        snprintf(pidfile, sizeof(pidfile), "%s/pid", dir);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                execl(binary, binary, "-f", conf, "-p", pidfile, NULL);
                _exit(127);
        }
        return pid;
}

/* HMVISOR_TEST_LIBVIRTD: where libvirtd is not installed but unpacked somewhere. */
static void test_reconnects(void **state) {
        const char *binary = libvirtd_path();
        char dir[] = "/tmp/hmvisor-virt-test-XXXXXX", path[128], uri[256];
        pid_t pid;
        Fixture f;
        FILE *conf;

        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/libvirtd.conf", dir);
        conf = fopen(path, "we");
        assert_non_null(conf);
        fprintf(conf, "unix_sock_dir = \"%s\"\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n", dir);
        fclose(conf);
        snprintf(uri, sizeof(uri), "test+unix:///default?socket=%s/libvirt-sock", dir);

        pid = daemon_start(binary, dir);
        setup_uri(&f, uri);
        run_until(&f, &f.n[VIRT_LISTED], 1);
        f.n[VIRT_DISCONNECTED] = 0;    /* it may not have been up at our first attempt */
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        run_until(&f, &f.n[VIRT_DISCONNECTED], 1);
        assert_int_equal(virt_get_xml(f.virt, f.uuid, false, on_result, &f), 0);
        run_until(&f, &f.n_results, 1);
        assert_int_equal(f.outcome.code, OUTCOME_NO_LIBVIRT);

        pid = daemon_start(binary, dir);
        run_until(&f, &f.n[VIRT_LISTED], 2);
        assert_int_equal(f.n[VIRT_CONNECTED], 2);
        assert_int_equal(f.n[VIRT_DISCONNECTED], 1);   /* told once, not at each attempt */
        assert_int_equal(virt_get_xml(f.virt, f.uuid, false, on_result, &f), 0);
        run_until(&f, &f.n_results, 2);
        assert_int_equal(f.outcome.code, OUTCOME_OK);
        teardown(&f);
        assert_int_equal(kill(pid, SIGTERM), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        snprintf(uri, sizeof(uri), "rm -rf '%s'", dir);
        assert_int_equal(system(uri), 0);
}

static void test_process_is_guest(void **state) {
        static const char cgroup[] = "0::/machine.slice/machine-qemu\\x2d1\\x2dvm1.scope/libvirt/emulator\n";
        static const char mine[] = "0::/user.slice/user-1000.slice/session-2.scope\n";
        static const char vm1[] = "/usr/bin/qemu-system-x86_64\0-name\0guest=vm1,debug-threads=on\0-S";
        static const char comma[] = "qemu\0-name\0guest=a,,b,debug-threads=on";
        static const char fake[] = "qemu\0-append\0guest=vm1";

        assert_true(virt_process_is_guest(vm1, sizeof(vm1), cgroup, "vm1"));
        assert_false(virt_process_is_guest(vm1, sizeof(vm1), cgroup, "vm"));
        assert_false(virt_process_is_guest(vm1, sizeof(vm1), cgroup, "vm11"));
        assert_false(virt_process_is_guest(vm1, sizeof(vm1), mine, "vm1"));
        assert_true(virt_process_is_guest(comma, sizeof(comma), cgroup, "a,b"));
        assert_false(virt_process_is_guest(comma, sizeof(comma), cgroup, "a"));
        assert_false(virt_process_is_guest(fake, sizeof(fake), cgroup, "vm1"));
        assert_int_equal(virt_domain_pid(NULL, "../../etc/passwd"), -EINVAL);
}

/* With an argument: the test that needs a libvirtd. */
int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_connects_and_lists), cmocka_unit_test(test_calls),
                cmocka_unit_test(test_errors),             cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_free_answers_everything), cmocka_unit_test(test_no_libvirt),
                cmocka_unit_test(test_process_is_guest),   cmocka_unit_test(test_lifecycle),
                cmocka_unit_test(test_block_stats),        cmocka_unit_test(test_hanging_agents),
                cmocka_unit_test(test_finds_jobs_under_way),
        };
        const struct CMUnitTest reconnect[] = { cmocka_unit_test(test_reconnects) };

        if (argc == 1)
                return cmocka_run_group_tests(tests, NULL, NULL);
        if (access(libvirtd_path(), X_OK) < 0 || geteuid() != 0) {
                printf("needs root and %s\n", libvirtd_path());
                return 77;
        }
        return cmocka_run_group_tests(reconnect, NULL, NULL);
}
