/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Fuzz target: bytes of the host as hmvisor-ga takes them apart, cut into requests and carried out below an
 * empty root by a runner that moves nothing; and the same bytes as an answer of the stock agent to
 * guest-info.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "commands.h"
#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int runner_run(void *userdata, const OrderRequest *request, const Stop *stop, OrderProgress progress,
                      void *progress_userdata, OrderResult *ret) {
        *ret = (OrderResult) { .mover = "" };
        return 0;
}

static void runner_release(void *userdata) {
}

static char root_path[64];
static Commands commands;

static void finish(void) {
        char path[128];

        order_queue_free(commands.orders);
        (void) prepare_stop(&commands.prepare);
        snprintf(path, sizeof(path), "%s/run/hmvisor-ga", root_path);
        (void) rmdir(path);
        *strrchr(path, '/') = '\0';
        (void) rmdir(path);
        (void) rmdir(root_path);
}

static void start(void) {
        static const OrderRunner runner = { runner_run, runner_release, NULL };

        strcpy(root_path, "/tmp/hmvisor-fuzz-agent-XXXXXX");
        if (!mkdtemp(root_path))
                abort();
        commands = (Commands) { .root = open(root_path, O_DIRECTORY | O_RDONLY | O_CLOEXEC),
                                .lease = USEC_PER_SEC, .lease_until = USEC_INFINITY };
        if (commands.root < 0 || mkdirat(commands.root, "run", 0700) < 0 ||
            order_queue_new(&runner, &commands.orders) < 0)
                abort();
        prepare_init(&commands.prepare, commands.root);
        atexit(finish);
}

/* One line, and of ours a whole one. */
static void reply_check(char *reply) {
        if (reply && (strlen(reply) < 2 || strchr(reply, '\n') != reply + strlen(reply) - 1))
                abort();
        free(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *bytes = (const char *) data;
        _cleanup_(frame_done) Frame frame = { 0 };
        char *line;

        if (!commands.orders)
                start();
        for (size_t at = 0; at < size;) {
                char *reply = NULL;
                size_t used = 0;
                int event = frame_feed(&frame, bytes + at, size - at, &used);

                if (used == 0 || used > size - at)
                        abort();
                at += used;
                if (event == FRAME_LINE_END)
                        (void) commands_may_continue(frame.data, frame.len);
                if (event != FRAME_REQUEST)
                        continue;
                if (commands_handle(&commands, frame.data, frame.len, 1, &reply) != COMMAND_OURS)
                        reply = commands_answer_alone(frame.data, frame.len);
                reply_check(reply);
        }
        line = strndup(bytes, size);
        if (line)
                free(commands_edit_info(line));
        free(line);
        return 0;
}
