# SPDX-License-Identifier: GPL-2.0-or-later
#
# The second host, for what needs two libvirts: host/hmvlab-second makes it inside the lab host.

second_tool=/usr/local/bin/hmvlab-second

verb_second() {
        host_need
        guest_sync_tool
        case ${1:-} in
        up)
                [ $# -eq 1 ] || usage_error "second up takes no argument"
                step "starting the second host (about 20 s)"
                host_exec "$second_tool" up
                ;;
        down)
                [ $# -eq 1 ] || usage_error "second down takes no argument"
                host_exec "$second_tool" down
                ;;
        exec)
                shift
                [ "${1:-}" != -- ] || shift
                [ $# -gt 0 ] || usage_error "second exec: no command given"
                host_exec "$second_tool" exec "$@"
                ;;
        *) usage_error "second takes up, down, or exec and a command" ;;
        esac
}
