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
trade_window=60              # seconds of each measurement
trade_limit=600              # seconds that trading may take

# Real disks, by their data sheets: a SATA data-centre SSD (Samsung PM883 class: 28,000 random writes of 4 KiB a
# second, 520 MB/s; reads are faster) and a 7,200 rpm hard disk (8.5 ms seek and 4.2 ms half a turn: 79 random accesses a
# second, 200 MB/s).
trade_ssd=(--total-iops-sec 28000 --total-bytes-sec 520000000)
trade_hdd=(--total-iops-sec 79 --total-bytes-sec 200000000)

trade_in_guest() { host_exec "$guest_tool" exec "$trade_guest" -- "$@"; }
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
        trade_wait_workload
}

trade_wait_workload() {
        local deadline=$((SECONDS + 300))
        until [ "$(trade_query 2>/dev/null | jq -r .state 2>/dev/null)" = running ]; do
                [ "$SECONDS" -lt "$deadline" ] || die "the workload in '$trade_guest' did not get ready within 300 s"
                sleep 1
        done
}

trade_holding() { host_exec hmvctl market status --json | jq -c --arg n "$trade_guest" '.Domains[] | select(.Name == $n)'; }

# Waits until everything that was swapped out, and has room now, is back; at SSD speed, as that is not what is measured.
trade_wait_settled() {
        local end=$((SECONDS + trade_limit)) out
        while :; do
                out=$(trade_query | jq -r .hot_elsewhere)
                step "$out pages swapped out; $(trade_holding | jq -r '"DRAM \(.DramBytes / 1048576) MiB, slow \(.SlowBytes / 1048576) MiB"')"
                [ "$out" -gt 1500 ] && [ "$SECONDS" -lt "$end" ] || break
                sleep 15
        done
}

trade_ratio() { jq -n --argjson a "$1" --argjson b "$2" 'if $a > 0 then $b / $a * 10 | floor / 10 else null end'; }

trade_report() {
        cat <<END

What was measured, in one guest and one run ($trade_window s each), prices 4:1:
                                   entitlement          after it sold DRAM
  holding                          $(printf '%-20s' "$trade_dram + $trade_slow") $(jq -r '"\(.DramBytes / 1048576)M + \(.SlowBytes / 1048576)M"' <<<"$trade_after") (DRAM + slow)
  value                            $(printf '%-20s' "$trade_value_before") $trade_value_after
  writes per second, SSD           $(printf '%-20s' "$trade_rate_ssd_before") $trade_rate_ssd_after  ($(trade_ratio "$trade_rate_ssd_before" "$trade_rate_ssd_after") times)
  writes per second, hard disk     $(printf '%-20s' "$trade_rate_hdd_before") $trade_rate_hdd_after  ($(trade_ratio "$trade_rate_hdd_before" "$trade_rate_hdd_after") times)

The disk is limited by libvirt: SSD ${trade_ssd[1]} operations and ${trade_ssd[3]} bytes a second, hard disk ${trade_hdd[1]} and ${trade_hdd[3]}.
Where the guest's own processor is emulated, an operation of the disk costs far more of it than on hardware: what the
SSD can do is not reached here.
END
}

trade_cleanup() {
        host_exec "$guest_tool" remove "$trade_guest" >/dev/null 2>&1 || true
        host_exec sh -c 'rm -f /etc/hmvisor/hmvisord.conf.d/lab-trade.conf; systemctl reload hmvisord' >/dev/null 2>&1 || true
}

trade_run() {
        guest_sync_tool
        host_exec sh -c 'mkdir -p /etc/hmvisor/hmvisord.conf.d && printf "[Market]\nEnabled=yes\nPool=yes\n" >/etc/hmvisor/hmvisord.conf.d/lab-trade.conf && systemctl reload hmvisord'
        trade_start_guest
        host_exec hmvctl market set "$trade_guest" --trading on --swap-device vdb >&2
        step "measuring $trade_window s with each disk, at the entitlement"
        trade_measure ssd_before
        trade_disk hdd
        trade_measure hdd_before
        trade_disk ssd
        trade_value_before=$(trade_holding | jq .Value)
        step "hmvctl trade $trade_guest --sell-dram 128M"
        host_exec hmvctl trade "$trade_guest" --sell-dram 128M >&2
        trade_wait_settled
        trade_after=$(trade_holding)
        trade_value_after=$(jq .Value <<<"$trade_after")
        step "measuring $trade_window s with each disk, after the trade"
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
