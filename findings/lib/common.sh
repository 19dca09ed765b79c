# shellcheck shell=bash
# Sourced by each finding: works in a temporary folder that goes away, with pinned packages in it and
# nothing of this project; ends what it started, by process id.
set -euo pipefail

here=$(mktemp -d)
started=()

clean_up() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$here"
}
trap clean_up EXIT
cd "$here"

# install_python PACKAGE==VERSION...: makes the command `python` of a new environment
install_python() {
    "${PYTHON:-python3.11}" -m venv env
    env/bin/pip install --quiet --disable-pip-version-check "$@" 2>pip.log || { cat pip.log >&2; return 1; }
    PATH="$here/env/bin:$PATH"
}

# install_node PACKAGE@VERSION...
install_node() {
    echo '{"private": true}' >package.json
    npm install --silent --no-audit --no-fund --save-exact "$@" >npm.log 2>&1 || { cat npm.log >&2; return 1; }
}

# start COMMAND...: in the background until the script ends; what it prints goes to server.log
start() {
    "$@" >server.log 2>&1 &
    started+=("$!")
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for URL: until something answers there, whatever it says
wait_for() {
    for _ in $(seq 120); do
        curl --silent --output /dev/null "$1" && return
        sleep 0.5
    done
    cat server.log >&2
    return 1
}

# post URL JSON [curl's options]: prints the answer, then its status
post() {
    curl --silent --write-out '\n%{http_code}\n' --header 'Content-Type: application/json' --data "$2" "${@:3}" "$1"
}

# expect WHAT SEEN NOW: fails when it is no longer as it was seen
expect() {
    [ "$2" = "$3" ] || { printf 'CHANGED: %s\n  was: %s\n  now: %s\n' "$1" "$2" "$3" >&2; exit 1; }
}
