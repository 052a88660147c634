"""Groups of 2 and 3 processes (gloo) do what one does: same banks, same coresets, same figures."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from support import group_child
from support.methods import SMALL
from thfr.banks import BankWriter
from thfr.cli import main

import thfr_ext

METHODS = ("patchcore", "thfr")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo groups are tested where fork is")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """19 training images, 3 batches of which the last is smaller, and 10 test images, 2 batches."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for place, count in {"train/good": 19, "test/good": 5, "test/scratch": 5}.items():
        for number in range(count):
            pixels = rng.normal(128, 20, (32, 40, 3)).clip(0, 255).astype(np.uint8)
            mask = np.zeros((32, 40), np.uint8)
            if place == "test/scratch":
                mask[8:16, 8 : 20 + number] = 255
                pixels[mask > 0] = 255
                truth = root / "plate" / "ground_truth" / "scratch" / f"{number:03d}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(truth)
            path = root / "plate" / place / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("groups")
    for method in METHODS:
        changes = {**SMALL[method], "training": {**SMALL[method].get("training", {})}}
        if method == "thfr":
            changes["training"]["batch_size"] = 6  # a multiple of 2 and 3
        (base / f"{method}.yaml").write_text(yaml.safe_dump(changes))
    with BankWriter(base / "bank", 7, shard_bytes=2 * 7 * 13) as writer:
        writer.add(group_child.rows())
    return base


def start_group(processes: int, out: Path, data: Path, folder: Path, methods: tuple[str, ...]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # imports torch once for all of them
    context.set_forkserver_preload(["support.group_child"])
    children = [
        context.Process(
            target=group_child.child,
            args=(rank, processes, port, out, data, folder, list(methods)),
        )
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    for rank, child in enumerate(children):
        child.join(timeout=200)
        assert child.exitcode == 0, (out / f"error{rank}.txt").read_text()[-3000:]


@pytest.fixture(scope="module", params=[2, 3], ids=["two", "three"])
def groups(request: pytest.FixtureRequest, broken: Path, folder: Path, data: Path) -> Path:
    out = folder / f"processes{request.param}"
    shutil.copytree(broken, out)
    start_group(request.param, out, data, folder, METHODS)
    return out


@pytest.fixture(scope="module")
def broken(folder: Path, data: Path) -> Path:
    """A training that two processes began."""
    out = folder / "broken"
    out.mkdir()
    start_group(2, out, data, folder, ())
    return out


@pytest.fixture(scope="module")
def alone(folder: Path, data: Path, broken: Path) -> Path:
    """What a single process makes."""
    out = folder / "alone"
    shutil.copytree(broken, out)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    group_child.run(out, data, folder, list(METHODS))
    torch.set_num_threads(threads)
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_coreset_and_search_over_shards_are_those_of_one_process(groups: Path) -> None:
    chosen, (scores, indices) = torch.load(groups / "kernels.pt")
    rows = group_child.rows()
    assert torch.equal(chosen, thfr_ext.greedy_coreset(rows, 61, seed=5))
    expected = thfr_ext.nearest_templates(rows[:5], rows.half(), 4, "l2")
    assert torch.equal(scores, expected[0])
    assert torch.equal(indices, expected[1])


def test_a_memory_is_that_of_one_process_to_the_bit(groups: Path, alone: Path) -> None:
    one, other = (load_file(out / "patchcore" / "model.safetensors") for out in (alone, groups))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def require_same_network(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Weights within 2e-4, but for few: Adam's steps are as long for a gradient that is rounding alone."""
    assert found.keys() == expected.keys()
    apart = {name: (found[name].float() - tensor.float()).abs() for name, tensor in expected.items()}
    beyond = {name: int((far > 2e-4).sum()) for name, far in apart.items() if float(far.max()) > 2e-4}
    assert sum(beyond.values()) <= 1e-3 * sum(far.numel() for far in apart.values()), beyond


def test_a_network_is_that_of_one_process_but_for_the_order_of_sums(groups: Path, alone: Path) -> None:
    one, other = (load_file(out / "thfr" / "model.safetensors") for out in (alone, groups))
    require_same_network(other, one)
    lines = [json.loads(line) for line in (groups / "thfr" / "log.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (alone / "thfr" / "log.jsonl").read_text().splitlines()]
    assert [line.get("step") for line in lines] == [line.get("step") for line in before]
    losses = [next(line["loss"] for line in some if "loss" in line) for some in (lines, before)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_network_is_resumed_by_another_number_of_processes(groups: Path, alone: Path) -> None:
    """Two processes took the first two of the four steps; one, two and three the others."""
    whole = load_file(alone / "thfr" / "model.safetensors")
    for out in (alone, groups):
        lines = [json.loads(line) for line in (out / "resumed" / "log.jsonl").read_text().splitlines()]
        assert [line["resumed_at"] for line in lines if "resumed_at" in line] == [2]
        require_same_network(load_file(out / "resumed" / "model.safetensors"), whole)


def test_every_image_is_scored_once_and_figures_are_the_same(groups: Path, alone: Path) -> None:
    figures, expected = (read(out / "patchcore" / "metrics.json") for out in (groups, alone))
    assert figures == expected
    for place in ("maps", "results"):
        rows, before = (read(out / place / "scores.json") for out in (groups, alone))
        assert [row["file"] for row in rows["images"]] == [row["file"] for row in before["images"]]
        assert rows["images"] == before["images"]
        for row in rows["images"]:
            assert (groups / place / row["map"]).read_bytes() == (alone / place / row["map"]).read_bytes()


def test_figures_of_shared_maps_are_those_of_one_process(groups: Path, alone: Path) -> None:
    assert read(groups / "exact.json") == read(alone / "exact.json")
    exact = read(groups / "exact.json")
    for name in ("bounded.json", "sketched.json"):  # of maps, and of a run whose maps nobody collects
        figures = read(groups / name)
        assert figures["image_auroc"] == exact["image_auroc"]
        for figure in ("pixel_auroc", "au_pro"):
            assert abs(figures[figure] - exact[figure]) <= figures["error_bounds"][figure] + 1e-12
    assert read(groups / "sketched.json")["notes"] == read(alone / "sketched.json")["notes"]
    assert not (groups / "damaged.json").exists()


def test_states_of_pixels_are_merged(groups: Path, alone: Path) -> None:
    found, one = read(groups / "pixels.json"), read(alone / "pixels.json")
    assert found["exact"] == one["exact"]
    flat = [found["exact"][0], *found["exact"][1], *found["exact"][2]]
    values = [found["bounded"][0], *found["bounded"][1], *found["bounded"][2]]
    bounds = list(found["bounded_bounds"].values())
    for value, exact, bound in zip(values, flat, [*bounds, bounds[-1]], strict=True):
        assert 0 < bound < 5e-3  # more scores than bins, and yet close
        assert abs(value - exact) <= bound


def test_other_commands_do_not_share_their_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["doctor"]) == 2
    assert "torchrun: only train, predict, evaluate share their work" in capsys.readouterr().err
