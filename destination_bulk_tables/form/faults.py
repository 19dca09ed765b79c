"""What is wrong with a config, by its form: for each setting one sentence, without the value.

jsonschema's own messages quote the value, which may be a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from destination_bulk_tables.model import JsonObject, JsonValue

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_SAYS = {
    "type": "must be of type {}",
    "const": "must be {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
}


def faults_of(config: JsonValue, form: JsonObject) -> list[tuple[str, str]]:
    """Each setting that is wrong, by its path, and the first thing that is wrong with it."""
    from jsonschema import Draft7Validator  # noqa: PLC0415 - slow, and `spec` does not need it

    found = Draft7Validator(form).iter_errors(config)
    faults: dict[str, str] = {}
    for error in sorted(found, key=lambda e: list(map(str, e.path))):
        for path, what in _explain(error):
            faults.setdefault(path, what)
    return list(faults.items())


def _explain(error: ValidationError) -> list[tuple[str, str]]:
    path = error.json_path.removeprefix("$").removeprefix(".")
    wanted: Any = error.validator_value
    schema: Any = error.schema
    instance: Any = error.instance
    match error.validator:
        case "required":
            before = f"{path}." if path else ""
            return [(before + name, "is missing") for name in wanted if name not in instance]
        case "type" if "enum" in schema:
            return []  # the values are told
        case "enum":
            return [(path, f"must be one of: {', '.join(map(str, wanted))}")]
        case "minItems":
            return [(path, f"needs at least one {str(schema['title']).lower().removesuffix('s')}")]
        case "pattern":
            return [(path, f"must look like {schema.get('pattern_descriptor', wanted)}")]
        case "oneOf":
            tag, *values = _tags(error)
            what = f"must be one of: {', '.join(values)}, with the settings it needs"
            # that it must be an object is told already
            return [(f"{path}.{tag}", what)] if isinstance(instance, dict) else []
        case kind:
            return [(path, _SAYS.get(str(kind), f"is not valid ({kind})").format(wanted))]


def _tags(error: ValidationError) -> list[str]:
    """The discriminator of a oneOf and its values."""
    name, values = "", []
    branches: Any = error.validator_value
    for branch in branches:
        for key, member in branch["properties"].items():
            if "const" in member:
                name = key
                values.append(str(member["const"]))
    return [name, *values]
