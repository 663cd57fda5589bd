"""Work on a cluster of Ray's: one more ``concurrent.futures.Executor``, for searches and for training many masks.

Ray is an extra (``pip install stolon[ray]``). Its workers run what they are sent: let in nobody whom you would not let
run code. Ray listens on all interfaces; a cluster that is started here asks for a token, one that you join should
(``RAY_AUTH_MODE=token`` for ``ray start``, with 2.60). Workers must reach the folder that a search is in.
"""

import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures import wait as wait_for
from typing import Any, Final, final

from stolon.errors import SettingError
from stolon.settings import whole

HERE: Final = "local"
"""In place of an address: a cluster of this machine alone, started for the purpose."""
_REACHED_S: Final = 10.0  # within this an address answers, or is refused
_STORE_BYTES: Final = 10**8  # of shared memory: what is sent is small


@final
class RayExecutor(Executor):
    """Runs calls as tasks of Ray's, one core each, with one thread of PyTorch.

    ``map`` gives what :func:`stolon.masks.parallel.train_masks` takes as ``run``; a function that makes one is what
    :func:`stolon.experiments.search.searching.run` takes as ``make_executor``.

    Args:
        workers: how many run at once on a cluster that is started here, >= 1.
        address: of the cluster, such as ``"10.0.0.1:6379"``, or ``"auto"``: the one that this machine is part of; by
            default one is started here, and ended by :meth:`shutdown`.

    Raises:
        SettingError: a number is out of its range; Ray is not installed, or has a cluster in this process already; or
            there is none at the address.
    """

    def __init__(self, workers: int, address: str = HERE) -> None:
        whole("workers", workers, 1)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        # 15 by default: beside anything else workers would starve
        os.environ.setdefault("RAY_worker_niceness", "0")
        try:
            import ray
        except ImportError as error:
            raise SettingError("ray: it is not installed; pip install 'stolon[ray]'") from error
        if ray.is_initialized():
            raise SettingError(
                "ray: this process is part of a cluster already; end that first: ray.shutdown()"
            )
        if address not in (HERE, "auto"):
            _check_reached(address)
        one_thread = {"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}}
        try:
            if address == HERE:
                ray.init(
                    num_cpus=workers,
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=one_thread,
                )
            else:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=one_thread)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SettingError(f"ray: expected a cluster at {address!r}, found none: {error}") from error
        self._ray, self._run = ray, ray.remote(_call)
        self._waiting: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as the base
        """Have it done; the future ends with what it gives, or raises what it raised."""
        reference = self._run.options(max_retries=0).remote(fn, args, kwargs)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._waiting[future] = reference
        reference.future().add_done_callback(lambda done: self._hand_on(done, future))
        return future

    def _hand_on(self, done: Future[Any], future: Future[Any]) -> None:
        self._waiting.pop(future, None)
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            future.set_exception(
                getattr(error, "cause", None) or error
            )  # the call's own, not Ray's around it
        else:  # a worker or its machine died, or was out of memory: no fault of the call's
            future.set_exception(BrokenExecutor(f"Ray could not finish a call: {error}"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as the base
        """Leave the cluster, or end it if it was started here; with ``cancel_futures`` what runs is killed."""
        if cancel_futures:
            for reference in list(self._waiting.values()):
                self._ray.cancel(reference, force=True)
        if wait:
            wait_for(list(self._waiting))
        self._ray.shutdown()


def _check_reached(address: str) -> None:
    """Refuse an address that nobody listens at: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise SettingError(
            f"ray: expected an address such as 10.0.0.1:6379, 'auto' or 'local', found {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_S).close()
    except (OSError, OverflowError) as error:
        raise SettingError(f"ray: expected a cluster at {address!r}, found none: {error}") from error


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever it gives
    return fn(*args, **kwargs)
