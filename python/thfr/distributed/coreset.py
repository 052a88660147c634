"""k-centre greedy over the shards of all processes."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from thfr import distributed
from thfr_ext.retrieval.shards import CoresetShard, first_coreset_index


def greedy_coreset_of_group(
    rows: Tensor,  # [n,D], this process's
    indices: Tensor,  # int64 [n], ascending: their numbers among the rows of all processes
    size: int,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:  # int64 [size]
    """:func:`thfr_ext.greedy_coreset` of the rows of all processes in the order of their numbers.

    On CPUs the same rows in the same order as in one process, to the bit. A step exchanges one row a process.

    Raises:
        ValueError: ``size`` is not between 1 and the number of rows.
    """
    total = sum(distributed.gather_objects(len(rows)))
    if not 1 <= size <= total:
        raise ValueError(f"greedy_coreset: size: expected 1 to the {total} rows, got {size}")
    shard, chosen = CoresetShard(rows), [first_coreset_index(total, seed)]
    own = (indices == chosen[0]).nonzero().flatten()
    row = _of_its_owner(shard, int(own[0]) if len(own) else -1, 0.0 if len(own) else -1.0, chosen[0])[0]
    with tqdm(total=size, initial=1, desc="coreset", unit="patch", disable=not progress) as bar:
        while len(chosen) < size:
            distance, place = shard.farthest(row)
            row, index = _of_its_owner(shard, place, distance, int(indices[place]) if place >= 0 else -1)
            chosen.append(index)
            bar.update()
    return torch.tensor(chosen)


def _of_its_owner(shard: CoresetShard, place: int, distance: float, index: int) -> tuple[Tensor, int]:
    """The farthest of what the processes offer, the lowest index among equals: its row and index. Its owner
    marks it as chosen.
    """
    offered = torch.empty(shard.row(-1).shape[0] + 2, dtype=torch.float64)
    offered[0], offered[1], offered[2:] = distance, index, shard.row(place).double().cpu()
    every = [offered]
    if distributed.world() > 1:
        every = [torch.empty_like(offered) for _ in range(distributed.world())]
        torch.distributed.all_gather(every, offered)
    best = max(range(len(every)), key=lambda number: (float(every[number][0]), -int(every[number][1])))
    if best == distributed.rank():
        shard.take(place)
    return every[best][2:].to(shard.row(-1)), int(every[best][1])
