"""`likeness serve`: every entry with a schedule, as a Prefect deployment, one run of a pipeline at a time."""

from __future__ import annotations

from pathlib import Path

from generators.data import DataError
from pipelines import server
from pipelines.config import load
from pipelines.progress import log

AT_ONCE = 1  # runs on this machine at a time: two trainings at once slow each other more than twofold


def serve(config: Path) -> None:
    """Runs until it is stopped. Starts a Prefect server on loopback unless PREFECT_API_URL names one."""
    entries = {name: entry for name, entry in load(config).items() if entry.schedule}
    if not entries:
        raise DataError(f"{config}: no entry has a schedule, expected at least one, such as schedule: {{cron: '0 2 * * *', timezone: UTC}}")
    with server.server(services=True) as ready:
        from prefect import serve as serve_deployments
        from prefect.schedules import Cron

        from pipelines.flows import likeness

        address = ready()
        deployments = []
        for name, entry in entries.items():
            schedule = Cron(entry.schedule.cron, timezone=entry.schedule.timezone)
            parameters = {"config": str(config.resolve()), "name": name}
            deployments.append(likeness.to_deployment(name, schedules=[schedule], parameters=parameters, concurrency_limit=1))
            log.info("%s: at %s (%s)", name, entry.schedule.cron, entry.schedule.timezone)
        log.info("serving %d pipelines through %s; stop with Ctrl-C", len(deployments), address)
        serve_deployments(*deployments, limit=AT_ONCE, print_starting_message=False)
