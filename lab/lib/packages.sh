# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds hmvisor's own Debian packages in the build chroot, from the working tree as git sees it. Owns
# $cache_dir/debs-KEY; writes nothing into the repository.

packages_exist() { [ -e "$repo_dir/debian/rules" ] && [ -e "$repo_dir/debian/control" ] && [ -e "$repo_dir/debian/changelog" ]; }

# Names of the sources: what git tracks or would track, and still exists; the lab's own scripts are not
# packaged except for what the packages build.
packages_sources() {
        git -C "$repo_dir" -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
                (cd "$repo_dir" && while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done) |
                LC_ALL=C sort -zu
}

# Copies the sources to $1: others may edit the tree while we build, and the key must be that of what we build.
packages_snapshot() {
        rm -rf "$1"
        mkdir -p "$1"
        packages_sources | tar -C "$repo_dir" --null -T - --owner=0 --group=0 -cf - | tar -C "$1" -xf -
}

# Builds them if they are not cached; the image lock is held. Sets packages_dir.
packages_make() {
        local key dir src=$cache_dir/src.tmp
        packages_exist || die "there is nothing to package yet: debian/{control,rules,changelog} are missing in $repo_dir"
        packages_snapshot "$src"
        key=$(key_with "$(role_key build)" "$(cd "$src" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)" \
                "$(key_of lib/packages.sh)")
        packages_dir=$cache_dir/debs-$key
        if [ -d "$packages_dir" ]; then
                rm -rf "$src"
                return 0
        fi
        rootfs_role build
        step "building our packages"
        dir=$(rootfs_begin debs "$key")
        rm -rf "$role_root/build"
        mkdir -p "$role_root/build"
        mv "$src" "$role_root/build/hmvisor"
        rootfs_run "$role_root" sh -c 'cd /build/hmvisor && DEB_BUILD_OPTIONS="nocheck parallel=2" dpkg-buildpackage -us -uc -b' \
                >"$dir/log" 2>&1 || {
                cp "$dir/log" "$cache_dir/packages-failed.log"
                grep -nE 'error|FAILED|dh_.*(missing|cannot)|Unmet|dpkg-checkbuilddeps' "$dir/log" | tail -n 20 >&2 || true
                tail -n 5 "$dir/log" >&2
                rm -rf "$dir"
                die "building the packages failed; the whole log is $cache_dir/packages-failed.log ('hmvlab up --bare' goes without them)"
        }
        cp "$role_root"/build/*.deb "$dir/"
        rootfs_finish debs "$key"
        cache_forget_others debs "$key"
}

packages_print() {
        packages_make >&2
        echo "$packages_dir"
}

packages_lint() {
        packages_make >&2
        rootfs_role build
        rm -rf "$role_root/build/debs"
        mkdir -p "$role_root/build/debs"
        cp "$packages_dir"/*.deb "$role_root/build/debs/"
        rootfs_run "$role_root" sh -c 'lintian --fail-on error --allow-root --tag-display-limit 0 /build/debs/*.deb' >&2
        echo "$packages_dir"
}

# packages_for_up BARE: sets packages_dir, empty when the host shall come without our packages.
packages_for_up() {
        packages_dir=
        [ -z "$1" ] || return 0
        if ! packages_exist; then
                say "debian/ is not complete yet: the lab comes without our packages"
                return 0
        fi
        packages_make
}

# ---- verbs ----

verb_packages() {
        need_root
        local lint=
        while [ $# -gt 0 ]; do
                case $1 in
                --lintian) lint=1 ;;
                *) usage_error "packages: unknown option '$1'" ;;
                esac
                shift
        done
        setup_machine
        if [ -n "$lint" ]; then
                packages_dir=$(with_lock "$cache_dir/lock" packages_lint)
        else
                packages_dir=$(with_lock "$cache_dir/lock" packages_print)
        fi
        ls "$packages_dir"/*.deb
}

# install: the quick way round for a developer, no new image and no new boot.
verb_install() {
        [ $# -eq 0 ] || usage_error "install takes no argument"
        need_root
        host_need
        setup_machine
        packages_dir=$(with_lock "$cache_dir/lock" packages_print)
        local deb guest
        step "installing in the lab host"
        host_exec sh -c 'rm -rf /root/debs && mkdir /root/debs'
        for deb in $(image_debs host "$packages_dir"); do
                verb_push "$deb" /root/debs/
        done
        host_exec sh -c 'dpkg -i /root/debs/*.deb && rm -r /root/debs' || die "the packages did not install in the lab host (its reason is above)"
        guest_sync_tool
        for guest in $(host_exec virsh -q list --name); do
                step "installing in guest '$guest'"
                for deb in $(image_debs guest "$packages_dir"); do
                        verb_guest push "$guest" "$deb" "/root/$(basename "$deb")"
                done
                # Detached: the agent that carries this command may be restarted by it.
                verb_guest exec "$guest" -- systemd-run --quiet --wait --unit=hmvlab-install sh -c 'dpkg -i /root/*.deb' ||
                        verb_guest exec "$guest" -- journalctl -u hmvlab-install --no-pager -n 20
        done
}
