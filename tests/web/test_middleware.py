"""Where requests may come from, without a server around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Request, Response

from kedro_flask_server.web.middleware import HostOriginMiddleware, TrustedProxies


def tell(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with what an application sees of where a request comes from."""
    request = Request(environ)
    text = "|".join([request.remote_addr or "", request.scheme, request.root_path])
    return Response(text)(environ, start_response)


def seen(app: Any, environ: dict[str, Any]) -> str:
    """Return what an application answers; a `Client` would change where the request is from."""
    body, _, _ = run_wsgi_app(app, environ)
    return b"".join(body).decode()


def middleware(*, origins: tuple[str, ...] = (), refused: list[str] | None = None) -> Client:
    def note(what: str, address: str) -> None:
        if refused is not None:
            refused.append(f"{address} {what}")

    return Client(
        HostOriginMiddleware(
            tell,
            allowed_hosts=["localhost", "[::1]"],
            allowed_origins=origins,
            any_host_paths=["/health"],
            record_refusal=note,
        )
    )


@pytest.mark.parametrize(
    ("proxies", "peer", "believed"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["::1"], "::1", True),
        (["unix"], "", True),
        (["unix"], "localhost", True),
        (["unix"], "127.0.0.1", False),
        (["127.0.0.1"], "", False),
        ([], "127.0.0.1", False),
    ],
)
def test_forwarded_headers_are_believed_of_known_proxies_alone(
    proxies: list[str], peer: str, believed: bool
) -> None:
    headers = {
        "X-Forwarded-For": "198.51.100.1, 203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/kedro",
    }
    environ = EnvironBuilder(headers=headers).get_environ()
    environ["REMOTE_ADDR"] = peer
    text = seen(TrustedProxies(tell, proxies), environ)
    assert text == ("203.0.113.9|https|/kedro" if believed else f"{peer}|http|")


def test_prefix_that_is_no_path_is_dropped() -> None:
    headers = {"X-Forwarded-Prefix": "//evil.example"}
    environ = EnvironBuilder(headers=headers).get_environ()
    environ["REMOTE_ADDR"] = "127.0.0.1"
    text = seen(TrustedProxies(tell, ["127.0.0.1"]), environ)
    assert text == "127.0.0.1|http|"


def test_refusal_says_what_is_not_allowed_and_is_noted() -> None:
    refused: list[str] = []
    client = middleware(refused=refused)
    answer = client.get("/runs", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert "evil.example" in answer.json["detail"]
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 200
    foreign = {"Host": "localhost", "Origin": "https://evil.example"}
    assert client.post("/run", headers=foreign).status_code == 403
    assert [each.split(":")[0] for each in refused] == [" GET /runs", " POST /run"]


def test_answers_depend_on_the_origin_where_origins_are_named() -> None:
    portal = "https://portal.example.com"
    client = middleware(origins=(portal,))
    plain = client.get("/runs", headers={"Host": "localhost"})
    assert plain.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in plain.headers
    asked = {"Host": "localhost", "Origin": portal, "Access-Control-Request-Method": "DELETE"}
    preflight = client.options("/own", headers=asked)
    assert preflight.status_code == 204
    assert "DELETE" in preflight.headers["Access-Control-Allow-Methods"]
    assert preflight.headers["Vary"] == "Origin"
    foreign = client.options("/own", headers={**asked, "Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert "Vary" not in middleware().get("/runs", headers={"Host": "localhost"}).headers
