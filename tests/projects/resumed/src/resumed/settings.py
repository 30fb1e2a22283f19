"""Settings of the project: a hook that adds a link to each run."""

from kedro.framework.hooks import hook_impl

from kedro_flask_server import add_link


class Links:
    """Links each run to a page elsewhere."""

    @hook_impl
    def before_pipeline_run(self, run_params):
        """Add the link."""
        add_link("experiment", f"https://user:secret@tracking.example/{run_params['run_id']}")


HOOKS = (Links(),)
