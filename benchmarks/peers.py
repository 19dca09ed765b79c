"""Peers that push rows into an API: drt-core and dlt, as their documentation says to.

    PYTHON benchmarks/peers.py drt|dlt|dlt_files CONFIG     with an interpreter that has them

CONFIG is a file of JSON: `url`, `max_rows`, `input` (messages) and `database` (the same rows in
SQLite, which drt reads). `dlt` loads one file; `dlt_files` has it write a file for each batch, so
that its workers load several at a time. Both send batches of the size that they are told, and
neither knows Airbyte's messages: for dlt the rows are taken out of them.

Source: https://dlthub.com/docs/dlt-ecosystem/destinations/destination (read 2026-11-28) and
drt-core 1.2.1, `drt/destinations/rest_api.py`
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import requests

_SYNC = """\
name: deals
model: select * from deals
destination:
  type: rest_api
  url: {url}/custom/deals
  body_mode: batch
  batch_template: '{{"rows": {{{{ rows | tojson }}}}}}'
sync:
  mode: full
  batch_size: {max_rows}
  rate_limit:
    requests_per_second: 1000
"""


def run_drt(config: dict[str, Any]) -> None:
    """Run `drt run` in a project of one sync."""
    with tempfile.TemporaryDirectory() as home:
        project = Path(home) / "project"
        (project / "syncs").mkdir(parents=True)
        (Path(home) / ".drt").mkdir()
        profile = f"local:\n  type: sqlite\n  database: {config['database']}\n"
        (Path(home) / ".drt" / "profiles.yml").write_text(profile)
        project_file = "name: benchmark\nversion: '0.1'\nprofile: local\n"
        (project / "drt_project.yml").write_text(project_file)
        (project / "syncs" / "deals.yml").write_text(_SYNC.format(**config))
        command = [str(Path(sys.executable).with_name("drt")), "run"]
        environment = os.environ | {"HOME": home, "DO_NOT_TRACK": "1"}
        subprocess.run(command, cwd=project, env=environment, check=True)


def run_dlt(config: dict[str, Any], *, has_files: bool) -> None:
    """Run a pipeline with a custom destination."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"DLT_DATA_DIR": home, "RUNTIME__DLTHUB_TELEMETRY": "false"}
        if has_files:
            size = str(config["max_rows"])
            os.environ["NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS"] = size
            os.environ["DATA_WRITER__FILE_MAX_ITEMS"] = size
        dlt: Any = import_module("dlt")  # of another interpreter; it reads the environment
        session = requests.Session()

        def api(items: Any, table: Any) -> None:
            response = session.post(
                f"{config['url']}/custom/{table['name']}", json={"rows": items}, timeout=60
            )
            response.raise_for_status()

        destination = dlt.destination(
            api, batch_size=config["max_rows"], skip_dlt_columns_and_tables=True
        )
        pages = dlt.resource(_pages(Path(config["input"]), config["max_rows"]), name="deals")
        pipeline = dlt.pipeline("benchmark", destination=destination, pipelines_dir=home)
        pipeline.run(pages)


def _pages(path: Path, max_rows: int) -> Iterator[list[dict[str, Any]]]:
    """The rows, a list of them at a time: dlt is many times slower with single ones."""
    page: list[dict[str, Any]] = []
    with path.open("rb") as lines:
        for line in lines:
            message = json.loads(line)
            if message["type"] == "RECORD":
                page.append(message["record"]["data"])
                if len(page) == max_rows:
                    yield page
                    page = []
    if page:
        yield page


if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "drt":
        run_drt(settings)
    else:
        run_dlt(settings, has_files=sys.argv[1] == "dlt_files")
