#!/usr/bin/env bash
# What a user meets: after an import of contacts some people are in the address book twice.
# Version: radicale 3.9.0, a whole address book in one PUT.
# Guess: two cards of one UID in one body are refused, or the later one wins: a UID is unique in a collection.
# Seen: 201, both are stored. Two events of one UID are refused with 400, and with them all others of the body.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python radicale==3.9.0
port=$(free_port)
printf '[server]\nhosts = 127.0.0.1:%s\n[auth]\ntype = none\n[storage]\nfilesystem_folder = %s/data\n' \
    "$port" "$here" >config
start python -m radicale --config config
wait_for "http://127.0.0.1:$port"

# put PATH TYPE LINE...: prints the status
put() {
    printf '%s\r\n' "${@:3}" | curl --silent --user reader:any --request PUT --header "Content-Type: $2" \
        --data-binary @- --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$port/reader/$1/"
}

card() { printf '%s\n' BEGIN:VCARD VERSION:3.0 "UID:$1" "FN:$2" "N:$2;;;;" END:VCARD; }
event() { printf '%s\n' BEGIN:VEVENT "UID:$1" DTSTAMP:20240101T000000Z "DTSTART:$2" END:VEVENT; }

mapfile -t book < <(card 1 first && card 2 other && card 1 second)
mapfile -t events < <(event 1 20240101T100000Z && event 2 20240102T100000Z && event 1 20240103T100000Z)
expect "status of the address book" 201 "$(put book text/vcard "${book[@]}")"
expect "status of the calendar" 400 \
    "$(put calendar text/calendar BEGIN:VCALENDAR VERSION:2.0 PRODID:findings "${events[@]}" END:VCALENDAR)"
expect "cards in the address book" "first other second" \
    "$(curl --silent --user reader:any "http://127.0.0.1:$port/reader/book/" | tr -d '\r' | sed -n 's/^FN://p' | sort | xargs)"
echo "radicale 3.9.0: two cards of one UID in one PUT are both kept"
