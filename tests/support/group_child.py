"""One process of a group: trains, predicts and evaluates with the others, by thfr's own command line.

python group_child.py OUT DATA CONFIG_FOLDER METHOD...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from thfr import distributed
from thfr.banks import ShardedBank
from thfr.banks.processes import search_of_group
from thfr.cli import main
from thfr.distributed.coreset import greedy_coreset_of_group


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


def run(out: Path, data: Path, configs: Path, methods: list[str]) -> None:
    shared_kernels(out)
    for method in methods:
        given = ["--dataset", "mvtec_ad", "--data", data, "--device", "cpu"]
        given += ["--method", method, "--backbone", "tf_efficientnet_lite0", "--size", 64]
        command("train", *given, "--config", configs / f"{method}.yaml", "--out", out / method)
    command("evaluate", out / methods[0], "--device", "cpu", "--maps-out", out / "maps")
    command("predict", out / methods[0], data / "plate" / "test", "--device", "cpu", "--out", out / "results")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.process_group("cpu"):
        run(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
