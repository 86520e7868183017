# What tests/run and tests/deploy share: they ask for everything first, and install it in one call where they may.
# shellcheck shell=bash

# Downloads that later runs use again.
cache=${IMAGESHARE_CACHE:-target/cache}
names=() packages=() others=()

section() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    if [[ -n "${2:-}" ]]; then printf 'hint: %s\n' "$2" >&2; fi
    exit 1
}

# need NAME PACKAGES COMMAND...: NAME is missing if COMMAND fails. Debian's PACKAGES, if any, bring it.
need() {
    local name=$1 package=$2
    shift 2
    if "$@" >/dev/null 2>&1; then return; fi
    names+=("$name")
    # One word a package.
    # shellcheck disable=SC2206
    packages+=($package)
    if [[ -z "$package" ]]; then others+=("$name"); fi
}

need_rust() {
    need "cargo 1.95 or later (install it with rustup)" "" cargo_is_new
    need "a C compiler and linker" "gcc libc6-dev" command -v cc
}

cargo_is_new() {
    local version
    version=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    ((version >= 95))
}

can_make_environments() { python3 -c 'import ensurepip, venv'; }

need_python() { need "Python 3.11 with venv" "python3 python3-venv" can_make_environments; }

broker=/usr/lib/rabbitmq/bin/rabbitmq-server

broker_is_new() {
    local version
    version=$(find /usr/lib/rabbitmq/lib -maxdepth 1 -name 'rabbitmq_server-*' | sed 's/.*-//' | sort -V | tail -n 1)
    [[ -x "$broker" && -n "$version" ]] && [[ "$(printf '3.10\n%s\n' "$version" | sort -V | head -n 1)" == 3.10 ]]
}

need_broker() { need "RabbitMQ 3.10 or later ($broker)" "rabbitmq-server" broker_is_new; }

# Ends if something is missing, unless this may install all of it.
provide() {
    if ((${#names[@]} == 0)); then return; fi
    printf 'missing:\n' >&2
    printf '  %s\n' "${names[@]}" >&2
    if ((${#packages[@]} > 0)); then
        printf 'hint: apt-get install --no-install-recommends %s\n' "${packages[*]}" >&2
    fi
    if ((${#others[@]} > 0)); then fail "${#others[@]} of these must be installed by hand"; fi
    if [[ $EUID -ne 0 ]]; then fail "only root may install packages"; fi
    command -v apt-get >/dev/null || fail "this system has no apt-get" "install them with its package manager"
    install_packages
}

# Installs the packages, and lets none of them start a service.
install_packages() {
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        # shellcheck disable=SC2064
        trap "rm -f $policy" EXIT
    fi
    local get=(apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=2 -o APT::Update::Error-Mode=any)
    # For the lock of the lists, apt-get itself does not wait.
    local said tries=0
    until said=$("${get[@]}" update 2>&1); do
        [[ "$said" == *lists/lock* ]] && ((++tries < 120)) \
            || fail "apt-get update failed (${said##*$'\n'})" "it needs a network"
        sleep 5
    done
    DEBIAN_FRONTEND=noninteractive "${get[@]}" install --no-install-recommends "${packages[@]}" >/dev/null \
        || fail "apt-get could not install ${packages[*]}"
    rm -f $policy
    trap - EXIT
}

# environment NAME FILE...: a virtual environment with the packages of these lists, made anew when a list changes. Prints
# its Python.
environment() {
    local folder=$cache/python-$1 wanted
    shift
    wanted=$(cat "$@" | sha256sum)
    if [[ "$(cat "$folder/complete" 2>/dev/null || true)" != "$wanted" ]]; then
        rm -rf "$folder"
        python3 -m venv "$folder"
        local said
        said=$("$folder/bin/python" -m pip install -qq --retries 1 --disable-pip-version-check \
            "${@/#/--requirement=}" 2>&1) \
            || fail "pip could not install the packages of $* (${said##*$'\n'})" "it needs a network"
        printf '%s\n' "$wanted" >"$folder/complete"
    fi
    printf '%s/bin/python\n' "$(cd "$folder" && pwd)"
}
