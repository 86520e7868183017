# Functions of tests/run, tests/deploy and its stages. The first two check all requirements first and install what is
# missing in one call.
# shellcheck shell=bash

# Downloads, which later runs reuse.
cache=${IMAGESHARE_CACHE:-target/cache}
missing=() packages=() by_hand=0

section() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    if [[ -n "${2:-}" ]]; then printf 'hint: %s\n' "$2" >&2; fi
    exit 1
}

# need NAME PACKAGES COMMAND...: NAME is missing if COMMAND fails. Debian's PACKAGES, if any, provide it.
need() {
    local name=$1 package=$2
    shift 2
    if "$@" >/dev/null 2>&1; then return; fi
    missing+=("$name")
    # One word per package.
    # shellcheck disable=SC2206
    packages+=($package)
    if [[ -z "$package" ]]; then ((++by_hand)); fi
}

# need_command COMMAND [PACKAGE]: The package has the name of the command unless another one is given.
need_command() { need "$1" "${2:-$1}" command -v "$1"; }

# at_least MINIMUM VERSION: VERSION may be empty.
at_least() { printf '%s\n' "$1" "$2" | sort --version-sort --check=quiet; }

need_rust() {
    need "cargo 1.95 or later (install it with rustup)" "" at_least "cargo 1.95" "$(cargo --version 2>/dev/null)"
    need "a C compiler and linker" "gcc libc6-dev" command -v cc
}

need_python() { need "Python 3.11 with venv" "python3 python3-venv" python3 -c 'import ensurepip, tomllib, venv'; }

need_broker() {
    local version
    version=$(find /usr/lib/rabbitmq/lib -name 'rabbitmq_server-*' 2>/dev/null | sed 's/.*-//' | sort -V | tail -n 1) || true
    need "RabbitMQ 3.10 or later" rabbitmq-server at_least 3.10 "$version"
}

# Installs the missing packages, or exits if it cannot install everything.
provide() {
    if ((${#missing[@]} == 0)); then return; fi
    printf 'missing: %s\n' "${missing[@]}" >&2
    if ((${#packages[@]} > 0)); then
        printf 'hint: apt-get install --no-install-recommends %s\n' "${packages[*]}" >&2
    fi
    ((by_hand == 0)) || fail "$by_hand of these must be installed by hand"
    [[ $EUID -eq 0 ]] || fail "only root may install packages"
    command -v apt-get >/dev/null || fail "this system has no apt-get" "install them with its package manager"
    # Prevents packages from starting services.
    local policy=/usr/sbin/policy-rc.d get=(apt-get -qq -o DPkg::Lock::Timeout=600 -o APT::Update::Error-Mode=any)
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    # apt-get does not wait for the lock of the package lists.
    local output tries=0
    until output=$("${get[@]}" update 2>&1); do
        [[ "$output" == *lists/lock* ]] && ((++tries < 120)) \
            || fail "apt-get update: ${output##*$'\n'}" "it needs a network"
        sleep 5
    done
    DEBIAN_FRONTEND=noninteractive "${get[@]}" install --no-install-recommends "${packages[@]}" >/dev/null \
        || fail "apt-get could not install ${packages[*]}"
    if [[ -n "$(trap -p EXIT)" ]]; then
        rm -f $policy
        trap - EXIT
    fi
}

# cargo_tool NAME VERSION: Adds this version of a cargo subcommand to PATH. Builds it unless the cache has it.
cargo_tool() {
    local folder=$cache/$1
    if ! grep -qF "\"$1 $2 " "$folder/.crates2.json" 2>/dev/null; then
        # Compiling the tool takes longer than running it.
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            CARGO_TARGET_DIR=$folder/target cargo install --quiet --locked --root "$folder" --version "$2" "$1"
        rm -rf "$folder/target"
    fi
    PATH=$(cd "$folder/bin" && pwd):$PATH
}

# environment NAME FILE: Prints the Python of a virtual environment with the packages of FILE. Recreates it when FILE changes.
environment() {
    local folder=$cache/python-$1
    if ! cmp --quiet "$2" "$folder/complete"; then
        rm -rf "$folder"
        python3 -m venv "$folder"
        # Without bytecode: most modules are never imported.
        "$folder/bin/python" -m pip install -qq --no-compile --retries 1 --disable-pip-version-check --requirement "$2" >&2 \
            || fail "pip could not install the packages of $2" "it needs a network"
        cp "$2" "$folder/complete"
    fi
    printf '%s/bin/python\n' "$(cd "$folder" && pwd)"
}

# until_logged FILE WORDS: Waits until FILE has a line with WORDS.
until_logged() {
    for _ in $(seq 300); do
        if grep -q "$2" "$1"; then return; fi
        sleep 0.1
    done
    fail "\"$2\" was not logged: $(cat "$1")"
}

# check_worker LOG COMMAND...: Checks that the worker retries an unreachable broker, is alive, and exits with 0.
check_worker() {
    local log=$1 address worker
    shift
    "$@" 2>"$log" &
    worker=$!
    until_logged "$log" '"no subscription; trying again"'
    address=$(sed -n 's/.*"status and metrics","address":"\([^"]*\)".*/\1/p' "$log")
    python3 -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)" "http://$address/livez"
    kill -TERM "$worker"
    wait "$worker" || fail "the worker ended with an error: $(cat "$log")"
}
