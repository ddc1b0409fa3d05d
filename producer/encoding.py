"""Data -> body bytes, per content type.

JSON looks as it did from Thorn 1.5: ``", "`` and ``": "`` between items, ASCII only, times as ISO 8601.
"""

import json
import math
from collections import UserString
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final
from uuid import UUID

from producer.errors import PayloadError
from producer.model import FORM, JSON

#: (package, class) of text that is translated late, by the frameworks that have it.
_LAZY_TEXT: Final = frozenset(
    {
        ("django", "Promise"),
        ("babel", "LazyProxy"),
        ("flask_babel", "LazyString"),
        ("speaklater", "_LazyString"),
    }
)


def encode(data: object, content_type: str) -> bytes:
    """The exact bytes to send and sign; data that is bytes goes out untouched. Raises `PayloadError`."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    encoding = _ENCODINGS.get(content_type)
    if encoding is None:
        raise PayloadError(
            f"The content type {content_type!r} has no encoding: use {JSON} or {FORM}, or send bytes."
        )
    return encoding(data)


def _json(data: object) -> bytes:
    try:
        text = _ENCODER.encode(data)
        if _SURROGATE in text:  # a pair, or a half that receivers' parsers would refuse
            _UNESCAPED.encode(data).encode()
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise PayloadError(
            "A text in the data holds half of a surrogate pair, which JSON can't carry: decode it properly "
            "first."
        ) from error
    except RecursionError as error:
        raise PayloadError("The data is nested too deeply for JSON: flatten it.") from error
    except (TypeError, ValueError) as error:
        raise PayloadError(
            _json_trouble(data) or f"The data is not JSON ({error}): remove what contains itself."
        ) from error


def _extra_text(value: object) -> str | None:
    """Text of the types that Thorn adds to JSON's own; None for any other."""
    if isinstance(value, datetime):
        text = value.isoformat()
        return text[:-6] + "Z" if text.endswith("+00:00") else text
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00"
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, UserString)) or _is_lazy_text(value):
        return str(value)
    return None


def _is_lazy_text(value: object) -> bool:
    return any((c.__module__.partition(".")[0], c.__name__) in _LAZY_TEXT for c in type(value).__mro__)


def _default(value: object) -> str:
    text = _extra_text(value)
    if text is None:
        raise TypeError(type(value).__name__)
    return text


_ENCODER: Final = json.JSONEncoder(allow_nan=False, default=_default)
_UNESCAPED: Final = json.JSONEncoder(allow_nan=False, default=_default, ensure_ascii=False)
#: How escapes of U+D800 … U+DFFF begin.
_SURROGATE: Final = "\\ud"


def _json_trouble(data: object) -> str | None:
    """One sentence on the first value that is no JSON, None if each is. Runs only after a failure."""
    seen: set[int] = set()
    ahead: list[tuple[str, object]] = [("data", data)]
    while ahead:
        path, value = ahead.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return f"{path} is {value!r}, which JSON does not know: send null or text instead."
        if isinstance(value, int) and _too_long(value):
            return f"{path} is a number of too many digits: send it as text."
        if isinstance(value, (dict, list, tuple)):
            if id(value) in seen:
                continue
            seen.add(id(value))
            bad_key = (
                next((key for key in value if not _is_json_key(key)), None)
                if isinstance(value, dict)
                else None
            )
            if bad_key is not None:
                return (
                    f"{path} has a key of type {type(bad_key).__name__}: JSON keys are text, so convert it."
                )
            ahead.extend(reversed(list(_children(path, value))))
        elif not isinstance(value, (str, int, float, type(None))) and _extra_text(value) is None:
            return f"{path} is of type {type(value).__name__}, unknown to JSON: convert it, or send bytes."
    return None


def _too_long(value: int) -> bool:
    """Python refuses to write out numbers beyond a limit of the interpreter (4300 digits unless changed)."""
    try:
        int.__repr__(value)
    except ValueError:
        return True
    return False


def _is_json_key(key: object) -> bool:
    return isinstance(key, (str, int, type(None))) or (isinstance(key, float) and math.isfinite(key))


def _children(
    path: str, value: dict[object, object] | list[object] | tuple[object, ...]
) -> Iterator[tuple[str, object]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in pairs:
        shown = f"{path}[{key!r}]"
        yield (shown if len(shown) <= 200 else path + "[\u2026]"), child


def _form(data: object) -> bytes:
    """``application/x-www-form-urlencoded`` (WHATWG URL section 5.2) in UTF-8; a list repeats its key."""
    if not isinstance(data, Mapping):
        raise PayloadError(f"A form is made from a mapping or sent as bytes, not from {type(data).__name__}.")
    from urllib.parse import quote_plus  # few services send forms

    fields = []
    for key, value in data.items():
        path = f"data[{key!r}]"[:200]
        if key is None:
            raise PayloadError("A form field needs a name, but data has the key None.")
        for item in value if isinstance(value, (list, tuple)) else (value,):
            try:
                fields.append(f"{quote_plus(_scalar(path, key))}={quote_plus(_scalar(path, item))}")
            except UnicodeEncodeError as error:
                raise PayloadError(
                    f"{path} holds half of a surrogate pair, which UTF-8 can't carry."
                ) from error
    return "&".join(fields).encode("ascii")


def _scalar(path: str, value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if _too_long(value):
            raise PayloadError(f"{path} is a number of too many digits: send it as text.")
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError(f"{path} is {value!r}, which a form can't carry: send text instead.")
        return float.__repr__(value)
    text = _extra_text(value)
    if text is None:
        raise PayloadError(
            f"{path} holds a {type(value).__name__}, but a form carries text, numbers and lists of these: "
            "flatten it."
        )
    return text


_ENCODINGS: Final[Mapping[str, Callable[[object], bytes]]] = {JSON: _json, FORM: _form}
