# SPDX-License-Identifier: GPL-2.0-or-later
#
# The meter: a plugin in the lab host's QEMU that counts loads, stores and instructions per physical node.
# Owns $cache_dir/meter-KEY (plugin and reader), their copy that a running host uses in $state_dir/meter.d, and the
# page $state_dir/meter.

meter_page=$state_dir/meter
meter_tools=$state_dir/meter.d
meter_cache=${HMVISOR_LAB_CACHE:-2M}    # of the cache model

meter_folder() { echo "$cache_dir/meter-$(key_of meter)"; }

meter_build() {
        local dir
        dir=$(meter_folder)
        [ ! -d "$dir" ] || return 0
        rm -rf "$dir.tmp"
        mkdir -p "$dir.tmp"
        gcc -std=gnu17 -O2 -Wall -Wextra -Wno-unused-parameter -fPIC -shared -fvisibility=hidden \
                -o "$dir.tmp/meter.so" "$lab_dir/meter/meter.c"
        gcc -std=gnu17 -O2 -D_GNU_SOURCE -Wall -Wextra -o "$dir.tmp/meter-read" "$lab_dir/meter/meter-read.c"
        mv "$dir.tmp" "$dir"
        cache_forget_others meter "$(key_of meter)"
}

meter_prepare() {
        rm -f "$meter_page"
        rm -rf "$meter_tools"
        cp -r "$(meter_folder)" "$meter_tools"      # the cache may move on while the host runs
}

# The words that load the plugin into QEMU.
meter_arguments() {
        printf -- '-plugin file=%s/meter.so,page=%s,nodes=%s:%s,cache=%s\n' "$meter_tools" "$meter_page" \
                "$(numfmt --from=iec "$host_dram")" "$(numfmt --from=iec "$host_slow")" "$(numfmt --from=iec "$meter_cache")"
}

meter_read() { "$meter_tools/meter-read" "$meter_page" "$@"; }

meter_switch() {
        meter_read --want "$1"
        meter_read --wait
}

verb_meter() {
        local json= reset= switch=
        host_need
        while [ $# -gt 0 ]; do
                case $1 in
                --json)  json=--json ;;
                --reset) reset=1 ;;
                --on)    switch=accesses ;;
                --off)   switch=none ;;
                --instructions) switch=instructions ;;
                --all)   switch=all ;;
                --delayed)
                        [ $# -gt 1 ] || usage_error "meter: --delayed takes FILL:WRITE-BACK,FILL:WRITE-BACK, in ns, for DRAM and slow memory"
                        meter_read --delays "$2"
                        switch=delayed
                        shift
                        ;;
                *)       usage_error "meter: unknown option '$1'" ;;
                esac
                shift
        done
        [ -z "$switch" ] || meter_switch "$switch"
        [ -z "$reset" ] || meter_read --reset
        if [ -n "$json" ] || [ -z "$reset$switch" ]; then meter_read $json; fi
}
