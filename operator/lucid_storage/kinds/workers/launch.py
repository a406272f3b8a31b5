"""Starting a worker: its credentials checked, its Job made once, and what it says read.

With the operator's own credentials a Job runs in the operator's namespace and gets a Secret of its own, which holds
what this one run needs and goes with the Job. The Job is made first, suspended, so that a Secret is never left behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lucid_storage.errors import AccessDeniedError, LucidError, Reason, RefusedError
from lucid_storage.kinds.secrets import ReadSecret
from lucid_storage.kinds.workers.credentials import KEY_PREFIX, S3_VARIABLES, VERIFY_VARIABLE, Credentials
from lucid_storage.kinds.workers.job import (
    CA_FILE,
    STORES_CA,
    WORKER,
    ClaimMount,
    Entry,
    Image,
    OwnerRef,
    PodIdentity,
    WorkerJob,
    build,
    run_secret,
)
from lucid_storage.kinds.workers.patience import Patience
from lucid_storage.kinds.workers.place import Place, job_namespace
from lucid_storage.kinds.workers.state import (
    ABSENT,
    WorkerPhase,
    WorkerState,
    judge,
    progress_in,
    waits_for,
)
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.jobs import Jobs
from lucid_storage.models.meta import OWNER_UID_LABEL
from lucid_storage.models.orders import Destination, Task
from lucid_storage.models.settings import Settings, StoreSettings

STORE_VARIABLES = tuple(name.upper() for name in StoreSettings.model_fields)
REFUSALS = frozenset({403, 404, 422})
"""No right, a quota, an admission rule, a namespace that is going or gone."""

NOWHERE = Place(Destination())

CheckEndpoint = Callable[[str], Awaitable[None]]
"""Raises NotAllowedError for an address that no pod of the operator's dials."""


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """A worker that is wanted."""

    command: str
    name: str
    """Of the Job: computed from its owner, so that a second attempt finds the first one's."""
    owner: OwnerRef
    order: Task
    connection: str | None
    """Secret with the stores' logins in the owner's namespace; None for the operator's own."""
    place: Place
    """Where archives lie; NOWHERE for a worker that touches none."""
    keys_secret: str | None = None
    """Secret with the encryption keys, in the owner's namespace."""
    mounts: tuple[ClaimMount, ...] = ()
    node: str | None = None
    identity: PodIdentity = WORKER
    beside: bool = False
    """It needs no credentials at all and runs in its owner's namespace, beside the claims that it mounts."""


