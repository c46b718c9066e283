# SPDX-License-Identifier: GPL-2.0-or-later
#
# The benchmark: the same work under each competitor, in one booted guest, in interleaved repetitions. This file drives;
# bench/hmv-bench acts in the guest, bench/bench.py computes the figures of a run,
# bench/report.py those of all. Owns two guests, $bench_guest and $bench_plain_guest, and the folder of a run.

bench_guest=hmvbench
bench_plain_guest=hmvbench-plain # of one node, for what the host's own kernel can do
bench_shares=25              # per cent of the guest's memory that are DRAM: a guest for each
bench_memory_least=1024      # MiB of the guest; more, where its share of DRAM would be less than ...
bench_dram_least=128         # ... a cell can have
bench_warmup=180             # seconds that a competitor has to place pages, before ...
bench_window=40              # ... each of two windows: one that only counts instructions, one that counts all accesses; half
                             # as long for each of bench/parts
bench_repeat=3
bench_seed=1
bench_workloads=moving,skewed,large,readwrite,idle,redis,sort,compile
bench_competitors=static,debian,interleave,tpp,damon,host,hmvisor,tpp+hmvisor
bench_parts=cxl,optane       # of bench/parts: slow memory is that much slower, in a window for each
bench_trace=0                # seconds of a trace that is recorded of each workload, under "static"
bench_attempts=3             # nested virtualization under emulation can lose an interrupt or reset a guest

# The kernel's data are among the hottest pages and cannot be moved: where KASLR puts them, on DRAM or on slow memory, is
# chance at each boot, and would be in the figures.
bench_cmdline=nokaslr

bench_host_room=96           # MiB of node 0 that are left to the host itself, beside the plain guest's share
bench_delay_scale=3          # of bench/parts' times: the emulated processor is slower, too, and must get its timers done

# The one of the two guests that runs, the other being paused. In a file: a run is a subshell.
bench_current() { cat "$bench_out/current"; }

bench_in_guest() { in_guest "$(bench_current)" "$@"; }

bench_now_ms() { date +%s%3N; }

bench_field() { awk -F'|' -v n="$1" -v k="$2" '$1 !~ /^#/ { gsub(/ +$/, "", $1) } $1 == n { gsub(/^ +| +$/, "", $k); print $k }' "$lab_dir/bench/workloads"; }

# A guest of this share of DRAM from now on.
bench_take_share() {
        bench_share=$1
        bench_memory=$(((bench_dram_least * 100 + bench_share - 1) / bench_share))
        [ "$bench_memory" -gt "$bench_memory_least" ] || bench_memory=$bench_memory_least
}

bench_is_first_share() { [ "$bench_share" = "${bench_shares%%,*}" ]; }

bench_dram() { echo $((bench_memory * bench_share / 100 / 2 * 2)); }  # MiB, in whole blocks

bench_start_guest() {
        local dram
        dram=$(bench_dram)
        echo "$bench_guest" >"$bench_out/current"
        # What tracking costs is part of what is measured: the shipped limits, not the lab's.
        host_exec sh -c 'rm -f /etc/hmvisor/hmvisord.conf.d/lab.conf && systemctl restart hmvisord'
        host_exec "$guest_tool" remove "$bench_plain_guest" >/dev/null 2>&1 || true
        host_exec sh -c 'echo 0 >/proc/sys/vm/nr_hugepages'
        if [ -n "$bench_reuse" ] && bench_in_guest true 2>/dev/null; then
                step "the guest '$bench_guest' runs already"
        else
                host_exec "$guest_tool" remove "$bench_guest" >/dev/null 2>&1 || true
                step "starting guest '$bench_guest': ${dram}M DRAM and $((bench_memory - dram))M slow memory (about a minute)"
                host_exec "$guest_tool" create "$bench_guest" --dram "${dram}M" --slow "$((bench_memory - dram))M" --cmdline "$bench_cmdline" >&2
                # once, so that the host has given it all its pages before the first run
                bench_in_guest sh -c 'numactl --membind=1 memhog -r1 "$1" >/dev/null 2>&1 || true' sh "$(((bench_memory - dram) * 2 / 3))m"
        fi
        verb_guest push "$bench_guest" "$lab_dir/bench/hmv-bench" /usr/local/bin/hmv-bench
}

