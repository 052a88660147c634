from .approximate import FaissBank as FaissBank
from .approximate import measured_recall as measured_recall
from .processes import SearchProcesses as SearchProcesses
from .sharded import BankWriter as BankWriter
from .sharded import ShardedBank as ShardedBank
