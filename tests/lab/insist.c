/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Forces tracking on, for tests: over a QMP socket of QEMU's it starts the extension anew, with a table of
 * its own, again and again, whatever else goes on, until QEMU is gone or a file appears. Prints what came of
 * each start, a line each: the extension's state, the samples that it counted, and its reason.
 *
 * Usage: insist SOCKET END-FILE
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hotness-table.h"

#define STEP_USEC 700000 /* between two starts: some samples under emulation */
#define ANSWER_MAX 65536

static _Noreturn void fail(const char *what) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
}

/* Sends a line, with a file where fd is not -1. Returns false when QEMU is gone. */
static int send_line(int qmp, const char *line, int fd) {
        struct iovec iov = { (char *) line, strlen(line) };
        union {
                char buf[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (fd >= 0) {
                msg.msg_control = &control;
                msg.msg_controllen = sizeof(control);
                struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
                *c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                                       .cmsg_level = SOL_SOCKET,
                                       .cmsg_type = SCM_RIGHTS };
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        return sendmsg(qmp, &msg, MSG_NOSIGNAL) == (ssize_t) iov.iov_len;
}

/* Reads the next line that is an answer, no event. Returns NULL when QEMU is gone. */
static const char *answer(FILE *in) {
        static char line[ANSWER_MAX];

        while (fgets(line, sizeof(line), in))
                if (strncmp(line, "{\"return\"", 9) == 0 || strncmp(line, "{\"error\"", 8) == 0)
                        return line;
        return NULL;
}

/* Returns the answer to a command, or ends the program: in peace when QEMU is gone. */
static const char *call(int qmp, FILE *in, const char *line, int fd) {
        const char *reply = send_line(qmp, line, fd) ? answer(in) : NULL;

        if (!reply)
                exit(0);
        if (strncmp(reply, "{\"error\"", 8) == 0) {
                fprintf(stderr, "%s: %s", line, reply);
                exit(1);
        }
        return reply;
}

static uint64_t number(const char *reply, const char *key) {
        const char *at = strstr(reply, key);

        return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void print_text(const char *reply, const char *key) {
        const char *at = strstr(reply, key);

        if (at)
                printf("%.*s", (int) strcspn(at + strlen(key), "\""), at + strlen(key));
}

static int make_table(uint64_t n_counters) {
        HotnessTableHeader header = { .magic = HOTNESS_TABLE_MAGIC,
                                      .layout = HOTNESS_TABLE_LAYOUT,
                                      .header_size = HOTNESS_TABLE_HEADER_SIZE,
                                      .n_counters = n_counters };
        int fd = memfd_create("insist", MFD_ALLOW_SEALING | MFD_CLOEXEC);

        if (fd < 0 || ftruncate(fd, (off_t) (HOTNESS_TABLE_HEADER_SIZE + n_counters)) < 0 ||
            pwrite(fd, &header, sizeof(header), 0) != sizeof(header) ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                fail("table");
        return fd;
}

int main(int argc, char **argv) {
        static const char get[] = "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"insist\"}}\n";
        static const char query[] = "{\"execute\":\"__org.hmvisor_hotness-query\"}\n";
        static const char start[] =
                "{\"execute\":\"__org.hmvisor_hotness-start\",\"arguments\":{\"table\":\"insist\","
                "\"interval-ms\":20,\"lease-ms\":60000}}\n";
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int qmp = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), table;
        FILE *in = fdopen(qmp, "r");

        if (argc != 3 || strlen(argv[1]) >= sizeof(address.sun_path))
                return 2;
        strcpy(address.sun_path, argv[1]);
        if (!in || connect(qmp, (struct sockaddr *) &address, sizeof(address)) < 0)
                fail(argv[1]);
        setvbuf(stdout, NULL, _IOLBF, 0);
        call(qmp, in, "{\"execute\":\"qmp_capabilities\"}\n", -1);
        table = make_table(number(call(qmp, in, query, -1), "\"counters\": "));
        while (access(argv[2], F_OK) < 0) {
                const char *reply;

                call(qmp, in, get, table);
                call(qmp, in, start, -1);
                usleep(STEP_USEC);
                reply = call(qmp, in, query, -1);
                print_text(reply, "\"state\": \"");
                printf(" %llu ", (unsigned long long) number(reply, "\"epochs\": "));
                print_text(reply, "\"reason\": \"");
                putchar('\n');
        }
        return 0;
}
