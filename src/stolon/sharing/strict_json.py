"""JSON that means one thing only, within bounds that are checked before anything is built.

Python's own parser takes duplicate keys (the last wins), NaN, UTF-16, numbers of any length and nesting up to
the recursion limit. Two readers that resolve these differently can be told two stories by one signed text.
"""

import json
import math
import re
from typing import Any, Final

Json = Any  # what json.loads returns: the one place where a type is really unknown

INTEGERS: Final = 2**63
"""Integers are below this in magnitude: larger ones do not fit a float, and floats do overflow untyped."""

# An unclosed string takes the rest of the text, so that each byte is looked at once, whatever was sent.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


class JsonError(ValueError):
    """A text is not JSON, or not JSON as strict as this."""


def loads(data: bytes, *, most: int, depth: int, canonical: bool = False) -> Json:
    """Read JSON.

    Args:
        data: the text in UTF-8.
        most: how many bytes it may have.
        depth: how deep lists and objects may lie within each other; ``{"a":[1]}`` has depth 2.
        canonical: whether it must be, byte for byte, what :func:`dumps` writes.

    Raises:
        JsonError: it is longer or deeper, not UTF-8, not JSON, not canonical, has a key twice, a number that is
            not finite or does not fit 64 bits, or half of a surrogate pair.

    Example:
        >>> loads(b'{"a":[1,2.5,null]}', most=100, depth=2)
        {'a': [1, 2.5, None]}
        >>> loads(b'{"a":1,"a":2}', most=100, depth=2)
        Traceback (most recent call last):
            ...
        stolon.sharing.strict_json.JsonError: the key 'a' comes twice; each may come once
    """
    if len(data) > most:
        raise JsonError(f"expected at most {most:,} bytes, found {len(data):,}")
    _check_depth(data, depth)
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_refuse_constant,
        )
        again = dumps(value) if canonical or b"\\u" in data else data
    except JsonError:
        raise
    except UnicodeDecodeError:
        raise JsonError("expected UTF-8") from None
    except UnicodeEncodeError:
        raise JsonError("half of a surrogate pair; no text has that") from None
    except ValueError as error:
        raise JsonError(f"not JSON: {error}") from None
    if canonical and again != data:
        raise JsonError("not the canonical form: keys sorted, no spaces, no needless escapes")
    return value


def dumps(value: Json) -> bytes:
    r"""Write JSON in the one form: keys sorted, no spaces, UTF-8 without needless escapes, finite numbers.

    Raises:
        ValueError: a number is not finite, or a text has half of a surrogate pair.
        TypeError: a value has no JSON form.

    Example:
        >>> dumps({"b": "é", "a": (1, 2.0)})
        b'{"a":[1,2.0],"b":"\xc3\xa9"}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def fields(value: Json, *names: str) -> dict[str, Json]:
    """The value as an object of exactly these keys.

    Raises:
        JsonError: it is something else, a key is missing, or there is one more.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise JsonError(f"expected an object of exactly {', '.join(names)}")
    return value


def text(value: Json, form: re.Pattern[str] | None = None) -> str:
    """The value as a text, all of which matches ``form``.

    Raises:
        JsonError: it is something else.
    """
    if not isinstance(value, str) or (form is not None and form.fullmatch(value) is None):
        raise JsonError(
            f"expected a text{'' if form is None else f' of the form {form.pattern}'}, found {str(value)[:80]!r}"
        )
    return value


def texts(value: Json, form: re.Pattern[str] | None = None) -> tuple[str, ...]:
    """The value as a list of texts, all of which match ``form``.

    Raises:
        JsonError: it is something else.
    """
    if not isinstance(value, list):
        raise JsonError(f"expected a list of texts, found {str(value)[:80]!r}")
    return tuple(text(entry, form) for entry in value)


def whole(value: Json, least: int, most: int) -> int:
    """The value as an integer within bounds; true and false are none.

    Raises:
        JsonError: it is something else.
    """
    if type(value) is not int or not least <= value <= most:
        raise JsonError(f"expected an integer from {least} to {most}, found {str(value)[:80]!r}")
    return value


def is_integer(value: Json, expected: int) -> bool:
    """Whether the value is that integer: true and 1.0 equal 1, and are other values all the same."""
    return type(value) is int and value == expected


def _check_depth(data: bytes, most: int) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > most:
            raise JsonError(f"nested deeper than {most}")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made: dict[str, Json] = {}
    for key, value in pairs:
        if key in made:
            raise JsonError(f"the key {key[:40]!r} comes twice; each may come once")
        made[key] = value
    return made


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 20 else INTEGERS
    if not -INTEGERS < value < INTEGERS:
        raise JsonError(f"the integer {text[:24]} does not fit 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"the number {text[:24]} is too large")
    return value


def _refuse_constant(text: str) -> None:
    raise JsonError(f"{text} is not JSON; numbers are finite")
