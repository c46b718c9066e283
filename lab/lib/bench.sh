# SPDX-License-Identifier: GPL-2.0-or-later
#
# The benchmark: the same work under each competitor, in one booted guest, in interleaved repetitions. This file drives;
# bench/hmv-bench acts in the guest, bench/bench.py computes. Owns one guest, $bench_guest, and the folder of a run.

bench_guest=hmvbench
bench_share=25               # per cent of the guest's memory that is DRAM
bench_memory=1024            # MiB of the guest
bench_warmup=60              # seconds that a competitor has to place pages, before ...
bench_window=40              # ... each of two windows: one that only counts instructions, one that counts all accesses
bench_repeat=3
bench_seed=1
bench_workloads=moving,skewed,large,readwrite,idle,redis,sort,compile
bench_competitors=static,debian,interleave,tpp,damon,hmvisor
bench_attempts=3             # nested virtualization under emulation can lose an interrupt or reset a guest

bench_in_guest() { in_guest "$bench_guest" "$@"; }

bench_field() { awk -F'|' -v n="$1" -v k="$2" '$1 !~ /^#/ { gsub(/ +$/, "", $1) } $1 == n { gsub(/^ +| +$/, "", $k); print $k }' "$lab_dir/bench/workloads"; }

bench_dram() { echo $((bench_memory * bench_share / 100 / 2 * 2)); }  # MiB, in whole blocks

bench_start_guest() {
        local dram
        dram=$(bench_dram)
        # What tracking costs is part of what is measured: the shipped limits, not the lab's.
        host_exec sh -c 'rm -f /etc/hmvisor/hmvisord.conf.d/lab.conf && systemctl restart hmvisord'
        if [ -n "$bench_reuse" ] && bench_in_guest true 2>/dev/null; then
                step "the guest '$bench_guest' runs already"
        else
                host_exec "$guest_tool" remove "$bench_guest" >/dev/null 2>&1 || true
                step "starting guest '$bench_guest': ${dram}M DRAM and $((bench_memory - dram))M slow memory (about a minute)"
                host_exec "$guest_tool" create "$bench_guest" --dram "${dram}M" --slow "$((bench_memory - dram))M" >&2
                # once, so that the host has given it all its pages before the first run
                bench_in_guest sh -c 'numactl --membind=1 memhog -r1 500m >/dev/null 2>&1 || true'
        fi
        verb_guest push "$bench_guest" "$lab_dir/bench/hmv-bench" /usr/local/bin/hmv-bench
}

# A daemon that has just started knows no domain until libvirt has answered.
bench_manage() {
        local deadline=$((SECONDS + 120)) answer
        host_exec systemctl start hmvisord
        until answer=$(host_exec hmvctl manage "$bench_guest" 2>&1); do
                [ "$SECONDS" -lt "$deadline" ] || die "hmvisord does not manage '$bench_guest' within 120 s: $answer"
                sleep 2
        done
}

# Undoes the last competitor, and fails if anything of it is left; then sets the next one.
bench_switch() {
        local settings
        host_exec sh -c "! systemctl -q is-active hmvisord || { hmvctl unmanage $bench_guest; systemctl stop hmvisord; }" >&2
        settings=$(bench_in_guest hmv-bench set "$1")
        [ "$(head -n 1 <<<"$settings")" = "numa_balancing=0 demotion=false kdamonds= agent=none" ] ||
                die "the last competitor is not undone in '$bench_guest': $settings; 'hmvlab guest remove $bench_guest' and start over"
        tail -n 1 <<<"$settings" >"$bench_dir/settings"
        case $1 in
        *hmvisor) bench_manage ;;
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

# bench_sample NAME [--reset-gap]
bench_sample() {
        bench_in_guest hmv-bench sample "${@:2}" >"$bench_dir/$1.json"
        case $bench_competitor in
        *hmvisor) bench_daemon ;;
        *)        echo null ;;
        esac >"$bench_dir/$1-daemon.json"
}

# bench_window_of NAME WHAT: both samples fall into the time that is metered, so that the rate of work is that of the
# metered guest; the meter's own window lies within.
bench_window_of() {
        meter_switch "$2"
        bench_sample "$1-before" --reset-gap
        [ "$2" != all ] || meter_read --frames "$bench_dir/before.frames"
        meter_read --reset
        sleep "$bench_window"
        meter_read --json >"$bench_dir/$1-meter.json"
        [ "$2" != all ] || meter_read --frames "$bench_dir/after.frames"
        bench_sample "$1-after"
        meter_switch none
}

# Which of the host's frames are the guest's memory: the page map of its QEMU, where QEMU says that the blocks of its
# two cells are.
bench_pagemap() {
        host_exec sh -c 'p=$(cat "/run/libvirt/qemu/$1.pid")
                virsh -q qemu-monitor-command --hmp "$1" "info ramblock" |
                        awk "/ram-node|memua-hmvisor/ { print \$(NF - 1), \$(NF - 2) }" | while read -r from size; do
                        dd if="/proc/$p/pagemap" bs=64K iflag=skip_bytes,count_bytes status=none skip=$((from / 512)) count=$((size / 512))
                done' sh "$bench_guest" >"$bench_dir/pagemap"
}

