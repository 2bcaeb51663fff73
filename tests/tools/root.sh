# Sourced: `as_root COMMAND…` runs a command as root, through sudo where that is needed and possible.

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "this needs root, and there is no sudo: $*" >&2
        return 1
    fi
}
