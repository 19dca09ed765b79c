#!/usr/bin/env bash
# What a user meets: an upsert by PUT answers 204 for each row, and new rows are in no table.
# Version: pygeoapi 0.24.0 (OGC API Features, part 4) with its TinyDB provider; needs Python 3.12.
# Guess: PUT of an id that is not there is a 404, if it does not create the row.
# Seen: 204, and nothing is stored. A POST of an id that is there is a 500, not a conflict.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

PYTHON=${PYTHON312:-python3.12} install_python pygeoapi==0.24.0 tinydb==4.9.0
port=$(free_port)
echo '{}' >places.json
cat >settings.yml <<YAML
server:
  bind: {host: 127.0.0.1, port: $port}
  url: http://127.0.0.1:$port
  mimetype: application/json; charset=UTF-8
  encoding: utf-8
  languages: [en-US]
  limits: {default_items: 10, max_items: 10}
  map: {url: "https://tile.example.org/{z}/{x}/{y}.png", attribution: none}
logging: {level: ERROR}
metadata:
  identification: {title: t, description: d, keywords: [k], terms_of_service: none, url: "https://example.org"}
  license: {name: none, url: "https://example.org"}
  provider: {name: none, url: "https://example.org"}
  contact: {name: none, email: nobody@example.org, url: "https://example.org"}
resources:
  places:
    type: collection
    title: t
    description: d
    keywords: [k]
    links: []
    extents: {spatial: {bbox: [-180, -90, 180, 90], crs: "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}}
    providers: [{type: feature, name: TinyDB, data: $here/places.json, editable: true, id_field: id}]
YAML
export PYGEOAPI_CONFIG=$here/settings.yml PYGEOAPI_OPENAPI=$here/openapi.yml
pygeoapi openapi generate settings.yml --output-file openapi.yml >openapi.log 2>&1
start flask --app pygeoapi.flask_app:APP run --host 127.0.0.1 --port "$port"
table=http://127.0.0.1:$port/collections/places/items
wait_for "$table"

kind="Content-Type: application/geo+json"
place() { printf '{"type": "Feature", "id": "%s", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"id": "%s"}}' "$1" "$1"; }
expect "POST" 201 "$(post "$table" "$(place known)" --header "$kind" | tail -1)"
expect "POST again" 500 "$(post "$table" "$(place known)" --header "$kind" | tail -1)"
expect "PUT of a new row" 204 "$(post "$table/new" "$(place new)" --header "$kind" --request PUT | tail -1)"
expect "rows" known "$(curl --silent "$table?f=json" | jq -r '.features[].id' | xargs)"
echo "pygeoapi 0.24.0: PUT of an unknown id answers 204 and stores nothing"
