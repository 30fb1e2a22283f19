"""Files that ``kedro server run`` gives to a run, and writes of what it returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedro_flask_server.model.media_types import JSON, media_type_of

if TYPE_CHECKING:
    from kedro_flask_server.client import Client


def split_files(context: object, option: object, given: tuple[str, ...]) -> dict[str, Path]:
    """Return files by their datasets, from texts ``DATASET=FILE``.

    Raises:
        click.BadParameter: If a text is none.
    """
    files = {}
    for each in given:
        dataset, _, path = each.partition("=")
        if not dataset or not path:
            raise click.BadParameter(f"{each!r} is not DATASET=FILE.")
        files[dataset] = Path(path)
    return files


def call_pipeline(
    client: Client,
    request: dict[str, Any],
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    *,
    save: bool | None,
    priority: int | None,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Run a pipeline on files, and write what it returns to others.

    Args:
        client: The connection to the server.
        request: What to run.
        inputs: The files to send, by dataset.
        outputs: The files to write, by dataset.
        save: Whether datasets are saved as the catalog says; None for the default.
        priority: The priority of the run; None for that of its pipelines.
        labels: Its labels.

    Returns:
        The id of the run, and the sizes of the files that were written.

    Raises:
        RunFailedError: If the run does not succeed.
        click.UsageError: If the request is not for one pipeline, or a file has an ending that does
            not go with it.
    """
    names = request.pop("pipeline_names", None) or ["__default__"]
    if len(names) != 1:
        raise click.UsageError("--input and --output are for one pipeline.")
    kinds = {media_type_of(path) for path in outputs.values()}
    if len(outputs) > 1 and kinds != {JSON}:
        raise click.UsageError("Several --output are written as JSON: name them .json.")
    missing = [str(path) for path in inputs.values() if not path.is_file()]
    if missing:
        raise click.UsageError(f"There is no file {', '.join(missing)}.")
    nowhere = [str(path) for path in outputs.values() if not path.absolute().parent.is_dir()]
    if nowhere:
        raise click.UsageError(f"There is no folder for {', '.join(nowhere)}.")
    params = request.pop("params", None)
    called = client.call(
        names[0],
        dict(inputs),
        params=params,
        outputs=[*outputs] if outputs else None,
        save=save,
        media_type=kinds.pop() if kinds else None,
        request=request,
        priority=priority,
        labels=labels,
    )
    written = {}
    for dataset, path in outputs.items():
        if dataset not in called.outputs:
            reason = called.not_returned.get(dataset, "the run has not made it")
            raise click.ClickException(f"{dataset} is not returned: {reason}.")
        content = _content_of(called.outputs[dataset])
        path.write_bytes(content)
        written[str(path)] = len(content)
    return {"run_id": called.run_id, "written": written}


def _content_of(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if hasattr(data, "to_json"):  # a data frame
        text: str = data.to_json(orient="records", date_format="iso")
        return text.encode()
    return json.dumps(data, ensure_ascii=False).encode()
