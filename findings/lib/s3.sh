# shellcheck shell=bash
# Sourced by the findings about object stores: an emulated S3 with the bucket `rows`.
# shellcheck source=findings/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=us-east-1

# serve_s3: its address is in $AWS_ENDPOINT_URL, which the AWS clients read by themselves
serve_s3() {
    port=$(free_port)
    export AWS_ENDPOINT_URL=http://127.0.0.1:$port
    start moto_server --host 127.0.0.1 --port "$port"
    wait_for "$AWS_ENDPOINT_URL"
    curl --silent --fail --output /dev/null --request PUT "$AWS_ENDPOINT_URL/rows"
}

# length_of KEY: of the object, or `none`
length_of() {
    python - "$1" <<'PYTHON'
import sys

import boto3

found = boto3.client("s3").list_objects_v2(Bucket="rows").get("Contents", [])
print(next((entry["Size"] for entry in found if entry["Key"] == sys.argv[1]), "none"))
PYTHON
}
