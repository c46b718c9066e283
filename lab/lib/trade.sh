# SPDX-License-Identifier: GPL-2.0-or-later
#
# What trading is worth to a guest that swaps, start to finish, with a report: its own work per second with the
# entitlement that it has, and with what it made of it by selling DRAM, in one run. Owns one guest, $trade_guest.

trade_guest=hmvtrade
trade_dram=256M              # the entitlement ...
trade_slow=256M
trade_min_dram=128M          # ... of which so much can be sold
trade_min_slow=256M
trade_max_slow=1024M         # virtio-mem on top of the slow cell
trade_hot=600M               # the working set: larger than the entitlement, and written at random
trade_left=150               # pages of it (0.1%) that may still be swapped out when it counts as settled
trade_window=60              # seconds of each measurement
trade_limit=2400             # seconds that trading and swapping in may take, at most

# Real disks, by their data sheets. A SATA data-centre SSD (Kingston DC600M, 960 GB): 94,000 random reads and 65,000
# random writes of 4 KiB a second, 560 and 530 MB/s; the lower ones are taken. A hard disk of 7,200 rpm (Western Digital
# Ultrastar DC HC310): average seek 7.4 ms to read and 8.2 ms to write, 4.16 ms for half a turn, so 83 random accesses a
# second, as many of each; 175 MB/s sustained (Seagate Constellation ES.3).
trade_ssd=(--total-iops-sec 65000 --total-bytes-sec 530000000)
trade_hdd=(--total-iops-sec 83 --total-bytes-sec 175000000)

trade_in_guest() { in_guest "$trade_guest" "$@"; }
trade_query() { trade_in_guest hmv-workload --query; }

trade_disk() {
        local -n limits=trade_$1
        host_exec virsh -q blkdeviotune "$trade_guest" vdb "${limits[@]}" --live
}

# trade_measure NAME: the workload's writes per second in one window; sets trade_rate_NAME.
trade_measure() {
        local before after
        before=$(trade_query)
        sleep "$trade_window"
        after=$(trade_query)
        printf -v "trade_rate_$1" %s "$(jq -n --argjson a "$before" --argjson b "$after" \
                '($b.writes - $a.writes) / ($b.elapsed_ms - $a.elapsed_ms) * 1000 * 10 | floor / 10')"
        step "$1: $(printf '%s' "$after" | jq -r '"\(.hot_elsewhere) of \(.hot_pages) pages swapped out"')"
}

trade_start_guest() {
        host_exec "$guest_tool" remove "$trade_guest" >/dev/null 2>&1 || true
        step "starting guest '$trade_guest': $trade_dram DRAM and $trade_slow slow memory, and a disk to swap to (about a minute)"
        host_exec "$guest_tool" create "$trade_guest" --dram "$trade_dram" --min-dram "$trade_min_dram" \
                --slow "$trade_slow" --min-slow "$trade_min_slow" --max-dram 128M --max-slow "$trade_max_slow" --swap 1G >&2
        trade_in_guest sh -c 'mkswap -q /dev/vdb && swapon /dev/vdb' >&2
        step "starting the workload: $trade_hot that are written at random"
        trade_disk ssd
        trade_in_guest systemd-run --quiet --unit=hmv-workload hmv-workload --hot "$trade_hot"
        workload_wait "$trade_guest" 300
}

trade_holding() { host_exec hmvctl market status --json | jq -c --arg n "$trade_guest" '.Domains[] | select(.Name == $n)'; }

# What the guest's memory is worth at the posted price, by its sizes: price times blocks, as the market counts it. While
# trading is off the market has no account of it.
trade_value_of_sizes() {
        host_exec hmvctl market status --json | jq --arg n "$trade_guest" \
                '. as $m | .Domains[] | select(.Name == $n) | (.DramBytes * $m.DramPrice + .SlowBytes * $m.SlowPrice) / 2097152'
}

# Trades come from the guest's own need, as the host sees it, and nobody orders one. Settled: all of the working set is
# back in memory. The disk is the SSD, as how long this takes is not what is measured.
trade_wait_settled() {
        local end=$((SECONDS + trade_limit)) out
        while :; do
                out=$(trade_query | jq -r .hot_elsewhere)
                step "$out pages swapped out; $(trade_holding | jq -r '"DRAM \(.DramBytes / 1048576) MiB, slow \(.SlowBytes / 1048576) MiB, wish: \(.Wish)"')"
                [ "$out" -gt "$trade_left" ] || return 0
                [ "$SECONDS" -lt "$end" ] || return 1
                sleep 15
        done
}

