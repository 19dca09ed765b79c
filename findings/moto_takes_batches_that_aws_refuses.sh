#!/usr/bin/env bash
# What a user meets: a loader is green against the emulator and refused by DynamoDB at its first full batch.
# Version: moto 5.2.5 (server), boto3 1.43.117, DynamoDB BatchWriteItem.
# Guess: the documented limits are checked: 25 rows a call, a key once a call, numbers of at most 38 digits.
# Seen: 26 rows go in; of two rows of one key the second wins; 40 digits come back as they were. Nothing is unprocessed.
set -euo pipefail
# shellcheck source=findings/lib/s3.sh
source "$(dirname "$0")/lib/s3.sh"

install_python 'moto[dynamodb,server]==5.2.5' boto3==1.43.117
serve_s3
cat >load.py <<'PYTHON'
import boto3

client = boto3.client("dynamodb")
client.create_table(
    TableName="deals",
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)


def write(*rows):
    puts = [{"PutRequest": {"Item": {"id": {"S": key}, "amount": {"N": number}}}} for key, number in rows]
    return client.batch_write_item(RequestItems={"deals": puts})["UnprocessedItems"]


def amount(key):
    return client.get_item(TableName="deals", Key={"id": {"S": key}})["Item"]["amount"]["N"]


left = [write(*((f"row {n}", "1") for n in range(26))), write(("twice", "1"), ("twice", "2")), write(("long", "1" * 40))]
print(left, client.scan(TableName="deals")["Count"], amount("twice"), len(amount("long")))
PYTHON

expect "left over, rows, the second amount, digits" "[{}, {}, {}] 28 2 40" "$(python load.py)"
echo "moto 5.2.5: BatchWriteItem takes 26 rows, a key twice, and 40 digits"
