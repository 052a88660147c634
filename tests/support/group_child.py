"""One process of a group: trains, predicts and evaluates with the others, by thfr's own command line.

python group_child.py OUT DATA CONFIG_FOLDER METHOD...
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
from thfr import distributed
from thfr.banks import ShardedBank
from thfr.banks.processes import search_of_group
from thfr.cli import main
from thfr.data.base import Regions
from thfr.distributed.coreset import greedy_coreset_of_group
from thfr.evaluation import evaluate_run
from thfr.evaluation.localisation import BoundedPixels, Question, TestPixels
from thfr.methods.common.optimisation import Optimiser
from thfr.training import train
from thfr.visualization.inspection import inspect

_IMPORTED = evaluate_run, inspect, train, torch._dynamo  # once, in the fork server, not in each process


def command(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def rows() -> torch.Tensor:
    values = torch.randn(61, 7, generator=torch.Generator().manual_seed(3))
    values[20:30] = values[0:10]  # ties
    return values


def shared_kernels(out: Path) -> None:
    own = torch.tensor([i for i in range(61) if i // 4 % distributed.world() == distributed.rank()])
    chosen = greedy_coreset_of_group(rows()[own], own, 61, seed=5)
    nearest = search_of_group(ShardedBank(out.parent / "bank"), rows()[:5], 4)
    if distributed.is_main():
        torch.save((chosen, nearest), out / "kernels.pt")


QUESTIONS = (Question(("good", "dent"), "area", (0.3,)), Question(("good", "part"), "own", (0.05, 1.0)))


def shared_pixels(out: Path) -> None:
    """11 images in turns: of three processes one has the regions of a kind, another one those of another."""
    draws = np.random.default_rng(8)
    found = {}
    for name, pixels in {"exact": TestPixels(), "bounded": BoundedPixels(3_000_000, QUESTIONS)}.items():
        for number in range(11):
            values = draws.normal(size=(90, 130)).astype(np.float32)
            masks = np.zeros((2, 90, 130), bool)
            masks[0, 5:30, 10:40] = masks[1, 20:60, 30:80] = True
            values += masks.any(0)
            kind = ("dent", "part", "good")[number % 3]
            truth = Regions(masks, (100, 2000)) if kind != "good" else masks[0] & False
            if number % distributed.world() == distributed.rank():
                pixels.add(number, kind, values, truth)
        pixels.collect()
        if distributed.is_main():
            figures = pixels.figures(QUESTIONS)
            found[name] = [figures.auroc, *(list(areas.values()) for areas in figures.areas)]
            found[f"{name}_bounds"] = figures.error_bounds
        draws = np.random.default_rng(8)  # the same images again
    if distributed.is_main():
        (out / "pixels.json").write_text(json.dumps(found))


def evaluate_maps(out: Path, data: Path) -> None:
    """The maps that a run gave, also with one that is damaged: a process that does not read it fails, too."""
    distributed.barrier()
    given = ["--dataset", "mvtec_ad", "--data", data, "--category", "plate"]
    command("evaluate", "--maps", out / "maps", *given, "--out", out / "exact.json")
    more = ["--memory", "2M", "--out", out / "bounded.json"]
    command("evaluate", "--maps", out / "maps", *given, *more)
    damaged = out / "damaged"
    if distributed.is_main():
        shutil.copytree(out / "maps", damaged)
        (damaged / "plate" / "test" / "good" / "001.tiff").write_bytes(b"II*")
    distributed.barrier()
    words = ["evaluate", "--maps", damaged, *given, "--out", out / "damaged.json"]
    assert main([str(word) for word in words]) == 2


class Broken(BaseException):
    """What ends a training in its middle; the command line makes no error of it."""


@contextmanager
def breaking(at: int) -> Iterator[None]:
    """Checkpoints at every step, and no step of that number."""
    step, run = Optimiser.step, Optimiser.run

    def last(self: Optimiser, number: int, losses: object) -> None:
        if number == at:
            raise Broken
        step(self, number, losses)  # type: ignore[arg-type]

    Optimiser.step = last  # type: ignore[method-assign,assignment]
    Optimiser.run = lambda self, losses, context, *given, **more: run(  # type: ignore[method-assign,assignment]
        self, losses, replace(context, checkpoint_seconds=0), *given, **more
    )
    try:
        yield
    except Broken:
        pass
    finally:
        Optimiser.step, Optimiser.run = step, run  # type: ignore[method-assign]


def train_method(method: str, out: Path, data: Path, configs: Path) -> None:
    given = ["--dataset", "mvtec_ad", "--data", data, "--device", "cpu"]
    given += ["--method", method, "--backbone", "tf_efficientnet_lite0", "--size", 64]
    command("train", *given, "--config", configs / f"{method}.yaml", "--out", out)


def run_broken(out: Path, data: Path, configs: Path) -> None:
    """A training of THFR that ends in its middle."""
    with breaking(at=2):
        train_method("thfr", out / "resumed", data, configs)


def run(out: Path, data: Path, configs: Path, methods: list[str]) -> None:
    shared_kernels(out)
    shared_pixels(out)
    for method in methods:
        train_method(method, out / method, data, configs)
    train_method("thfr", out / "resumed", data, configs)
    command("evaluate", out / methods[0], "--device", "cpu", "--maps-out", out / "maps")
    sketched = ["--memory", "2M", "--out", out / "sketched.json"]
    command("evaluate", out / methods[0], "--device", "cpu", *sketched)
    evaluate_maps(out, data)
    command("predict", out / methods[0], data / "plate" / "test", "--device", "cpu", "--out", out / "results")


def child(rank: int, world: int, port: int, out: Path, data: Path, configs: Path, methods: list[str]) -> None:
    """What one process of the group does, as torchrun would start it; without methods it breaks off."""
    started = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in started.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    try:
        with (
            Path(os.devnull).open("w") as nothing,
            redirect_stdout(nothing),
            redirect_stderr(nothing),
            distributed.process_group("cpu"),
        ):
            run(out, data, configs, methods) if methods else run_broken(out, data, configs)
    except BaseException:
        (out / f"error{rank}.txt").write_text(traceback.format_exc())
        raise
