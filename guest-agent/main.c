/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisor-ga: arguments in, exit code out; all else is in agent.c.
 */
#include "agent.h"

int main(int argc, char *argv[]) {
        AgentOptions options;
        int r = agent_options_parse(argc, argv, &options);

        if (r != 0)
                return r < 0 ? 2 : 0;
        return agent_run(&options, NULL) < 0 ? 1 : 0;
}
