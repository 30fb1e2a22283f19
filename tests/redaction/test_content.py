"""Requests and snapshots as they are shown: what is secret is nowhere, and names are names."""

from __future__ import annotations

import pytest

from kedro_flask_server.redaction import (
    Secrets,
    redact_content,
    redact_request,
    redact_snapshot,
)


@pytest.fixture
def secrets() -> Secrets:
    """Know a credential that is a name of the project, and one that is not."""
    secrets = Secrets()
    secrets.learn(["train_model", "hunter2-hunter2"])
    secrets.learn_names(["train_model", "probe", "SequentialRunner"], are_pipelines_known=True)
    return secrets


def test_request_is_shown_without_secrets_and_is_whole_otherwise() -> None:
    request = {
        "params": {
            "db": {"password": "hunter2", "url": "postgres://me:p@ss@host/db?a=1", "size": 5},
            "list": ["https://u:p@h", 1.5, None, True, "\ud800"],
            "long": "x" * 20_000,
            "tokens": ["abc", {"of": "def"}, 5],
            "max_tokens": 512,
        }
    }
    assert redact_content(request) == {
        "params": {
            "db": {"password": "<redacted>", "url": "postgres://<redacted>@host/db?a=1", "size": 5},
            "list": ["https://<redacted>@h", 1.5, None, True, "\ud800"],
            "long": "x" * 20_000,
            "tokens": ["<redacted>", {"of": "<redacted>"}, "<redacted>"],
            "max_tokens": 512,
        }
    }


def test_names_of_the_project_stay_in_the_fields_that_hold_names(secrets: Secrets) -> None:
    names = ["train_model", "hunter2-hunter2"]
    fields = ("pipeline_names", "node_names", "from_nodes", "to_nodes", "from_inputs")
    fields += ("to_outputs", "tags", "namespaces")
    for field in fields:
        assert redact_request({field: names}, secrets=secrets) == {
            field: ["train_model", "<redacted>"]
        }
    request = {
        "runner": "probe.runners.Mine",
        "load_versions": {"train_model": "train_model", "api_token": "2026-01-01"},
        "is_async": True,
        "params": {"train_model": "train_model", "a": ["hunter2-hunter2"]},
    }
    assert redact_request(request, secrets=secrets) == {
        "runner": "probe.runners.Mine",
        "load_versions": {"train_model": "<redacted>", "api_token": "2026-01-01"},
        "is_async": True,
        "params": {"<redacted>": "<redacted>", "a": ["<redacted>"]},
    }


def test_all_names_stay_while_those_of_the_project_are_not_known(secrets: Secrets) -> None:
    request = {"tags": ["hunter2-hunter2"], "params": {"a": "hunter2-hunter2"}}
    shown = redact_request(request, are_names_plain=True, secrets=secrets)
    assert shown == {"tags": ["hunter2-hunter2"], "params": {"a": "<redacted>"}}


def test_snapshot_has_the_names_and_no_secret(secrets: Secrets) -> None:
    node = {"name": "train_model", "inputs": ["train_model"], "source": {"filepath": "train_model"}}
    content = {
        "metadata": {"project_name": "train_model"},
        "pipelines": [{"name": "train_model", "nodes": [node]}],
        "datasets": {"train_model": {"name": "train_model", "filepath": "train_model/x"}},
        "parameters": ["train_model"],
        "other": ("train_model", 1),
    }
    node = {**node, "source": {"filepath": "<redacted>"}}
    assert redact_snapshot(content, secrets=secrets) == {
        "metadata": {"project_name": "train_model"},
        "pipelines": [{"name": "train_model", "nodes": [node]}],
        "datasets": {"train_model": {"name": "train_model", "filepath": "<redacted>/x"}},
        "parameters": ["train_model"],
        "other": ["<redacted>", 1],
    }
