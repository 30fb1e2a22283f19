"""Redacts requests, snapshots and other JSON for display."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kedro_flask_server.redaction.known import SECRETS, Secrets
from kedro_flask_server.redaction.names import is_number_of_tokens, is_secret_name
from kedro_flask_server.redaction.urls import redact_user_info
from kedro_flask_server.redaction.words import REDACTED, words_of

# Fields of a request, each a list.
_NAME_FIELDS = words_of(
    """
    pipeline_names node_names from_nodes to_nodes from_inputs to_outputs tags namespaces
    """
)

_NAMES_IN_SNAPSHOT = words_of(
    "name namespace func_name inputs outputs tags parameters package_name project_name"
)


def redact_content(content: Any, *, secrets: Secrets = SECRETS) -> Any:
    """Return JSON content without secrets.

    Args:
        content: Any JSON content. URLs lose their user info; values with a secret name lose every
            text.
        secrets: The known secrets.
    """
    return _redact(content, secrets, is_secret=False)


def redact_request(
    request: Mapping[str, Any], *, are_names_plain: bool = False, secrets: Secrets = SECRETS
) -> dict[str, Any]:
    """Return a request for a run without secrets.

    Args:
        request: The fields that were given. In fields of names, the project's names stay, even if a
            secret is written the same.
        are_names_plain: Whether such fields are taken to contain names only.
        secrets: The known secrets.
    """

    def redact_name(name: str) -> str:
        return name if are_names_plain or secrets.is_name(name) else _redact_text(name, secrets)

    return {
        field: _redact_field(field, value, secrets, redact_name) for field, value in request.items()
    }


def redact_snapshot(content: Any, *, secrets: Secrets = SECRETS) -> Any:
    """Return a project's snapshot with every text redacted, except the project's names.

    Args:
        content: All of it, or a part.
        secrets: The known secrets.
    """
    if isinstance(content, Mapping):
        return {
            name: value if name in _NAMES_IN_SNAPSHOT else redact_snapshot(value, secrets=secrets)
            for name, value in content.items()
        }
    if isinstance(content, (list, tuple)):
        return [redact_snapshot(each, secrets=secrets) for each in content]
    return secrets.redact(content) if isinstance(content, str) else content


def _redact_field(
    field: str, value: Any, secrets: Secrets, redact_name: Callable[[str], str]
) -> Any:
    if field == "data":  # names of datasets, sizes and hashes
        return value
    if field in _NAME_FIELDS:
        return [redact_name(each) for each in value]
    if field == "load_versions":
        return {redact_name(each): _redact_text(value[each], secrets) for each in value}
    if field == "runner":  # a class of Kedro's or, by its path, of the project
        return value if secrets.is_name(value.split(".")[0]) else redact_name(value)
    return _redact(value, secrets, is_secret=False)


def _redact(content: Any, secrets: Secrets, *, is_secret: bool) -> Any:
    if isinstance(content, dict):
        return {
            _redact_text(name, secrets): _redact(
                value, secrets, is_secret=is_secret or _is_secret(name, value)
            )
            for name, value in content.items()
        }
    if isinstance(content, list):
        return [_redact(each, secrets, is_secret=is_secret) for each in content]
    if content is None or isinstance(content, bool):
        return content
    if is_secret or secrets.knows(str(content)):
        return REDACTED
    return _redact_text(content, secrets) if isinstance(content, str) else content


def _is_secret(name: str, value: Any) -> bool:
    return is_secret_name(name) and not is_number_of_tokens(name, value)


def _redact_text(text: str, secrets: Secrets) -> str:
    return redact_user_info(secrets.redact(text))
