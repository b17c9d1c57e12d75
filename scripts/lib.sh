# What demo.sh and test.sh share: a suitable Python, the virtual environment, the install. To be sourced.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

say() { printf '== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 3
}

# Run a command silently; show all that it printed if it fails.
quietly() {
    local log status=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then cat "$log" >&2; fi
    rm -f "$log"
    return "$status"
}

# Caches (pip, Keras, matplotlib) need a home that can be written to; some containers have none.
ensure_home() {
    if [ -n "${HOME:-}" ] && [ -d "$HOME" ] && [ -w "$HOME" ]; then return; fi
    export HOME="$ROOT/.cache/home"
    mkdir -p "$HOME"
    say "HOME cannot be written to: caches go to $HOME"
}

# Print the first Python that will do. A name alone proves nothing (pyenv has shims for versions that are not active).
find_python() {
    local check='import sys; sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32))'
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python3.13 python3.10 python; do
        if "$candidate" -c "$check" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no 64-bit Python 3.10 to 3.13 found; install one, or name it: PYTHON=/path/to/python3.12 bash $0"
}

# Print the folder of the environment's programs (Scripts on Windows).
venv_bin() {
    if [ -d "$VENV/Scripts" ]; then printf '%s\n' "$VENV/Scripts"; else printf '%s\n' "$VENV/bin"; fi
}

# Print what an install depends on, as a hash: its two files, and the place, which an environment cannot leave.
fingerprint() {
    "$1" - "$ROOT" <<'PY'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
parts = [str(root).encode(), *((root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
PY
}

# Make .venv with imgclf in it, unless it is there and up to date; then put it first in PATH.
#   $1: "" or the extra to install; an environment with an extra also serves where none is asked for.
make_environment() {
    local extra="$1" python stamp="$VENV/imgclf-install" wanted have=""
    ensure_home
    if ! "$(venv_bin)/python" -c 'import sys' >/dev/null 2>&1; then
        python="$(find_python)"
        "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
            die "$python comes without venv or ensurepip; install them (Debian and Ubuntu:" \
                "apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))"
        say "creating .venv with $("$python" --version)"
        rm -rf "$VENV"
        quietly "$python" -m venv "$VENV" || die "could not create $VENV; see above"
    fi
    python="$(venv_bin)/python"
    wanted="$(fingerprint "$python")"
    if [ -f "$stamp" ]; then have="$(cat "$stamp")"; fi
    case "$have" in
    "$wanted $extra" | "$wanted ${extra:-test}") say "using .venv" ;;
    *)
        rm -f "$stamp"
        say "installing imgclf${extra:+ with its $extra extra} into .venv (the first time about 1 GB, some minutes)"
        (cd "$ROOT" && quietly "$python" -m pip install --disable-pip-version-check \
            -c constraints.txt -e ".${extra:+[$extra]}") || die "pip could not install imgclf; see above"
        printf '%s %s\n' "$wanted" "$extra" >"$stamp"
        ;;
    esac
    PATH="$(venv_bin):$PATH"
    export PATH VIRTUAL_ENV="$VENV" TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
}
