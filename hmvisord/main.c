/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisord: arguments, signals, the service manager and the loop; everything else is the manager's and the
 * bus's.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/outcome.h"
#include "bus/bus.h"
#include "conf.h"
#include "config.h"
#include "manager.h"

typedef struct Arguments {
        const char *config_root, *libvirt_uri;
        bool check, dump;
} Arguments;

static void help(void) {
        puts("hmvisord [OPTION...]\n\n"
             "The host daemon of HMvisor: hybrid memory for virtual machines.\n\n"
             "      --libvirt-uri URI   connect there instead of where the configuration says\n"
             "      --config-root DIR   look for configuration below DIR (for tests)\n"
             "      --check-config      read the configuration, say what is wrong with it, and exit\n"
             "      --dump-config       print the configuration that is in effect, and exit\n"
             "      --version           print the version, and exit\n"
             "      --help              print this, and exit\n\n"
             "See hmvisord(8) and hmvisord.conf(5).");
}

/* Returns 1 to go on, 0 when all was said, -EINVAL when an argument is wrong (getopt says which). */
static int arguments_parse(int argc, char *argv[], Arguments *ret) {
        enum { ARG_HELP = 1, ARG_VERSION, ARG_CHECK, ARG_DUMP, ARG_URI, ARG_ROOT };
        static const struct option options[] = {
                { "help", no_argument, NULL, ARG_HELP },
                { "version", no_argument, NULL, ARG_VERSION },
                { "check-config", no_argument, NULL, ARG_CHECK },
                { "dump-config", no_argument, NULL, ARG_DUMP },
                { "libvirt-uri", required_argument, NULL, ARG_URI },
                { "config-root", required_argument, NULL, ARG_ROOT },
                {},
        };
        int c;

        *ret = (Arguments) { .config_root = "" };
        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (c) {
                case ARG_HELP:
                        help();
                        return 0;
                case ARG_VERSION:
                        puts("hmvisord " HMV_VERSION);
                        return 0;
                case ARG_CHECK:
                        ret->check = true;
                        break;
                case ARG_DUMP:
                        ret->dump = true;
                        break;
                case ARG_URI:
                        ret->libvirt_uri = optarg;
                        break;
                case ARG_ROOT:
                        ret->config_root = optarg;
                        break;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                log_error("'%s' is no argument of hmvisord; see hmvisord --help", argv[optind]);
                return -EINVAL;
        }
        return 1;
}

static int conf_show(const Conf *c, const Arguments *args) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (!args->dump)
                return 0;
        r = conf_dump(c, &text);
        if (r < 0)
                return log_error_errno(r, "The configuration cannot be printed");
        fputs(text, stdout);
        return 0;
}

/* The lock of the one daemon; the kernel drops it when we end, however that is. Where its folder is not ours
 * to make, the name on the bus is the only guard. */
static int lock_take(const char *root, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        char path[4096];

        snprintf(path, sizeof(path), "%s/run/hmvisor", root);
        (void) mkdir(path, 0755);
        snprintf(path, sizeof(path), "%s/run/hmvisor/lock", root);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
                log_debug("No lock '%s': %s", path, strerror(errno));
                return 0;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return log_error_errno(
                        errno,
                        "Another hmvisord runs ('%s' is locked); stop it first: systemctl stop "
                        "hmvisord",
                        path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        (void) sd_notify(false, "STOPPING=1");
        manager_stop(userdata);
        return 0;
}

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        uint64_t now = 0;
        Outcome o = {};

        (void) sd_event_now(sd_event_source_get_event(s), CLOCK_MONOTONIC, &now);
        (void) sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now);
        if (manager_reload(userdata, &o) < 0)
                log_error("Going on with the old configuration: %s", o.text);
        (void) sd_notify(false, "READY=1");
        return 0;
}

/* Before any thread starts, so that all of them have these blocked and signalfd sees them. */
static int signals_block(void) {
        sigset_t set;

        (void) signal(SIGPIPE, SIG_IGN);
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGHUP);
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

static int signals_add(sd_event *event, Manager *m) {
        int r;

        r = sd_event_add_signal(event, NULL, SIGTERM, on_terminate, m);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, on_terminate, m);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, m);
        return r;
}

static int run(Conf *conf, const Arguments *args) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(manager_freep) Manager *m = NULL;
        _cleanup_(bus_freep) Bus *bus = NULL;
        _cleanup_close_ int lock = -EBADF;
        int r;

        r = lock_take(args->config_root, &lock);
        if (r < 0)
                return r;
        r = signals_block();
        if (r >= 0)
                r = sd_event_default(&event);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r >= 0)
                r = manager_new(event, conf, &m);
        if (r >= 0)
                r = manager_set_config_root(m, args->config_root);
        if (r >= 0)
                r = signals_add(event, m);
        if (r < 0)
                return log_error_errno(r, "hmvisord cannot start");
        r = bus_new(event, m, &bus);
        if (r == -EEXIST)
                return log_error_errno(
                        r, "Another hmvisord runs (it owns 'org.hmvisor1' on the system bus); stop it "
                           "first: systemctl stop hmvisord");
        if (r < 0)
                return log_error_errno(r, "hmvisord cannot offer its interface");
        (void) sd_notify(false, "READY=1");
        r = sd_event_loop(event);
        (void) sd_notify(false, "STOPPING=1");
        return r < 0 ? log_error_errno(r, "The loop ended") : r;
}

int main(int argc, char *argv[]) {
        _cleanup_(conf_done) Conf conf = {};
        Arguments args;
        Outcome o = {};
        int r;

        r = arguments_parse(argc, argv, &args);
        if (r <= 0)
                return r < 0 ? outcome_exit_code(OUTCOME_BAD_ARGUMENT) : EXIT_SUCCESS;
        r = conf_load(args.config_root, &conf, &o);
        if (r < 0) {
                log_error("%s", *o.text ? o.text : strerror(-r));
                return EXIT_FAILURE;
        }
        if (args.check || args.dump)
                return conf_show(&conf, &args) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (args.libvirt_uri) {
                free(conf.libvirt_uri);
                conf.libvirt_uri = strdup(args.libvirt_uri);
                if (!conf.libvirt_uri)
                        return EXIT_FAILURE;
        }
        return run(&conf, &args) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
