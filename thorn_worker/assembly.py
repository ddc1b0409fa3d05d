"""What one worker process is made of, put together from the settings. Opens nothing."""

from collections.abc import Callable

from producer.config import Settings
from thorn_worker import __version__, metrics
from thorn_worker.clock import Clock
from thorn_worker.counters import Counters
from thorn_worker.directory import Directory
from thorn_worker.dispatcher import Dispatcher
from thorn_worker.greenlet_io import GreenletDriver, GreenletLoop
from thorn_worker.handover import Handover
from thorn_worker.http import Client, Guard, PoolLimits, Pools, Resolver, user_agent
from thorn_worker.intake import Intake
from thorn_worker.lanes import Lanes, Limits
from thorn_worker.log.contract import Consent, LogInfo
from thorn_worker.log.open import open_log
from thorn_worker.logs import AttemptLog
from thorn_worker.orders import Orders
from thorn_worker.partitions import Partitions
from thorn_worker.parts import Parts
from thorn_worker.profiles import Profiles
from thorn_worker.reload import Reload
from thorn_worker.retry import RetryPolicy
from thorn_worker.tally import Tally
from thorn_worker.work import Home, Work


class Assembly:
    """The parts, wired. Raises `ConfigurationError` for settings that a part refuses."""

    def __init__(self, settings: Settings, consent: Consent) -> None:
        self.settings = settings
        self.clock = Clock()
        self.counters = Counters()
        self.tally = Tally(self.counters, self.clock.steady)
        self.directory = Directory.of(settings, self.clock.steady)
        self.reader, self.store = open_log(settings, consent)
        limits = Limits(total=settings.max_in_flight, per_lane=settings.max_in_flight_per_host)
        self.lanes: Lanes[Work] = Lanes(limits)
        self.resolver = Resolver(clock=self.clock.steady)
        self.pools = Pools(
            Guard(settings.allow_hosts, settings.allow_networks),
            self.resolver,
            limits=PoolLimits(idle_timeout_s=settings.idle_timeout_s),
            ca_file=settings.ca_file,
            clock=self.clock.steady,
        )
        parts = Parts(
            limits=limits,
            lanes=self.lanes,
            driver=GreenletDriver(Client(self.pools, self.clock.steady)),
            store=self.store,
            handover=Handover(self.store, self.clock, self.tally),
            directory=self.directory,
            profiles=Profiles(user_agent(__version__)),
            policy=RetryPolicy(settings.retry_schedule_s, settings.max_age_s),
            clock=self.clock,
            loop=GreenletLoop(),
            confirmed=self.reader.confirmed,
            tally=self.tally,
            attempt_log=AttemptLog(settings.attempt_log),
            timeout_s=settings.event_timeout_s,
        )
        self.dispatcher = Dispatcher(parts)
        self.intake = Intake(parts, self.dispatcher, Orders(parts, self.dispatcher))
        self.reload = Reload(parts, self.dispatcher)
        self.counters.register(metrics.IN_FLIGHT, lambda: self.lanes.in_flight)
        self.counters.register(metrics.LANES, lambda: len(self.lanes))

    def partitions(self, info: LogInfo, restored: Callable[[Home], None]) -> Partitions:
        """The partitions of an opened log; `restored` is called with each one that may start."""
        return Partitions(self.reader, self.store, self.dispatcher, info, self.tally, restored)

    def close(self) -> None:
        """Release sockets and threads. The reader was closed by then."""
        self.store.close()
        self.pools.close()
        self.resolver.close()
