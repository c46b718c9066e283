# SPDX-License-Identifier: GPL-2.0-or-later
#
# What every part of the lab shares: paths, messages, cache keys, locks. Sourced by hmvlab; runs nothing
# when sourced and never touches the repository.

cache_dir=${HMVISOR_CACHE:-/var/cache/hmvisor}
state_dir=${HMVISOR_LAB_STATE:-/run/hmvisor-lab}
suite=trixie

say() { printf 'hmvlab: %s\n' "$*" >&2; }

# die MESSAGE: one line that names the thing, the reason and the remedy.
die() {
        say "$*"
        exit 1
}

usage_error() {
        say "$*; see 'hmvlab help'"
        exit 2
}

# Prints a line when a longer step starts, with the seconds since hmvlab started.
step() { printf 'hmvlab: [%3d s] %s\n' "$SECONDS" "$*" >&2; }

need_root() {
        [ "$(id -u)" = 0 ] || die "must run as root: images are made with chroot and the guest kernel needs its files' owners"
}

# key_of FILE-OR-FOLDER... : a short hash over names (relative to the lab) and contents.
key_of() {
        local f
        (
                cd "$lab_dir"
                for f in "$@"; do
                        find "$f" -type f -print0
                done | LC_ALL=C sort -z | xargs -0 -r sha256sum
        ) | sha256sum | cut -c1-16
}

# key_with TEXT KEY... : the key of a thing made from others.
key_with() { printf '%s\n' "$@" | sha256sum | cut -c1-16; }

# The list of packages in a file: one or more a line, comments after '#'.
list_packages() { sed 's/#.*//' "$1" | xargs; }

# Removes the other generations of one kind of cached folder or file ('host-', 'guest-', ...), so that the
# cache stays at one copy of each. Called with the image lock held.
cache_forget_others() {
        local kind=$1 keep=$2 p
        for p in "$cache_dir/$kind"-*; do
                case $p in
                "$cache_dir/$kind-$keep"|"$cache_dir/$kind-$keep".*|*'*') ;;
                *) [ "${p#"$cache_dir/$kind-"}" = "${p##*-}" ] && rm -rf "$p" ;;
                esac
        done
        return 0
}

# Removes half-made things, unless somebody is making them.
cache_sweep() {
        [ -d "$cache_dir" ] || return 0
        (
                flock -w 5 9 || exit 0
                rm -rf "$cache_dir"/*.tmp "$cache_dir"/initrd.??????
        ) 9>"$cache_dir/lock"
}

# with_lock FILE CMD...: one holder at a time. Only background processes that close fd 9 may outlive it.
with_lock() {
        local file=$1
        shift
        mkdir -p "$(dirname "$file")"
        (
                if ! flock -n 9; then
                        step "waiting for another hmvlab to finish ($file)"
                        flock 9
                fi
                "$@"
        ) 9>"$file"
}
