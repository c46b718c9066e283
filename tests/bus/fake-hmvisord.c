/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon's bus code over the scripted manager: takes lines of script from standard input, answers each
 * with "ok" or "error", and ends with it. Exits with 17 when another process owns the name.
 */
#include <sys/epoll.h>

#include "bus/bus.h"
#include "fake-manager.h"

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Manager *m = userdata;
        char line[512];

        if (!fgets(line, sizeof(line), stdin))
                return sd_event_exit(sd_event_source_get_event(s), 0);
        line[strcspn(line, "\n")] = 0;
        puts(fake_manager_command(m, line) < 0 ? "error" : "ok");
        fflush(stdout);
        return 0;
}

int main(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(manager_freep) Manager *m = NULL;
        _cleanup_(bus_freep) Bus *bus = NULL;
        int r;

        setvbuf(stdin, NULL, _IONBF, 0);   /* what is read is what the loop was told of */
        r = sd_event_new(&event);
        if (r >= 0)
                r = manager_new(event, NULL, &m);
        if (r >= 0)
                r = bus_new(event, m, &bus);
        if (r == -EEXIST)
                return 17;
        if (r >= 0)
                r = sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_input, m);
        if (r < 0) {
                fprintf(stderr, "fake-hmvisord: %s\n", strerror(-r));
                return 1;
        }
        puts("ready");
        fflush(stdout);
        return sd_event_loop(event) < 0;
}
