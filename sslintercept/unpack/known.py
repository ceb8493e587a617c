"""What can be taken apart."""

from __future__ import annotations


def opens(media_type: str, sniffed: str) -> bool:
    """Whether something can be taken out of a part of this type."""
    return "zip" in sniffed or "zip" in media_type
