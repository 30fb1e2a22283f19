"""What stands for a secret in a text, and lists of words."""

REDACTED = "<redacted>"
"""As Kedro has it (``kedro.io.core``)."""


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())
