# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian folders made with debootstrap and a chroot: one base, and from it the lab host, the guest and the
# build chroot. Owns $cache_dir/{base,host,guest,build}-KEY; never mounts anything outside a private mount
# namespace, so an interrupted run leaves no mounts behind.

# The mirror for our suite is the one that this machine's apt already uses for its own.
lab_mirror() {
        local own mirror
        own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
        mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null |
                awk -v own="$own" -v ours="$suite" '$2 == ours { a = $1 } $2 == own { b = $1 } END { print a ? a : b }')
        [ -n "$mirror" ] || die "apt on this machine names no Debian mirror for '$own': add one to its sources and run 'apt-get update'"
        echo "$mirror"
}

# rootfs_run ROOT CMD...: CMD as root inside the folder, with /proc and /dev, in its own namespaces.
rootfs_run() {
        local root=$1
        shift
        mkdir -p "$cache_dir/archives/partial"
        cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
        unshare --mount --pid --fork --kill-child bash -ec '
                root=$1 archives=$2
                shift 2
                mount -t proc proc "$root/proc"
                mount --rbind /dev "$root/dev"
                mkdir -p "$root/var/cache/apt/archives"
                mount --bind "$archives" "$root/var/cache/apt/archives"
                exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
                        DEBIAN_FRONTEND=noninteractive "$@"
        ' rootfs "$root" "$cache_dir/archives" "$@"
}

rootfs_install() {
        local root=$1 log=$2
        shift 2
        rootfs_run "$root" apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold \
                "$@" >>"$log" 2>&1 || {
                tail -n 15 "$log" >&2
                die "installing packages into $root failed; the whole log is $log"
        }
}

base_key() { key_with "$(key_of lib/rootfs.sh images/packages.base images/files.base)" "$suite"; }
role_key() {
        local role=$1 parts
        parts="images/packages.$role"
        [ -e "$lab_dir/images/setup.$role" ] && parts="$parts images/setup.$role images/setup.common"
        [ -d "$lab_dir/images/files.$role" ] && parts="$parts images/files.$role"
        key_with "$(base_key)" "$(key_of $parts)" "$(role_extra_key "$role")"
}

# The build chroot also depends on what debian/control asks for.
role_extra_key() {
        [ "$1" = build ] && [ -e "$repo_dir/debian/control" ] || return 0
        sed -n '/^Build-Depends:/,/^[^ ]/p' "$repo_dir/debian/control" | sha256sum
}

# Files are installed with the modes git keeps (executable or not) and belong to root.
rootfs_copy_files() {
        local tree=$1 root=$2
        [ -d "$tree" ] || return 0
        tar -C "$tree" --owner=0 --group=0 --mode=u=rwX,go=rX -cf - . | tar -C "$root" --no-overwrite-dir -xf -
}

# rootfs_begin KIND KEY: prints a scratch folder beside the final place; rootfs_finish renames it.
rootfs_begin() {
        local dir="$cache_dir/$1-$2.tmp"
        rm -rf "$dir"
        mkdir -p "$dir"
        echo "$dir"
}
rootfs_finish() { mv "$cache_dir/$1-$2.tmp" "$cache_dir/$1-$2"; }

# Makes the base if it is missing. Sets base_root.
rootfs_base() {
        local key dir mirror
        key=$(base_key)
        base_root=$cache_dir/base-$key/root
        [ ! -d "$cache_dir/base-$key" ] || return 0
        mirror=$(lab_mirror)
        step "debootstrap of $suite (once; about 1 min)"
        dir=$(rootfs_begin base "$key")
        mkdir -p "$cache_dir/archives"
        debootstrap --variant=minbase --cache-dir="$cache_dir/archives" \
                --include="$(list_packages "$lab_dir/images/packages.base" | tr ' ' ,)" \
                "$suite" "$dir/root" "$mirror" >"$dir/log" 2>&1 || {
                tail -n 15 "$dir/log" >&2
                die "debootstrap of $suite from this machine's mirror failed; the whole log is $dir/log"
        }
        rootfs_copy_files "$lab_dir/images/files.base" "$dir/root"
        rootfs_run "$dir/root" apt-get update -q >>"$dir/log" 2>&1
        rootfs_finish base "$key"
        cache_forget_others base "$key"
}

# rootfs_role ROLE: makes the folder of 'host', 'guest' or 'build' if it is missing. Sets role_root.
rootfs_role() {
        local role=$1 key dir
        key=$(role_key "$role")
        role_root=$cache_dir/$role-$key/root
        [ ! -d "$cache_dir/$role-$key" ] || return 0
        rootfs_base
        step "installing the packages of the $role"
        dir=$(rootfs_begin "$role" "$key")
        cp -a --reflink=auto "$base_root" "$dir/root"
        rootfs_copy_files "$lab_dir/images/files.$role" "$dir/root"
        rootfs_install "$dir/root" "$dir/log" $(list_packages "$lab_dir/images/packages.$role")
        if [ -e "$lab_dir/images/setup.$role" ]; then
                cp "$lab_dir/images/setup.common" "$dir/root/setup.common"
                cp "$lab_dir/images/setup.$role" "$dir/root/setup"
                rootfs_run "$dir/root" bash /setup >>"$dir/log" 2>&1 || {
                        tail -n 15 "$dir/log" >&2
                        die "images/setup.$role failed; the whole log is $dir/log"
                }
                rm "$dir/root/setup" "$dir/root/setup.common"
        fi
        if [ "$role" = build ] && [ -e "$repo_dir/debian/control" ]; then
                mkdir "$dir/root/control"
                cp "$repo_dir/debian/control" "$dir/root/control/"
                rootfs_install "$dir/root" "$dir/log" devscripts
                rootfs_run "$dir/root" apt-get build-dep -y -q --no-install-recommends /control >>"$dir/log" 2>&1 || true
        fi
        rootfs_finish "$role" "$key"
        cache_forget_others "$role" "$key"
}
