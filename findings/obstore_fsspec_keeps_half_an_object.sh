#!/usr/bin/env bash
# What a user meets: an export that broke off in the middle is in the bucket under its final name.
# Version: obstore 0.12.1 with fsspec 2026.9.0, against moto 5.2.5.
# Guess: an exception inside `with ... open(..., "wb")` leaves nothing behind, as with obstore's own writer.
# Seen: obstore.open_writer leaves nothing, however much was written; through FsspecStore of the same package the
# lines written so far are stored.
set -euo pipefail
# shellcheck source=findings/lib/s3.sh
source "$(dirname "$0")/lib/s3.sh"

install_python obstore==0.12.1 fsspec==2026.9.0 'moto[s3,server]==5.2.5'
serve_s3
cat >export.py <<'PYTHON'
import contextlib
import os

import obstore
from obstore.fsspec import FsspecStore
from obstore.store import S3Store

settings = {"endpoint": os.environ["AWS_ENDPOINT_URL"], "client_options": {"allow_http": True}}
opened = {
    "own": lambda: obstore.open_writer(S3Store("rows", **settings), "own"),
    "fsspec": lambda: FsspecStore("s3", **settings).open("rows/fsspec", "wb"),
}
for way in opened.values():
    with contextlib.suppress(InterruptedError), way() as file:
        file.write(b'{"id": 1}\n')
        raise InterruptedError
PYTHON
python export.py

expect "by obstore's writer" none "$(length_of own)"
expect "by its fsspec store" 10 "$(length_of fsspec)"
echo "obstore 0.12.1: its fsspec store keeps what was written before an exception, its own writer does not"
