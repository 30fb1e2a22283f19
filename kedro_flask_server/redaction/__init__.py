"""What is secret in this process, and text without it.

Whatever is kept, logged or shown goes through here. Decided in one place each:

- ``names``: which names say that what they name is secret.
- ``variables``: what of an environment variable is secret, and what is none by its value.
- ``known``: the secrets that this process knows, and the project's names.
- ``assignments``, ``urls``: what looks like a secret in a text, known or not.
- ``content``: requests, snapshots and other JSON as it is shown.

The secrets that are known are the process's, as its environment is: there is one `SECRETS` for it.
"""

from kedro_flask_server.redaction.content import (
    redact_content,
    redact_request,
    redact_snapshot,
)
from kedro_flask_server.redaction.known import SECRETS, Secrets
from kedro_flask_server.redaction.urls import passwords_in, redact_urls
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
]
