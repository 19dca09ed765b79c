#!/usr/bin/env bash
# What a user meets: a collection that was emptied, with 200 and a list of what is gone, still holds most of its records.
# Version: Kinto 26.5.0, memory backend, `kinto.paginate_by = 3`, DELETE of a collection's records.
# Guess: `paginate_by` bounds what a reader gets at once; a DELETE without a filter deletes every record.
# Seen: one page of three is deleted of eight; where the rest begins is in the header Next-Page.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python kinto==26.5.0
cat >empty.py <<'PYTHON'
import json

from kinto import main
from pyramid.request import Request

backends = {f"kinto.{name}_backend": f"kinto.core.{name}.memory" for name in ("storage", "permission", "cache")}
everyone = {f"kinto.{kind}_{right}_principals": "system.Everyone" for kind, right in [("bucket", "create"), ("bucket", "write")]}
app = main({}, **backends, **everyone, **{"kinto.paginate_by": "3", "kinto.userid_hmac_secret": "lab"})


def call(method, path, body=None):
    sent = b"" if body is None else json.dumps(body).encode()
    request = Request.blank(f"/v1/buckets{path}", method=method, body=sent, content_type="application/json")
    return request.get_response(app)


call("PUT", "/lab", {"permissions": {"write": ["system.Everyone"]}})
call("PUT", "/lab/collections/deals", {})
records = "/lab/collections/deals/records"
stored = [call("POST", records, {"data": {"number": n}}).status_code for n in range(8)]
answer = call("DELETE", records)
print(stored.count(201), answer.status_code, len(answer.json["data"]), "Next-Page" in answer.headers, call("HEAD", records).headers["Total-Records"])
PYTHON

expect "stored, status, deleted, a next page, left" "8 200 3 True 5" "$(python empty.py 2>kinto.log || cat kinto.log)"
echo "Kinto 26.5.0: with paginate_by a DELETE of all records deletes one page"
