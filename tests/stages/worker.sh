# Checks of a running worker for the stages package and container.
# shellcheck shell=bash
source tests/prepare.sh

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
