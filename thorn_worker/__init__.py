"""The worker: reads the log, delivers over HTTP, keeps what must be tried again, exports metrics."""

from typing import Final

#: The release, as in the distribution's metadata and in ``User-Agent``.
__version__: Final = "0.1.0"
