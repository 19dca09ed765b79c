# The connector in a virtual environment of its own on Airbyte's Python base image.
# Nothing the connector reads lies outside /opt/connector, which belongs to root.
ARG BASE_IMAGE=docker.io/airbyte/python-connector-base:4.1.0@sha256:1d1aa21d34e851df4e8a87b391c27724c06e2597608e7161f4d167be853bd7b6

FROM ${BASE_IMAGE} AS builder
USER root
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Dependencies first, at the versions of the lock: a change of the code alone reuses this layer.
COPY pyproject.toml poetry.lock ./
COPY integration_tests/image/requirements.py ./
RUN python3 requirements.py > requirements.txt \
    && python3 -m venv --without-pip /opt/connector \
    && python3 -m pip --python /opt/connector/bin/python install --no-deps -r requirements.txt
COPY README.md LICENSE ./
COPY destination_bulk_tables ./destination_bulk_tables
RUN python3 -m pip --python /opt/connector/bin/python install --no-deps .

FROM ${BASE_IMAGE}
ARG VERSION=0.2.0
LABEL io.airbyte.name="airbyte/destination-bulk-tables" \
      io.airbyte.version="${VERSION}"
COPY --from=builder /opt/connector /opt/connector
# Unbuffered: a state must not wait in the process until more output follows.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AIRBYTE_ENTRYPOINT="/opt/connector/bin/destination-bulk-tables"
USER 1000:1000
WORKDIR /airbyte
ENTRYPOINT ["/opt/connector/bin/destination-bulk-tables"]
