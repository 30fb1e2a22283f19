"""Idempotency keys: what tells a request that is sent again from another one."""

from __future__ import annotations

import re

KEY_FORM = r"[!-~]{1,255}"
"""The form of a key, as a regular expression: visible ASCII, as a header can carry it."""


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key."""
    return re.fullmatch(KEY_FORM, text) is not None
