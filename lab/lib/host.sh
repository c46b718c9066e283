# SPDX-License-Identifier: GPL-2.0-or-later
#
# The lab host: QEMU's TCG as an AMD machine with SVM and two NUMA nodes. Owns $state_dir (pids, sockets,
# console log, meter page) and the disk overlay in $cache_dir/overlays; kills only the QEMU that it started.

host_dram=${HMVISOR_LAB_DRAM:-2G}       # node 0, with both CPUs
host_slow=${HMVISOR_LAB_SLOW:-2G}       # node 1, no CPU
# One CPU: with two, guests with dirty logging on were reset in most runs under memory pressure, before any page
# was moved, and the host could hang (QEMU 10.0 TCG loses interrupts between emulated CPUs).
host_cpus=${HMVISOR_LAB_CPUS:-1}
# Without -vgif an emulated CPU can come out of a guest with interrupts off for ever (QEMU 10.0, measured:
# halted with GIF = 0 and pending interrupts, so RCU in the host stalls).
host_cpu=max,+svm,-vgif
host_nice=${HMVISOR_LAB_NICE:--5}
host_boot_seconds=${HMVISOR_LAB_BOOT_SECONDS:-240}

host_pidfile=$state_dir/qemu.pid
host_console=$state_dir/console.log
host_overlay=$cache_dir/overlays/host-$(printf '%s' "$state_dir" | sha256sum | cut -c1-8).qcow2

# Prints the pid of our running QEMU, or fails. The command line must name our pid file: a pid alone may
# belong to another process by now.
host_pid() {
        local pid
        pid=$(cat "$host_pidfile" 2>/dev/null) || return 1
        [ -n "$pid" ] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "-pidfile $host_pidfile" || return 1
        echo "$pid"
}

host_need() { host_pid >/dev/null || die "the lab host is not running: start it with 'hmvlab up'"; }

host_free_port() {
        local port
        for port in $(shuf -i 22200-22999 -n 50); do
                (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return 0; }
        done
        die "found no free TCP port on 127.0.0.1 between 22200 and 22999"
}

# QEMU's command line, one word a line in the array host_args.
host_arguments() {
        local image=$1 guest=$2 port=$3
        host_args=(
                -name hmvlab -machine q35,hmat=on -accel tcg,thread=multi,tb-size=512 -cpu "$host_cpu" -smp "$host_cpus"
                -m "$(($(numfmt --from=iec "$host_dram") + $(numfmt --from=iec "$host_slow")))B"
                -object "memory-backend-memfd,id=m0,size=$host_dram"
                -object "memory-backend-memfd,id=m1,size=$host_slow"
                -numa "node,nodeid=0,memdev=m0,cpus=0-$((host_cpus - 1))"
                -numa node,nodeid=1,memdev=m1,initiator=0
                -numa dist,src=0,dst=1,val=28
                -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=80
                -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=100G
                -numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-latency,latency=300
                -numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-bandwidth,bandwidth=10G
                -kernel "$image/vmlinuz" -initrd "$image/initrd"
                -append 'console=ttyS0 root=/dev/vda rw quiet net.ifnames=0 mitigations=off systemd.show_status=error'
                -drive "file=$host_overlay,if=none,id=root,format=qcow2,cache=unsafe,discard=unmap"
                -device virtio-blk-pci,drive=root,serial=hmvlab-root
                -drive "file=$guest/disk.raw,if=none,id=guest,format=raw,readonly=on"
                -device virtio-blk-pci,drive=guest,serial=hmvlab-guest
                -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net
                -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng
                -nodefaults -display none -no-reboot
                -serial "file:$host_console"
                -pidfile "$host_pidfile" -daemonize
        )
        host_args+=($(meter_arguments))
}

host_ssh_options() {
        printf '%s\n' -F /dev/null -i "$(lab_ssh_key)" -p "$(cat "$state_dir/port")" -o StrictHostKeyChecking=no \
                -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=60 \
                -o ServerAliveInterval=30 -o ServerAliveCountMax=8 -o ControlMaster=auto -o "ControlPath=$state_dir/ssh.sock" -o ControlPersist=600
}

host_exec() {
        local words
        printf -v words '%q ' "$@"
        ssh $(host_ssh_options) root@127.0.0.1 "$words"
}

# Waits for a line in the console; fails when QEMU ends first or the time is over.
host_wait_console() {
        local what=$1 deadline=$((SECONDS + host_boot_seconds))
        until grep -qF "$what" "$host_console" 2>/dev/null; do
                host_pid >/dev/null || return 1
                [ "$SECONDS" -lt "$deadline" ] || return 1
                sleep 0.2
        done
}

host_start_failed() {
        say "the lab host did not come up; its console ends with:"
        tail -n 20 "$host_console" >&2 || true
        host_stop
        die "see $host_console; if the machine is merely slow, retry with HMVISOR_LAB_BOOT_SECONDS=600"
}

