"""Trains every night, on a Kedro server."""

from datetime import datetime

from airflow.sdk import DAG, BaseOperator

from kedro_flask_server.client import Client, RunFailedError, RunRequest, RunStatus


class KedroServerOperator(BaseOperator):
    """Runs a pipeline on a Kedro server, and shows its log."""

    template_fields = ("pipeline", "runtime_params")

    def __init__(self, *, pipeline, runtime_params=None, **kwargs):
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.runtime_params = runtime_params
        self.kedro_run_id = None

    def execute(self, context):
        task = context["ti"]
        key = f"{task.dag_id}.{task.task_id}.{task.run_id}.{task.map_index}.{task.try_number}"
        request = RunRequest(pipeline_names=[self.pipeline], params=self.runtime_params)
        with Client() as client:
            self.kedro_run_id = client.submit(request, idempotency_key=key).run_id
            for event in client.follow(self.kedro_run_id, only_logs=True):
                self.log.info("%s", event.data["message"])
            run = client.wait(self.kedro_run_id)
        if run.status is not RunStatus.SUCCESS:
            raise RunFailedError(run)
        return run.run_id

    def on_kill(self):
        if self.kedro_run_id:
            with Client() as client:
                client.cancel(self.kedro_run_id)


with DAG("nightly_training", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False):
    KedroServerOperator(task_id="train", pipeline="training", retries=1)
