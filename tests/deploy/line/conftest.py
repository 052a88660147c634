"""A model without a network, so that what surrounds models is tested quickly, and pictures for it."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from thfr.deploy.drift import DriftMonitor
from thfr.io import ReadOptions
from thfr.methods.base import Scores
from thfr.runs.threshold import Threshold

GOOD = Threshold.from_scores([0.1 * n for n in range(1, 6)], 0.2, "made-up images")  # value 0.5


class Brightness:
    """The map is the brightest channel over 255, the score its maximum; ``gate`` holds scoring up."""

    kind, input_size, read_options = "brightness", (64, 64), ReadOptions()

    def __init__(self, name: str = "plate", threshold: Threshold | None = GOOD) -> None:
        self.name, self.threshold = name, threshold
        self.drift = DriftMonitor(None if threshold is None else threshold.scores, None)
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.fail: Exception | None = None

    def score(self, images: Sequence[np.ndarray]) -> Scores:
        self.gate.wait(30)
        self.batches.append(len(images))
        if self.fail is not None:
            raise self.fail
        maps = [image.max(2).astype(np.float32) / 255 for image in images]
        found = Scores(maps, np.array([values.max() for values in maps], np.float32))
        self.drift.add(found.scores, None)
        return found


def picture(height: int = 40, width: int = 56, spot: int = 0) -> np.ndarray:
    """Dark, with a square of 8 pixels of this brightness at x = 20, y = 10."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    pixels[10:18, 20:28] = max(spot, 20)
    return pixels


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def model() -> Brightness:
    return Brightness()


@pytest.fixture
def client_of() -> Iterator[Callable[..., Any]]:
    """Makes test clients of applications; they are shut down at the end."""
    pytest.importorskip("fastapi", reason="needs thfr-ext[serve]")
    from fastapi.testclient import TestClient
    from thfr.deploy.serve.app import create_app
    from thfr.deploy.serve.settings import Settings

    opened = []

    def make(
        *models: Any,
        names: Any = None,
        log: Any = None,
        senders: Any = (),
        teacher: Any = None,
        swapper: Any = None,
        **settings: Any,
    ) -> TestClient:
        served = dict(zip(names or [model.name for model in models], models, strict=True))
        app = create_app(served, Settings(**settings), log, senders, teacher, swapper)
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(client)
        client.__enter__()
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def open_to_others(folder: Path) -> None:
    """Let a server that runs as another user reach a folder below the system's temporary one."""
    top = Path(tempfile.gettempdir())
    for place in (folder, *folder.parents):
        if place == top or top not in place.parents:
            break
        place.chmod(place.stat().st_mode | 0o055)
