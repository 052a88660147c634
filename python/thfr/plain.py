"""Dataclasses of plain values as JSON keeps them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, TypeVar

from thfr.errors import InputError, located

_Plain = TypeVar("_Plain", bound="Plain")


class Plain:
    """For a dataclass whose fields JSON can hold."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def from_dict(cls: type[_Plain], values: Any, source: object = "what was stored") -> _Plain:
        """The inverse of :meth:`as_dict`, of values as JSON gives them.

        Raises:
            InputError: something else; names the fields that are wrong, and ``source``.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            raise InputError(f"{cls.__name__}: {source} is damaged: {located(error)}") from error
