"""LZF, as liblzf defines it: only keys are decompressed here, so its speed does not matter."""

from __future__ import annotations


def decompressed(packed: bytes, size: int) -> bytes | None:
    """The `size` plain bytes, or None when the packed ones are damaged."""
    plain = bytearray()
    at, end = 0, len(packed)
    try:
        while at < end and len(plain) <= size:
            control = packed[at]
            at += 1
            if control < 32:  # a run of control + 1 literal bytes
                if at + control + 1 > end:
                    return None
                plain += packed[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[at]
                at += 1
            start = len(plain) - ((control & 31) << 8 | packed[at]) - 1
            at += 1
            if start < 0:
                return None
            length += 2
            while length:  # what is copied may reach into what is being written
                piece = plain[start : start + length]
                plain += piece
                length -= len(piece)
    except IndexError:
        return None
    return bytes(plain) if len(plain) == size else None
