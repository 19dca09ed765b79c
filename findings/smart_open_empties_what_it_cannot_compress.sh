#!/usr/bin/env bash
# What a user meets: an export raises an error at its start, and yesterday's object is empty.
# Version: smart-open 9.0.2 with boto3 from moto 5.2.5; a name that ends in .zst, without the extra smart-open[zst].
# Guess: the missing module is noticed before anything is opened: an error, the object as it was.
# Seen: the error is raised, and the object is replaced with one of 0 bytes.
set -euo pipefail
# shellcheck source=findings/lib/s3.sh
source "$(dirname "$0")/lib/s3.sh"

install_python 'smart-open[s3]==9.0.2' 'moto[s3,server]==5.2.5'
serve_s3
curl --silent --fail --request PUT --data 'yesterday' "$AWS_ENDPOINT_URL/rows/export.jsonl.zst"
cat >export.py <<'PYTHON'
import smart_open

try:
    with smart_open.open("s3://rows/export.jsonl.zst", "wb") as file:
        file.write(b'{"id": 1}\n')
except ImportError:
    print("refused")
PYTHON

expect "the export" refused "$(python export.py)"
expect "bytes of the object" 0 "$(length_of export.jsonl.zst)"
echo "smart-open 9.0.2: a missing compression module is noticed after the object was emptied"
