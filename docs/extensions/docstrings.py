"""Docstrings as the site shows them: Sphinx roles become links, and tensor arguments get the shapes that
comments in the signature give them (``features: Any,  # [B,C,H,W]``).
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([^`]+)`")


def comments(function: griffe.Function) -> dict[str, str]:
    """The comments of a signature's lines: of each parameter and, as ``return``, of the result."""
    found: dict[str, str] = {}
    for line in function.source.splitlines():
        code, _, comment = line.partition("  # ")
        if code.lstrip().startswith('"""'):
            break
        parameter = re.match(r"\s*(\w+)\s*[:=]", code)
        if comment and "[" in comment and ("->" in code or not parameter):
            found["return"] = comment.split("-> ")[-1].strip()
        elif comment and "[" in comment and parameter:
            found[parameter[1]] = comment.strip()
        if code.endswith(":") and "->" in code:
            break
    return found


def with_shapes(text: str, shapes: dict[str, str]) -> str:
    """The docstring with the shapes it does not name itself: before the descriptions of arguments and result,
    or at the end for those without one.
    """
    rest = []
    for name, shape in shapes.items():
        if shape.split("[")[1] in text:
            continue
        result = name == "return"
        label, stop = (r"^Returns:\n\s+", ".") if result else (rf"^\s+{name}: ", ",")
        if place := re.search(label, text, flags=re.MULTILINE):
            text = f"{text[: place.end()]}`{shape}`{stop} {text[place.end() :]}"
        else:
            rest.append(f"returns `{shape}`" if result else f"`{name}` is `{shape}`")
    return text + (f"\n\nShapes: {'; '.join(rest)}." if rest else "")


class Docstrings(griffe.Extension):
    """See the module."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        if isinstance(obj, griffe.Function):
            obj.docstring.value = with_shapes(obj.docstring.value, comments(obj))

        def link(match: re.Match[str]) -> str:
            short, name = match.groups()
            try:
                path = obj.resolve(name.split(".")[0])
                path = ".".join([path, *name.split(".")[1:]])
            except griffe.NameResolutionError:
                path = name
            shown = name.split(".")[-1] if short else name
            return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'

        obj.docstring.value = _ROLE.sub(link, obj.docstring.value)
