# SPDX-License-Identifier: GPL-2.0-or-later
#
# The main job, start to finish, with a report: a guest whose write-hot pages sit on slow memory, measured
# without management and then with it, in one run. Owns one guest, $demo_guest, which it removes at the end.

demo_guest=hmvdemo
demo_hot=96M                 # the write-hot set
demo_dram=256M               # the guest's DRAM cell ...
demo_slow=768M               # ... and its slow cell
demo_window=30               # seconds of each measurement
demo_limit=120               # seconds that moving the hot set may take
demo_share_wanted=90         # per cent of the hot set on DRAM
demo_attempts=3              # nested virtualization under emulation can lose an interrupt or reset a guest

demo_say() { [ -n "$demo_json" ] || printf '%s\n' "$*"; }

demo_host() { host_exec "$@"; }
demo_in_guest() { in_guest "$demo_guest" "$@"; }

# The workload's own report: hot pages by move_pages(2) query, longest gap between 10 ms ticks, writes.
demo_query() { demo_in_guest hmv-workload --query "$@"; }

# demo_hot_share: the part of the hot set that is on the guest's DRAM cell, 0..1.
demo_hot_share() { demo_query | jq -r '.hot_pages as $n | ((.hot_by_node["0"] // 0) / $n)'; }

# demo_measure NAME: one window; sets demo_share_NAME, demo_gap_NAME and demo_rate_NAME.
demo_measure() {
        local before after meter
        before=$(demo_query --reset-gap)
        verb_meter --on --reset >/dev/null
        sleep "$demo_window"
        meter=$(verb_meter --json)
        after=$(demo_query)
        verb_meter --off >/dev/null
        printf -v "demo_share_$1" %s "$(jq -r '.nodes as $n | ($n[1].stores / ([$n[].stores] | add))' <<<"$meter")"
        printf -v "demo_stores_$1" %s "$(jq -r '[.nodes[] | "node \(.node) \(.stores)"] | join(", ")' <<<"$meter")"
        printf -v "demo_gap_$1" %s "$(jq -r '.longest_gap_ms' <<<"$after")"
        printf -v "demo_rate_$1" %s "$(jq -n --argjson a "$before" --argjson b "$after" \
                '($b.writes - $a.writes) / ($b.elapsed_ms - $a.elapsed_ms) * 1000 | floor')"
}

demo_percent() { LC_ALL=C awk -v x="$1" 'BEGIN { printf "%.1f%%", 100 * x }'; }

demo_start_guest() {
        host_exec "$guest_tool" remove "$demo_guest" >/dev/null 2>&1 || true
        step "starting guest '$demo_guest': $demo_dram DRAM and $demo_slow slow memory, bound with hmvctl (about a minute)"
        host_exec "$guest_tool" create "$demo_guest" --dram "$demo_dram" --slow "$demo_slow" >&2
        host_exec hmvctl verify "$demo_guest" >&2
        step "starting the workload: cold pages fill DRAM, then $demo_hot of hot pages start on slow memory"
        demo_in_guest systemd-run --quiet --unit=hmv-workload hmv-workload --hot "$demo_hot" --hot-node 1 --cold fill --cold-node 0
        workload_wait "$demo_guest" 120
}

# demo_is_moved PERCENT: whether so much of the hot set is on DRAM.
demo_is_moved() { LC_ALL=C awk -v s="$demo_hot_on_dram" -v w="$1" 'BEGIN { exit !(100 * s >= w) }'; }

# Waits until the hot set is on DRAM; sets demo_seconds and demo_hot_on_dram (as seen at the end of the wait), and demo_moved,
# what to say of both.
demo_wait_hot() {
        local start=$SECONDS share
        while :; do
                share=$(demo_hot_share)
                demo_seconds=$((SECONDS - start))
                step "$(demo_percent "$share") of the hot set is on DRAM after $demo_seconds s"
                demo_hot_on_dram=$share
                ! demo_is_moved "$demo_share_wanted" || break
                [ "$demo_seconds" -lt "$demo_limit" ] || break
                sleep 3
        done
        if demo_is_moved "$demo_share_wanted"; then demo_moved="after $demo_seconds s"; else demo_moved="not within $demo_seconds s"; fi
}

# What is left of the time limit, but five minutes at most, goes to the rest of the hot set.
demo_finish_moving() {
        local left=$((demo_limit - demo_seconds)) end
        end=$((SECONDS + (left < 300 ? left : 300)))
        until demo_is_moved 99 || [ "$SECONDS" -ge "$end" ]; do
                sleep 3
                demo_hot_on_dram=$(demo_hot_share)
        done
        step "$(demo_percent "$demo_hot_on_dram") of the hot set is on DRAM"
}

