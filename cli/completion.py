"""The scripts that make a shell complete what is typed; what they offer is in `cli.offers`."""

from enum import StrEnum
from typing import Annotated, Final

import typer

from cli.context import command


class Shell(StrEnum):
    """The shells that we have a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# The names of files are the shell's own affair.
SCRIPTS: Final = {
    Shell.BASH: """\
_apictl() {
    local offer
    COMPREPLY=()
    while IFS= read -r offer; do
        COMPREPLY+=("$offer")
    done < <("$1" --complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
}
complete -o bashdefault -o default -F _apictl apictl
""",
    Shell.ZSH: """\
#compdef apictl
_apictl() {
    local -a offers
    offers=("${(@f)$(apictl --complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $offers ]]; then
        _describe -V apictl offers
    else
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _apictl apictl
""",
    Shell.FISH: """\
function __apictl_offers
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l offers (apictl --complete fish $words[2..] "$current" 2>/dev/null)
    if test (count $offers) -gt 0
        printf '%s\\n' $offers
    else
        __fish_complete_path "$current"
    end
end
complete --command apictl --keep-order --no-files --arguments '(__apictl_offers)'
""",
}


@command("plain")
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell: bash, zsh or fish.", show_default=False)],
) -> str:
    """Print the script that makes a shell complete what you type, at the TAB key.

    Example: apictl completion bash
    """
    return SCRIPTS[shell]
