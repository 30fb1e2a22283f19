"""The API's description is valid, agrees with Kedro's, and holds for every answer."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from kedro_flask_server.access.api_keys import create_secret, hash_secret
from tests.servers import PROJECTS, RunningServer, copy_project, eventually, kedro_flask_server

pytestmark = pytest.mark.once

EXAMPLES = int(os.environ.get("SERVER_TEST_EXAMPLES", "100"))


def fetch(server: RunningServer) -> dict[str, Any]:
    document: dict[str, Any] = server.client.get("/openapi.json").json()
    return document


def test_document_is_valid_openapi(ours: RunningServer) -> None:
    document = fetch(ours)
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_document_has_all_that_a_generated_client_uses_of_kedros(
    ours: RunningServer, kedros: RunningServer
) -> None:
    our, kedro = fetch(ours), fetch(kedros)
    for path, operations in kedro["paths"].items():
        for method, operation in operations.items():
            same = our["paths"][path][method]
            assert same["operationId"] == operation["operationId"]
            assert same["tags"] == operation["tags"]
            ours_200 = same["responses"]["200"]["content"]["application/json"]["schema"]
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert {k: ours_200[k] for k in ours_200} == {
                k: v for k, v in schema.items() if k != "title"
            }
    our_schemas, kedro_schemas = our["components"]["schemas"], kedro["components"]["schemas"]
    assert set(kedro_schemas) <= set(our_schemas)
    for name, schema in kedro_schemas.items():
        assert set(schema["properties"]) <= set(our_schemas[name]["properties"]), name
        if name != "HTTPValidationError":  # Kedro does not say that its list is always there
            same = set(our_schemas[name].get("required", []))
            assert same <= set(schema.get("required", [])) | {"status"}, name
    closed = [name for name in our_schemas if not our_schemas[name]["additionalProperties"]]
    assert closed == ["RunRequest", "PipelineRun", "Pause", "Retry", "Reload"]


CANARY = "canary-of-the-environment"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server that takes one key, and has a secret."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys.yml"
    entry = {"name": "me", "sha256": hash_secret(KEY.encode()), "scopes": ["read", "run"]}
    keys.write_text(yaml.safe_dump([entry]))
    project = copy_project(PROJECTS / "probe", folder)
    env = {"KEDRO_SERVER_API_KEYS_FILE": str(keys), "MY_API_TOKEN": CANARY}
    with kedro_flask_server(project, **env) as server:
        server.client.headers["Authorization"] = f"Bearer {KEY}"
        # Its pipelines are in the document once they are loaded.
        eventually(lambda: server.client.get("/health/ready").status_code == 200)
        yield server


def test_run_is_as_described_queued_and_ended(ours: RunningServer) -> None:
    document = fetch(ours)
    for each in document["components"]["examples"].values():
        if "waiting_for" in each.get("value", {}):
            check(document, "Run", each["value"])
    run_id = ours.submit(pipeline_names=["one"], params={"tag": "described"})
    check(document, "Run", ours.show(run_id, wait=30))
    check(document, "Queue", ours.client.get("/queue").json())


def check(document: dict[str, Any], name: str, value: object) -> None:
    """Check that a value is what the document says of a schema."""
    whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


KEY = create_secret()


@pytest.mark.parametrize("who", ["local", "somebody", "nobody"])
def test_every_answer_is_as_described(
    ours: RunningServer, guarded: RunningServer, who: str
) -> None:
    server = ours if who == "local" else guarded
    schema = schemathesis.openapi.from_dict(fetch(server))
    schema.config.update(base_url=server.url)
    operations = [result.ok() for result in schema.get_all_operations()]
    # Those of the pipelines themselves are alike.
    own = [each for each in operations if re.fullmatch(r"/pipelines/[^{]+/run", each.path)]
    assert len(own) > 20
    operations = [each for each in operations if each not in own] + own[:1]
    assert len(operations) == 23 + bool(own)
    headers = {"Authorization": f"Bearer {KEY}"} if who == "somebody" else {}
    statuses = set()
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES if who == "local" else EXAMPLES // 2,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            case.headers = {**(case.headers or {}), **headers}
            if "Idempotency-Key" in case.headers:
                case.headers["Idempotency-Key"] = uuid.uuid4().hex  # else it may be another's
            response = case.call()
            statuses.add((case.path, response.status_code))
            has_failed = "/pipelines/" in case.path and '"status":"failure"' in response.text
            assert response.status_code < 500 or response.status_code == 503 or has_failed
            assert CANARY not in response.text
            # The description cannot say that "${" is refused, nor what both forms of labels are
            # together; and it says that keys may be needed.
            reasons = ("allow_param", "more than 16 labels")
            is_refused = any(reason in response.text for reason in reasons)
            is_refused = is_refused or response.status_code == 401
            # Nor which texts are runtime parameters, and which names are those of nodes.
            is_refused = is_refused or "/pipelines/" in case.path
            excluded = [positive_data_acceptance] if is_refused else []
            excluded += [not_a_server_error] if has_failed else []
            case.validate_response(response, excluded_checks=excluded)

        check()
    if who == "nobody":
        assert {status for path, status in statuses if "health" not in path} == {401}
    else:
        assert 401 not in {status for _, status in statuses}


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=15,
)
FIELDS = st.sampled_from(
    ["tags", "pipeline_names", "runner", "is_async", "load_versions", "params", "node_names"]
)


@given(body=st.one_of(ANY_JSON, st.dictionaries(FIELDS | ANY_TEXT, ANY_JSON), st.binary()))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_body_is_answered_with_5xx(ours: RunningServer, body: Any) -> None:
    if isinstance(body, dict):
        body.setdefault("from_nodes", ["no_such_node"])
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = ours.client.post(
        "/run", content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code in (200, 400, 422)
    answer = response.json()
    assert ("status" in answer) == (response.status_code == 200)
    assert len(response.content) < 100_000


def test_errors_of_one_body_are_bounded(ours: RunningServer) -> None:
    response = ours.client.post("/run", json={"tags": [1] * 100_000, "x" * 100_000: 1})
    assert response.status_code == 422
    assert len(response.content) < 50_000
