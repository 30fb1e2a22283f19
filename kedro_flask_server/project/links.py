"""Links that hooks and nodes add to their run."""

from __future__ import annotations

from kedro_flask_server.logs.records import current_report
from kedro_flask_server.model.provenance import checked_link


def add_link(title: str, url: str) -> None:
    """Add a link to the run that executes, such as an experiment's page in another service.

    Called by a hook or a node; without a server, as under ``kedro run``, it does nothing. A run has
    up to 20 links, and one of each title.

    Args:
        title: Its title, of which 200 characters count.
        url: Its URL, ``http`` or ``https``.

    Raises:
        ValueError: If the URL is no such URL, or has more than 2,000 characters.
    """
    title, url = checked_link(title, url)
    report = current_report()
    if report is not None:
        report.link(title, url)
