#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A short run of hmv-workload on whatever machine this is: node 0 only, as any user.
#
#     smoke.sh PATH-OF-hmv-workload

set -euo pipefail

workload=$1
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT

fail() {
        echo "FAIL: $*" >&2
        exit 1
}

# number FIELD TEXT: the number behind "FIELD": in one line of JSON.
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$2"; }

"$workload" --hot 8M --hot-node 0 --cold 4M --cold-node 0 --socket "$dir/socket" --report "$dir/report" --log "$dir/log" 2>"$dir/err" &
pid=$!
for _ in $(seq 100); do
        [ ! -S "$dir/socket" ] && kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
done
if grep -qE 'Function not implemented|Operation not permitted' "$dir/err"; then
        echo "SKIP: this machine does not allow mbind(2): $(cat "$dir/err")"
        exit 77
fi
first=$("$workload" --query --reset-gap --socket "$dir/socket")
sleep 0.3
second=$("$workload" --query --socket "$dir/socket")

brief=$("$workload" --query --brief --socket "$dir/socket")

[ "$(number writes "$brief")" -ge "$(number writes "$second")" ] || fail "a brief answer counts less: $second $brief"
case $brief in *pages*) fail "a brief answer tells of pages: $brief" ;; esac
[ "$(number hot_pages "$first")" = 2048 ] || fail "8M of hot pages are not 2048: $first"
[ "$(number cold_pages "$first")" = 1024 ] || fail "4M of cold pages are not 1024: $first"
case $first in *'"hot_by_node":{"0":2048}'*) ;; *) fail "hot pages are not all on node 0: $first" ;; esac
case $first in *'"cold_by_node":{"0":1024}'*) ;; *) fail "cold pages are not all on node 0: $first" ;; esac
[ "$(number writes "$second")" -gt "$(number writes "$first")" ] || fail "it does not write: $first $second"
[ "$(number longest_gap_ms "$second")" -ge 10 ] || fail "no gap of a tick or more since the reset: $second"

kill "$pid"
wait "$pid" || fail "SIGTERM is not a clean end"
pid=
[ ! -e "$dir/socket" ] || fail "the socket is left behind"
grep -q '"state":"running"' "$dir/report" || fail "no report"
grep -qxE '[0-9]{13} [0-9]+ 0' "$dir/log" || fail "no log of times and writes: $(cat "$dir/log")"

# A hot set that moves, skewed, beside a set that is read: here all is on node 0, so it arrives at once.
"$workload" --hot 2M --within 8M --move-every 1 --skew 0.99 --read 1M --hot-node 0 --socket "$dir/socket" &
pid=$!
moving=
for _ in $(seq 150); do
        sleep 0.1
        moving=$("$workload" --query --socket "$dir/socket" 2>/dev/null) || continue
        case $moving in *'"moves":[['[0-9]*,[0-9]*']'*) break ;; esac
done
case $moving in *'"moves":[['[0-9]*,[0-9]*']'*) ;; *) fail "the hot set did not move and arrive: $moving" ;; esac
[ "$(number hot_pages "$moving")" = 512 ] && [ "$(number read_pages "$moving")" = 256 ] || fail "other sizes: $moving"
case $moving in *'"writes_by_node":{"0":1.0000}'*) ;; *) fail "not all writes go to node 0: $moving" ;; esac
[ "$(number reads "$moving")" -gt 0 ] || fail "it does not read: $moving"
kill "$pid"
wait "$pid" || fail "SIGTERM is not a clean end"
pid=

rc=0
"$workload" --query --socket "$dir/socket" 2>"$dir/err" || rc=$?
[ "$rc" = 1 ] && grep -q 'no workload answers' "$dir/err" || fail "a query of nobody: exit code $rc, $(cat "$dir/err")"
for wrong in '--hot 0' '--hot 5X' '--hot -1M' '--hot 8M extra' '--query --hot 8M' '--hot 8M --cold fill' '--hot 8M --hot-node 64' \
        '--hot 8M --skew -1' '--hot 8M --skew x' '--hot 8M --move-every 5' '--hot 8M --read 5'; do
        rc=0
        # shellcheck disable=SC2086 # words, on purpose
        "$workload" $wrong 2>/dev/null || rc=$?
        [ "$rc" = 2 ] || fail "'$wrong' gives exit code $rc instead of 2"
done
echo "all as it should be"
