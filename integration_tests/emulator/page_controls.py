"""The page's switches and faults: those in force, and the forms that set them by the admin API."""

from __future__ import annotations

import dataclasses
import json
from html import escape
from typing import Any, get_args, get_origin, get_type_hints

from .faults import Kind
from .settings import Settings
from .world import World


def in_force(world: World) -> str:
    """What differs from the defaults, and how far each fault of the script has come."""
    chips = [
        f"<span class=chip>{escape(name)} = {escape(str(value))}</span>"
        for name, value in world.settings.not_default().items()
    ]
    chips += [
        f"<span class='chip fault'>{escape(fault.kind)} at {fault.at}:"
        f" {fault.taken} of {fault.count or 'all'}</span>"
        for fault in world.script.faults
    ]
    shown = "".join(chips) or "<p class=empty>All switches at their defaults, no faults."
    return (
        "<section><h2>Switches and faults in force</h2>"
        f"<article class=chips id=in-force>{shown}</article></section>"
    )


def controls(settings: Settings) -> str:
    """Forms outside of the part that is replaced every second, so that typing is not lost."""
    hints = get_type_hints(Settings)
    switches = "".join(
        _switch(field.name, hints[field.name], getattr(settings, field.name))
        for field in dataclasses.fields(settings)
    )
    kinds = "".join(f"<option>{kind}" for kind in get_args(Kind))
    return (
        "<details class=controls id=controls><summary>Set switches and faults</summary>"
        "<form id=switches><p>A switch decides what the documentation leaves open; "
        "<code>settings.py</code> explains each. Changes hold from the next request on.</p>"
        f"<div class=switches>{switches}</div><button>Set the switches</button></form>"
        "<form id=faults><p>A fault hits the requests from number <i>at</i> on, counted over those "
        "whose method and path match.</p><div class=switches>"
        f"<label>kind<select name=kind>{kinds}</select></label>"
        "<label>at<input name=at type=number min=1 value=1></label>"
        "<label>count<input name=count type=number min=1 value=1></label>"
        "<label>match<input name=match value='POST .*/bulk'></label>"
        "<label>status<input name=status type=number value=429></label>"
        "<label>seconds<input name=seconds type=number step=any placeholder='none'></label></div>"
        "<button>Add the fault</button> <button type=button id=no-faults>Remove all faults</button>"
        "</form><output id=told></output></details>"
    )


def _switch(name: str, hint: Any, value: Any) -> str:
    if get_origin(hint) is tuple:
        value = json.dumps(value)
    options: tuple[Any, ...] = ()
    if get_origin(hint) is not None and get_origin(hint) is not tuple:
        options = get_args(hint)
    elif hint is bool:
        options = (True, False)
    if options:
        chosen = "".join(
            f"<option value='{escape(json.dumps(option), quote=True)}'"
            f"{' selected' if option == value else ''}>{escape(json.dumps(option).strip(chr(34)))}"
            for option in options
        )
        field = f"<select name={name}>{chosen}</select>"
    else:
        text = value if isinstance(value, str) else str(value)
        field = f'<input name={name} value="{escape(text, quote=True)}">'
    return f"<label>{name}{field}</label>"
