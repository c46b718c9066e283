/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisor-ga-bench: how fast the agent's whole way from a submitted order to its end is, against raw
 * move_pages(2) of the same pages in one call, both in turns in one run. Run it as root in a guest with two
 * nodes; an absolute figure says little (least of all under emulation), the ratio is the point. Prints
 * medians.
 */
#include <getopt.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "execute.h"
#include "testmem.h"

#define PAGES 4096

typedef struct Scenario {
        const char *name, *mover; /* NULL: as the agent chooses */
        size_t stride;            /* one of so many pages is named */
} Scenario;

static usec_t raw_run(pid_t owner, char *memory, const size_t pages[], int node) {
        usec_t start = now_usec();

        if (testmem_move(owner, memory, pages, PAGES, node) < 0)
                testmem_die("move_pages: %m");
        return now_usec() - start;
}

static usec_t agent_run_order(OrderQueue *q, uint64_t id, pid_t owner, char *memory, const size_t pages[],
                              size_t n, int node, const char **ret_mover, uint64_t *ret_moved) {
        _cleanup_free_ uint64_t *pfns = malloc(n * sizeof(uint64_t));
        OrderRequest request = { .id = id, .promote = { node, calloc(PAGES, sizeof(PageRange)), PAGES },
                                 .demote.node = -1, .deadline = 60 * USEC_PER_SEC };
        OrderStatus status;
        usec_t start, usec;

        if (!pfns || !request.promote.ranges)
                testmem_die("out of memory");
        testmem_pfns(owner, memory, n, pfns);
        for (size_t i = 0; i < PAGES; i++)
                request.promote.ranges[i] = (PageRange) { pfns[pages[i]], 1 };
        start = now_usec();
        order_queue_submit(q, &request, &status);
        while (status.state == ORDER_QUEUED || status.state == ORDER_RUNNING) {
                usleep(1000);
                order_queue_status(q, id, &status);
        }
        usec = now_usec() - start;
        *ret_mover = status.result.mover;
        *ret_moved += status.result.promoted;
        return usec;
}

static int usec_compare(const void *a, const void *b) {
        const usec_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static int ratio_compare(const void *a, const void *b) {
        const double *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static void scenario_run(OrderQueue *q, const Scenario *s, int fast, int slow, unsigned rounds, bool json) {
        _cleanup_free_ size_t *pages = malloc(PAGES * sizeof(size_t));
        _cleanup_free_ usec_t *raw = calloc(rounds, sizeof(usec_t)), *agent = calloc(rounds, sizeof(usec_t));
        _cleanup_free_ double *ratios = calloc(rounds, sizeof(double));
        size_t n = PAGES * s->stride;
        char *memory = testmem_map(n, slow, false);
        const char *mover = "";
        uint64_t moved = 0;
        static uint64_t id;
        pid_t owner;

        /* The memory is another process's, as in real life: moving one's own pages is cheaper. */
        owner = fork();
        if (owner < 0)
                testmem_die("fork: %m");
        if (owner == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        pause();
        }
        testmem_unmap(memory, n);
        if (!pages || !raw || !agent || !ratios)
                testmem_die("out of memory");
        for (size_t i = 0; i < PAGES; i++)
                pages[i] = i * s->stride;
        for (unsigned i = 0; i < rounds; i++) { /* each way once there and back, by turns */
                int to = i % 2 ? slow : fast, back = i % 2 ? fast : slow;

                raw[i] = raw_run(owner, memory, pages, to);
                (void) raw_run(owner, memory, pages, back);
                agent[i] = agent_run_order(q, ++id, owner, memory, pages, n, to, &mover, &moved);
                ratios[i] = (double) raw[i] / (double) agent[i];
        }
        qsort(ratios, rounds, sizeof(double),
              ratio_compare); /* of neighbours in time: the machine's noise cancels */
        qsort(raw, rounds, sizeof(usec_t), usec_compare);
        qsort(agent, rounds, sizeof(usec_t), usec_compare);
        if (json)
                printf("{\"scenario\": \"%s\", \"mover\": \"%s\", \"pages\": %d, \"moved\": %" PRIu64
                       ", \"raw_us\": %" PRIu64 ", \"agent_us\": %" PRIu64 ", \"speed_of_raw\": %.2f}\n",
                       s->name, mover, PAGES, moved / rounds, raw[rounds / 2], agent[rounds / 2],
                       ratios[rounds / 2]);
        else
                printf("%-28s %-8s %5" PRIu64 " of %d pages moved  raw %7" PRIu64 " us  agent %7" PRIu64
                       " us  %3.0f%% of raw speed\n",
                       s->name, mover, moved / rounds, PAGES, raw[rounds / 2], agent[rounds / 2],
                       ratios[rounds / 2] * 100);
        kill(owner, SIGKILL);
        waitpid(owner, NULL, 0);
}

int main(int argc, char *argv[]) {
        static const Scenario scenarios[] = {
                { "contiguous", NULL, 1 },          { "one page in four", NULL, 4 },
                { "contiguous, DAMON", "damon", 1 }, { "one page in four, DAMON", "damon", 4 },
        };
        _cleanup_(executor_freep) Executor *executor = NULL;
        _cleanup_close_ int root = open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        int fast = 0, slow = 1, c, r;
        unsigned rounds = 9;
        bool json = false;

        while ((c = getopt(argc, argv, "f:s:n:jh")) >= 0)
                switch (c) {
                case 'f':
                        fast = atoi(optarg);
                        break;
                case 's':
                        slow = atoi(optarg);
                        break;
                case 'n':
                        rounds = (unsigned) MAX(atoi(optarg), 1);
                        break;
                case 'j':
                        json = true;
                        break;
                default:
                        fprintf(stderr,
                                "usage: hmvisor-ga-bench [-f FAST_NODE] [-s SLOW_NODE] [-n ROUNDS] [-j]\n");
                        return c == 'h' ? 0 : 2;
                }
        r = executor_new(root, &executor);
        if (r < 0)
                testmem_die("cannot set up the movers: %s", strerror(-r));
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++) {
                _cleanup_(order_queue_freep) OrderQueue *q = NULL;
                OrderRunner runner = executor_runner(executor);

                if (scenarios[i].mover && !mover_damon_available(root))
                        continue;
                executor_force(executor, scenarios[i].mover);
                r = order_queue_new(&runner, &q);
                if (r < 0)
                        testmem_die("cannot start the worker: %s", strerror(-r));
                scenario_run(q, &scenarios[i], fast, slow, rounds, json);
        }
        return 0;
}
