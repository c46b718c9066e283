# SPDX-License-Identifier: GPL-2.0-or-later
#
# Guests inside the lab host. The work is done by host/hmvlab-guest, which runs there; this file brings what is in
# host/ there, again after each change, and passes the arguments on.

guest_tool=/usr/local/bin/hmvlab-guest

guest_sync_tool() {
        local key
        key=$(key_of host)
        [ "$(cat "$state_dir/tool.key" 2>/dev/null)" != "$key" ] || return 0
        verb_push "$lab_dir/host/hmvlab-guest" "$guest_tool"
        verb_push "$lab_dir/host/hmvlab-second" "$second_tool"
        host_exec chmod 755 "$guest_tool" "$second_tool"
        echo "$key" >"$state_dir/tool.key"
}

# in_guest NAME CMD...: its output and exit code.
in_guest() {
        local name=$1
        shift
        host_exec "$guest_tool" exec "$name" -- "$@"
}

# workload_wait NAME SECONDS: until hmv-workload, which was started before, has placed its pages.
workload_wait() {
        local deadline=$((SECONDS + $2))
        until [ "$(in_guest "$1" hmv-workload --query 2>/dev/null | jq -r .state 2>/dev/null)" = running ]; do
                [ "$SECONDS" -lt "$deadline" ] || {
                        in_guest "$1" journalctl -u hmv-workload -u hmv-bench --no-pager -n 20 >&2 || true
                        die "the workload in '$1' did not get ready within $2 s; its log ends as above"
                }
                sleep 1
        done
}

verb_guest() {
        host_need
        case ${1:-} in
        ''|-*) usage_error "guest takes a name, or one of: exec, push, wait, remove, console" ;;
        esac
        guest_sync_tool
        case $1 in
        exec|wait|remove|console) host_exec "$guest_tool" "$@" ;;
        push)
                [ $# -eq 4 ] || usage_error "guest push takes NAME, SRC and DST"
                [ -f "$3" ] || die "guest push: '$3' is not a file"
                host_exec "$guest_tool" push "$2" "$4" "$(stat -c %a "$3")" <"$3"
                ;;
        *) host_exec "$guest_tool" create "$@" ;;
        esac
}
