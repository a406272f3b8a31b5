"""Deployments: shared, closed when their credentials may not be used any more, asked again while they are down."""

import base64
from typing import Any

import pytest
from awaiting import until

from lucid_storage.errors import (
    AccessDeniedError,
    LoginFailedError,
    LucidError,
    NotAllowedError,
    Reason,
    StoreUnavailableError,
)
from lucid_storage.kinds import connections as subject
from lucid_storage.kinds import secrets
from lucid_storage.kinds.connections import Connections, Deployment, Engine
from lucid_storage.kube.client import KubeApiError
from lucid_storage.models.meta import SECRET_ALLOWED_LABEL
from lucid_storage.models.settings import Settings, StoreSettings

URI = "mongodb://app:one@store/"


class Store:
    """Stands for what a driver's client says."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Bed:
    """Connections over Secrets and stores that a test can change."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = secret(URI)
        self.refusal: KubeApiError | None = None
        self.check: LucidError | None = None
        self.probe: Exception | None = None
        self.probes = 0
        self.stores: list[Store] = []
        self.changes: list[bool] = []
        self.closed: list[str] = []
        engine: Engine[Any] = Engine(
            "mongodb", "MongoDB", "MONGODB_URI", StoreSettings.mongodb, self._check, self._open, self._probe
        )
        self.connections = Connections(
            Settings.read({}),
            self._read,
            mongodb=engine,
            redis=engine,
            elasticsearch=engine,
            on_change=lambda deployment: self.changes.append(deployment.down is None),
            on_closed=lambda deployment: self.closed.append(deployment.label),
        )

    async def get(self) -> Deployment[Any]:
        return await self.connections.mongodb("ns", "login")

    async def fails(self, error: LucidError) -> None:
        """A call on the deployment ends in this error."""
        found = await self.get()
        with pytest.raises(type(error)):
            async with self.connections.watching(found):
                raise error

    async def _read(self, namespace: str, name: str) -> dict[str, Any] | None:
        if self.refusal is not None:
            raise self.refusal
        return self.secret

    async def _check(self, address: str) -> None:
        if self.check is not None:
            raise self.check

    async def _probe(self, store: Store) -> None:
        self.probes += 1
        if self.probe is not None:
            raise self.probe

    def _open(self, address: str, label: str) -> Store:
        self.stores.append(Store(address))
        return self.stores[-1]


def secret(uri: str, allowed: str = "true") -> dict[str, Any]:
    return {
        "metadata": {"labels": {SECRET_ALLOWED_LABEL: allowed}, "resourceVersion": "1"},
        "data": {"MONGODB_URI": base64.b64encode(uri.encode()).decode()},
    }


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(subject, "PROBE_FIRST", 0.02)
    monkeypatch.setattr(secrets, "SECRET_SECONDS", 0.0)
    made = Bed()
    yield made
    await made.connections.close()


async def test_a_changed_secret_closes_the_former_connection(bed: Bed) -> None:
    await bed.get()
    bed.secret = secret("mongodb://app:two@store/")
    assert (await bed.get()).address.endswith("two@store/")
    assert [store.closed for store in bed.stores] == [True, False]


@pytest.mark.parametrize("now", [None, secret(URI, "false"), {**secret(URI), "data": {"MONGODB_URI": "?"}}])
async def test_credentials_that_were_withdrawn_are_used_no_longer(
    bed: Bed, now: dict[str, Any] | None
) -> None:
    found = await bed.get()
    bed.secret = now
    with pytest.raises(LucidError):
        await bed.get()
    assert bed.stores[0].closed
    assert not bed.connections.is_open(found)
    assert bed.closed == ["secret ns/login"]


async def test_a_secret_that_the_operator_may_not_read_is_a_condition_that_says_so(bed: Bed) -> None:
    bed.refusal = KubeApiError(403, "Forbidden", "secrets is forbidden")
    with pytest.raises(NotAllowedError, match="grant its ServiceAccount") as refused:
        await bed.get()
    assert refused.value.reason is Reason.SECRET_NOT_ALLOWED


async def test_connections_that_no_resource_names_any_more_are_closed(bed: Bed) -> None:
    await bed.get()
    await bed.connections.keep_only("other", ())
    await bed.connections.keep_only("ns", {"login"})
    assert not bed.stores[0].closed
    await bed.connections.keep_only("ns", {"another"})
    assert bed.stores[0].closed
    assert bed.connections.deployments == []


async def test_a_host_that_stays_unresolved_is_not_excused_for_ever(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(subject, "monotonic", lambda: clock[0])
    bed.check = StoreUnavailableError("the host cannot be resolved")
    with pytest.raises(StoreUnavailableError) as first:
        await bed.get()
    assert first.value.grace_seconds > 0
    clock[0] += 6
    with pytest.raises(StoreUnavailableError) as second:
        await bed.get()
    assert second.value.grace_seconds <= 0


async def test_an_outage_is_told_in_the_words_of_the_first_probes_and_then_in_the_same_ones(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(subject, "monotonic", lambda: clock[0])

    async def told(words: str) -> bool:
        bed.probe, before = StoreUnavailableError(words), bed.probes
        await until(lambda: bed.probes > before + 1)
        with pytest.raises(StoreUnavailableError) as found:
            await bed.get()
        return found.value.message == words

    bed.probe = StoreUnavailableError("closed the connection")
    await bed.fails(StoreUnavailableError("closed the connection"))
    assert await told("closed the connection"), "of the connections that were open several are broken"
    assert await told("refuses connections")
    clock[0] += 5
    assert not await told("refuses connections still"), (
        "each other sentence would be written into each status"
    )


@pytest.mark.parametrize("said", [None, AccessDeniedError("no"), RuntimeError("a defect")])
async def test_a_store_that_answers_anything_is_back(bed: Bed, said: Exception | None) -> None:
    bed.probe = StoreUnavailableError("away")
    await bed.fails(StoreUnavailableError("away"))
    with pytest.raises(StoreUnavailableError):
        await bed.get()
    bed.probe = said
    await until(lambda: bed.changes[-1])
    assert (await bed.get()).down is None


async def test_a_rotated_password_is_tried_without_waiting_for_a_back_off(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "SECRET_SECONDS", 30.0)
    bed.probe = LoginFailedError("refused")
    await bed.fails(LoginFailedError("refused"))
    told = len(bed.changes)
    with pytest.raises(LoginFailedError):
        await bed.get()  # a look, which reads the Secret as it is still
    bed.secret = secret("mongodb://app:two@store/")
    await until(lambda: len(bed.changes) > told)
    assert (await bed.get()).down is None
    assert [store.closed for store in bed.stores] == [True, False]


async def test_an_operation_that_had_to_wait_is_no_outage_for_the_others(bed: Bed) -> None:
    locked = StoreUnavailableError("a lock is held by another operation")
    locked.everywhere = False
    await bed.fails(locked)
    assert (await bed.get()).down is None
    assert bed.changes == [True]
