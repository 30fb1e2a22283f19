"""Trains on a Kedro server."""

from prefect import flow, get_run_logger, task
from prefect.runtime import task_run

from kedro_flask_server.client import Client, RunFailedError, RunRequest, RunStatus


@task(retries=1, retry_delay_seconds=60)
def run_on_server(pipeline, params=None):
    """Run a pipeline on a Kedro server, and show its log; a retry is another run."""
    logger = get_run_logger()
    key = f"{task_run.id}.{task_run.run_count}"
    with Client() as client:
        request = RunRequest(pipeline_names=[pipeline], params=params)
        run_id = client.submit(request, idempotency_key=key).run_id
        for event in client.follow(run_id, only_logs=True):
            logger.info("%s", event.data["message"])
        run = client.wait(run_id)
    if run.status is not RunStatus.SUCCESS:
        raise RunFailedError(run)
    return run.run_id


@flow
def nightly_training():
    """Train."""
    return run_on_server("training")


if __name__ == "__main__":
    nightly_training()
