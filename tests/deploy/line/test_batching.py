"""The worker: what waits together is scored together, nothing is lost at the end."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest
from thfr.deploy.serve.batching import Closed, QueueFull, Worker
from thfr.deploy.serve.settings import Settings

from .conftest import Brightness, picture

PLAIN = Settings(batch_images=4, batch_wait=0.0)


def held(settings: Settings = PLAIN) -> tuple[Brightness, Worker]:
    """A worker that scores one image and is held up by it."""
    model = Brightness()
    model.gate.clear()
    worker = Worker(model, settings)
    worker.submit([picture()])
    while worker.depth:
        time.sleep(0.005)
    return model, worker


def test_what_waits_is_scored_together_and_in_order() -> None:
    model, worker = held()
    answers = [worker.submit([picture(spot=20 + n)])[0] for n in range(6)]
    model.gate.set()
    scores = [round(255 * answer.result(10).score) for answer in answers]
    worker.close()
    assert scores == [20, 21, 22, 23, 24, 25]
    assert model.batches == [1, 4, 2]


def test_a_lone_image_waits_for_company() -> None:
    model = Brightness()
    worker = Worker(model, replace(PLAIN, batch_images=2, batch_wait=20.0))
    first = worker.submit([picture()])[0]
    time.sleep(0.05)
    assert not first.done()
    worker.submit([picture()])
    first.result(5)  # long before its 20 s are over
    worker.close()
    assert model.batches == [2]


def test_close_answers_what_waits_and_takes_nothing_more() -> None:
    model, worker = held()
    answers = worker.submit([picture()] * 9)
    model.gate.set()
    worker.close()
    assert all(answer.done() for answer in answers)
    with pytest.raises(Closed):
        worker.submit([picture()])


def test_the_queue_is_bounded_by_images_and_by_pixels() -> None:
    model, worker = held(replace(PLAIN, queue_images=3))
    worker.submit([picture()] * 2)
    with pytest.raises(QueueFull):
        worker.submit([picture()] * 2)  # all or none
    assert worker.depth == 2
    worker.submit([picture()])
    model.gate.set()
    worker.close()

    model, worker = held(replace(PLAIN, queue_pixels=5000))
    worker.submit([picture()] * 2)  # 2240 pixels each
    with pytest.raises(QueueFull) as caught:
        worker.submit([picture()])
    assert caught.value.retry_after >= 1
    model.gate.set()
    worker.close()


def test_cancelled_images_are_not_scored() -> None:
    model, worker = held()
    gone, kept = worker.submit([picture()])[0], worker.submit([picture()])[0]
    assert gone.cancel()
    model.gate.set()
    kept.result(10)
    worker.close()
    assert model.batches == [1, 1]
    with pytest.raises(CancelledError):
        gone.result()
