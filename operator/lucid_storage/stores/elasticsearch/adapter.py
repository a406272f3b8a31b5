"""ElasticPort over the official asyncio client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from elasticsearch import ApiError, BadRequestError, NotFoundError

from lucid_storage.errors import NotSupportedError, Reason, ServerRefusedError, StoreUnavailableError
from lucid_storage.stores.elasticsearch.connection import ElasticConnection
from lucid_storage.stores.elasticsearch.errors import error_kind, vanished
from lucid_storage.stores.elasticsearch.reading import (
    alias_action,
    alias_body,
    document,
    index_state,
    is_servers_own,
    policy_state,
    template_body,
    template_states,
)
from lucid_storage.stores.elasticsearch.restored import Restored, restored, without_mark
from lucid_storage.stores.elasticsearch.types import (
    AliasAction,
    AliasState,
    ElasticIndexState,
    ElasticInfo,
    LifecyclePolicyState,
    TemplateState,
)
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

INFO_SECONDS = 30.0
WAIT = "10s"
"""How long the server waits for its master and for acknowledgements; less than the bound of a call."""


class ElasticCluster:
    """One cluster behind one URL. Implements ElasticPort.

    `guard` is called right before each writing request and raises LeadershipLostError when this process may
    not act. The login needs the cluster privileges monitor, manage_index_templates and manage_ilm, and
    create_index, monitor, view_index_metadata and manage on the indices.
    """

    def __init__(
        self,
        url: str,
        *,
        label: str,
        guard: Callable[[], None],
        api_key: str | None = None,
        ca_path: str | None = None,
    ) -> None:
        self._connection = ElasticConnection(url, label, api_key=api_key, ca_path=ca_path)
        self._client = self._connection.client
        self._subject = self._connection.subject
        self._guard = guard
        self._info: tuple[float, ElasticInfo] | None = None
        self._restored: dict[str, Restored] = {}
        """By the name that they are known by."""

    async def info(self) -> ElasticInfo:
        """As the port says; the oldest node's version in a cluster that is being upgraded."""
        now = time.monotonic()
        if self._info is None or now - self._info[0] >= INFO_SECONDS:
            async with self._answering():
                self._info = now, await self._ask_info()
        return self._info[1]

    async def _ask_info(self) -> ElasticInfo:
        # GET / is left out: it is not served by every build.
        state = await self._client.cluster.state(metric="version", filter_path="cluster_uuid")
        nodes = await self._client.nodes.info(node_id="_all", metric="_none", filter_path="nodes.*.version")
        health = await self._client.cluster.health(filter_path="number_of_data_nodes")
        versions = [
            _version(str(document(node).get("version")))
            for node in document(nodes.body.get("nodes")).values()
        ]
        return ElasticInfo(
            identity=str(state.body["cluster_uuid"]),
            version=min(versions, default=(0, 0, 0)),
            has_ilm=await self._has_ilm(),
            data_nodes=int(health.body["number_of_data_nodes"]),
        )

    async def _has_ilm(self) -> bool:
        try:
            await self._client.ilm.get_status()
        except ApiError as error:
            if error.meta.status in {400, 404, 405, 410}:
                return False
            if error.meta.status == 403:  # routes are looked up before rights: this one exists
                return True
            raise
        return True

    async def template(self, name: str) -> TemplateState | None:
        async with self._answering():
            try:
                answer = await self._client.indices.get_index_template(name=_exact(name), flat_settings=True)
            except NotFoundError:
                return None
        return next((state for state in template_states(answer.body) if state.name == name), None)

    async def templates(self) -> tuple[TemplateState, ...]:
        async with self._answering():
            answer = await self._client.indices.get_index_template(flat_settings=True)
        return tuple(state for state in template_states(answer.body) if not is_servers_own(state))

    async def put_template(self, template: TemplateState) -> None:
        async with self._answering():
            self._guard()
            answer = await self._client.indices.put_index_template(
                name=_exact(template.name), body=template_body(template), master_timeout=WAIT
            )
            self._check_acknowledged(answer.body)

    async def delete_template(self, name: str) -> bool:
        async with self._answering():
            self._guard()
            try:
                answer = await self._client.indices.delete_index_template(
                    name=_exact(name), master_timeout=WAIT
                )
            except NotFoundError:
                return False
            self._check_acknowledged(answer.body)
        return True

    async def indices(self, pattern: str) -> tuple[ElasticIndexState, ...]:
        """As the port says, open and closed ones, hidden ones left out. Names of aliases do not match,
        but for the one that stands for a restored index.
        """
        async with self._answering():
            found = await self._client.indices.get(
                index=pattern,
                flat_settings=True,
                ignore_unavailable=True,
                allow_no_indices=True,
                expand_wildcards=["open", "closed"],
            )
            shown = {self._shown(name, document(found.body[name])): name for name in found.body}
            names = sorted(name for name in shown if fnmatchcase(name, pattern))
            statistics = await self._statistics(pattern) if names else {}
        return tuple(
            _as_declared(
                index_state(name, document(found.body[shown[name]]), document(statistics.get(shown[name])))
            )
            for name in names
        )

    def _shown(self, name: str, body: JsonDoc) -> str:
        """The name that an index is known by: a restored one is reached by an alias, which writes may not use."""
        found = restored(name, document(body.get("mappings")), document(body.get("aliases")))
        if found is None:
            self._restored.pop(name, None)
            return name
        self._restored[found.target] = found
        return found.target

    def _real(self, name: str) -> str:
        return self._restored[name].name if name in self._restored else name

    async def _statistics(self, pattern: str) -> dict[str, JsonValue]:
        answer = await self._client.indices.stats(
            index=pattern,
            metric=["docs", "store"],
            expand_wildcards=["open", "closed"],
            forbid_closed_indices=False,
            filter_path=[
                "indices.*.health",
                "indices.*.primaries.docs.count",
                "indices.*.total.store.size_in_bytes",
            ],
        )
        return document(answer.body.get("indices"))

    async def create_index(
        self,
        name: str,
        mappings: JsonDoc,
        settings: Mapping[str, JsonValue],
        aliases: Mapping[str, AliasState],
    ) -> bool:
        async with self._answering():
            self._guard()
            try:
                answer = await self._client.indices.create(
                    index=_exact(name),
                    mappings=dict(mappings),
                    settings=dict(settings),
                    aliases={alias: alias_body(state) for alias, state in aliases.items()},
                    master_timeout=WAIT,
                    timeout=WAIT,
                )
            except BadRequestError as error:
                if error_kind(error) == "resource_already_exists_exception":
                    return False
                raise
            self._check_acknowledged(answer.body)
        return True

    async def put_mapping(self, index: str, mappings: JsonDoc) -> None:
        """As the port says. Not stalled when the index went away meanwhile."""
        if index in self._restored:
            mappings = self._restored[index].marked(mappings)
        async with self._answering(f"Index {index}"):
            self._guard()
            answer = await self._client.indices.put_mapping(
                index=_exact(index), body=dict(mappings), master_timeout=WAIT, timeout=WAIT
            )
            self._check_acknowledged(answer.body)

    async def put_settings(self, index: str, settings: Mapping[str, JsonValue]) -> None:
        """As the port says; None resets a setting. Not stalled when the index went away meanwhile."""
        async with self._answering(f"Index {index}"):
            self._guard()
            answer = await self._client.indices.put_settings(
                index=_exact(index), settings=dict(settings), master_timeout=WAIT, timeout=WAIT
            )
            self._check_acknowledged(answer.body)

    async def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        """As the port says; nothing is sent for no actions. Removing what is not there is no error."""
        if not actions:
            return
        async with self._answering(
            "One of the indices " + ", ".join(sorted({action.index for action in actions}))
        ):
            self._guard()
            try:
                answer = await self._client.indices.update_aliases(
                    actions=[
                        alias_action(replace(action, index=self._real(action.index))) for action in actions
                    ],
                    master_timeout=WAIT,
                    timeout=WAIT,
                )
            except NotFoundError as error:
                # The server's answer to nothing but removals of absent aliases, in spite of must_exist=false.
                if error_kind(error) == "aliases_not_found_exception":
                    return
                raise
            self._check_acknowledged(answer.body)

    async def delete_index(self, name: str, uuid: str) -> bool:
        """As the port says. The server deletes by name alone, so a replacement in the milliseconds between
        the look and the request would not be noticed.
        """
        name = self._real(name)
        async with self._answering():
            try:
                found = await self._client.indices.get_settings(
                    index=_exact(name), name="index.uuid", flat_settings=True, expand_wildcards="none"
                )
                settings = document(document(found.body.get(name)).get("settings"))
                if settings.get("index.uuid") != uuid:
                    return False
                self._guard()
                answer = await self._client.indices.delete(
                    index=name,
                    expand_wildcards="none",
                    allow_no_indices=False,
                    master_timeout=WAIT,
                    timeout=WAIT,
                )
            except NotFoundError:
                return False
            self._check_acknowledged(answer.body)
        return True

    async def policy(self, name: str) -> LifecyclePolicyState | None:
        async with self._asking_ilm():
            try:
                answer = await self._client.ilm.get_lifecycle(name=_exact(name))
            except NotFoundError:
                return None
        return policy_state(name, document(answer.body[name])) if name in answer.body else None

    async def put_policy(self, policy: LifecyclePolicyState) -> None:
        async with self._asking_ilm():
            self._guard()
            answer = await self._client.ilm.put_lifecycle(
                name=_exact(policy.name), policy=dict(policy.policy), master_timeout=WAIT, timeout=WAIT
            )
            self._check_acknowledged(answer.body)

    async def delete_policy(self, name: str) -> bool:
        async with self._asking_ilm():
            self._guard()
            try:
                answer = await self._client.ilm.delete_lifecycle(
                    name=_exact(name), master_timeout=WAIT, timeout=WAIT
                )
            except NotFoundError:
                return False
            self._check_acknowledged(answer.body)
        return True

    async def close(self) -> None:
        await self._connection.close()

    @asynccontextmanager
    async def _answering(self, written: str | None = None) -> AsyncIterator[None]:
        """Bounds a call and raises our errors; forgets who the server is when it was lost.

        `written` names what the call changes, for the case that it is gone.
        """
        try:
            async with self._connection.answering():
                try:
                    yield
                except NotFoundError as error:
                    if written is None:
                        raise
                    raise vanished(written, self._subject) from error
        except StoreUnavailableError:
            self._info = None
            raise

    @asynccontextmanager
    async def _asking_ilm(self) -> AsyncIterator[None]:
        try:
            async with self._answering():
                yield
        except NotSupportedError as error:
            raise NotSupportedError(
                f"{self._subject} has no index lifecycle management; declare lifecycle.managedBy: Operator."
            ) from error

    def _check_acknowledged(self, body: Mapping[str, Any]) -> None:
        if body.get("acknowledged") is not True:
            raise StoreUnavailableError(
                f"{self._subject} did not confirm the change in time; it is looked at again."
            )


def _as_declared(state: ElasticIndexState) -> ElasticIndexState:
    """Without the alias and the mark by which a restored index is reached and known: nobody declares them."""
    if state.name not in state.aliases:
        return state
    return replace(
        state,
        aliases={name: alias for name, alias in state.aliases.items() if name != state.name},
        mappings=without_mark(state.mappings),
    )


def _exact(name: str) -> str:
    """The name itself. Raises ServerRefusedError(InvalidSpec) for one that stands for several objects."""
    if not name or name in {".", "..", "_all"} or any(sign in name for sign in "*?,"):
        raise ServerRefusedError(
            "A name in Elasticsearch is empty or stands for several; give one name without * ? or comma.",
            reason=Reason.INVALID_SPEC,
        )
    return name


def _version(text: str) -> tuple[int, int, int]:
    """8.19.21, also with a suffix such as -SNAPSHOT; zeros when there is none."""
    numbers = [int(part) for part in text.split("-", maxsplit=1)[0].split(".") if part.isdigit()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch
