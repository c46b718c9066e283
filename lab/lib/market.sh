# SPDX-License-Identifier: GPL-2.0-or-later
#
# Three guests that trade by themselves, start to finish, with a report and a picture: one writes more than its DRAM
# holds and has slow memory to spare, one has too little memory and swaps, one is idle. Owns these three guests.

market_names=(hmvhot hmvhungry hmvidle)
market_titles=(write-hot hungry idle)
market_hot=224M              # written at random by the first: more than its DRAM
market_hungry=384M           # written at random by the second: more than all its memory
market_limit=900             # seconds that they may take to come to an allocation
market_calm=60               # seconds without a trade after which it counts as reached
market_pause=5               # seconds between two samples
market_conf=/etc/hmvisor/hmvisord.conf.d/lab-market.conf

# One virtual CPU each: they share the lab host's only one. What is virtio-mem of a cell (its most less its least) comes in
# multiples of 128M, since Linux uses whole blocks of that size, and the devices lie behind one another.
market_options() {
        case $1 in
        hmvhot)    echo --vcpus 1 --dram 160M --min-dram 160M --max-dram 128M --slow 640M --min-slow 128M --max-slow 128M ;;
        hmvhungry) echo --vcpus 1 --dram 256M --min-dram 128M --max-dram 128M --slow 192M --min-slow 192M --max-slow 640M --swap 1G ;;
        hmvidle)   echo --vcpus 1 --dram 192M --min-dram 128M --max-dram 64M --slow 256M --min-slow 128M --max-slow 256M ;;
        esac
}

market_work() {
        step "starting the workload of '$1': $2 that are written at random"
        in_guest "$1" systemd-run --quiet --unit=hmv-workload hmv-workload --hot "$2"
        workload_wait "$1" 600
}

# Guests that boot are to be tracked as little as can be: that slows an emulated one far more than a real one.
market_configure_boot() {
        host_exec sh -c "mkdir -p \$(dirname $market_conf) && printf '%s\n' [Tracking] DutyOn=2s DutyOff=10min >$market_conf && systemctl reload hmvisord"
}

# Small lots and short rests, since nobody wants to watch for an hour; long samples, since an emulated guest that is
# tracked writes few pages in a short one. No pool: what one buys another one sells.
market_configure() {
        host_exec sh -c "printf '%s\n' [Market] Enabled=yes Pool=no MinTrade=16M MaxTrade=64M \
                Epoch=10s CoolDown=10s Dwell=60s [Tracking] SampleInterval=3s [Policy] Epoch=6s >$market_conf && systemctl reload hmvisord"
}

market_start() {
        local name
        for name in "${market_names[@]}"; do
                host_exec "$guest_tool" remove "$name" >/dev/null 2>&1 || true
                step "starting guest '$name' (a minute or more)"
                host_exec "$guest_tool" create "$name" $(market_options "$name") >&2
        done
        in_guest hmvhungry sh -c 'mkswap -q /dev/vdb && swapon /dev/vdb' >&2
        host_exec virsh -q blkdeviotune hmvhungry vdb "${trade_ssd[@]}" --live
        # who swaps first, while nobody else wants the processor
        market_work hmvhungry "$market_hungry"
        market_work hmvhot "$market_hot"
}

market_let_trade() {
        local name
        market_configure
        host_exec hmvctl manage hmvhot >&2
        host_exec hmvctl market set hmvhungry --swap-device vdb >&2
        for name in "${market_names[@]}"; do
                host_exec hmvctl market set "$name" --trading "$market_trading" >&2
        done
}

market_status() { host_exec hmvctl market status --json; }

# What is said of each guest in a sample. Worth is by the sizes that the host sees, at the posted price, in blocks.
market_jq='def worth($m): (.DramBytes * $m.DramPrice + .SlowBytes * $m.SlowPrice) / 2097152;
        def of($m; $n): $m.Domains[] | select(.Name == $n);'

market_header() {
        local name
        printf seconds
        for name in "${market_titles[@]}"; do
                printf ",$name %s" dram_mib slow_mib worth entitled_worth heat_missed_percent swap_kib_per_sec wish
        done
        echo
}

