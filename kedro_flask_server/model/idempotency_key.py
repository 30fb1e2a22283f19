"""Idempotency keys, which distinguish a repeated request from a new one."""

from __future__ import annotations

import re

KEY_FORM = r"[!-~]{1,255}"
"""The form of a key, as a regular expression: visible ASCII, valid in a header."""


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key."""
    return re.fullmatch(KEY_FORM, text) is not None
