"""Banks of feature rows that are larger than memory: shards on disk, searched one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thfr.lazy import lazy_exports

if TYPE_CHECKING:
    from thfr.banks.approximate import FaissBank, measured_recall
    from thfr.banks.processes import SearchProcesses
    from thfr.banks.sharded import BankWriter, ShardedBank

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "approximate": ("FaissBank", "measured_recall"),
        "processes": ("SearchProcesses",),
        "sharded": ("BankWriter", "ShardedBank"),
    },
)

__all__ = ["BankWriter", "FaissBank", "SearchProcesses", "ShardedBank", "measured_recall"]
