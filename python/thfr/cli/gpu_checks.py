"""What ``thfr doctor --gpu`` adds: a verdict on each CUDA kernel."""

from __future__ import annotations

from typing import Any

from thfr.cli.checks import Check


def gpu_checks() -> list[Check]:
    """One check an operator, from :func:`thfr_ext.self_check`; an error where it cannot run."""
    import thfr_ext

    try:
        operators = thfr_ext.self_check()["operators"]
    except RuntimeError as error:
        return [Check("CUDA self-check", "error", str(error), "run on a machine with a GPU, THFR_CUDA=on")]
    return [_check(name, verdict) for name, verdict in operators.items()]


def _check(name: str, verdict: dict[str, Any]) -> Check:
    kind = verdict["verdict"]
    if kind == "ok":
        used = "kernel in use" if verdict["used"] else "PyTorch operations stay in use"
        return Check(f"CUDA {name}", "ok", f"right, {verdict['speedup']:.2f} x PyTorch operations; {used}")
    where = f" in case {verdict['case']}" if "case" in verdict else ""
    detail = f"{kind}{where}: {verdict.get('detail', '')}; PyTorch operations stay in use"
    return Check(f"CUDA {name}", "warning", detail, "report it with the output of thfr doctor --gpu --json")
