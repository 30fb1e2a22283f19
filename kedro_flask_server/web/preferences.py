"""What a client prefers, in the words of RFC 7240."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Request, Response
from werkzeug.http import parse_list_header


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The preferences of a request that this server knows.

    Attributes:
        respond_async: Whether to answer before the run has ended (section 4.1).
        wait_s: How many seconds to wait for the end at most (section 4.3).
        is_strict: Whether a run that fails is an error (``handling=strict``, section 4.4).
        is_lenient: Whether it is none (``handling=lenient``).
    """

    respond_async: bool = False
    wait_s: int | None = None
    is_strict: bool = False
    is_lenient: bool = False

    @classmethod
    def of(cls, request: Request) -> Preferences:
        """Return the preferences of a request; what is unknown or malformed is no preference.

        Args:
            request: The request.
        """
        given: dict[str, str] = {}
        for preference in parse_list_header(", ".join(request.headers.getlist("Prefer"))):
            token, _, value = preference.partition(";")[0].partition("=")
            # Where one is given twice, the first counts (section 2).
            given.setdefault(token.strip().lower(), value.strip().strip('"'))
        wait = given.get("wait", "")
        return cls(
            respond_async=given.get("respond-async") == "",
            wait_s=int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None,
            is_strict=given.get("handling", "").lower() == "strict",
            is_lenient=given.get("handling", "").lower() == "lenient",
        )

    def apply(self, response: Response, *names: str) -> None:
        """Say in an answer which preferences it follows (section 3).

        Args:
            response: The answer.
            names: Which of ``respond-async``, ``wait`` and ``handling`` made a difference.
        """
        applied = {
            "respond-async": "respond-async" if self.respond_async else "",
            "wait": "" if self.wait_s is None else f"wait={self.wait_s}",
            "handling": "handling=strict" if self.is_strict else "",
            **({"handling": "handling=lenient"} if self.is_lenient else {}),
        }
        shown = ", ".join(applied[name] for name in names if applied.get(name))
        if shown:
            response.headers["Preference-Applied"] = shown
        response.vary.add("Prefer")
