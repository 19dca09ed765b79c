# shellcheck shell=bash
# Sourced by the findings about low-code sources: an API that answers with one file, and a source that reads it.
# shellcheck source=findings/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# make_source NORMALIZATION PROPERTIES: of a stream `rows`, which reads the file rows.json
make_source() {
    port=$(free_port)
    start python3 -m http.server --bind 127.0.0.1 "$port"
    wait_for "http://127.0.0.1:$port/rows.json"
    jq --null-input --arg url "http://127.0.0.1:$port" --arg normalization "$1" --argjson properties "$2" '
        {__injected_declarative_manifest: {
            version: "7.0.0", type: "DeclarativeSource", check: {type: "CheckStream", stream_names: ["rows"]},
            spec: {type: "Spec", connection_specification: {type: "object", properties: {}}},
            streams: [{type: "DeclarativeStream", name: "rows", primary_key: "id",
                schema_loader: {type: "InlineSchemaLoader", schema: {type: "object", properties: $properties}},
                retriever: {type: "SimpleRetriever",
                    requester: {type: "HttpRequester", url_base: $url, path: "/rows.json", http_method: "GET"},
                    record_selector: {type: "RecordSelector", schema_normalization: $normalization,
                        extractor: {type: "DpathExtractor", field_path: []}}}}]}}' >config.json
    jq --null-input --argjson properties "$2" '
        {streams: [{sync_mode: "full_refresh", destination_sync_mode: "append",
            stream: {name: "rows", json_schema: {properties: $properties}, supported_sync_modes: ["full_refresh"]}}]}' \
        >catalog.json
}

# the data of each RECORD as the source wrote it
read_source() {
    source-declarative-manifest read --config config.json --catalog catalog.json 2>/dev/null |
        grep '"RECORD"' | sed -E 's/.*"data": ?(\{[^}]*\}).*/\1/'
}