# A guest of one node gets what is free of the host's DRAM first, then slow memory. So that this is as much DRAM as the
# other guest's cell has, huge pages that nobody uses take the rest; and the other guest, paused, is guarded from the
# host's reclaim, which would demote its pages without regard for where they are bound to.
bench_start_plain_guest() {
        step "starting guest '$bench_plain_guest': ${bench_memory}M in one node, of which $(bench_dram)M find room in DRAM"
        host_exec sh -c 'for d in /sys/fs/cgroup/machine.slice /sys/fs/cgroup/machine.slice/*.scope; do echo max >"$d/memory.min"; done
                sync; echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory
                free=$(awk "/MemFree/ { print int(\$4 / 1024) }" /sys/devices/system/node/node0/meminfo)
                [ "$free" -le "$1" ] ||
                        echo $(((free - $1) / 2)) >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages' \
                sh $(($(bench_dram) + bench_host_room))
        host_exec "$guest_tool" create "$bench_plain_guest" --plain --memory "${bench_memory}M" --cmdline "$bench_cmdline" >&2
        verb_guest push "$bench_plain_guest" "$lab_dir/bench/hmv-bench" /usr/local/bin/hmv-bench
}

# The guest that a competitor needs runs, and the other one does not.
bench_turn_to() {
        [ "$1" != "$(bench_current)" ] || return 0
        host_exec virsh -q suspend "$(bench_current)"
        echo "$1" >"$bench_out/current"
        if host_exec virsh -q domstate "$1" >/dev/null 2>&1; then
                host_exec virsh -q resume "$1"
        else
                bench_start_plain_guest
        fi
}

# The host kernel's own tiering: numa_balancing=2 and demotion; else as Debian has it.
bench_host_tiering() {
        local balancing=1 demotion=false
        [ "$1" != on ] || { balancing=2 demotion=true; }
        host_exec sh -c 'echo "$1" >/proc/sys/kernel/numa_balancing; echo "$2" >/sys/kernel/mm/numa/demotion_enabled' sh "$balancing" "$demotion"
}

# bench_manage [FAULT_COST]: what a fault is taken to cost, instead of what was measured here. A daemon that has just
# started knows no domain until libvirt has answered.
bench_manage() {
        local deadline=$((SECONDS + 120)) answer
        [ -z "${1:-}" ] || host_exec sh -c 'mkdir -p /etc/hmvisor/hmvisord.conf.d
                printf "[Tracking]\nFaultCost=%s\n" "$1" >/etc/hmvisor/hmvisord.conf.d/bench.conf' sh "$1"
        host_exec systemctl start hmvisord
        until answer=$(host_exec hmvctl manage "$bench_guest" 2>&1); do
                [ "$SECONDS" -lt "$deadline" ] || die "hmvisord does not manage '$bench_guest' within 120 s: $answer"
                sleep 2
        done
}

bench_unmanage() {
        host_exec sh -c "! systemctl -q is-active hmvisord || { hmvctl unmanage $bench_guest; systemctl stop hmvisord; }
                rm -f /etc/hmvisor/hmvisord.conf.d/bench.conf" >&2
}

# Undoes the last competitor, and fails if anything of it is left; then sets the next one.
bench_switch() {
        local settings
        bench_unmanage
        bench_host_tiering off
        [ "$(bench_current)" = "$bench_guest" ] || bench_in_guest hmv-bench set static >/dev/null # nothing of it runs on
        case $1 in
        host) bench_turn_to "$bench_plain_guest" ;;
        *)    bench_turn_to "$bench_guest" ;;
        esac
        settings=$(bench_in_guest hmv-bench set "$1")
        [ "$(head -n 1 <<<"$settings")" = "numa_balancing=0 demotion=false kdamonds= agent=none" ] ||
                die "the last competitor is not undone in '$(bench_current)': $settings; 'hmvlab guest remove $(bench_current)' and start over"
        tail -n 1 <<<"$settings" >"$bench_dir/settings"
        case $1 in
        hmvisor) bench_manage ;;
        hmvisor@*) bench_manage "${1#hmvisor@}" ;;
        # the agent turns the guest's own tiering off when it prepares; here both are to work
        tpp+hmvisor) bench_manage && sleep 5 && bench_in_guest hmv-bench tiering ;;
        host) bench_host_tiering on ;;
        esac
}

# The daemon's processor time in ms, its memory, and what it says of the guest; null where it does not run.
bench_daemon() {
        host_exec sh -c 'p=$(systemctl show -P MainPID hmvisord)
                if [ "$p" = 0 ]; then echo null; exit; fi
                printf "{\"cpu_ms\":%s,\"rss_kib\":%s,\"stats\":%s}\n" \
                        "$(awk -v t="$(getconf CLK_TCK)" "{ print int((\$14 + \$15) * 1000 / t) }" "/proc/$p/stat")" \
                        "$(awk "/^VmRSS/ { print \$2 }" "/proc/$p/status")" "$(hmvctl stats "$1" --json || echo null)"' sh "$bench_guest"
}

