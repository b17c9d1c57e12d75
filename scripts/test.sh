#!/usr/bin/env bash
# Check everything: environment, lint, format, types, import direction, tests. Needs Python 3.10 to 3.13 and bash.
#   bash scripts/test.sh [--quick|--all] [pytest arguments]
#       --quick leaves out the tests marked slow, --all takes those marked sweep too
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

left_out="not sweep" # what pytest's -m leaves out
case "${1:-}" in
--quick)
    left_out="not slow and not sweep"
    shift
    ;;
--all)
    left_out=""
    shift
    ;;
esac

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

debian_install() { # package...
    local options=(-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30)
    export DEBIAN_FRONTEND=noninteractive
    apt-get update "${options[@]}" && apt-get install -y --no-install-recommends "${options[@]}" "$@"
}

may_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; }

ensure_browser() {
    if find_browser; then return; fi
    if may_install; then
        say "installing chromium for the browser tests"
        if quietly debian_install chromium && find_browser; then return; fi
    fi
    say "no Chromium found: browser tests will be skipped"
}

# MediaPipe's web runtime, an npm package, for the tests of exports/web.
ensure_web_runtime() {
    local package folder="$VENV/npm"
    package="$(python -c 'from imgclf.export.web import PACKAGE, VERSION; print(f"{PACKAGE}@{VERSION}")')"
    export NODE_PATH="$folder/node_modules"
    if [ "$(cat "$folder/installed" 2>/dev/null)" = "$package" ]; then return; fi
    if ! command -v npm >/dev/null 2>&1 && may_install; then
        say "installing npm for MediaPipe's web runtime"
        quietly debian_install npm || true
    fi
    if command -v npm >/dev/null 2>&1 && quietly npm install --prefix "$folder" --no-audit --no-fund "$package"; then
        printf '%s\n' "$package" >"$folder/installed"
    else
        say "no npm, or $package cannot be had: tests of the web page will be skipped"
    fi
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
ensure_web_runtime
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
