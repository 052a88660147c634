# The native module (csrc/bindings), which checks what it is given. Not public.
from typing import Any

def __getattr__(name: str) -> Any: ...
