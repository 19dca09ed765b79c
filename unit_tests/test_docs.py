"""The documents name what exists, and what exists is named."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from destination_bulk_tables.commands import specification
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.providers.custom_http import CustomHttp
from destination_bulk_tables.providers.presets import PRESETS
from unit_tests.airbyte_form import members_of

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "integration_tests").glob("*/README.md"),
]
PACKAGE = ROOT / "destination_bulk_tables"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file, each anchor to a heading."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_each_setting_stands_in_the_docs() -> None:
    """The form explains those of custom_http and of presets; the page lists all others."""
    pages = ["README.md", "docs/configuration.md"]
    text = "".join((ROOT / page).read_text("utf-8") for page in pages)
    form: Any = specification()["connectionSpecification"]
    paths = [path for path, _ in members_of(form) if not path.startswith("provider.")]
    own = [provider for provider in PROVIDERS if provider not in (*PRESETS, CustomHttp)]
    paths += [path for provider in own for path, _ in members_of(dict(provider.spec))]
    names = {path.rpartition(".")[2].removesuffix("[]"): path for path in paths}
    lacking = [path for name, path in names.items() if not re.search(rf"\b{name}\b", text)]
    assert not lacking, f"docs/configuration.md says nothing of {lacking}"
    assert len(names) > 40


def test_drawings_name_modules() -> None:
    """Each word of the drawings that stands where a module does is one."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    life, house = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    named = set(re.findall(r"^ {2,6}([a-z_]+) {2,}", life, re.MULTILINE))
    drawn = set(re.findall(r"\b(engine|[a-z]+(?= {2,}|$|\n))", house))
    named |= drawn - {"nothing", "requests", "together"}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert named <= modules | {"stdin"}, sorted(named - modules)
    assert len(named) >= 10


def test_called_functions_exist() -> None:
    """Names in code type of the architecture page stand in the package's code."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    code = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    for owner, name in re.findall(r"`([A-Z]\w+)\.(\w+)`", text):
        assert f"class {owner}" in code
        assert f"def {name}" in code


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_named_files_exist(name: str) -> None:
    """Each path in code type is one of the repository, of the package or of each provider."""
    text = (ROOT / name).read_text("utf-8")
    file, folder = r"(?:\w+/)*\w+\.(?:py|md|json|toml)", r"\w+/[\w/]*"
    named = re.findall(rf"`(?:\.venv/bin/python )?({file}|{folder})`", text)
    places = (ROOT, PACKAGE, PACKAGE / "providers/qobra")
    lacking = [path for path in named if not any((place / path).exists() for place in places)]
    lacking = [path for path in lacking if "NAME" not in path]
    assert not lacking, f"{name} names what does not exist: {lacking}"
    assert named


def test_states_leave_where_the_page_says() -> None:
    """Who counts a row as settled, or prints a state, is named under "Who may acknowledge"."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    page = text.partition("## Who may acknowledge")[2].partition("\n## ")[0]
    code = {path.stem: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    settles = re.compile(r"epoch\.(delivered|rejected) \+=")
    settling = {name for name, text in code.items() if settles.search(text)}
    named = set(re.findall(r"`(\w+)` \(", page))
    assert settling == named, "say under Who may acknowledge which modules settle an epoch, and why"
    assert [name for name, text in code.items() if ".acknowledge()" in text] == ["acknowledging"]


def test_messages_to_look_up_are_said() -> None:
    """Each message under Troubleshooting is one of the code, whatever it says of a case."""
    texts = "\n".join(text for path in PACKAGE.rglob("*.py") for text in _texts_of(path))
    page = (ROOT / "docs/operations.md").read_text("utf-8").partition("## Troubleshooting")[2]
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    lacking = [
        message
        for message in messages
        if not re.search(_CASE.sub(".{1,60}", re.escape(message)), texts, re.IGNORECASE)
    ]
    assert not lacking, f"docs/operations.md quotes what no message says: {lacking}"
    assert len(messages) > 15


# a name or number of one case, at a place where the code puts it in
_CASE = re.compile(r"'id'|\b(?:Qobra|N|40\d)\b|(?:\\\.){3}|s3://")


def _texts_of(path: Path) -> Iterator[str]:
    """The texts in a module, with a mark where a value is put in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "{}"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_one_version() -> None:
    """The package, the connector's metadata and the changelog agree on the version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poetry"]["version"]
    metadata = yaml.safe_load((ROOT / "metadata.yaml").read_text())
    assert metadata["data"]["dockerImageTag"] == version
    changelog = (ROOT / "docs/integrations/destinations/bulk-tables.md").read_text("utf-8")
    newest = re.search(r"^\| (\d+\.\d+\.\d+) \|", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == version
