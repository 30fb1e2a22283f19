"""The replacement of secrets in a text, and a helper for lists of words."""

REDACTED = "<redacted>"
"""As in Kedro (``kedro.io.core``)."""


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())