# bench_sample NAME [OPTION...]: with the times between which the guest was asked, since its clock is another one.
bench_sample() {
        local asked sample
        asked=$(bench_now_ms)
        sample=$(bench_in_guest hmv-bench sample "${@:2}")
        printf '{"asked_ms":[%s,%s],"guest":%s,"host_moved":%s}\n' "$asked" "$(bench_now_ms)" "$sample" \
                "$(host_exec awk '$1 == "pgmigrate_success" { print $2 }' /proc/vmstat)" >"$bench_dir/$1.json"
        case $bench_competitor in
        *hmvisor|hmvisor@*) bench_daemon ;;
        *)        echo null ;;
        esac >"$bench_dir/$1-daemon.json"
}

# bench_window NAME SECONDS: the rate of work in it is told from the guest's log afterwards.
bench_window() {
        local from
        meter_read --reset
        from=$(bench_now_ms)
        sleep "$2"
        meter_read --json >"$bench_dir/$1-meter.json"
        echo "[$from,$(bench_now_ms)]" >"$bench_dir/$1-window.json"
}

# The delays of one of bench/parts: field 2 and 3, as the meter wants them.
bench_delays() {
        awk -F'|' -v n="$1" -v k="$bench_delay_scale" '$1 !~ /^#/ { gsub(/ /, "", $1) } $1 == n {
                split($2 " " $3, t, " "); printf "%d:%d,%d:%d\n", t[1] * k, t[2] * k, t[3] * k, t[4] * k }' "$lab_dir/bench/parts"
}

# What was counted of each frame, once a second: nothing moves under "static".
bench_record() {
        local i
        for i in $(seq 0 "$bench_trace"); do
                meter_read --frames "$bench_dir/trace.$i"
                sleep 1
        done
}

# While accesses are counted the machine is several times slower, and whatever goes by the clock would weigh as many
# times more. So nobody moves pages then: what is counted is the place that they have reached.
bench_freeze() {
        bench_unmanage
        host_exec sh -c 'echo 0 >/proc/sys/kernel/numa_balancing; echo false >/sys/kernel/mm/numa/demotion_enabled'
        bench_in_guest hmv-bench freeze
}

