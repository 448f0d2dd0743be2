"""The outbox: what waits is sent, and tried again until it gets through.

Each channel has a thread of its own, so that one that hangs holds up nobody else. A message counts
as sent once the other side took it and the log says so: if the power goes in between, it is sent
once more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from monitor.core.config import Settings
from monitor.core.domain import iso_utc, parse_iso_utc
from monitor.health.alert_channels import Channels, ChannelsError, channels_of, shown
from monitor.health.alert_picture import picture_of
from monitor.health.alert_sending import Message, NotSent, send
from monitor.log.alerts import LONGEST_PAUSE, DueDelivery, NewAlert
from monitor.log.context import Context
from monitor.log.species_log import SpeciesLog

logger = logging.getLogger(__name__)

SEND_SECONDS = 30.0
WAIT_SECONDS = 90.0
"""So long the duty waits for all channels; one that needs longer is named, and goes on alone."""
STATE_KEY = "alerts"
FIRST_PAUSE = timedelta(minutes=1)
TRIED_FOR = timedelta(days=7)
UNCOUNTED = 10
"""Of tries while nothing gets through, so many make the pauses longer."""
MOST_WAITING = 500
"""So many alerts are kept for a channel that does not get through."""
AT_ONCE = 20
"""So many messages go over one channel in a row."""
FAILING_FOR = timedelta(minutes=10)
"""Before, a channel that fails is not worth an alert of its own: lines come and go."""
ADDRESSES = "addresses"

IsEnding = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a channel does.

    Attributes:
        last_sent, last_failed: when, as text; None: never.
        failing_since: the first failure after the last success; None while it works.
        problem: why the last one failed.
        told: whether people were told over another channel.
    """

    last_sent: str | None = None
    last_failed: str | None = None
    failing_since: str | None = None
    problem: str | None = None
    told: bool = False

    def after(self, problem: str | None, now: datetime) -> Standing:
        """After one more try; `problem` is None where it was sent."""
        at = iso_utc(now)
        if problem is None:
            return Standing(at, self.last_failed)
        since = self.failing_since or at
        return replace(self, last_failed=at, failing_since=since, problem=problem)


def pause_after(failures: int) -> timedelta | None:
    """How long to wait after so many failures in a row: 1, 2, 4 … minutes, at most 6 hours; None
    when that has gone on for seven days of tries that count; see `counted`.

    Counted in tries, not by the clock: that may jump, and a station may have been off for weeks.
    """
    waited = timedelta()
    for number in range(failures):
        pause = min(FIRST_PAUSE * 2 ** min(number, 20), LONGEST_PAUSE)
        if number == failures - 1:
            return pause if waited + pause <= TRIED_FOR else None
        waited += pause
    return timedelta()


def counted(attempts: int, *, gets_through: bool) -> int:
    """The tries that count after one more: all, while the channel gets something else through.
    Where it does not, it is the line and not the message, and none leads to giving it up."""
    return attempts + 1 if gets_through else max(attempts, min(attempts + 1, UNCOUNTED))


def to_be_told(
    standings: Mapping[str, Standing], channels: Sequence[str], now: datetime
) -> tuple[list[str], list[str]]:
    """Channels that fail for a while and of which nobody was told, and those to tell it over; both
    empty where no channel works."""
    works = [name for name in channels if standings.get(name, Standing()).failing_since is None]
    silent = [
        name
        for name in channels
        if (one := standings.get(name)) is not None
        and one.failing_since is not None
        and not one.told
        and abs(now - parse_iso_utc(one.failing_since)) >= FAILING_FOR
    ]
    return (silent, works) if silent and works else ([], [])


class Courier(threading.Thread):
    """Sends what is due over one channel: in a thread that may hang and then hangs alone.

    Attributes:
        news: for each try, when and why it failed; None: it was sent.
    """

    def __init__(
        self, context: Context, name: str, url: SecretStr, is_ending: IsEnding, gets_through: bool
    ) -> None:
        super().__init__(name=f"alerts over {name}", daemon=True)
        self.channel, self.news = name, list[tuple[datetime, str | None]]()
        self._context, self._url, self._is_ending = context, url, is_ending
        self._gets_through = gets_through

    def run(self) -> None:
        """Until all is sent, something fails, or the service ends."""
        log = self._context.log
        try:
            for due in log.deliveries_due(self._context.clock(), AT_ONCE, self.channel):
                if self._is_ending() or not self._deliver(due):
                    return
        except Exception:  # the edge of a thread
            logger.exception("the alerts over %s are tried again", self.channel)

    def _deliver(self, due: DueDelivery) -> bool:
        log, clock = self._context.log, self._context.clock
        try:
            send(self._url, message_of(self._context.settings, log, due))
        except NotSent as error:
            now = clock()
            self.news.append((now, str(error)))
            attempts = counted(due.attempts, gets_through=self._gets_through)
            pause = pause_after(attempts)
            if pause is None:
                log.give_up(due.alert_id, due.channel, str(error))
                words = "given up after %d tries over %s: %s (%s)"
                logger.error(words, attempts, due.channel, due.alert.subject, error)
            else:
                log.delivery_failed(due.alert_id, due.channel, str(error), now + pause, attempts)
            return False
        log.delivered(due.alert_id, due.channel, clock())
        self.news.append((clock(), None))
        self._gets_through = True
        return True


