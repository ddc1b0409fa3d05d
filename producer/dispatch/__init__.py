"""Dispatchers, and how the settings' name becomes one."""

import importlib
from collections.abc import Callable
from typing import Final

from producer.config import Settings
from producer.dispatch.contract import Dispatcher
from producer.errors import DispatcherError

#: Entry point group in which a package offers dispatchers.
ENTRY_POINTS: Final = "thorn.dispatchers"

#: Ours, so that the usual case does not scan the installed packages.
_OWN: Final = {
    "disabled": "producer.dispatch.disabled:DisabledDispatcher",
    "log": "producer.dispatch.log:LogDispatcher",
}
_NOT_YET: Final = frozenset({"default", "celery"})


def open_dispatcher(settings: Settings) -> Dispatcher:
    """The dispatcher of the settings: a name, an entry point, or ``module:Class``.

    Raises `DispatcherError`.
    """
    name = settings.dispatcher or ("log" if settings.log is not None else "default")
    if name in _NOT_YET:
        raise DispatcherError(
            f"the dispatcher {name!r} is not available in this release: set THORN_LOG (e.g. "
            "sqlite:///thorn.db) to use the dispatcher 'log', or THORN_DISPATCHER=disabled"
        )
    return _load(name)(settings)


def _load(name: str) -> Callable[[Settings], Dispatcher]:
    path = _OWN.get(name) or _entry_point(name)
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise DispatcherError(f"the dispatcher {name!r} cannot be loaded from {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Dispatcher)):
        raise DispatcherError(
            f"the dispatcher {name!r} must be a subclass of producer.dispatch.contract.Dispatcher"
        )
    return found


def _entry_point(name: str) -> str:
    if ":" in name:
        return name
    from importlib.metadata import entry_points  # slow to import, and needed only for dispatchers of others

    offered = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        names = ", ".join(sorted(offered.keys() | _OWN.keys()))
        raise DispatcherError(f"the dispatcher {name!r} is unknown: use one of {names}, or 'module:Class'")
    return offered[name]