demo_report() {
        cat <<END

What was measured, in one guest and one run ($demo_window s each):
                                        without management     with hmvisor           unmanaged again
  hot set on DRAM                       $(printf '%-22s' "$(demo_percent "$demo_hot_before")") $(demo_percent "$demo_hot_on_dram")  (within $demo_limit s of 'hmvctl manage')
  stores that went to slow memory       $(printf '%-22s' "$(demo_percent "$demo_share_unmanaged")") $(printf '%-22s' "$(demo_percent "$demo_share_managed")") $(demo_percent "$demo_share_moved")
  longest gap between 10 ms ticks       $(printf '%-22s' "$demo_gap_unmanaged ms") $(printf '%-22s' "$demo_gap_managed ms") $demo_gap_moved ms
  writes of the workload per second     $(printf '%-22s' "$demo_rate_unmanaged") $(printf '%-22s' "$demo_rate_managed") $demo_rate_moved
  (stores per node, unmanaged: $demo_stores_unmanaged; managed: $demo_stores_managed)
  (the longer gap of the time in which pages moved, $demo_gap_moving ms, and of the measurement after it)
  90% of the hot set was on DRAM:       $demo_moved

Stores are counted by the emulator, each one, by physical node of the host; times are of emulation, not of
hardware, and only their order means anything.
END
}

demo_cleanup() {
        verb_meter --off >/dev/null 2>&1 || true
        host_exec "$guest_tool" remove "$demo_guest" >/dev/null 2>&1 || true
}

# Tracking slows an emulated guest down far more than a real one. What the place of the pages alone does shows when they
# stay, and the guest is only glanced at as in the first measurement.
demo_measure_moved() {
        demo_host hmvctl unmanage "$demo_guest" >&2
        step "measuring $demo_window s with the pages where they are now, and no management"
        demo_measure moved
        demo_host hmvctl manage "$demo_guest" >&2
}

# One attempt, start to finish; prints the report. Runs in a subshell, so that it may die.
demo_attempt() {
        guest_sync_tool
        demo_start_guest
        demo_boot_id >"$state_dir/demo.boot"
        step "measuring $demo_window s without management (numa_balancing=$(demo_in_guest cat /proc/sys/kernel/numa_balancing))"
        demo_measure unmanaged
        demo_hot_before=$(demo_hot_share)
        demo_query --reset-gap >/dev/null
        step "hmvctl manage $demo_guest"
        demo_host hmvctl manage "$demo_guest" >&2
        demo_wait_hot
        demo_finish_moving
        demo_gap_moving=$(demo_query | jq -r .longest_gap_ms)
        step "measuring $demo_window s with management"
        demo_measure managed
        # moving is part of managing: the longer of the two gaps counts
        demo_gap_managed=$(jq -n "[$demo_gap_managed, $demo_gap_moving] | max")
        step "what the daemon says"
        demo_host hmvctl explain "$demo_guest" --lines 5 >&2
        demo_host hmvctl stats "$demo_guest" >&2
        demo_host hmvctl heat "$demo_guest" >&2
        if [ -n "$demo_json" ]; then
                jq -cn --argjson hot "$demo_hot_on_dram" \
                        --argjson u "$demo_share_unmanaged" --argjson m "$demo_share_managed" \
                        --argjson gu "$demo_gap_unmanaged" --argjson gm "$demo_gap_managed" \
                        '{hot_set_on_dram: $hot, slow_store_share_unmanaged: $u, slow_store_share_managed: $m,
                          longest_gap_ms_unmanaged: $gu, longest_gap_ms_managed: $gm}'
        else
                demo_measure_moved
                demo_report
        fi
}

demo_boot_id() { timeout 120 "$lab_dir/hmvlab" guest exec "$demo_guest" -- cat /proc/sys/kernel/random/boot_id; }

# Whether the emulated machine, and not the demonstration, was at fault: the host does not answer any more, or
# the guest came up anew though nobody asked for it.
demo_emulator_failed() {
        local before
        timeout 120 "$lab_dir/hmvlab" exec -- true || {
                say "the emulated host stopped answering"
                return 0
        }
        before=$(cat "$state_dir/demo.boot" 2>/dev/null) && [ -n "$before" ] || return 1
        timeout 300 "$lab_dir/hmvlab" guest wait "$demo_guest" || return 1
        [ "$(demo_boot_id)" != "$before" ] || return 1
        say "the emulated guest was reset"
}

verb_demo() {
        local attempt=1 status
        demo_json='' demo_keep=''
        while [ $# -gt 0 ]; do
                case $1 in
                --json) demo_json=1 ;;
                --keep) demo_keep=1 ;;
                --limit) demo_limit=$2; shift ;;
                *) usage_error "demo: unknown option '$1'" ;;
                esac
                shift
        done
        [ -n "$demo_keep" ] || trap demo_cleanup EXIT
        while :; do
                verb_up
                rm -f "$state_dir/demo.boot"
                status=0
                # not "if (...)": errexit must hold within
                set +e
                (set -e; demo_attempt)
                status=$?
                set -e
                [ "$status" -ne 0 ] && [ "$attempt" -lt "$demo_attempts" ] && demo_emulator_failed || return "$status"
                attempt=$((attempt + 1))
                step "nested virtualization is emulated, and failed: starting over, attempt $attempt of $demo_attempts"
                verb_down
        done
}
