"""The frame of every worker: reads its order, ends in time, stops when told to, and always says what became of it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.signals import on_sigterm
from lucid_storage.models.order_text import order_in
from lucid_storage.models.orders import ORDER_VARIABLE, Message, Task
from lucid_storage.stores.trust import STORES_CA_VARIABLE, trust

logger = logging.getLogger(__name__)

O = TypeVar("O", bound=Task)  # noqa: E741

GRACE_SECONDS = 20.0
"""After a stop was asked for: time to abort uploads. Less than a pod's grace of 30 s."""


class Stop:
    """Why and whether the worker is to end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason: Reason | None = None
        self.message = ""

    def ask(self, reason: Reason, message: str) -> None:
        """The first reason holds. Whoever does not end within GRACE_SECONDS is ended."""
        if self.event.is_set():
            return
        self.reason, self.message = reason, message
        self.event.set()
        last = threading.Timer(GRACE_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()


def run_worker(
    order_type: type[O],
    work: Callable[[O, Mapping[str, str], Reporter, Stop], Message],
    failed: Callable[[O, Reason, str], Message],
    environ: Mapping[str, str] | None = None,
) -> int:
    """The exit status: 0 when the result was told, whatever it is; 1 for a defect; 2 for an order that is none.

    `work` returns the result and raises LucidError; `failed` makes a result of an error.
    """
    environ = os.environ if environ is None else environ
    _log_to_stderr()
    try:
        order = order_type.model_validate_json(order_in(environ))
    except (KeyError, ValidationError) as error:
        print(f"lucid-storage: {ORDER_VARIABLE} holds no order: {error}", file=sys.stderr)
        return 2
    stop = Stop()
    on_sigterm(lambda: stop.ask(Reason.CANCELLED, "The worker was told to stop."))
    deadline = threading.Timer(
        order.deadline_seconds,
        stop.ask,
        (Reason.DEADLINE_EXCEEDED, f"The work took longer than {order.deadline_seconds} s."),
    )
    deadline.daemon = True
    deadline.start()
    reporter = Reporter()
    try:
        trust_stores(environ)
        result = work(order, environ, reporter, stop)
    except LucidError as error:
        # What the work says of itself is not lost: it may have written something that stays.
        message = f"{stop.message} {error.message}" if stop.reason else error.message
        result = failed(order, stop.reason or error.reason, message)
    except Exception:
        if stop.reason is None:
            logger.exception("a defect of the worker")
            result = failed(
                order, Reason.INTERNAL_ERROR, "A defect of the worker; the log of its pod has details."
            )
            reporter.result(result, environ)
            return 1
        result = failed(order, stop.reason, stop.message)
    finally:
        deadline.cancel()
    try:
        reporter.result(result, environ)
    except ValueError:
        told = "The work was done, and what there is to say of it is too long; choose less at once."
        reporter.result(failed(order, Reason.INVALID_SPEC, told), environ)
    return 0


def trust_stores(environ: Mapping[str, str]) -> None:
    """The certificate authority that the operator gave to the Job. Raises RefusedError when it is none."""
    given = environ.get(STORES_CA_VARIABLE)
    if given:
        trust(given)


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