class Workers:
    """The workers of one operator. Every call may raise KubeApiError."""

    def __init__(
        self,
        jobs: Jobs,
        read_secret: ReadSecret,
        settings: Settings,
        check_endpoint: CheckEndpoint,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: Patience | None = None,
    ) -> None:
        self._jobs = jobs
        self._patience = patience if patience is not None else Patience()
        self._credentials = Credentials(read_secret, settings)
        self._settings = settings
        self._check_endpoint = check_endpoint
        self._clock = clock
        self._cluster: str | None = None

    @property
    def operator_namespace(self) -> str:
        """Where the operator's own credentials are."""
        return self._settings.operator_namespace

    async def cluster(self) -> str:
        """What tells this cluster from others: the UID of kube-system."""
        if self._cluster is None:
            self._cluster = await self._jobs.cluster_uid()
        return self._cluster

    async def check(
        self,
        namespace: str,
        connection: str | None,
        place: Place,
        keys_secret: str | None,
        key_id: str | None,
    ) -> None:
        """Whatever can be known before a Job is made.

        Raises RefusedError and NotAllowedError for what must be changed, LucidError(KeyMissing).
        """
        await self._credentials.check(namespace, connection)
        if connection is None and _names_a_file(self._settings.mongodb() or ""):
            raise RefusedError(
                "The operator's MONGODB_URI names a file of its own pod (tlsCAFile), which its Jobs do not have; take"
                " the option out and set STORES_CA.",
                reason=Reason.NOT_CONFIGURED,
            )
        if not self._settings.worker_image:
            raise RefusedError(
                "The operator does not know the image of its Jobs; set WORKER_IMAGE.",
                reason=Reason.NOT_CONFIGURED,
            )
        if place.secret is not None:
            held = await self._credentials.entries(namespace, place.secret, "spec.storage.s3.secretName")
            missing = [name for name in S3_VARIABLES[:2] if name not in held]
            if missing:
                raise RefusedError(
                    f'The Secret "{place.secret}" lacks {" and ".join(missing)}; add them.',
                    reason=Reason.SECRET_INVALID,
                )
            if place.destination.endpoint:
                await self._check_endpoint(place.destination.endpoint)
        if keys_secret is not None:
            held = await self._credentials.entries(namespace, keys_secret, "spec.encryption.secretName")
            if key_id is not None and key_id not in held:
                raise RefusedError(
                    f'The Secret "{keys_secret}" has no entry "{key_id}"; add the key, or name another one in'
                    " spec.encryption.keyId.",
                    reason=Reason.KEY_MISSING,
                )
        home = job_namespace(self._settings, namespace, connection)
        if place.claim is not None and not await self._jobs.claim_exists(home, place.claim):
            raise RefusedError(
                f'There is no PersistentVolumeClaim "{place.claim}" in the namespace "{home}"; create it.',
                reason=Reason.DESTINATION_UNAVAILABLE,
            )

    async def start(self, request: WorkerRequest) -> None:
        """Make the Job, once. Harmless to repeat."""
        worker, data = await self.prepared(request)
        # Not in `prepared`: a standing worker's Deployment would differ at each look.
        worker = replace(worker, order=worker.order.model_copy(update={"ordered_at": self._clock()}))
        if data is None:
            await self._made(worker)
            return
        job = await self._made(replace(worker, suspended=True))
        if job["spec"].get("suspend"):
            await self._jobs.create_secret(run_secret(request.name, worker.namespace, job, data))
            await self._jobs.resume(worker.namespace, request.name)

    async def prepared(self, request: WorkerRequest) -> tuple[WorkerJob, dict[str, str] | None]:
        """The worker with what it is to be given, and what its own Secret must hold (base64).

        None where the namespace's Secrets serve.
        """
        if request.beside:
            return self._worker(request, request.owner.namespace), None
        await self._credentials.check(request.owner.namespace, request.connection)
        namespace = job_namespace(self._settings, request.owner.namespace, request.connection)
        worker = self._worker(request, namespace)
        if request.connection is not None:
            s3 = request.place.secret
            if s3 is not None and CA_FILE in await self._credentials.entries(
                namespace, s3, "spec.storage.s3.secretName"
            ):
                worker = replace(worker, ca=Entry(s3, CA_FILE))
            return worker, None
        data = await self._credentials.of_run(request.owner.namespace, request.place, request.keys_secret)
        keys = tuple((name, name.removeprefix(KEY_PREFIX)) for name in data if name.startswith(KEY_PREFIX))
        variables = {
            name: Entry(request.name, name)
            for name in data
            if not name.startswith(KEY_PREFIX) and name not in (CA_FILE, STORES_CA)
        }
        worker = replace(
            worker,
            variables=variables,
            keys_secret=request.name if keys else None,
            key_entries=keys,
            ca=Entry(request.name, CA_FILE) if CA_FILE in data else None,
            stores_ca=Entry(request.name, STORES_CA) if STORES_CA in data else None,
        )
        return worker, data

    async def stop(
        self, owner_namespace: str, connection: str | None, name: str, *, beside: bool = False
    ) -> None:
        """Have a worker ended and its Job removed."""
        await self._jobs.delete(self._home(owner_namespace, connection, beside=beside), name)

    def _home(self, owner_namespace: str, connection: str | None, *, beside: bool) -> str:
        return owner_namespace if beside else job_namespace(self._settings, owner_namespace, connection)

    async def state(
        self,
        owner_namespace: str,
        connection: str | None,
        name: str,
        *,
        owner_uid: str,
        beside: bool = False,
    ) -> WorkerState:
        """What a worker does now, and how far it is. `beside` as in its request."""
        namespace = self._home(owner_namespace, connection, beside=beside)
        job = await self._jobs.get(namespace, name)
        if job is None or job["metadata"].get("labels", {}).get(OWNER_UID_LABEL) != owner_uid:
            self._patience.waited((namespace, name), None)
            return ABSENT
        pods = await self._jobs.pods(namespace, name)
        state = judge(job, pods, self._patience.waited((namespace, name), waits_for(job, pods)))
        if state.phase is WorkerPhase.RUNNING and state.pod is not None:
            state = replace(state, progress=progress_in(await self._jobs.log_tail(namespace, state.pod)))
        return state

    def _worker(self, request: WorkerRequest, namespace: str) -> WorkerJob:
        settings = self._settings
        secrets = [s.strip() for s in settings.worker_image_pull_secrets.split(",") if s.strip()]
        variables: dict[str, Entry] = {}
        if request.connection is not None:
            named = (*STORE_VARIABLES, VERIFY_VARIABLE)
            variables = {name: Entry(request.connection, name) for name in named}
        if request.place.secret is not None:
            variables |= {name: Entry(request.place.secret, name) for name in S3_VARIABLES}
        return WorkerJob(
            command=request.command,
            name=request.name,
            namespace=namespace,
            owner=request.owner,
            order=request.order,
            image=Image(
                settings.worker_image or "",
                settings.worker_image_pull_policy,
                tuple(secrets),
                settings.worker_resources,
            ),
            variables=variables,
            keys_secret=request.keys_secret,
            claim=request.place.claim,
            mounts=request.mounts,
            node=request.node,
            identity=request.identity,
        )

    async def _made(self, worker: WorkerJob) -> Json:
        try:
            made = await self._jobs.create(build(worker))
        except KubeApiError as error:
            if error.status not in REFUSALS:
                raise
            raise AccessDeniedError(
                f'The Job cannot be made in the namespace "{worker.namespace}": {error.message}'
            ) from None
        job = made or await self._jobs.get(worker.namespace, worker.name)
        if job is None:
            raise LucidError(
                "The Job was removed while it was being made.", reason=Reason.WORKER_LOST
            )  # looked at again: the next look says what is there
        if job["metadata"].get("labels", {}).get(OWNER_UID_LABEL) != worker.owner.uid:
            raise RefusedError(
                f'A Job named "{worker.name}" that is not ours stands in the way in the namespace'
                f' "{worker.namespace}"; remove it.',
                reason=Reason.CONFLICT,
            )
        return job


def _names_a_file(uri: str) -> bool:
    return "tlscafile=" in uri.lower()
