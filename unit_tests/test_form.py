"""The form: what a person sees and what Airbyte's form makes of it, whichever way it is filled in.

The specification is played through Airbyte's form as `airbyte_form` has it: no order of choices
may leave anything behind, neither a default of another vendor nor a typed credential.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from destination_bulk_tables import commands
from destination_bulk_tables import config as configuration
from destination_bulk_tables.providers import PROVIDERS
from unit_tests.airbyte_form import Form, kind_of, members_of, tag_of

SPEC: Any = commands.specification()["connectionSpecification"]
Path = tuple[str, ...]


def choices_of(schema: Any, path: Path = (), way: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Each choice: its path, its options, and the choices to make before it is in view."""
    for name, field in schema["properties"].items():
        here = (*path, name)
        if kind_of(field) == "group":
            yield from choices_of(field, here, way)
        if kind_of(field) == "choice":
            tag = tag_of(field)
            options = [branch["properties"][tag]["const"] for branch in field["oneOf"]]
            yield here, options, way
            for branch, option in zip(field["oneOf"], options, strict=True):
                yield from choices_of(branch, here, (*way, (here, option)))


CHOICES = list(choices_of(SPEC))


def test_every_choice_is_played() -> None:
    """Also one that stands inside a list, of which there is none: a list's items have no place."""
    assert len(CHOICES) == sum("oneOf" in member for _, member in members_of(SPEC))


def sequences(options: list[str], length: int) -> list[tuple[str, ...]]:
    """Every order of so many options in which each choice is a change."""
    return [
        order
        for order in itertools.product(options, repeat=length)
        if all(one != next_one for one, next_one in itertools.pairwise(order))
    ]


def play(
    schema: Any, path: Path, way: Any, order: tuple[str, ...], *, types: bool, keeps_inner: bool
) -> Any:
    """Choose the options in this order, filling in all but the last; return what is submitted."""
    form = Form(schema, keeps_inner=keeps_inner)
    for place, option in way:
        form.choose(place, option)
    for number, option in enumerate(order):
        form.choose(path, option)
        if types and number < len(order) - 1:
            form.type_everywhere(path)
    return form.submitted()


# --- nothing travels


def test_a_form_with_a_shared_name_is_caught() -> None:
    """The trap itself: a default and a typed address reach the option chosen next."""

    def option(name: str, **fields: Any) -> Any:
        kind = {"type": "string", "const": name}
        return {"type": "object", "properties": {"kind": kind, **fields}}

    texts: Any = {"type": "string"}
    first = option("a", format={**texts, "default": "date"}, host=texts)
    second = option("b", format={**texts, "default": "iso"}, host=texts)
    choice = {"type": "object", "oneOf": [first, second]}
    schema = {"type": "object", "properties": {"p": choice}}
    found = play(schema, ("p",), (), ("a", "b"), types=True, keeps_inner=False)
    assert found["p"] == {"kind": "b", "format": "typed into p.format", "host": "typed into p.host"}
    found = play(schema, ("p",), (), ("a", "b"), types=False, keeps_inner=False)
    assert found["p"]["format"] == "date"


@pytest.mark.parametrize(("path", "options", "way"), CHOICES, ids=[".".join(c[0]) for c in CHOICES])
@pytest.mark.parametrize("length", [2, 3])
def test_no_order_of_choices_leaves_anything_behind(
    path: Path, options: list[str], way: Any, length: int, record_property: Any
) -> None:
    """Any pair and triple ends as if the last option had been chosen in a new form."""
    played = 0
    for keeps_inner in (False, True):
        fresh = {
            option: play(SPEC, path, way, (option,), types=False, keeps_inner=keeps_inner)
            for option in options
        }
        for order in sequences(options, length):
            for types in (False, True):
                found = play(SPEC, path, way, order, types=types, keeps_inner=keeps_inner)
                assert found == fresh[order[-1]], order
                played += 1
    record_property("orders_played", played)
    assert played == 4 * len(sequences(options, length)) > 0


@pytest.mark.parametrize(("path", "_", "way"), CHOICES, ids=[".".join(c[0]) for c in CHOICES])
def test_no_name_stands_in_two_options(path: Path, _: object, way: Any) -> None:
    """Only that of the constant, also where this form would start the value anew."""
    form = Form(SPEC)
    for place, option in way:
        form.choose(place, option)
    choice, _ = form.place(path)
    shared = {
        name: [one["title"], other["title"]]
        for one, other in itertools.combinations(choice["oneOf"], 2)
        for name in set(one["properties"]) & set(other["properties"]) - {tag_of(choice)}
    }
    assert not shared, f"call it after its option (known_as keeps a saved name): {shared}"


