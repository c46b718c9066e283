/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See load-clock.h. The functions of libc that are defined here are found before libc's own, also by
 * libsystemd: clock_gettime() and, as sd-event waits by timer fds of absolute times, theirs.
 */
#include "load-clock.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX 4096
#define CLOCKS_MAX 16
#define NSEC UINT64_C(1000000000)

static bool ours;
static uint64_t ahead_ns;              /* of the clocks as they were when taken over */
static uint64_t base_ns[CLOCKS_MAX];
static clockid_t clock_of[FDS_MAX];    /* of a timer's fd */
static uint64_t due_ns[FDS_MAX];       /* as ahead_ns; 0: off */

static uint64_t ns_of(const struct timespec *t) {
        return (uint64_t) t->tv_sec * NSEC + (uint64_t) t->tv_nsec;
}

static bool is_time(clockid_t clock) {
        return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
               clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *ret) {
        uint64_t ns;

        if (!ours || !is_time(clock))
                return (int) syscall(SYS_clock_gettime, clock, ret);
        ns = base_ns[clock] + ahead_ns;
        *ret = (struct timespec){ .tv_sec = (time_t) (ns / NSEC), .tv_nsec = (long) (ns % NSEC) };
        return 0;
}

int timerfd_create(int clock, int flags) {
        int fd = (int) syscall(SYS_timerfd_create, clock, flags);

        if (fd >= 0 && fd < FDS_MAX)
                clock_of[fd] = clock;
        return fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
        uint64_t at = ns_of(&new->it_value), present;
        struct itimerspec off = {};

        if (!ours || !(flags & TFD_TIMER_ABSTIME) || fd < 0 || fd >= FDS_MAX || !is_time(clock_of[fd]))
                return (int) syscall(SYS_timerfd_settime, fd, flags, new, old);
        present = base_ns[clock_of[fd]] + ahead_ns;
        due_ns[fd] = at == 0 ? 0 : ahead_ns + (at > present ? at - present : 0) + 1;
        return (int) syscall(SYS_timerfd_settime, fd, 0, &off, old);
}

void load_clock_take_over(void) {
        for (clockid_t i = 0; i < CLOCKS_MAX; i++) {
                struct timespec t;

                if (is_time(i) && syscall(SYS_clock_gettime, i, &t) == 0)
                        base_ns[i] = ns_of(&t);
        }
        ours = true;
}

void load_clock_set(int64_t later_sec) {
        base_ns[CLOCK_REALTIME] += (uint64_t) later_sec * NSEC;
        base_ns[CLOCK_REALTIME_COARSE] += (uint64_t) later_sec * NSEC;
}

bool load_clock_jump(void) {
        const struct itimerspec soon = { .it_value.tv_nsec = 1 };
        uint64_t next = UINT64_MAX;

        for (int fd = 0; fd < FDS_MAX; fd++)
                if (due_ns[fd] > 0)
                        next = MIN(next, due_ns[fd]);
        if (next == UINT64_MAX)
                return false;
        ahead_ns = MAX(ahead_ns, next);
        for (int fd = 0; fd < FDS_MAX; fd++)
                if (due_ns[fd] > 0 && due_ns[fd] <= ahead_ns) {
                        due_ns[fd] = 0;
                        (void) syscall(SYS_timerfd_settime, fd, 0, &soon, NULL);
                        (void) poll(&(struct pollfd) { .fd = fd, .events = POLLIN }, 1, -1);
                }
        return true;
}
