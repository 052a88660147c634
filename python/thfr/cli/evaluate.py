"""``thfr evaluate``: a run's test images, or any method's maps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from thfr import distributed
from thfr.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_run,
    byte_count,
    existing_file,
    existing_folder,
    existing_path,
)
from thfr.cli.output import Result, with_notes
from thfr.data.registry import dataset_names
from thfr.errors import InputError

_DESCRIPTION = """\
Score anomaly maps with the published protocol: image AUROC, pixel AUROC and AU-PRO, and for
MVTec LOCO AD the official figures by kind, AUROC and AU-sPRO. All maps are scored at native size.

  thfr evaluate RUN                 predict the run's test images and write RUN/metrics.json
  thfr evaluate DIR --data ROOT     the same of an exported model
  thfr evaluate RUN --maps-out DIR  keep scores and maps, for `thfr report RUN --maps DIR`
  thfr evaluate --maps DIR ...      score any method's maps, DIR/<category>/test/<kind>/<id>.tiff
"""
_EPILOG = """\
A figure that the data do not define (a kind without images) is null in the JSON and "-" in the table.
Of a run with a region of interest all figures are over what lies in it: "region" in the JSON.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "evaluate", run, help="the benchmark's figures", description=_DESCRIPTION, epilog=_EPILOG
    )
    add_run(parser, optional=True)
    parser.argument_default = argparse.SUPPRESS  # what is not given is not there
    parser.add_argument(
        "--data",
        type=existing_path,
        metavar="ROOT",
        help="folder of the data set; for a RUN only needed if it was moved since training",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="metrics.json to write (default: the one in RUN)",
    )
    add_device(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        "--maps-out",
        type=Path,
        metavar="DIR",
        help="folder for scores and maps of RUN",
    )
    parser.add_argument(
        "--memory",
        type=byte_count,
        metavar="BYTES",
        help="keep at most this much of the pixels (64M, 2G): for sets that do not fit into memory. Figures "
        "then come with error_bounds; without it all pixels are kept, 5 bytes each, and figures are exact",
    )
    maps = parser.add_argument_group("any method's maps, instead of RUN")
    maps.add_argument(
        "--maps",
        type=existing_folder,
        metavar="DIR",
        help="folder of float TIFF maps",
    )
    maps.add_argument(
        "--roi",
        type=existing_file,
        metavar="FILE",
        help="region of interest, a mask image or polygons in JSON: figures over it (RUN knows its own)",
    )
    maps.add_argument("--dataset", choices=dataset_names(), help="layout and protocol")
    maps.add_argument(
        "--category",
        metavar="NAME",
        help="its folder in ROOT, and the maps' folder in DIR",
    )


def run(args: argparse.Namespace) -> Result:
    given = vars(args)
    from_maps = "maps" in given
    if (args.run_folder is None) != from_maps:
        args.parser.error("give either RUN or --maps DIR")
    if from_maps:
        missing = [name for name in ("dataset", "category", "out", "data") if name not in given]
        if missing:
            args.parser.error(f"--maps also needs {', '.join(f'--{name}' for name in missing)}")
        for name in ("device", "maps_out"):
            if name in given:
                args.parser.error(f"--{name.replace('_', '-')}: only with RUN")
        metrics, out = _evaluate_maps(args), args.out
    else:
        wrong = [f"--{name}" for name in ("dataset", "category", "roi") if name in given]
        if wrong:
            args.parser.error(f"{', '.join(wrong)}: only with --maps, RUN knows its own")
        from thfr.runs import files

        metrics = _evaluate_run(args.run_folder, given)
        out = given.get("out", args.run_folder / files.METRICS)
    if not metrics:  # the main process of torchrun has them
        return Result("")

    from thfr.evaluation import metrics_table

    text = with_notes(f"{metrics_table(metrics)}\n\nwritten to {out}", metrics.get("notes", ()))
    return Result(text, metrics)


def _evaluate_run(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """A run, or an exported one."""
    asked, device = (
        {name: given[name] for name in names if name in given}
        for names in (("data", "out", "maps_out", "memory"), ("device",))
    )
    from thfr.deploy.exported import is_exported

    if is_exported(folder):
        from thfr.deploy.exported_figures import evaluate_exported

        if device == {"device": "cuda"}:
            raise InputError(f"evaluate: {folder} is an exported model, which computes on the CPU; got cuda")
        return evaluate_exported(folder, **asked, progress=True)
    from thfr.evaluation import evaluate_run

    return evaluate_run(folder, **asked, **device, progress=distributed.is_main())


def _evaluate_maps(args: argparse.Namespace) -> dict[str, Any]:
    from thfr.data import load_dataset
    from thfr.data.parallel import usable_cpus
    from thfr.evaluation import evaluate_maps, open_maps
    from thfr.evaluation.figures import remove_figures
    from thfr.io import atomic_write_json, read_region

    dataset = load_dataset(args.dataset, args.data, args.category)
    main = distributed.is_main()
    if main:
        remove_figures(args.out)
    region = None
    if "roi" in args:
        region = read_region(args.roi, dataset.size(dataset.test[0]) if dataset.test else (1, 1))
    threads, memory = min(16, 2 * usable_cpus()), getattr(args, "memory", None)
    maps = open_maps(args.maps, dataset)
    metrics = evaluate_maps(
        dataset, maps, region=region, progress=main, threads=threads, memory=memory, shared=True
    )
    if metrics:
        metrics["notes"] = list(dataset.notes)
        atomic_write_json(args.out, metrics)
    return metrics
