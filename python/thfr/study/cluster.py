"""The trials of a study as tasks of a Ray cluster, whose machines share the folders of data and results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from thfr.errors import InputError
from thfr.extras import require

_TRIES = 3  # again, after a worker or its machine died


def run_on_ray(
    tasks: dict[str, dict[str, Any]],
    address: str,
    device: str,
    label: str,
    failed: Callable[[str, str], None],
) -> None:
    """Carry out the tasks (name -> arguments of :func:`thfr.study.worker.carry_out`).

    Each takes one processor, or one GPU unless ``device`` is ``cpu``, and a worker process of its own. One
    that dies is started again up to three times, and resumes the training from its checkpoint; a trial that
    fails of itself is not repeated. ``failed`` is told its name and reason.

    Args:
        address: of the cluster (``auto``, ``host:6379``, ``ray://host:10001``); ``local`` starts one here.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    ray = require("study: --ray", "ray", "ray")
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": ":".join(filter(None, sys.path))}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"study: no Ray cluster at {address}: {error}") from error
    try:
        gpus = 0 if device == "cpu" or not ray.cluster_resources().get("GPU") else 1
        carry_out = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=1, max_retries=_TRIES)(carry_out_trial)
        waiting = {carry_out.remote(task): name for name, task in tasks.items()}
        with tqdm(total=len(waiting), desc=f"{label}trials", unit="trial", disable=not waiting) as bar:
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1)
                reason = _reason(ray, done[0])
                name = waiting.pop(done[0])
                if reason is not None:
                    failed(name, reason)
                bar.update()
    finally:
        ray.shutdown()


def _reason(ray: Any, reference: Any) -> str | None:
    try:
        found: str | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"its process ended {_TRIES + 1} times: {type(error).__name__}: {str(error).splitlines()[0]}"
    return found


def carry_out_trial(task: dict[str, Any]) -> str | None:
    """In a worker of the cluster: the reason if the trial fails."""
    from pathlib import Path

    from thfr.study.trials import Trial, trial_path
    from thfr.study.worker import carry_out

    given = dict(task)
    trial = Trial.from_definition(given.pop("trial"))
    if trial_path(Path(given["out"]), trial).is_file():  # by a worker that died after its last step
        return None
    try:
        carry_out(trial, **given)
    except Exception as error:
        return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return None