trade_ratio() { jq -n --argjson a "$1" --argjson b "$2" 'if $a > 0 then $b / $a * 10 | floor / 10 else null end'; }

trade_report() {
        cat <<END

What was measured, in one guest and one run ($trade_window s each), prices 4:1. Nobody ordered a trade.
                                   trading off          trading on
  holding                          $(printf '%-20s' "$trade_dram + $trade_slow") $(jq -r '"\(.DramBytes / 1048576)M + \(.SlowBytes / 1048576)M"' <<<"$trade_after") (DRAM + slow)
  value                            $(printf '%-20s' "$trade_value_before") $trade_value_after
  writes per second, SSD           $(printf '%-20s' "$trade_rate_ssd_before") $trade_rate_ssd_after  ($(trade_ratio "$trade_rate_ssd_before" "$trade_rate_ssd_after") times)
  writes per second, hard disk     $(printf '%-20s' "$trade_rate_hdd_before") $trade_rate_hdd_after  ($(trade_ratio "$trade_rate_hdd_before" "$trade_rate_hdd_after") times)
  from trading on to settled       $trade_settle_seconds s

The disk is limited by libvirt: SSD ${trade_ssd[1]} operations and ${trade_ssd[3]} bytes a second, hard disk ${trade_hdd[1]} and ${trade_hdd[3]}.
Where the guest's own processor is emulated, an operation of the disk costs far more of it than on hardware: what the
SSD can do is not reached here. Nor is what memory can do: the daemon goes on tracking writes, and a tracked page costs
an emulated guest far more than a real one.
END
        [ -n "$trade_settled" ] || echo "NOT SETTLED: pages were still swapped out after $trade_limit s, so the right column is too low."
}

trade_cleanup() {
        host_exec "$guest_tool" remove "$trade_guest" >/dev/null 2>&1 || true
        host_exec sh -c 'rm -f /etc/hmvisor/hmvisord.conf.d/lab-trade.conf; systemctl reload hmvisord' >/dev/null 2>&1 || true
}

trade_run() {
        guest_sync_tool
        host_exec sh -c 'mkdir -p /etc/hmvisor/hmvisord.conf.d && printf "[Market]\nEnabled=yes\nPool=yes\n" >/etc/hmvisor/hmvisord.conf.d/lab-trade.conf && systemctl reload hmvisord'
        trade_start_guest
        host_exec hmvctl market set "$trade_guest" --trading off --swap-device vdb >&2
        step "trading is off: measuring $trade_window s with each disk"
        trade_measure ssd_before
        trade_disk hdd
        trade_measure hdd_before
        trade_disk ssd
        trade_value_before=$(trade_value_of_sizes)
        step "hmvctl market set $trade_guest --trading on"
        host_exec hmvctl market set "$trade_guest" --trading on >&2
        local began=$SECONDS
        trade_settled=yes
        trade_wait_settled || trade_settled=''
        trade_settle_seconds=$((SECONDS - began))
        trade_after=$(trade_holding)
        trade_value_after=$(jq .Value <<<"$trade_after")
        step "trading is on: measuring $trade_window s with each disk"
        trade_measure ssd_after
        trade_disk hdd
        trade_measure hdd_after
        host_exec hmvctl market history >&2
        if [ -n "$trade_json" ]; then
                jq -cn --argjson ssd "$(trade_ratio "$trade_rate_ssd_before" "$trade_rate_ssd_after")" \
                        --argjson hdd "$(trade_ratio "$trade_rate_hdd_before" "$trade_rate_hdd_after")" \
                        --argjson before "$trade_value_before" --argjson after "$trade_value_after" \
                        '{speedup_ssd: $ssd, speedup_hdd: $hdd, value_before: $before, value_after: $after}'
        else
                trade_report
        fi
        [ -n "$trade_settled" ]
}

verb_trade-demo() {
        trade_json=''
        local keep=''
        while [ $# -gt 0 ]; do
                case $1 in
                --json) trade_json=1 ;;
                --keep) keep=1 ;;
                *) usage_error "trade-demo: unknown option '$1'" ;;
                esac
                shift
        done
        [ -n "$keep" ] || trap trade_cleanup EXIT
        verb_up
        trade_run
}
