"""How an object looks in a notebook: one line of HTML, which does nothing when it is shown."""

from __future__ import annotations

from html import escape

__all__ = ["card"]

# Longest word in a card.
_WORD = 200
_BOX = (
    "display:inline-flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline;padding:2px 8px;"
    "border:1px solid var(--jp-border-color2,#ccc);border-radius:3px;"
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);"
    "font-size:var(--jp-ui-font-size1,13px)"
)
_NAME = "color:var(--jp-ui-font-color2,#616161)"
_WRONG = "color:var(--jp-error-color1,#d32f2f)"


def card(title: str, *, wrong: bool = False, **facts: object) -> str:
    """Returns the HTML of an object's card.

    Args:
        title: What it is.
        wrong: Whether it stands for an error.
        **facts: What is known of it; empty values are left out. All of it is escaped and cut
            short here; that control characters are escaped is the caller's part.
    """
    style = f' style="{_WRONG}"' if wrong else ""
    parts = [f"<b{style}>{_safe(title)}</b>"]
    parts += [
        f'<span><span style="{_NAME}">{_safe(name)}</span> {_safe(value)}</span>'
        for name, value in facts.items()
        if value not in ("", None)
    ]
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def _safe(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _WORD else text[: _WORD - 1] + "…")
