/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisor-ga with a mover that takes one millisecond for each page and moves nothing: the whole agent but
 * for the memory, for tests of what happens while an order runs. Page frames from 1000000 on are "pinned".
 */
#include "agent.h"

static int slow_run(void *userdata, const OrderRequest *request, const Stop *stop, OrderProgress progress,
                    void *progress_userdata, OrderResult *ret) {
        OrderResult result = { .mover = "damon" };
        const OrderList *lists[] = { &request->promote, &request->demote };
        int r = 0;

        for (size_t l = 0; l < ELEMENTSOF(lists) && r >= 0; l++)
                for (size_t i = 0; i < lists[l]->n_ranges && r >= 0; i++)
                        for (uint64_t k = 0; k < lists[l]->ranges[i].count; k++) {
                                r = stop_check(stop);
                                if (r < 0)
                                        break;
                                usleep(1000);
                                if (lists[l]->ranges[i].pfn + k >= 1000000)
                                        result.skipped[PAGE_PINNED]++;
                                else
                                        (*(l == 0 ? &result.promoted : &result.demoted))++;
                                progress(progress_userdata, &result);
                        }
        *ret = result;
        return r;
}

static void slow_release(void *userdata) {
}

int main(int argc, char *argv[]) {
        static const OrderRunner slow = { slow_run, slow_release, NULL };
        AgentOptions options;
        int r = agent_options_parse(argc, argv, &options);

        if (r != 0)
                return r < 0 ? 2 : 0;
        return agent_run(&options, &slow) < 0 ? 1 : 0;
}
