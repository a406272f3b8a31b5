"""Sizes as Kubernetes writes them, and as bytes.

Source of the form: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4, "Pi": 1024**5, "Ei": 1024**6}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]?))")


def to_bytes(text: str) -> int:
    """Bytes, rounded up as the API server rounds. Raises ValueError for what is no quantity."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write one such as 10Gi")
    number, exponent, suffix = Decimal(found[1]), found[2], found[3] or ""
    if exponent is not None:
        factor = Decimal(10) ** int(exponent)
    else:
        factor = Decimal(_BINARY[suffix]) if suffix in _BINARY else _DECIMAL[suffix]
    return int((number * factor).to_integral_value(rounding=ROUND_CEILING))


def to_text(count: int) -> str:
    """The shortest binary form that is exact: 10Gi, 1536Mi, or plain bytes."""
    for unit, factor in reversed(_BINARY.items()):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def for_people(count: int) -> str:
    """A number of bytes as a sentence or a table says it: 512 B, 1.5 GiB."""
    number, unit = float(count), 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{count} {_UNITS[0]}"