# One line of CSV for a sample on standard input.
market_row() {
        jq -r --argjson t "$((SECONDS - market_began))" "$market_jq"' . as $m | [$t] + [$ARGS.positional[] as $n | of($m; $n)
                | .DramBytes / 1048576, .SlowBytes / 1048576, worth($m), .EntitledValue // worth($m),
                  (.HeatMissedPermyriad // 0) / 100, (.SwapBytesPerSec // 0) / 1024, .Wish // "off"] | map(tostring) | join(",")' \
                --args "${market_names[@]}"
}

# Samples until somebody has traded and nobody has for a while, or the time is over.
market_watch() {
        local end=$((SECONDS + market_limit)) traded='' shown='' calm=$SECONDS now status
        market_began=$SECONDS market_settled=''
        market_header >"$market_csv"
        : >"$market_samples"
        while [ "$SECONDS" -lt "$end" ]; do
                sleep "$market_pause"
                status=$(market_status) || continue
                # libvirt may not have told the daemon of all yet
                jq -e '($ARGS.positional - [.Domains[].Name]) == []' --args "${market_names[@]}" >/dev/null <<<"$status" || continue
                market_row <<<"$status" >>"$market_csv"
                jq -c . <<<"$status" >>"$market_samples"
                now=$(jq -r '[.Domains[] | "\(.Name) \(.DramBytes / 1048576)+\(.SlowBytes / 1048576) MiB (\(.Wish // "-"))"] | join(", ")' <<<"$status")
                [ "$now" = "$shown" ] || step "$now"
                shown=$now
                # a wish that changes is no trade
                now=$(jq -c '[.Domains[] | [.Name, .DramBytes, .SlowBytes, .PositionDramBytes, .TicketDramBytes]]' <<<"$status")
                [ "$now" = "$traded" ] || calm=$SECONDS
                traded=$now
                if [ $((SECONDS - calm)) -ge "$market_calm" ] &&
                        jq -e 'any(.Domains[]; (.PositionDramBytes // 0) != 0) and all(.Domains[]; (.TicketDramBytes // 0) == 0)' >/dev/null <<<"$status"; then
                        market_settled=yes
                        break
                fi
        done
        market_after=$(market_status)
}

# What has to hold, each line "ok" or "not ok". Values are whole numbers, compared exactly.
market_verdict() {
        local name
        jq -nr --argjson before "$market_before" --argjson after "$market_after" --slurpfile samples "$market_samples" "$market_jq"'
                $after as $m | [
                  [of($m; "hmvhot").DramBytes > (of($m; "hmvhot").EntitledDramBytes // of($before; "hmvhot").DramBytes),
                   "the write-hot guest holds more DRAM than it is entitled to"],
                  [(of($m; "hmvhungry") | .DramBytes + .SlowBytes) > (of($before; "hmvhungry") | .DramBytes + .SlowBytes),
                   "the hungry guest holds more memory than before"],
                  [(of($m; "hmvidle") | [.DramBytes, .SlowBytes]) == (of($before; "hmvidle") | [.DramBytes, .SlowBytes])
                   and (of($m; "hmvidle") | worth($m)) == (of($before; "hmvidle") | worth($before)),
                   "the idle guest holds what it held, and is worth the same"],
                  [all($m.Domains[]; .Value != null and .Value <= .EntitledValue), "nobody owns more than it is entitled to"],
                  [all($m.Domains[]; worth($m) <= .EntitledValue), "nor holds more, by the sizes that the host sees"],
                  [($samples | length) > 0 and all($samples[]; . as $s | all($s.Domains[] | select(.EntitledValue);
                    .Value <= .EntitledValue and worth($s) <= .EntitledValue)), "and nobody ever did, in \($samples | length) samples"],
                  [([$m.Domains[].DramBytes] | add) <= $m.DramBytes and ([$m.Domains[].SlowBytes] | add) <= $m.SlowBytes,
                   "the host has all that they hold"]
                ] | .[] | (if .[0] then "ok" else "not ok" end) + " - " + .[1]'
        if [ -n "$market_settled" ]; then
                echo "ok - nobody traded in the last $market_calm s"
        else
                echo "not ok - it came to an end within $market_limit s"
        fi
        for name in "${market_names[@]}"; do
                if [ "$(in_guest "$name" cat /proc/sys/kernel/random/boot_id)" = "${market_boots[$name]}" ]; then
                        echo "ok - '$name' lives, and was not reset"
                else
                        echo "not ok - '$name' lives, and was not reset"
                fi
        done
}

# market_panel N LABEL COLUMN: one quantity, a curve for each guest.
market_panel() {
        local i
        printf "set ylabel '%s'\nplot" "$2"
        for i in 0 1 2; do
                printf "%s '%s' using 1:%d with %s lw 2 lc %d title '%s'" "$([ "$i" = 0 ] || echo ,)" "$market_csv" \
                        $((2 + 7 * i + $1)) "$3" $((i + 1)) "${market_titles[$i]}"
        done
        echo
}

market_plot() {
        command -v gnuplot >/dev/null || { say "no picture: gnuplot is not installed (Debian: gnuplot-nox)"; return 0; }
        {
                cat <<END
set terminal pngcairo size 1100,1500
set output '$1'
set datafile separator ','
set multiplot layout 5,1 title 'Three guests that trade by themselves, DRAM to slow memory 4:1'
set grid
set key outside right top
set lmargin 12
set rmargin 18
set yrange [0:*]
END
                market_panel 0 'DRAM, MiB' steps
                market_panel 1 'slow memory, MiB' steps
                market_panel 2 'worth, in blocks of slow' steps
                market_panel 4 'heat missed, %' lines
                echo "set xlabel 'seconds since they may trade'"
                market_panel 5 'swapped, KiB/s' lines
                echo 'unset multiplot'
        } | gnuplot
        step "the picture is $1"
}

market_report() {
        jq -r --argjson before "$market_before" "$market_jq"'
                . as $m | def mib: . / 1048576;
                "", "Guest       before, after: DRAM + slow memory, in MiB; worth of what it holds, by 4:1",
                ($ARGS.positional[] as $n | of($before; $n) as $b | of($m; $n)
                | "\($n)\(" " * (12 - ($n | length)))\($b.DramBytes | mib) + \($b.SlowBytes | mib), \(.DramBytes | mib) + \(.SlowBytes | mib)"
                  + ";  \($b | worth($before)), \(worth($m))"), ""' --args "${market_names[@]}" <<<"$market_after"
}

market_json_line() {
        local passed=true
        ! grep -q '^not ok' <<<"$1" || passed=false
        jq -c --argjson before "$market_before" --argjson passed "$passed" "$market_jq"'
                . as $m | {passed: $passed, seconds: '"$((market_ended - market_began))"',
                guests: [$ARGS.positional[] as $n | of($before; $n) as $b | of($m; $n)
                | {name: $n, dram_before: $b.DramBytes, dram_after: .DramBytes, slow_before: $b.SlowBytes, slow_after: .SlowBytes,
                   value_before: ($b | worth($before)), value_after: worth($m), entitled_value: (.EntitledValue // null)}]}' \
                --args "${market_names[@]}" <<<"$market_after"
}

market_cleanup() {
        local name
        for name in "${market_names[@]}"; do
                host_exec "$guest_tool" remove "$name" >/dev/null 2>&1 || true
        done
        host_exec sh -c "rm -f $market_conf; systemctl reload hmvisord" >/dev/null 2>&1 || true
}

verb_market-demo() {
        local keep='' json='' plot='' verdict name
        declare -A market_boots=()
        market_trading=on
        while [ $# -gt 0 ]; do
                case $1 in
                --json) json=1 ;;
                --keep) keep=1 ;;
                --plot) [ $# -gt 1 ] || usage_error "market-demo: --plot takes a file"; plot=$2; shift ;;
                --trading) [ $# -gt 1 ] || usage_error "market-demo: --trading takes on or off"; market_trading=$2; shift ;;
                --limit) [ $# -gt 1 ] || usage_error "market-demo: --limit takes seconds"; market_limit=$2; shift ;;
                *) usage_error "market-demo: unknown option '$1'" ;;
                esac
                shift
        done
        [ -n "$keep" ] || trap market_cleanup EXIT
        verb_up
        market_csv=$state_dir/market.csv market_samples=$state_dir/market.jsonl
        guest_sync_tool
        market_configure_boot
        market_start
        for name in "${market_names[@]}"; do
                market_boots[$name]=$(in_guest "$name" cat /proc/sys/kernel/random/boot_id)
        done
        market_before=$(market_status)
        market_let_trade
        step "they are left to themselves, $market_limit s at most; samples go to $market_csv"
        market_watch
        market_ended=$SECONDS
        [ -z "$plot" ] || market_plot "$plot"
        verdict=$(market_verdict)
        host_exec hmvctl market history >&2
        if [ -n "$json" ]; then
                printf '%s\n' "$verdict" >&2
                market_json_line "$verdict"
        else
                market_report
                printf '%s\n' "$verdict"
        fi
        ! grep -q '^not ok' <<<"$verdict"
}
