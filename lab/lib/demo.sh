# SPDX-License-Identifier: GPL-2.0-or-later
#
# The main job, start to finish, with a report.

verb_demo() {
        die "the demonstration is not written yet"
}
