"""``thorn-worker demo``: see it work, and see that nothing is lost."""

from pathlib import Path

import click


@click.command()
@click.option("--events", type=click.IntRange(100, 20_000), default=3000, help="Events to send (3000).")
@click.option("--keep", is_flag=True, help="Keep the folder with all records, settings, logs, and say where.")
@click.option(
    "--recount",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Play nothing: make the ledger of a kept folder again.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; the story goes to stderr.")
def demo(events: int, keep: bool, folder: Path | None, as_json: bool) -> int:
    """Show a whole system at work on this machine, in half a minute: services, a log, a worker that is killed
    half-way, and receivers good and bad. Then count what became of every single delivery.

    Exit code 1 if anything was lost. It uses a temporary folder and loopback addresses only, and ends all of
    its processes.
    """
    from thorn_worker.demo.main import perform, recount  # other commands start without loading all of this

    if folder is not None:
        return recount(folder, as_json=as_json)
    return perform(events, keep=keep, as_json=as_json)