def message_of(settings: Settings, log: SpeciesLog, due: DueDelivery) -> Message:
    """The alert as people get it: from whom, and when it was, for it may come late."""
    at = due.at.astimezone(settings.station.zone)
    media_id = due.alert.media_id
    return Message(
        f"{settings.station.name}: {due.alert.subject}",
        f"{due.alert.body}\n\nStation {settings.station.name}, told {at:%Y-%m-%d %H:%M %Z}.",
        picture_of(settings, log, media_id) if media_id is not None else None,
    )


class Outbox:
    """The duty, and the couriers that are still on their way from its last time."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._couriers: dict[str, Courier] = {}
        self._wait_seconds = wait_seconds

    def send(self, context: Context, is_ending: IsEnding = lambda: False) -> None:
        """Send what is due over every channel, and remember how they do."""
        before = context.log.state(STATE_KEY) or {}
        if not context.settings.alerts.is_on:
            if before.get("failing"):
                context.log.put_state(STATE_KEY, {"failing": {}}, context.clock())
            return
        try:
            channels = channels_of(context.settings)
        except ChannelsError as error:
            if before.get("failing") != {ADDRESSES: str(error)}:
                logger.error("%s", error)
                facts = before | {"failing": {ADDRESSES: str(error)}}
                context.log.put_state(STATE_KEY, facts, context.clock())
            return
        standings = _standings(before, channels)
        for name in context.log.channels_due(context.clock()):
            if name in channels and name not in self._couriers:
                works = standings.get(name, Standing()).failing_since is None
                self._couriers[name] = Courier(context, name, channels[name], is_ending, works)
                self._couriers[name].start()
        self._wait(is_ending)
        self._conclude(context, channels, standings, before)

    def _wait(self, is_ending: IsEnding) -> None:
        deadline = time.monotonic() + self._wait_seconds
        for courier in self._couriers.values():
            while courier.is_alive() and not is_ending() and time.monotonic() < deadline:
                courier.join(0.2)

    def _conclude(
        self,
        context: Context,
        channels: Channels,
        standings: dict[str, Standing],
        before: Mapping[str, Any],
    ) -> None:
        now = context.clock()
        recovered = []
        for name, courier in list(self._couriers.items()):
            is_done, standing = not courier.is_alive(), standings.get(name, Standing())
            was_failing = standing.failing_since is not None
            news, courier.news = courier.news, []
            if not is_done and not news:
                news = [(now, f"no answer for {self._wait_seconds:.0f} s")]
            for at, problem in news:
                standing = standing.after(problem, at)
            standings[name] = standing
            if was_failing and standing.failing_since is None:
                recovered.append(name)
            if is_done:
                del self._couriers[name]
        for name in recovered:
            logger.info("alerts get through over %s again", shown(name, channels))
            context.log.wake_deliveries(name, now)
        for name, standing in standings.items():
            if standing.failing_since is not None:
                _bound(context.log, name)
        self._remember(context, channels, standings, before, now)

    def _remember(
        self,
        context: Context,
        channels: Channels,
        standings: dict[str, Standing],
        before: Mapping[str, Any],
        now: datetime,
    ) -> None:
        silent, works = to_be_told(standings, list(channels), now)
        for name in silent:
            standings[name] = replace(standings[name], told=True)
        alerts = [_of_channel(name, channels, standings[name]) for name in silent]
        if "channel" in context.settings.alerts.leave_out:
            alerts = []
        _say(standings, channels, before)
        facts = {
            "failing": {
                shown(name, channels): one.problem
                for name, one in standings.items()
                if one.failing_since is not None
            },
            "channels": {name: asdict(one) for name, one in standings.items()},
        }
        if facts != before:
            context.log.add_alerts(alerts, works, now, STATE_KEY, facts)


def _bound(log: SpeciesLog, channel: str) -> None:
    why = f"more than {MOST_WAITING} were waiting"
    if dropped := log.drop_waiting(channel, MOST_WAITING, why):
        logger.error("%d alerts over %s given up: %s", dropped, channel, why)


def _standings(before: Mapping[str, Any], channels: Channels) -> dict[str, Standing]:
    """As they were remembered, of the channels that there still are."""
    known = before.get("channels") or {}
    return {name: Standing(**known[name]) for name in channels if name in known}


def _say(standings: Mapping[str, Standing], channels: Channels, before: Mapping[str, Any]) -> None:
    """In the journal, once for each time that a channel begins to fail."""
    known = before.get("channels") or {}
    for name, standing in standings.items():
        since = (known.get(name) or {}).get("failing_since")
        if standing.failing_since is not None and standing.failing_since != since:
            called = shown(name, channels)
            logger.warning("alerts do not get through over %s: %s", called, standing.problem)


def _of_channel(name: str, channels: Channels, standing: Standing) -> NewAlert:
    called = shown(name, channels)
    body = f"Since {standing.failing_since} alerts do not get through over {called}: "
    body += f"{standing.problem}. They are kept and tried again."
    return NewAlert("channel", name, f"alerts do not get through over {called}", body)


OUTBOX = Outbox()


def send_what_waits(context: Context, is_ending: IsEnding = lambda: False) -> None:
    """A duty: see Outbox.send."""
    OUTBOX.send(context, is_ending)
