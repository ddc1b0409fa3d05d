"""What a process of a test may do less than the test itself. Runs in the child, between fork and exec."""

import ctypes
import resource
from collections.abc import Callable
from functools import partial
from typing import Final

#: From <linux/prctl.h> and <linux/capability.h>.
_PR_CAPBSET_DROP: Final = 24
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2

Limit = Callable[[], None]


def few_files(limit: int) -> Limit:
    """At most so many open files; nothing can raise it again."""
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit))


def permissions_count() -> Limit:
    """File permissions hold for root too."""
    libc = ctypes.CDLL(None, use_errno=True)

    def drop() -> None:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            # Refused (EPERM) for whoever is not root, whom permissions bind anyway.
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)

    return drop