@pytest.mark.parametrize("provider", PROVIDERS, ids=[p.name for p in PROVIDERS])
def test_only_the_required_fields_mean_the_documented_defaults(provider: Any) -> None:
    """What the form sends untouched is what a config says that leaves it out."""
    form = Form(SPEC)
    form.choose(("provider",), provider.name)
    fill_required(form, ("provider",))
    sent = form.submitted()
    least = {"provider": only_required(SPEC["properties"]["provider"], sent["provider"])}
    untouched = configuration.parse(sent, PROVIDERS, is_cloud=False)
    plain = configuration.parse(least, PROVIDERS, is_cloud=False)
    assert untouched.provider.rules == plain.provider.rules
    assert untouched.provider.traits == plain.provider.traits
    assert untouched.provider.limits == plain.provider.limits
    assert untouched.provider.base_url == plain.provider.base_url
    assert (untouched.batching, untouched.staging) == (plain.batching, plain.staging)
    assert (untouched.rejected_records, untouched.tables) == (plain.rejected_records, ())


def fill_required(form: Form, path: Path) -> None:
    choice, values = form.place(path)
    group = choice
    if "oneOf" in choice:
        tag = tag_of(choice)
        group = next(o for o in choice["oneOf"] if o["properties"][tag]["const"] == values[tag])
    for name in group.get("required", ()):
        field = group["properties"][name]
        if kind_of(field) in {"group", "choice"}:
            fill_required(form, (*path, name))
        elif "const" not in field and "default" not in field:
            values[name] = example_of(name, field)


def example_of(name: str, field: dict[str, Any]) -> str:
    """What a person would type."""
    if "path" in name:
        return "/{table}" if name == "write_path" else "/me"
    return str(field.get("examples", ["something"])[0])


def only_required(schema: Any, values: Any) -> Any:
    group = schema
    if "oneOf" in schema:
        tag = tag_of(schema)
        group = next(o for o in schema["oneOf"] if o["properties"][tag]["const"] == values[tag])
    return {
        name: only_required(group["properties"][name], values[name])
        if isinstance(values[name], dict)
        else values[name]
        for name in group.get("required", ())
    }


# --- what a person sees

MEMBERS = [(path, member) for path, member in members_of(SPEC) if "const" not in member]
IDS = [path for path, _ in MEMBERS]


@pytest.mark.parametrize(("path", "member"), MEMBERS, ids=IDS)
def test_each_field_says_its_title_and_its_name_in_json(path: str, member: dict[str, Any]) -> None:
    """Docs and errors speak of the name, the form shows the title: a description has both."""
    assert member["title"]
    assert f"In JSON: <code>{path}</code>" in member["description"]
    assert "`" not in member["description"], "Airbyte shows backticks as they are"
    tags = re.findall(r"<[^>]*>", member["description"])
    assert set(tags) <= {"<code>", "</code>", "<br>"}
    assert tags.count("<code>") == tags.count("</code>")


@pytest.mark.parametrize(("path", "member"), MEMBERS, ids=IDS)
def test_each_value_of_a_choice_has_words(path: str, member: dict[str, Any]) -> None:
    """The form lists the bare values, so the description says what each does."""
    for value in member.get("enum", ()):
        says_itself = value.isupper() or value[:2] in {"HS", "RS"}
        assert says_itself or f"<code>{value}</code>: " in member["description"], path


@pytest.mark.parametrize(("path", "member"), MEMBERS, ids=IDS)
def test_no_list_of_texts_is_shown_as_tags(path: str, member: dict[str, Any]) -> None:
    """Airbyte cuts tags at commas and semicolons, so such a list is a box of lines."""
    assert member["type"] != "array" or member["items"]["type"] == "object", path


def test_every_heading_is_in_view() -> None:
    """Of a plain object the form shows the title of its group only, so each has a group."""
    titles = {group["id"]: group["title"] for group in SPEC["groups"]}
    for name, field in SPEC["properties"].items():
        if kind_of(field) == "group":
            assert field["group"] in titles, f"{name}: name its group in form/connection.py"
            assert titles[field["group"]] == field["title"], name
            alone = [n for n, f in SPEC["properties"].items() if f["group"] == field["group"]]
            assert alone == [name]
    assert set(titles) == {field["group"] for field in SPEC["properties"].values()}


def test_the_mapping_is_in_view() -> None:
    """What people come for is not behind "Optional fields"."""
    entry = SPEC["properties"]["tables"]["items"]["properties"]
    policy = SPEC["properties"]["rejected_records"]["properties"]["policy"]
    in_view = [SPEC["properties"]["tables"], entry["table"], entry["columns"], policy]
    assert all(field["always_show"] for field in in_view)


def test_tiles_have_titles_of_their_own() -> None:
    """The form tells the tiles of all choices apart by their titles."""
    titles = [
        branch["title"]
        for _, member in MEMBERS
        if member.get("display_type") == "radio"
        for branch in member["oneOf"]
    ]
    assert titles
    assert len(titles) == len(set(titles))
    for _, member in MEMBERS:
        for branch in member.get("oneOf", ()):
            assert branch["title"], branch
            assert branch["description"], branch["title"]
