"""Makes the pictures of the pages in the documentation, from the example project.

``tox -e screenshots``; it needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.browsers import chromium, watch
from tests.servers import EXAMPLE, RunningServer, copy_project, kedro_flask_server

IMAGES = Path(__file__).parent.parent / "docs" / "images"
_SIZE = {"width": 1280, "height": 800}


def main(folder: Path) -> None:
    """Make all pictures.

    Args:
        folder: Where to put them.
    """
    with (
        tempfile.TemporaryDirectory() as temporary,
        kedro_flask_server(copy_project(EXAMPLE, Path(temporary))) as server,
        chromium() as browser,
    ):
        failed = _make_history(server)
        pages = {
            "ui-run": f"/ui/runs/{failed}",
            "ui-pipeline": "/ui/pipelines/__default__",
            "ui-start": f"/ui/start?run={failed}",
        }
        with watch(browser, server.url, viewport=_SIZE) as watched:
            for name, path in pages.items():
                _take(watched.page, path, folder / f"{name}.png")


def _make_history(server: RunningServer) -> str:
    """Execute runs, and return one that failed."""
    for trees in (50, 20, 80, 50):
        server.run(params={"forest": {"trees": trees}})
    server.run(pipeline_names=["training"])
    wrong = {"forest": {"trees": -3}}
    server.run(params=wrong)
    failed = server.run(pipeline_names=["training"], params=wrong)
    return str(failed["run_id"])


def _take(page: Page, path: str, file: Path) -> None:
    page.goto(path)
    if page.locator("[data-graph]").count():
        page.locator(".graph svg .node").first.wait_for(state="attached")
    page.screenshot(path=file, animations="disabled")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
