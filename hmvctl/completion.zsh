#compdef hmvctl
# SPDX-License-Identifier: GPL-2.0-or-later
# zsh completion for hmvctl: hmvctl knows its verbs itself.
local -a typed found settings
# The last word counts up to the cursor only; the others as the shell would pass them on.
typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
found=("${(@f)$(_call_program words hmvctl complete -- "${(@q)typed}" 2>/dev/null)}")
settings=("${(@M)found:#*=}")
found=("${(@)${(@)found:#*=}:#}")
compadd -S '' -a settings
compadd -a found
