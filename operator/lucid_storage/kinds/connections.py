"""Which store a resource may use, and one shared client for each deployment.

The rule of tenancy lives here: the operator's own credentials serve only the namespaces in its settings; any other
resource names a labelled Secret of its own namespace. A deployment that does not answer is remembered as down: its
resources fail fast with the same sentence while one prober asks it, instead of each waiting for a time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, Protocol, TypeVar

from lucid_storage.errors import (
    OUTAGE_GRACE_SECONDS,
    LoginFailedError,
    LucidError,
    NotAllowedError,
    Reason,
    RefusedError,
    StoreUnavailableError,
)
from lucid_storage.kinds.secrets import ConnectionSecrets, ReadSecret
from lucid_storage.kinds.tasks import ended
from lucid_storage.kube.client import KubeApiError
from lucid_storage.models.meta import SECRET_ALLOWED_LABEL
from lucid_storage.models.settings import Settings, StoreSettings
from lucid_storage.stores.elasticsearch.port import ElasticPort
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.redis.port import RedisPort

logger = logging.getLogger(__name__)

PROBE_FIRST, PROBE_MOST = 1.0, 15.0


class Port(Protocol):
    """What all store ports share."""

    async def close(self) -> None: ...


P_co = TypeVar("P_co", bound=Port, covariant=True)
CheckAddress = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Engine(Generic[P_co]):
    """One kind of store: how to read its address from settings, check a tenant's, and open it."""

    name: str
    """mongodb, redis or elasticsearch."""
    title: str
    variable: str
    address: Callable[[StoreSettings], str | None]
    check: CheckAddress
    open: Callable[[str, str], P_co]
    """(address, label) -> port."""
    probe: Callable[[P_co], Awaitable[object]]


def label_of(namespace: str, secret: str | None) -> str:
    """Who lends the credentials, for people, logs and metrics. Never an address or a login."""
    return f"secret {namespace}/{secret}" if secret else "operator"


@dataclass(slots=True, eq=False)
class Deployment(Generic[P_co]):
    """One store behind one set of credentials."""

    port: P_co
    label: str
    """As `label_of` says it."""
    address: str = field(repr=False)
    engine: Engine[P_co] = field(repr=False)
    down: LucidError | None = None
    down_since: float = field(default=0.0, repr=False)
    """When it went down, on a clock that only goes forward."""
    databases: set[str] = field(default_factory=set)
    """Databases that resources use here, for change streams of narrow scope."""
    widened: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set when a database was added."""
    prober: asyncio.Task[None] | None = field(default=None, repr=False)

    def use(self, database: str) -> None:
        """A resource uses this database."""
        if database not in self.databases:
            self.databases.add(database)
            self.widened.set()


Slot = tuple[str, str, str]
"""Kind of store, namespace and name of the Secret; the last two are empty for the operator's own credentials."""


