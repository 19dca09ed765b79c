"""The page at `/`."""

from __future__ import annotations

from .world import World


def page_html(world: World, *, whole: bool) -> str:
    """Render."""
    return f"<pre>{world.summary()}</pre>" if whole else ""
