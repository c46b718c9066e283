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

packages_key() {
        key_with "$(role_key build)" "$(packages_sources | (cd "$repo_dir" && xargs -0 sha256sum) | sha256sum)" \
                "$(key_of lib/packages.sh)"
}

# Builds them if they are not cached. Sets packages_dir.
packages_make() {
        local key dir src
        packages_exist || die "there is nothing to package yet: debian/{control,rules,changelog} are missing in $repo_dir"
        key=$(packages_key)
        packages_dir=$cache_dir/debs-$key
        [ ! -d "$packages_dir" ] || return 0
        rootfs_role build
        step "building our packages"
        dir=$(rootfs_begin debs "$key")
        src=$role_root/build/hmvisor
        rm -rf "$role_root/build"
        mkdir -p "$src"
        packages_sources | tar -C "$repo_dir" --null -T - --owner=0 --group=0 -cf - | tar -C "$src" -xf -
        rootfs_run "$role_root" sh -c 'cd /build/hmvisor && DEB_BUILD_OPTIONS="nocheck parallel=2" dpkg-buildpackage -us -uc -b' \
                >"$dir/log" 2>&1 || {
                cp "$dir/log" "$cache_dir/packages-failed.log"
                grep -nE 'error|FAILED|dh_.*(missing|cannot)|Unmet|dpkg-checkbuilddeps' "$dir/log" | tail -n 20 >&2 || true
                tail -n 5 "$dir/log" >&2
                rm -rf "$dir"
                die "building the packages failed; the whole log is $cache_dir/packages-failed.log ('hmvlab up --bare' goes without them)"
        }
        cp "$role_root"/build/*.deb "$role_root"/build/*.changes "$dir/"
        rootfs_finish debs "$key"
        cache_forget_others debs "$key"
}

packages_lint() {
        packages_make
        rootfs_role build
        rm -rf "$role_root/build/debs"
        mkdir -p "$role_root/build/debs"
        cp "$packages_dir"/*.deb "$packages_dir"/*.changes "$role_root/build/debs/"
        rootfs_run "$role_root" sh -c 'lintian --fail-on error --allow-root --tag-display-limit 0 /build/debs/*.changes'
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
                with_lock "$cache_dir/lock" packages_lint
        else
                with_lock "$cache_dir/lock" packages_make
        fi
        ls "$cache_dir/debs-$(packages_key)"/*.deb
}
