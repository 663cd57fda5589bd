"""How numbers, moments and refusals are put into words on the page."""

import math
from datetime import UTC, datetime
from typing import Final

from stolon.errors import ImageError

__all__ = ["FILTERS", "refusal"]

_SPACE: Final = "\N{NO-BREAK SPACE}"
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_REFUSALS: Final = {
    "not an image": (415, "This is not a picture that can be read here. JPEG, PNG and WebP can."),
    "broken image": (422, "This picture is damaged, or only a part of one."),
    "animation": (422, "This is an animation. Save the frame that you mean as a picture."),
    "image too large": (413, "This picture is too large. Up to 25 megapixels and 8 MB are taken."),
    "image too costly": (422, "This picture takes too long to decode. Save it again with an editor."),
    "no decoder": (503, "Pictures cannot be read at the moment. Try again."),
}


def refusal(error: ImageError) -> tuple[int, str]:
    """The HTTP status and the sentence for a picture that was refused."""
    return _REFUSALS.get(error.kind, _REFUSALS["broken image"])


def percent(share: float | None, digits: int = 0) -> str:
    r"""A share as a percentage.

    Example:
        >>> percent(0.9312, 1), percent(None)
        ('93.1\xa0%', '–')
    """
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:.{digits}f}{_SPACE}%"


def size(count: float) -> str:
    r"""A number of bytes.

    Example:
        >>> size(61_234), size(3)
        ('61.2\xa0kB', '3\xa0B')
    """
    return _scaled(count, "B")


def macs(count: float) -> str:
    r"""A number of multiply-accumulates.

    Example:
        >>> macs(1.23e12)
        '1.23\xa0TMAC'
    """
    return _scaled(count, "MAC")


def duration(seconds: float) -> str:
    r"""A duration, in its two largest units at most.

    Example:
        >>> duration(3.2), duration(200), duration(9000)
        ('3\xa0s', '3\xa0min', '2.5\xa0h')
    """
    if seconds < 90:
        return f"{seconds:.0f}{_SPACE}s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f}{_SPACE}min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f}{_SPACE}h".replace(".0", "")
    return f"{seconds / 86400:.0f}{_SPACE}days"


def ago(seconds: float | None) -> str:
    r"""How long ago something was.

    Example:
        >>> ago(1.0), ago(65.0), ago(None)
        ('just now', '65\xa0s ago', 'never')
    """
    if seconds is None:
        return "never"
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def moment(when: datetime) -> str:
    r"""A moment by the clock of this machine; the year where it is not this one.

    Example:
        >>> moment(datetime(2019, 11, 2, 9, 5))
        '2\xa0Nov\xa02019, 09:05'
    """
    local = when.astimezone()
    year = "" if local.year == datetime.now(UTC).year else f"{_SPACE}{local.year}"
    return f"{local.day}{_SPACE}{_MONTHS[local.month - 1]}{year}, {local:%H:%M}"


def _scaled(count: float, unit: str) -> str:
    if count < 1000:
        return f"{count:.0f}{_SPACE}{unit}"
    power = min(int(math.log10(count) // 3), 6)
    value = count / 1000**power
    if value >= 999.5 and power < 6:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{_SPACE}{('', 'k', 'M', 'G', 'T', 'P', 'E')[power]}{unit}"


FILTERS: Final = {
    "ago": ago, "duration": duration, "macs": macs, "moment": moment, "percent": percent, "size": size,
}  # fmt: skip
"""For the templates, by the names they use."""