# Nothing is asked of the guest while accesses are counted: that would take it many seconds.
bench_windows() {
        local part
        bench_sample plain-before --reset-gap --brief
        meter_switch instructions
        bench_window plain "$bench_window"
        bench_sample plain-after
        bench_freeze
        meter_switch all
        meter_read --frames "$bench_dir/before.frames"
        bench_window metered "$bench_window"
        meter_read --frames "$bench_dir/after.frames"
        if [ "$bench_trace" != 0 ] && [ "$bench_competitor" = static ] && bench_is_first_share; then bench_record; fi
        for part in ${bench_parts//,/ }; do
                meter_read --delays "$(bench_delays "$part")"
                meter_switch delayed
                bench_window "$part" $(((bench_window + 1) / 2))
        done
        meter_switch none
        bench_in_guest hmv-bench log >"$bench_dir/units"
}

# Which of the host's frames are the guest's memory: the page map of its QEMU, where QEMU says that the blocks of its
# two cells are; boot memory first, in the order of the cells.
bench_pagemap() {
        host_exec sh -c 'p=$(cat "/run/libvirt/qemu/$1.pid")
                virsh -q qemu-monitor-command --hmp "$1" "info ramblock" |
                        awk "/ram-node|memua-hmvisor|pc.ram/ { print (\$1 ~ /memua/) \$1, \$(NF - 1), \$(NF - 2) }" | sort |
                        while read -r _ from size; do
                        dd if="/proc/$p/pagemap" bs=64K iflag=skip_bytes,count_bytes status=none skip=$((from / 512)) count=$((size / 512))
                done' sh "$(bench_current)" >"$bench_dir/pagemap"
}

# bench_run WORKLOAD COMPETITOR REPETITION: one line in $bench_records.
bench_run() {
        local workload=$1 competitor=$2 repetition=$3 seed=$((bench_seed + $3 - 1)) command warmup=$bench_warmup
        bench_competitor=$2
        bench_dir=$bench_out/runs/$workload-$bench_share-$competitor-$repetition
        rm -rf "$bench_dir"
        mkdir -p "$bench_dir"
        step "$workload, $competitor, repetition $repetition, $bench_share% DRAM"
        bench_switch "$competitor"
        command=$(bench_field "$workload" 3)
        bench_in_guest hmv-bench start "$competitor" ${command//SEED/$seed}
        bench_sample start
        [ "$workload" != planted ] || warmup=$((warmup < 10 ? warmup : 10)) # it is placed from the start
        sleep "$warmup"
        bench_windows
        bench_pagemap
        jq -cn --arg workload "$workload" --arg competitor "$competitor" --argjson repetition "$repetition" --argjson seed "$seed" \
                --argjson share "$bench_share" --argjson dram_mib "$(bench_dram)" --argjson memory_mib "$bench_memory" --argjson warmup "$warmup" --argjson window "$bench_window" \
                --arg date "$(date -u +%Y-%m-%dT%H:%M:%SZ)" --arg commit "$bench_commit" \
                --arg dram "$(numfmt --from=iec "$host_dram")" --arg slow "$(numfmt --from=iec "$host_slow")" --arg parts "$bench_parts" \
                '{$workload, $competitor, $repetition, $seed, dram_share: $share, $dram_mib, $memory_mib, warmup_s: $warmup, window_s: $window, $date, $commit,
                  parts: ($parts | split(",")),
                  host_nodes: [$dram, $slow] | map(tonumber)}' >"$bench_dir/run.json"
        python3 "$lab_dir/bench/bench.py" "$bench_dir" >>"$bench_records"
        if [ -e "$bench_dir/trace.0" ]; then
                mkdir -p "$bench_out/traces"
                python3 "$lab_dir/bench/bench.py" "$bench_dir" --trace >"$bench_out/traces/$workload"
        fi
        rm -f "$bench_dir"/{before.frames,after.frames,pagemap,trace.*}
        tail -n 1 "$bench_records" | python3 "$lab_dir/bench/report.py" line >&2
}

# Runs one after another; a host or guest that the emulator lost is started anew, and the run repeated.
bench_try() {
        local attempt status
        for attempt in $(seq "$bench_attempts"); do
                status=0
                set +e
                (set -e; bench_run "$@")
                status=$?
                set -e
                [ "$status" -ne 0 ] || return 0
                say "'$1' under '$2' failed, attempt $attempt of $bench_attempts: starting the guest anew"
                meter_switch none 2>/dev/null || true
                timeout 60 "$lab_dir/hmvlab" exec -- true || { verb_down; verb_up; }
                guest_sync_tool
                bench_reuse=''
                bench_start_guest
        done
        say "giving up '$1' under '$2'; the report will lack it"
        bench_failed=1
}

# The versions that a figure belongs to.
bench_machine() {
        jq -cn --arg date "$(date -u +%Y-%m-%d)" --arg commit "$bench_commit" --arg cpus "$(nproc)" --arg qemu "$(qemu-system-x86_64 --version | head -n 1)" \
                --arg guest_kernel "$(bench_in_guest uname -r)" --arg host "$(host_exec sh -c 'uname -r; libvirtd --version; qemu-system-x86_64 --version | head -n 1')" \
                --arg hmvisor "$(host_exec hmvctl --version | head -n 1)" --arg memory "$bench_memory" --arg cache "$meter_cache" \
                '{$date, $commit, $cpus, $qemu, $guest_kernel, host: ($host | split("\n")), $hmvisor,
                  memory_mib: ($memory | tonumber), $cache}' >"$bench_out/machine.json"
}

