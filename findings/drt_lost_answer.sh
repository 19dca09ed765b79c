#!/usr/bin/env bash
# What a user meets: a row is in the table twice, and the sync says that all is well.
# Version: drt-core 1.2.1, rest_api destination with its defaults (POST, one row a request).
# Guess: a POST whose answer was lost counts as failed, because the row may be in.
# Seen: the connection closes after the row is stored; the POST is repeated without a look, and
# "5 synced" stands for six rows.
set -euo pipefail
# shellcheck source=findings/lib/drt.sh
source "$(dirname "$0")/lib/drt.sh"

install_python drt-core==1.2.1
serve 0 3
make_project fail

expect "the run" "✓ 5 synced" "$(run_drt)"
expect "rows in the table" "1 2 3 3 4 5" "$(xargs <stored)"
echo "drt-core 1.2.1: a POST without an answer is repeated, the row is there twice"
