# SPDX-License-Identifier: GPL-2.0-or-later
#
# Disk images of the lab host and of the guest: the role's folder, our packages on top, then mke2fs; no
# loop device and no mount. Owns $cache_dir/{hostimg,guestimg}-KEY (disk.raw, vmlinuz, initrd) and the ssh
# key of the lab.

image_size_host=4G
image_size_guest=2G

lab_ssh_key() {
        local key=$cache_dir/ssh/id
        [ -e "$key" ] || {
                mkdir -p -m 700 "$cache_dir/ssh"
                ssh-keygen -q -t ed25519 -N '' -C hmvlab -f "$key"
        }
        echo "$key"
}

# image_make ROLE DEBS-FOLDER: DEBS-FOLDER may be empty (a bare image). Sets image_dir.
image_make() {
        local role=$1 debs=$2 key dir root kernel deb_files=
        local kind=${role}img
        [ -z "$debs" ] || deb_files=$(image_debs "$role" "$debs")
        key=$(key_with "$(role_key "$role")" "$(key_of lib/image.sh images/init)" \
                "$(cat $deb_files </dev/null | sha256sum)" "$(cat "$(lab_ssh_key).pub")")
        image_dir=$cache_dir/$kind-$key
        [ ! -d "$image_dir" ] || return 0
        rootfs_role "$role"
        step "making the image of the $role${deb_files:+ with our packages}"
        dir=$(rootfs_begin "$kind" "$key")
        root=$dir/root
        cp -a --reflink=auto "$role_root" "$root"
        if [ -n "$deb_files" ]; then
                mkdir "$root/debs"
                cp $deb_files "$root/debs/"
                rootfs_run "$root" sh -c 'apt-get install -y -q --no-install-recommends /debs/*.deb' >"$dir/log" 2>&1 || {
                        tail -n 15 "$dir/log" >&2
                        die "installing our packages into the $role failed; the whole log is $dir/log"
                }
                rm -r "$root/debs"
        fi
        if [ "$role" = host ]; then
                install -d -m 700 "$root/root/.ssh"
                install -m 600 "$(lab_ssh_key).pub" "$root/root/.ssh/authorized_keys"
        fi
        kernel=$(cd "$root/lib/modules" && echo *)
        cp "$root/boot/vmlinuz-$kernel" "$dir/vmlinuz"
        image_initrd "$root" "$kernel" "$dir/initrd"
        cp "$dir/vmlinuz" "$root/boot/vmlinuz"
        cp "$dir/initrd" "$root/boot/initrd"
        rm -rf "$root/usr/sbin/policy-rc.d" "$root/etc/resolv.conf" "$root"/var/lib/apt/lists/* \
                "$root"/boot/initrd.img-* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log
        image_size=image_size_$role
        mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=0,root_owner=0:0 -d "$root" "$dir/disk.raw" "${!image_size}"
        rm -rf "$root"
        rootfs_finish "$kind" "$key"
        cache_forget_others "$kind" "$key"
}

# Which of our packages go where.
image_debs() {
        local role=$1 debs=$2 name
        case $role in
        host)  for name in hmvisor hmvisor-qemu; do ls "$debs/${name}"_*.deb; done ;;
        guest) for name in hmvisor-guest-agent hmvisor-workload; do ls "$debs/${name}"_*.deb; done ;;
        esac 2>/dev/null || true
}

# An initramfs with busybox and virtio_blk only (everything else that the disk needs is built in).
image_initrd() {
        local root=$1 kernel=$2 out=$3 tree
        tree=$(mktemp -d "$cache_dir/initrd.XXXXXX")
        mkdir -p "$tree/bin" "$tree/modules"
        cp "$root/usr/bin/busybox" "$tree/bin/busybox"
        cp "$lab_dir/images/init" "$tree/init"
        xz -dc "$root/lib/modules/$kernel/kernel/drivers/block/virtio_blk.ko.xz" >"$tree/modules/virtio_blk.ko"
        (cd "$tree" && find . | cpio -o -H newc --quiet) >"$out"
        rm -rf "$tree"
}