# The order in which competitors run turns by one with each repetition, so that none is always first.
bench_workloads_all() {
        local workload repetition i n competitors
        IFS=, read -ra competitors <<<"$bench_competitors"
        n=${#competitors[@]}
        for workload in ${bench_workloads//,/ }; do
                for repetition in $(seq "$bench_repeat"); do
                        for ((i = 0; i < n; i++)); do
                                bench_try "$workload" "${competitors[(i + repetition - 1) % n]}" "$repetition"
                        done
                done
        done
}

bench_all() {
        local share
        for share in ${bench_shares//,/ }; do
                bench_take_share "$share"
                bench_start_guest
                bench_reuse=''  # the next share needs another guest
                if bench_is_first_share; then
                        bench_machine
                        bench_try planted planted-bad 1
                        bench_try planted planted-good 1
                fi
                bench_workloads_all
        done
}

# What needs no lab: a tick of the core for 1 TiB against reading its counters, and RAMinate's planner on traces.
bench_offline() {
        local trace
        step "without the lab: a tick for 1 TiB, and the planners on traces (a few minutes)"
        "$repo_dir/tools/install-deps" build >&2
        [ -e "$bench_out/build/build.ninja" ] || meson setup --buildtype=release "$bench_out/build" "$repo_dir" >&2
        ninja -C "$bench_out/build" tests/sim/core-tick-bench hmvsim/hmvsim >&2
        { "$bench_out/build/tests/sim/core-tick-bench" && "$bench_out/build/tests/sim/core-tick-bench" 1024 512; } >"$bench_out/tick.txt"
        "$bench_out/build/hmvsim/hmvsim" --json "--dram=${bench_shares%%,*}" --seed="$bench_seed" place >"$bench_out/place.jsonl"
        for trace in "$bench_out"/traces/*; do
                [ ! -e "$trace" ] || "$bench_out/build/hmvsim/hmvsim" --json "--dram=${bench_shares%%,*}" place "$trace" >>"$bench_out/place.jsonl"
        done
}

bench_cleanup() {
        local guest
        [ -z "$bench_json" ] || cp "$bench_records" "$bench_json" 2>/dev/null || true
        [ -z "$bench_keep" ] || return 0
        meter_switch none >/dev/null 2>&1 || true
        host_exec systemctl start hmvisord >/dev/null 2>&1 || true
        for guest in "$bench_plain_guest" "$bench_guest"; do
                host_exec "$guest_tool" remove "$guest" >/dev/null 2>&1 || true
        done
        host_exec sh -c 'echo 0 >/proc/sys/vm/nr_hugepages' >/dev/null 2>&1 || true
}

bench_options() {
        local w
        while [ $# -gt 0 ]; do
                case $1 in
                --quick)
                        bench_window=20 bench_repeat=1 bench_workloads=moving,skewed bench_competitors=static,tpp,hmvisor
                        shift
                        continue
                        ;;
                --keep) bench_keep=1; shift; continue ;;
                --json|--out|--seed|--repeat|--workload|--competitor|--part|--dram-share|--warmup|--window|--trace) ;;
                *) usage_error "bench: unknown option '$1'" ;;
                esac
                [ $# -gt 1 ] || usage_error "bench: $1 takes a value"
                case $1 in
                --json) bench_json=$2 ;;
                --out) bench_out=$2 ;;
                --seed) bench_seed=$2 ;;
                --repeat) bench_repeat=$2 ;;
                --workload) bench_workloads=$2 ;;
                --competitor) bench_competitors=$2 ;;
                --part) bench_parts=$2 ;;
                --trace) bench_trace=$2 ;;
                --dram-share) bench_shares=$2 ;;
                --warmup) bench_warmup=$2 ;;
                --window) bench_window=$2 ;;
                esac
                shift 2
        done
        for w in "$bench_seed" "$bench_repeat" ${bench_shares//,/ } "$bench_warmup" "$bench_window" "1$bench_trace"; do
                [[ "$w" =~ ^[1-9][0-9]{0,5}$ ]] || usage_error "bench: '$w' is no number above 0"
        done
        for w in ${bench_shares//,/ }; do
                [ "$w" -lt 100 ] || usage_error "bench: --dram-share takes shares below 100 per cent"
        done
        for w in ${bench_workloads//,/ }; do
                [ -n "$(bench_field "$w" 3)" ] || usage_error "bench: unknown workload '$w'"
        done
        for w in ${bench_competitors//,/ }; do
                case $w in
                static|debian|interleave|tpp|damon|host|hmvisor|hmvisor@[1-9]*us|tpp+hmvisor) ;;
                *) usage_error "bench: unknown competitor '$w'" ;;
                esac
        done
        for w in ${bench_parts//,/ }; do
                [ -n "$(bench_delays "$w")" ] || usage_error "bench: unknown part '$w'"
        done
}

# bench --report FOLDER [--before FOLDER]: the report of a run that was made before, and beside it hmvisor's figures of an older one.
verb_bench() {
        bench_json='' bench_keep='' bench_reuse='' bench_failed='' bench_out=$state_dir/bench
        if [ "${1:-}" = --report ] && { [ $# -eq 2 ] || { [ $# -eq 4 ] && [ "$3" = --before ]; }; }; then
                python3 "$lab_dir/bench/report.py" "$2" ${4+"$4"}
                return
        fi
        bench_options "$@"
        mkdir -p "$bench_out"
        bench_records=$bench_out/records.jsonl
        bench_commit=$(git -C "$repo_dir" -c safe.directory='*' describe --always --dirty 2>/dev/null || echo unknown)
        verb_up
        guest_sync_tool
        bench_reuse=$bench_keep
        : >"$bench_records"
        rm -rf "$bench_out/traces"
        trap bench_cleanup EXIT
        bench_all
        bench_offline
        python3 "$lab_dir/bench/report.py" "$bench_out"
        [ -z "$bench_failed" ]
}
