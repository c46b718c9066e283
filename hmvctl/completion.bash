# SPDX-License-Identifier: GPL-2.0-or-later
# Bash completion for hmvctl: hmvctl knows its verbs itself.
_hmvctl() {
        local IFS=$'\n' words
        # bash splits words at '=' and ':'; the last word is then only what stands behind it.
        words=("${COMP_WORDS[@]:1:COMP_CWORD}")
        mapfile -t COMPREPLY < <(hmvctl complete -- "${words[@]}" 2>/dev/null)
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
        return 0
}
complete -F _hmvctl hmvctl