# bench_run WORKLOAD COMPETITOR REPETITION: one line in $bench_records.
bench_run() {
        local workload=$1 competitor=$2 repetition=$3 seed=$((bench_seed + $3 - 1)) command warmup=$bench_warmup
        bench_competitor=$2
        bench_dir=$bench_out/runs/$workload-$competitor-$repetition
        rm -rf "$bench_dir"
        mkdir -p "$bench_dir"
        step "$workload, $competitor, repetition $repetition"
        bench_switch "$competitor"
        command=$(bench_field "$workload" 3)
        bench_in_guest hmv-bench start "$competitor" ${command//SEED/$seed} >"$bench_dir/start.json"
        [ "$workload" != planted ] || warmup=$((warmup < 10 ? warmup : 10)) # it is placed from the start
        sleep "$warmup"
        bench_window_of plain instructions
        bench_window_of metered all
        bench_pagemap
        jq -cn --arg workload "$workload" --arg competitor "$competitor" --argjson repetition "$repetition" --argjson seed "$seed" \
                --argjson share "$bench_share" --argjson dram_mib "$(bench_dram)" --argjson warmup "$warmup" --argjson window "$bench_window" \
                --arg date "$(date -u +%Y-%m-%dT%H:%M:%SZ)" --arg commit "$bench_commit" \
                --arg dram "$(numfmt --from=iec "$host_dram")" --arg slow "$(numfmt --from=iec "$host_slow")" \
                '{$workload, $competitor, $repetition, $seed, dram_share: $share, $dram_mib, warmup_s: $warmup, window_s: $window, $date, $commit,
                  host_nodes: [$dram, $slow] | map(tonumber)}' >"$bench_dir/run.json"
        python3 "$lab_dir/bench/bench.py" record "$bench_dir" >>"$bench_records"
        rm -f "$bench_dir"/{before.frames,after.frames,pagemap}
        tail -n 1 "$bench_records" | python3 "$lab_dir/bench/bench.py" line >&2
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
                --arg hmvisor "$(host_exec hmvctl --version | head -n 1)" --arg share "$bench_share" --arg memory "$bench_memory" --arg cache "$meter_cache" \
                '{$date, $commit, $cpus, $qemu, $guest_kernel, host: ($host | split("\n")), $hmvisor, dram_share: ($share | tonumber),
                  memory_mib: ($memory | tonumber), $cache}' >"$bench_out/machine.json"
}

# The order in which competitors run turns by one with each repetition, so that none is always first.
bench_all() {
        local workload repetition i n competitors
        IFS=, read -ra competitors <<<"$bench_competitors"
        n=${#competitors[@]}
        bench_try planted planted-bad 1
        bench_try planted planted-good 1
        for workload in ${bench_workloads//,/ }; do
                for repetition in $(seq "$bench_repeat"); do
                        for ((i = 0; i < n; i++)); do
                                bench_try "$workload" "${competitors[(i + repetition - 1) % n]}" "$repetition"
                        done
                done
        done
}

bench_cleanup() {
        [ -z "$bench_json" ] || cp "$bench_records" "$bench_json" 2>/dev/null || true
        [ -z "$bench_keep" ] || return 0
        meter_switch none >/dev/null 2>&1 || true
        host_exec systemctl start hmvisord >/dev/null 2>&1 || true
        host_exec "$guest_tool" remove "$bench_guest" >/dev/null 2>&1 || true
}

bench_options() {
        local w
        while [ $# -gt 0 ]; do
                case $1 in
                --quick)
                        bench_warmup=40 bench_window=20 bench_repeat=1 bench_workloads=moving,skewed bench_competitors=static,tpp,hmvisor
                        shift
                        continue
                        ;;
                --keep) bench_keep=1; shift; continue ;;
                --json|--out|--seed|--repeat|--workload|--competitor|--dram-share|--warmup|--window) ;;
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
                --dram-share) bench_share=$2 ;;
                --warmup) bench_warmup=$2 ;;
                --window) bench_window=$2 ;;
                esac
                shift 2
        done
        for w in "$bench_seed" "$bench_repeat" "$bench_share" "$bench_warmup" "$bench_window"; do
                [[ "$w" =~ ^[1-9][0-9]{0,5}$ ]] || usage_error "bench: '$w' is no number above 0"
        done
        [ "$bench_share" -lt 100 ] || usage_error "bench: --dram-share takes a share below 100 per cent"
        for w in ${bench_workloads//,/ }; do
                [ -n "$(bench_field "$w" 3)" ] || usage_error "bench: unknown workload '$w'"
        done
        for w in ${bench_competitors//,/ }; do
                case $w in
                static|debian|interleave|tpp|damon|hmvisor) ;;
                *) usage_error "bench: unknown competitor '$w'" ;;
                esac
        done
}

# bench --report FOLDER: the report of a run that was made before.
verb_bench() {
        bench_json='' bench_keep='' bench_reuse='' bench_failed='' bench_out=$state_dir/bench
        if [ "${1:-}" = --report ] && [ $# -eq 2 ]; then
                python3 "$lab_dir/bench/bench.py" report "$2"
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
        trap bench_cleanup EXIT
        bench_start_guest
        bench_machine
        bench_all
        python3 "$lab_dir/bench/bench.py" report "$bench_out"
        [ -z "$bench_failed" ]
}