class Connections:
    """Finds, opens, shares and closes deployments.

    `on_change` is called with a deployment when it was opened, went down or came back; `on_closed` when nobody may
    or wants to use its credentials any more.
    """

    def __init__(
        self,
        settings: Settings,
        read_secret: ReadSecret,
        *,
        mongodb: Engine[MongoPort],
        redis: Engine[RedisPort],
        elasticsearch: Engine[ElasticPort],
        on_change: Callable[[Deployment[Port]], None] = lambda _: None,
        on_closed: Callable[[Deployment[Port]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._secrets = ConnectionSecrets(read_secret)
        self._mongodb = mongodb
        self._redis = redis
        self._elasticsearch = elasticsearch
        self.on_change = on_change
        self._on_closed = on_closed
        self._open: dict[Slot, Deployment[Port]] = {}
        self._unresolved: dict[Slot, float] = {}

    @property
    def deployments(self) -> list[Deployment[Port]]:
        return list(self._open.values())

    async def mongodb(self, namespace: str, secret: str | None) -> Deployment[MongoPort]:
        """Raises NotAllowedError, RefusedError(NotConfigured) or the deployment's own error while it is down."""
        return await self._get(self._mongodb, namespace, secret)

    async def redis(self, namespace: str, secret: str | None) -> Deployment[RedisPort]:
        """As `mongodb`."""
        return await self._get(self._redis, namespace, secret)

    async def elasticsearch(self, namespace: str, secret: str | None) -> Deployment[ElasticPort]:
        """As `mongodb`."""
        return await self._get(self._elasticsearch, namespace, secret)

    async def settings(self, namespace: str, secret: str | None) -> StoreSettings:
        """Which stores these credentials name. Raises NotAllowedError and RefusedError."""
        return await self._store_settings(namespace, secret)

    async def default_database(self, namespace: str, secret: str | None) -> str | None:
        """MONGODB_DATABASE of the credentials in use."""
        return (await self._store_settings(namespace, secret)).mongodb_database

    def check_database(self, namespace: str, secret: str | None, database: str) -> None:
        """Raise NotAllowedError when the namespace may not use the database with the operator's credentials."""
        served = self._settings.served(namespace)
        if secret is None and served is not None and not served.allows(database):
            raise _not_allowed(namespace, f'the database "{database}"', Reason.DATABASE_NOT_ALLOWED)

    def check_index(self, namespace: str, secret: str | None, stem: str) -> None:
        """Raise NotAllowedError when the namespace may not use indices of this name with the operator's credentials."""
        served = self._settings.served(namespace)
        if secret is None and served is not None and not served.allows_index(stem):
            raise _not_allowed(namespace, f'the indices "{stem}"', Reason.INDEX_NOT_ALLOWED)

    def check_keys(self, namespace: str, secret: str | None, key_pattern: str) -> None:
        """Raise NotAllowedError when the namespace may not use these keys with the operator's credentials."""
        served = self._settings.served(namespace)
        if secret is None and served is not None and not served.allows_keys(key_pattern):
            raise _not_allowed(namespace, f'the keys "{key_pattern}"', Reason.KEYS_NOT_ALLOWED)

    def is_open(self, deployment: Deployment[P_co]) -> bool:
        """Whether it is in use still; one whose credentials changed was replaced and closed."""
        return any(deployment is other for other in self._open.values())

    @contextlib.asynccontextmanager
    async def watching(self, deployment: Deployment[P_co]) -> AsyncIterator[P_co]:
        """Use a deployment and remember whether it answered."""
        try:
            yield deployment.port
        except (StoreUnavailableError, LoginFailedError) as error:
            if isinstance(error, StoreUnavailableError) and not error.everywhere:
                raise  # one locked collection is no outage for all the others
            if isinstance(error, LoginFailedError):
                self._secrets.forget_all()  # the password may have been rotated a moment ago
            self._went_down(deployment, error)
            raise _known(deployment) or error from None

    async def keep_only(self, namespace: str, secrets: Collection[str]) -> None:
        """Close what Secrets of the namespace opened and no resource names any more."""
        named = {name for _, owner, name in (*self._open, *self._unresolved) if owner == namespace and name}
        for name in named - set(secrets):
            await self._withdraw(namespace, name)

    async def close(self) -> None:
        """Close every deployment. Idempotent."""
        await asyncio.gather(*map(self._close, self.deployments))
        self._open.clear()

    async def _get(self, engine: Engine[P_co], namespace: str, secret: str | None) -> Deployment[P_co]:
        settings = await self._store_settings(namespace, secret)
        address = engine.address(settings)
        if address is None:
            raise _not_configured(engine, secret)
        slot = (engine.name, namespace if secret else "", secret or "")
        found = self._open.get(slot)
        if found is None or found.address != address:
            if secret is not None:
                await self._check(slot, engine, address)
            found = await self._replace(slot, engine, address)
        known = _known(found)
        if known is not None:
            raise known
        return found  # type: ignore[return-value]

    async def _check(self, slot: Slot, engine: Engine[P_co], address: str) -> None:
        """A host name that cannot be looked up is an outage like another: it says how long it has lasted."""
        try:
            await engine.check(address)
        except StoreUnavailableError as error:
            error.down_seconds = monotonic() - self._unresolved.setdefault(slot, monotonic())
            raise
        self._unresolved.pop(slot, None)

    async def _replace(self, slot: Slot, engine: Engine[P_co], address: str) -> Deployment[Port]:
        label = label_of(slot[1], slot[2])
        old = self._open.get(slot)
        if old is not None and old.address == address:  # another task was faster
            return old
        opened: Deployment[Port] = Deployment(
            port=engine.open(address, label), label=label, address=address, engine=engine
        )
        if old is not None:
            opened.databases |= old.databases
        self._open[slot] = opened
        self.on_change(opened)
        if old is not None:
            await self._close(old)
        return opened

    async def _store_settings(self, namespace: str, secret: str | None) -> StoreSettings:
        if secret is not None:
            try:
                return await self._secrets.settings(namespace, secret)
            except (NotAllowedError, RefusedError):
                await self._withdraw(namespace, secret)
                raise
        if self._settings.served(namespace) is None:
            raise NotAllowedError(
                f'The operator\'s own credentials do not serve the namespace "{namespace}": name a Secret with the'
                f' label {SECRET_ALLOWED_LABEL}: "true" in spec.connection.secretName.'
            )
        return self._settings

    async def _withdraw(self, namespace: str, secret: str) -> None:
        """Credentials that may not be used any more are not used: nor by a change stream or a scan under way."""
        for slot in [s for s in (*self._open, *self._unresolved) if s[1:] == (namespace, secret)]:
            self._unresolved.pop(slot, None)
            deployment = self._open.pop(slot, None)
            if deployment is not None:
                logger.info("%s is let go", deployment.engine.title, extra={"store": deployment.label})
                await self._close(deployment)
                self._on_closed(deployment)

    def _went_down(self, deployment: Deployment[P_co], error: LucidError) -> None:
        if deployment.down is not None or not self.is_open(deployment):
            return
        deployment.down, deployment.down_since = error, monotonic()
        logger.warning(
            "%s is down: %s", deployment.engine.title, error.message, extra={"store": deployment.label}
        )
        self.on_change(deployment)
        deployment.prober = asyncio.create_task(self._probe(deployment))

    async def _probe(self, deployment: Deployment[P_co]) -> None:
        wait, first = PROBE_FIRST, True
        while True:
            await asyncio.sleep(wait * random.uniform(0.75, 1.0))  # noqa: S311 - jitter
            try:
                await self._probed(deployment)
            except (StoreUnavailableError, LoginFailedError) as error:
                # A broken call says less than a probe, and the first probes may still meet broken connections.
                fresh = first or monotonic() - deployment.down_since < OUTAGE_GRACE_SECONDS
                changed = type(error) is not type(deployment.down) or (
                    fresh and _says_else(deployment, error)
                )
                if changed:
                    deployment.down = error
                if changed or await self._rotated(deployment, error):
                    self.on_change(deployment)
            else:
                break
            wait, first = min(PROBE_MOST, wait * 1.6), False
        deployment.down = None
        logger.info("%s is back", deployment.engine.title, extra={"store": deployment.label})
        self.on_change(deployment)

    async def _rotated(self, deployment: Deployment[P_co], error: LucidError) -> bool:
        """Whether the Secret holds another login than the refused one: resources then need not wait to try it."""
        slot = next((s for s, other in self._open.items() if other is deployment), None)
        if not isinstance(error, LoginFailedError) or slot is None or not slot[2]:
            return False
        self._secrets.forget(slot[1], slot[2])
        try:
            settings = await self._secrets.settings(slot[1], slot[2])
        except KubeApiError:
            return False  # asked again after the next probe
        except LucidError:
            return True  # the resources say why
        return deployment.engine.address(settings) != deployment.address

    async def _probed(self, deployment: Deployment[P_co]) -> None:
        """Ask once. Whatever else than an outage or a refused login is said, the store is there and resources may
        ask it themselves: a prober that ended on it would leave the store down for good.
        """
        try:
            await deployment.engine.probe(deployment.port)
        except (StoreUnavailableError, LoginFailedError):
            raise
        except LucidError as error:
            logger.info("%s answers: %s", deployment.engine.title, error.message)
        except Exception:
            logger.exception("a defect while asking %s; its resources ask it themselves", deployment.label)

    async def _close(self, deployment: Deployment[Port]) -> None:
        if deployment.prober is not None:
            await ended([deployment.prober])
        await deployment.port.close()


def _says_else(deployment: Deployment[P_co], error: LucidError) -> bool:
    return deployment.down is None or deployment.down.message != error.message


def _known(deployment: Deployment[P_co]) -> LucidError | None:
    """Why a deployment is down, in the same words for each resource, so that status is written once."""
    error = deployment.down
    if error is None:
        return None
    repeated = type(error)(error.message, reason=error.reason)
    if isinstance(repeated, StoreUnavailableError):
        repeated.down_seconds = monotonic() - deployment.down_since
    return repeated


def _not_allowed(namespace: str, what: str, reason: Reason) -> NotAllowedError:
    return NotAllowedError(
        f'The namespace "{namespace}" may not use {what} with the operator\'s credentials; ask for it in'
        " SERVED_NAMESPACES, or name a Secret in spec.connection.",
        reason=reason,
    )


def _not_configured(engine: Engine[P_co], secret: str | None) -> RefusedError:
    where = f'the Secret "{secret}"' if secret else "the operator's settings"
    return RefusedError(
        f"{engine.title} is not configured: put {engine.variable} into {where}.", reason=Reason.NOT_CONFIGURED
    )
