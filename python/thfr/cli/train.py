"""``thfr train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfr import distributed
from thfr.backbones.specs import BACKBONES, backbone_spec
from thfr.cli.arguments import (
    SIZE_HELP,
    Commands,
    add_command,
    add_device,
    add_tiles,
    byte_count,
    existing_file,
    existing_path,
    geometry,
    input_size_or_auto,
    not_negative,
    positive,
    rate,
    share,
)
from thfr.cli.output import Result, in_words, with_notes
from thfr.config import RunConfig, read_yaml
from thfr.data.registry import dataset_names
from thfr.io import BIT_DEPTHS
from thfr.methods.registry import config_from_values, method_names

_DESCRIPTION = """\
Learn what good products look like. Only images of good products are used.

  thfr train --dataset folder --data images/good --out runs/mine
  thfr train --dataset mvtec_loco --data mvtec_loco --category juice_bottle --out runs/juice_bottle

THFR is the default; the other methods are there to be compared with it. All of them write a run folder that
predict, evaluate, calibrate, report, gallery, bench and tables read.
"""
_VARIANTS = "thfr: the whole method; gl: without templates; gbn, lbn: only its global or local bottleneck"


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "train", run, help="learn from good images", description=_DESCRIPTION)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        choices=dataset_names(),
        required=True,
        help="layout of the data; folder: images of one's own",
    )
    data.add_argument(
        "--data",
        type=existing_path,
        required=True,
        metavar="ROOT",
        help="folder of the data; for table the CSV or JSONL file",
    )
    data.add_argument(
        "--category",
        metavar="NAME",
        nargs="+",
        help="which folder in ROOT, if it holds several; of several names one model is made for all of them",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to make")
    model = parser.add_argument_group("model")
    model.add_argument("--method", choices=method_names(), default="thfr", help="what learns")
    model.add_argument("--variant", choices=("thfr", "gl", "gbn", "lbn"), help=f"of THFR. {_VARIANTS}")
    model.add_argument(
        "--decoder",
        choices=("full", "light"),
        help="of THFR. light: less than half of the time, for training and for an image (default: full)",
    )
    model.add_argument(
        "--parts",
        choices=("restoration", "all", "both", "arrangement", "material"),
        help="what the answer is made of. thfr: restoration (default), or all: what template asks, too; "
        "template: both (default), arrangement or material",
    )
    model.add_argument(
        "--backbone",
        metavar="NAME",
        default="wide_resnet50_2",
        help=f"extractor: {', '.join(BACKBONES)}, or another model of timm, see docs/backbones.md; "
        "tf_efficientnet_lite0 needs no download; for template also several, joined by +",
    )
    model.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the backbone's weights, .safetensors or .pth; else fetched; of several FILE+FILE",
    )
    model.add_argument(
        "--size",
        type=input_size_or_auto,
        metavar="SIZE",
        help=f"{SIZE_HELP} (default: the backbone's, 256 for most); auto: at the training images' "
        "median aspect, of as many pixels as that; auto:384: of as many as a square of 384",
    )
    add_tiles(model)
    model.add_argument(
        "--roi",
        type=existing_file,
        metavar="FILE",
        help="region of interest, a mask image or polygons in JSON: outside of it nothing scores or counts",
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="passes over the training images (default: the method's, and more for a small set)",
    )
    parser.add_argument(
        "--config",
        type=existing_file,
        metavar="FILE",
        help="YAML of other fields to change, as in a run's config.yaml",
    )
    threshold = parser.add_argument_group("threshold, set by the validation images and those held out")
    threshold.add_argument(
        "--holdout",
        type=share,
        metavar="SHARE",
        help="share of the images that only sets the threshold (default: 0.1 for a folder or table, else 0; "
        "template needs none)",
    )
    threshold.add_argument(
        "--false-alarm-rate",
        type=rate,
        default=0.05,
        metavar="RATE",
        help="share of good products that may be called bad",
    )
    data.add_argument(
        "--bit-depth",
        type=int,
        choices=BIT_DEPTHS,
        help="bits of a pixel value that the camera fills (default: found on the images)",
    )
    parser.add_argument(
        "--memory",
        type=byte_count,
        default=4 << 30,
        metavar="BYTES",
        help="keep at most this much of the images, and as much of the features, in memory (64M, 2G; default "
        "4G); more lie in files in RUN",
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of weights, order and corruption")
    add_device(parser)


def run(args: argparse.Namespace) -> Result:
    from thfr.data import load_dataset
    from thfr.runs.folder import read_metadata
    from thfr.study.presets import changed
    from thfr.training import auto_size, train

    # Epochs that are asked for are taken at their word; without, small sets get some more.
    epochs = {} if args.epochs is None else {"epochs": args.epochs, "min_steps": 0}
    given = {"variant": args.variant, "decoder": args.decoder, "parts": args.parts}
    own = {name: value for name, value in given.items() if value is not None}
    named: list[str] = args.category or []
    dataset = load_dataset(args.dataset, args.data, named if len(named) > 1 else next(iter(named), None))
    seen = geometry(args)
    if isinstance(args.size, str):
        whole = {name: seen[name] for name in ("tiles", "overlap") if name in seen}
        spec = backbone_spec(args.backbone)
        edge = int(args.size.partition(":")[2] or spec.size)
        seen["size"] = auto_size(dataset, area=edge**2, multiple=spec.multiple, **whole)
    config = config_from_values(
        {
            "method": args.method,
            "model": {"backbone": args.backbone, **seen, **own},
            "training": {"seed": args.seed, "holdout": args.holdout or 0.0, **epochs},
        },
        "options",
    )
    if args.holdout is None:
        config = _with_holdout(config, args, len(dataset.train))
    if args.config is not None:
        config = changed(config, read_yaml(args.config), str(args.config))
    detector = train(
        config,
        dataset,
        args.out,
        weights=args.weights,
        device=args.device,
        progress=distributed.is_main(),
        cache_budget=args.memory,
        false_alarm_rate=args.false_alarm_rate,
        bit_depth=args.bit_depth,
        roi=args.roi,
    )
    metadata = read_metadata(args.out)
    values = {
        "run": str(args.out),
        **detector.config.summary(),
        "threshold": None if detector.threshold is None else detector.threshold.as_dict(),
        "thresholds": {name: one.as_dict() for name, one in detector.thresholds.items()},
        **metadata.as_dict(),
        "notes": metadata.notes,
    }
    limit = in_words(detector.threshold, detector.thresholds) or "no threshold: thfr calibrate sets it"
    text = with_notes(
        f"{args.out}: {detector.config.full_label}, {metadata.images} images, "
        f"{metadata.steps} steps, {metadata.train_seconds:.0f} s on {metadata.device}\n"
        f"{limit}",
        metadata.notes,
    )
    text += f"\nnext: thfr predict {args.out} IMAGE|FOLDER --out RESULTS"
    if dataset.test:
        text += f"\n      thfr evaluate {args.out}"
    return Result(text, values)


def _with_holdout(config: RunConfig, args: argparse.Namespace, images: int) -> RunConfig:
    """Hold a tenth out where nothing else could set the threshold: no split for it, no method that scores its
    training images as new ones.
    """
    alone = config.leaves_out and args.roi is None
    if args.dataset not in ("folder", "table") or alone or images < 2:
        return config
    return config.model_copy(update={"training": config.training.model_copy(update={"holdout": 0.1})})
