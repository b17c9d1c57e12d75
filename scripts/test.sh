#!/usr/bin/env bash
# Check everything: environment, lint, format, types, import direction, tests. Needs Python 3.10 to 3.13 and bash.
#   bash scripts/test.sh [--quick] [pytest arguments]      --quick leaves out the tests marked slow
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

left_out="" # what pytest's -m leaves out
if [ "${1:-}" = "--quick" ]; then
    left_out="not slow"
    shift
fi

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

install_browser() {
    local options=(-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30)
    export DEBIAN_FRONTEND=noninteractive
    apt-get update "${options[@]}" && apt-get install -y --no-install-recommends "${options[@]}" chromium
}

ensure_browser() {
    if find_browser; then return; fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing chromium for the browser tests"
        if quietly install_browser && find_browser; then return; fi
    fi
    say "no Chromium found: browser tests will be skipped"
}

failed=""
step() { # name, command...
    local name="$1"
    shift
    say "$name"
    if ! "$@"; then failed="${failed:+$failed, }$name"; fi
}

make_environment test
ensure_browser
cd "$ROOT"
export IMGCLF_SHARED="${IMGCLF_SHARED:-$ROOT/../shared}"
if [ ! -d "$IMGCLF_SHARED" ]; then
    say "no $IMGCLF_SHARED: tests on real photos are left out"
    left_out="${left_out:+$left_out and }not shared"
fi

step "ruff check" ruff check
step "ruff format" ruff format --check
step "mypy" mypy
step "lint-imports" lint-imports
if [ -n "$failed" ]; then say "failed before the tests: $failed"; fi
# Two processes: building graphs and starting TensorFlow keep one core busy each. Last, so that its closing line ends
# the output.
step "pytest" python -m pytest -n 2 --dist worksteal ${left_out:+-m "$left_out"} "$@"
[ -z "$failed" ]
