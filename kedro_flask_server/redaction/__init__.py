"""The secrets of this process, and texts without them.

Whatever is stored, logged or shown is redacted here. Each module decides one thing:

- ``names``: which names denote a secret.
- ``variables``: what of an environment variable is secret, and which values are not.
- ``known``: the secrets that this process knows, and the project's names.
- ``assignments``, ``urls``: what looks like a secret in a text, known or not.
- ``content``: requests, snapshots and other JSON as it is shown.

Secrets belong to the process, as its environment does: it has one `SECRETS`.
"""

from kedro_flask_server.redaction.content import (
    redact_content,
    redact_request,
    redact_snapshot,
)
from kedro_flask_server.redaction.known import SECRETS, Secrets
from kedro_flask_server.redaction.urls import passwords_in, redact_urls, redact_user_info
from kedro_flask_server.redaction.words import REDACTED

__all__ = [
    "REDACTED",
    "SECRETS",
    "Secrets",
    "passwords_in",
    "redact_content",
    "redact_request",
    "redact_snapshot",
    "redact_urls",
    "redact_user_info",
]
