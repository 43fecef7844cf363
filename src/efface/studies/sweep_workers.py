"""Where the jobs of a sweep run: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from efface.core.errors import EffaceError

from .sweep_jobs import Job, Outcome, run_job

LOCAL = "local"
"""In place of an address: starts Ray on this machine."""


class Workers(Protocol):
    """Runs jobs, at most `capacity` at the same time."""

    capacity: int

    def submit(self, job: Job) -> None:
        """Hands in a job."""
        ...

    def wait(self) -> tuple[Job, Outcome]:
        """Waits for the end of any job."""
        ...

    def close(self) -> None:
        """Releases the workers; jobs in progress are given up."""
        ...


class ThisProcess:
    """Runs one job after another in this process."""

    capacity = 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        """Keeps the job until `wait`."""
        self._job = job

    def wait(self) -> tuple[Job, Outcome]:
        """Runs the job."""
        assert self._job is not None
        return self._job, run_job(self._job, self._folder)

    def close(self) -> None:
        """Does nothing."""


class RayWorkers:
    """Runs jobs on a Ray cluster; the sweep's folder and the image cache must be visible to every machine.

    Args:
        folder: folder of the sweep.
        address: address of the cluster's head, or `LOCAL`.
        workers: number of jobs at the same time; by default one for each CPU, or for each GPU with `gpus`.
        gpus: number of GPUs of a job, such as 0.5.

    Raises:
        EffaceError: Ray is not installed, or no head answers.
    """

    def __init__(self, folder: Path, address: str, workers: int | None = None, gpus: float = 0.0) -> None:
        self._ray: Any = _import_ray()
        self._folder = folder.resolve()
        self._connect(address, workers)
        resources = self._ray.cluster_resources()
        available = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1)
        self.capacity = max(1, int(min(available, workers or available)))
        self._run: Any = self._ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(run_job)
        self._jobs: dict[Any, Job] = {}

    def _connect(self, address: str, workers: int | None) -> None:
        place = {"num_cpus": workers} if address == LOCAL else {"address": address}
        try:
            if address != LOCAL:
                _check_answers(address)
            self._ray.init(**place, include_dashboard=False, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise EffaceError(
                f"no Ray head answers at {address}: start one there with `ray start --head --port 6379`, or run "
                f"without --ray in this process"
            ) from error

    def submit(self, job: Job) -> None:
        """Sends the job to a worker."""
        self._jobs[self._run.remote(job, self._folder)] = job

    def wait(self) -> tuple[Job, Outcome]:
        """Waits for the end of any job; a worker that dies, such as from too little memory, is a failed job."""
        (reference,), _ = self._ray.wait(list(self._jobs), num_returns=1)
        job = self._jobs.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            line = str(error).strip().splitlines()[0]
            outcome = Outcome(0.0, f"{type(error).__name__}: {line}", str(error))
        return job, outcome

    def close(self) -> None:
        """Leaves the cluster."""
        self._ray.shutdown()


def _check_answers(address: str) -> None:
    """Connects once, because Ray itself tries for ten minutes.

    Raises:
        OSError: nothing answers.
        ValueError: the address has no port.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise EffaceError("Ray is not installed: pip install 'efface[ray]', or leave out --ray") from error
    return ray


def build_workers(folder: Path, ray: str | None, workers: int | None, gpus: float) -> Workers:
    """Returns the workers that the options ask for."""
    return ThisProcess(folder) if ray is None else RayWorkers(folder, ray, workers, gpus)


WorkerFactory = Callable[[Path], Workers]
"""Builds the workers for a sweep's folder."""
