"""Text from elsewhere (exceptions, log records), made safe to keep, log and send.

A node's exception can carry megabytes, or characters that no encoding can write. Whatever
the server passes on goes through here first.
"""

from __future__ import annotations

import re

MAX_MESSAGE_CHARS = 8_192
"""How much of an exception's message is returned and logged, in characters."""

# A URL that the cut went through: what would identify its credentials may be gone.
_CUT_URL = re.compile(r"://[^\s'\"<>)\]]*\Z")


def bounded(text: str, max_chars: int = MAX_MESSAGE_CHARS) -> str:
    """Return `text` cut to about `max_chars` characters, saying so where it was cut.

    A URL at the cut loses all that follows its scheme, so that a password whose ``@`` was cut
    off cannot slip past the redaction that looks for it.

    Args:
        text: Any text.
        max_chars: How many characters are kept.

    Returns:
        The text itself, or its beginning and a note of its full length.
    """
    if len(text) <= max_chars:
        return text
    head = _CUT_URL.sub("://", text[:max_chars])
    return f"{head}… [cut: {len(text):,} characters in all]"


def bounded_end(text: str, max_chars: int) -> str:
    """Return the end of `text`, about `max_chars` characters, saying so where it was cut.

    Args:
        text: Any text that may be shown whole, credentials in it replaced.
        max_chars: How many characters are kept.
    """
    if len(text) <= max_chars:
        return text
    return f"[cut: {len(text):,} characters in all] …{text[-max_chars:]}"


def printable(text: str) -> str:
    r"""Return `text` with lone surrogates written as escapes, so that UTF-8 can encode it.

    Args:
        text: Any text, ``"\ud800"`` included.

    Returns:
        Text that encodes to UTF-8.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
