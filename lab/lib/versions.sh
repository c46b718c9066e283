# SPDX-License-Identifier: GPL-2.0-or-later
#
# The extension under each QEMU that Debian has: one folder of Debian per version, in which the extension's own tests run,
# with the one binary that was built here. Owns $cache_dir/qemuVERSION-KEY.

# version | suite | what else of it is needed
qemu_versions="\
7.2  | bookworm |
10.0 | trixie   |
11.1 | trixie   | trixie-backports"

version_key() { key_with "$(key_of lib/versions.sh lib/rootfs.sh)" "$1"; }
version_root() { echo "$cache_dir/qemu${1//./}-$(version_key "$1")/root"; }

# Makes the folder of a version if it is missing. With the cache's lock held.
version_make() {
        local version=$1 suite=$2 backports=$3 kind key dir mirror
        kind=qemu${version//./}
        key=$(version_key "$version")
        [ ! -d "$cache_dir/$kind-$key" ] || return 0
        step "making a Debian $suite with QEMU $version (once; some minutes)"
        mirror=$(lab_mirror)
        dir=$(rootfs_begin "$kind" "$key")
        mkdir -p "$cache_dir/archives"
        debootstrap --variant=minbase --cache-dir="$cache_dir/archives" --include=python3,ca-certificates \
                "$suite" "$dir/root" "$mirror" >"$dir/log" 2>&1 || {
                tail -n 15 "$dir/log" >&2
                die "debootstrap of $suite from this machine's mirror failed; the whole log is $dir/log"
        }
        [ -z "$backports" ] || echo "deb $mirror $backports main" >"$dir/root/etc/apt/sources.list.d/backports.list"
        rootfs_run "$dir/root" apt-get update -q >>"$dir/log" 2>&1
        rootfs_install "$dir/root" "$dir/log" ${backports:+-t "$backports"} qemu-system-x86 qemu-utils
        rootfs_finish "$kind" "$key"
        cache_forget_others "$kind" "$key"
}

# version_test BUILD VERSION
version_test() {
        local build=$1 version=$2 root tests found
        root=$(version_root "$version")
        found=$(rootfs_run "$root" qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\.[0-9]*\).*/\1/p')
        [ "$found" = "$version" ] || die "Debian's QEMU is $found here, not $version: change the table in lib/versions.sh"
        tests=$(mktemp -d "$root/tmp/hotness.XXXXXX")
        cp "$repo_dir"/tests/qemu/*.py "$build"/qemu/hmvisor-hotness.so "$build"/tests/qemu/{hmvisor-hotness-misspelt.so,hmvisor-hotness-careless.so,guest.elf} "$tests"
        rootfs_run "$root" sh -ec 'cd "$1"
                python3 test-extension.py ./hmvisor-hotness.so ./guest.elf ./hmvisor-hotness-misspelt.so
                python3 test-migration.py ./hmvisor-hotness.so ./guest.elf ./hmvisor-hotness-careless.so' \
                sh "${tests#"$root"}" >"$tests/log" 2>&1 || {
                cat "$tests/log" >&2
                say "the extension does not do what it must under QEMU $version"
                return 1
        }
        grep -E '^(Ran|OK|as shipped|without)' "$tests/log" | sed "s/^/QEMU $version: /"
        rm -rf "$tests"
}

versions_all() {
        local build=$1 failed=0 version suite backports
        while IFS='|' read -r version suite backports; do
                version=$(xargs <<<"$version")
                with_lock "$cache_dir/lock" version_make "$version" "$(xargs <<<"$suite")" "$(xargs <<<"$backports")" </dev/null || return 1
                version_test "$build" "$version" </dev/null || failed=1
        done <<<"$qemu_versions"
        return "$failed"
}

verb_versions() {
        local build
        [ $# -eq 1 ] || usage_error "versions takes a build folder"
        build=$(readlink -f "$1")
        [ -e "$build/tests/qemu/hmvisor-hotness-careless.so" ] ||
                die "'$1' has no extension for tests: 'meson setup $1 && ninja -C $1' builds it"
        setup_machine
        versions_all "$build"
}
