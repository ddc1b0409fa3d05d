"""One folder per process for the local cache of a Kafka log, locked, so that no two share a file.

The first free one is taken, so that a process that starts again finds what an earlier one left.
"""

import fcntl
import hashlib
import os
import re
from pathlib import Path
from typing import IO, Final

from producer.errors import LogUnusable
from producer.log.kafka_options import KafkaOptions

#: Processes of one machine that can share a state folder.
FOLDERS: Final = 1_000
#: What lies there has bodies of deliveries in it.
_OURS_ALONE: Final = 0o700


class Folder:
    """A folder that belongs to this process until `close`. Raises `LogUnusable`."""

    def __init__(self, options: KafkaOptions, state_dir: str | None) -> None:
        self.parent: Final = _parent(options, state_dir)
        try:
            self.parent.mkdir(parents=True, exist_ok=True)
            self._lock, self.path = self._first_free()
        except OSError as error:
            raise LogUnusable(
                f"the folder {self.parent} for the local cache can't be used ({error}): "
                "set THORN_STATE_DIR to one that this process may write to"
            ) from error

    def _first_free(self) -> tuple[IO[bytes], Path]:
        for number in range(FOLDERS):
            path = self.parent / str(number)
            path.mkdir(mode=_OURS_ALONE, exist_ok=True)
            lock = (path / "lock").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
            except BaseException:
                lock.close()
                raise
            else:
                return lock, path
        raise LogUnusable(
            f"all {FOLDERS} folders in {self.parent} are in use: "
            "set another THORN_STATE_DIR for some of the processes"
        )

    def close(self) -> None:
        """Leave it to the next process."""
        self._lock.close()


def _parent(options: KafkaOptions, state_dir: str | None) -> Path:
    """Where the numbered folders of one log lie."""
    servers = " ".join(sorted(options.servers))
    name = (
        f"{re.sub(r'[^A-Za-z0-9_-]', '_', options.prefix)}-{hashlib.sha256(servers.encode()).hexdigest()[:8]}"
    )
    if state_dir is not None:
        return Path(state_dir) / name
    caches = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(caches) if os.path.isabs(caches) else Path.home() / ".cache"
    except RuntimeError as error:
        raise LogUnusable(
            "this user has no home folder for the local cache: set THORN_STATE_DIR to a folder"
        ) from error
    return base / "thorn-worker" / name