host_start() {
        local image=$1 guest=$2 port
        mkdir -p "$state_dir" "$cache_dir/overlays"
        chmod 700 "$state_dir"
        # what an emulator that was killed left behind says nothing of this one
        rm -f "$state_dir"/{ssh.sock,port,meter,tool.key} "$host_pidfile" "$host_console"
        qemu-img create -q -f qcow2 -F raw -b "$image/disk.raw" "$host_overlay"
        port=$(host_free_port)
        echo "$port" >"$state_dir/port"
        meter_prepare
        host_arguments "$image" "$guest" "$port"
        trap 'host_stop; exit 130' INT TERM
        # A little ahead of ordinary jobs: a starved machine would miss its own deadlines.
        nice -n "$host_nice" qemu-system-x86_64 "${host_args[@]}" 9>&- || die "QEMU did not start (its message is above); 'hmvlab status' shows what is left"
        host_wait_console hmvlab-ready || host_start_failed
        step "booted; connecting"
        host_exec true 9>&- || host_start_failed
        trap - INT TERM
}

host_stop() {
        local pid n
        if [ -S "$state_dir/ssh.sock" ]; then
                ssh $(host_ssh_options) -O exit root@127.0.0.1 2>/dev/null || true
        fi
        if pid=$(host_pid); then
                kill "$pid" 2>/dev/null || true
                for n in $(seq 50); do
                        host_pid >/dev/null || break
                        sleep 0.1
                done
                if pid=$(host_pid); then kill -9 "$pid"; fi
        fi
        rm -f "$host_overlay" "$host_pidfile" "$state_dir"/{ssh.sock,port,meter,tool.key}
        rm -rf "$meter_tools"
}

# ---- verbs ----

verb_up() {
        need_root
        local bare= images
        while [ $# -gt 0 ]; do
                case $1 in
                --bare) bare=1 ;;
                *) usage_error "up: unknown option '$1'" ;;
                esac
                shift
        done
        mkdir -p "$state_dir"
        if host_pid >/dev/null; then
                say "the lab host is up already"
                return 0
        fi
        setup_machine
        images=$(with_lock "$cache_dir/lock" host_build "$bare")
        with_lock "$state_dir/lock" host_up_locked $images
        step "the lab host is up: 'hmvlab exec -- CMD' runs CMD in it"
}

# Everything that is cached and missing is made here, with the image lock held. Prints the folders of the
# host's and the guest's image.
host_build() {
        local host
        {
                packages_for_up "$1"
                image_make host "$packages_dir"
                host=$image_dir
                image_make guest "$packages_dir"
                meter_build
        } >&2
        echo "$host $image_dir"
}

host_up_locked() {
        ! host_pid >/dev/null || return 0
        step "booting the lab host (about 30 s)"
        host_start "$1" "$2"
}

verb_down() {
        [ $# -eq 0 ] || usage_error "down takes no argument"
        host_pid >/dev/null || say "the lab host is not running"
        host_stop
}

verb_status() {
        [ $# -eq 0 ] || usage_error "status takes no argument"
        local pid
        if pid=$(host_pid); then
                echo "lab host: running, pid $pid, ssh port $(cat "$state_dir/port"), console $host_console"
                host_exec virsh list --all
        else
                echo "lab host: not running"
                return 1
        fi
}

verb_exec() {
        [ "${1:-}" != -- ] || shift
        [ $# -gt 0 ] || usage_error "exec: no command given"
        host_need
        host_exec "$@"
}

verb_push() {
        [ $# -eq 2 ] || usage_error "push takes SRC and DST"
        [ -e "$1" ] || die "push: '$1' does not exist"
        host_need
        if [ -d "$1" ]; then
                tar -C "$1" -cf - . | host_exec sh -c 'mkdir -p "$1" && tar --no-same-owner -C "$1" -xf -' sh "$2"
        else
                host_exec sh -c '[ ! -d "$1" ] || set -- "$1/$2" "$2" "$3"; cat >"$1.part" && chmod "$3" "$1.part" && mv "$1.part" "$1"' \
                        sh "$2" "$(basename "$1")" "$(stat -c %a "$1")" <"$1"
        fi
}

verb_pull() {
        [ $# -eq 2 ] || usage_error "pull takes SRC and DST"
        host_need
        local dst=$2
        [ ! -d "$dst" ] || dst=$dst/$(basename "$1")
        host_exec cat "$1" >"$dst.part" && mv "$dst.part" "$dst" || {
                rm -f "$dst.part"
                die "pull: cannot read '$1' in the lab host"
        }
}

verb_build() {
        need_root
        local bare=
        [ "${1:-}" != --bare ] || { bare=1; shift; }
        [ $# -eq 0 ] || usage_error "build: unknown argument '$1'"
        setup_machine
        with_lock "$cache_dir/lock" host_build "$bare" >/dev/null
}

verb_clean() {
        [ $# -eq 0 ] || usage_error "clean takes no argument"
        ! host_pid >/dev/null || die "the lab host runs from the cache: 'hmvlab down' first"
        with_lock "$cache_dir/lock" rm -rf "$cache_dir"/{base,host,guest,build,hostimg,guestimg,debs}-* "$cache_dir"/{archives,overlays,ssh,meter}
}
