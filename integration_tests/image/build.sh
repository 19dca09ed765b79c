#!/usr/bin/env bash
# Build the image of the Dockerfile: with docker where an engine answers, else with buildah on a
# stand-in for Airbyte's base image, made by debootstrap and kept in buildah's own storage.
# Without docker it needs root and Debian's packages; ENGINE=buildah chooses it.
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${IMAGE:-airbyte/destination-bulk-tables:dev}
standin=localhost/python-connector-base-standin:bookworm
ca=/etc/ssl/certs/ca-certificates.crt
export BUILDAH_ISOLATION=chroot

engine=${ENGINE:-}
if [ -z "$engine" ]; then
    if docker info > /dev/null 2>&1; then engine=docker; else engine=buildah; fi
fi

install_buildah() {
    for tool in buildah debootstrap; do
        command -v "$tool" > /dev/null && continue
        apt-get update -qq
        apt-get install -y -qq buildah debootstrap > /dev/null
        return
    done
}

# What Airbyte's base promises: Debian with Python and pip, a user 1000 without a home, and these folders of his.
make_standin() {
    [ -z "$(buildah images --quiet "$standin" 2> /dev/null)" ] || return 0
    echo "making the stand-in base image"
    local root container mount
    root=$(mktemp -d)
    debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates \
        bookworm "$root" > "$root.log" || { tail -n 5 "$root.log"; return 1; }
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root.log"
    chroot "$root" useradd --uid 1000 --no-create-home --home-dir /nonexistent airbyte
    mkdir -p "$root"/{airbyte,secrets,config,custom_cache}
    chroot "$root" chown airbyte /airbyte /secrets /config /custom_cache
    container=$(buildah from scratch)
    mount=$(buildah mount "$container")
    cp -a "$root/." "$mount/"
    buildah umount "$container" > /dev/null
    buildah commit --quiet --rm "$container" "$standin" > /dev/null
    rm -rf "$root"
}

case $engine in
    docker)
        start=$SECONDS
        docker build ${BASE_IMAGE:+--build-arg BASE_IMAGE="$BASE_IMAGE"} --tag "$image" .
        bytes=$(docker image inspect --format '{{.Size}}' "$image")
        ;;
    buildah)
        install_buildah
        make_standin
        start=$SECONDS
        # pip in the build trusts what this machine trusts
        buildah build --quiet --layers --build-arg BASE_IMAGE="${BASE_IMAGE:-$standin}" \
            --volume "$ca:$ca:ro" --tag "$image" . > /dev/null
        bytes=$(buildah images --json "$image" \
            | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["size"])')
        ;;
    *)
        echo "ENGINE is docker or buildah, not $engine" >&2
        exit 2
        ;;
esac
echo "image $image: engine $engine, size $bytes, built in $((SECONDS - start)) s"
