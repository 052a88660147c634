"""Tables of results beside published ones: categories as columns, methods as rows, percent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from thfr.data.registry import dataset_class, dataset_names
from thfr.errors import InputError
from thfr.study.published import KINDS, MEAN, official_categories, published_tables, remarks, source
from thfr.study.published import mean_discrepancies as discrepancies
from thfr.study.results import Result, is_checked, unofficial
from thfr.study.summary import spread

SPRO_LIMITS = ("0.01", "0.05", "0.1", "0.3", "1.0")
_TITLES = {
    "mvtec_ad": {
        "image_auroc": "MVTec AD: image AUROC",
        "pixel_auroc": "MVTec AD: pixel AUROC",
        "au_pro": "MVTec AD: AU-PRO at FPR 0.3",
    },
    "mvtec_loco": {
        "classification.auc_roc.{kind}": "MVTec LOCO AD: image AUROC",
        **{
            f"localization.auc_spro.{{kind}}.{limit}": f"MVTec LOCO AD: AU-sPRO at FPR {limit}"
            for limit in SPRO_LIMITS
        },
        "pixel_auroc": "MVTec LOCO AD: pixel AUROC",
        "au_pro": "MVTec LOCO AD: AU-PRO at FPR 0.3",
    },
}


def _titles(dataset: str) -> dict[str, str]:
    """The figures shown of a data set, and what they are called."""
    if dataset in _TITLES:
        return _TITLES[dataset]
    limit = dataset_class(dataset).PRO_LIMIT if dataset in dataset_names() else 0.3
    names = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "au_pro": f"AU-PRO at FPR {limit}"}
    return {figure: f"{dataset}: {name}" for figure, name in names.items()}


@dataclass(frozen=True)
class Value:
    """One figure in percent. ``std``: over the seeds, None for one seed and for published figures."""

    mean: float
    std: float | None = None
    official: bool = True
    """False: measured on data known to differ from the official ones; never ranked."""

    @property
    def rounded(self) -> float:
        """As it is printed, which is what is ranked."""
        return round(self.mean, 1)


@dataclass(frozen=True)
class Line:
    """A method's figures by column; a column that is not there is unknown. ``kind``: of the anomalies."""

    method: str
    kind: str | None
    published: bool
    values: dict[str, Value]


@dataclass(frozen=True)
class Table:
    """``columns``: name -> title, first the official categories, then their mean, then any others."""

    dataset: str
    figure: str
    title: str
    columns: dict[str, str]
    lines: list[Line]

    def best(self, line: Line, column: str) -> int | None:
        """1 for the best, 2 for the second best figure of its column and kind; None for others."""
        value = line.values.get(column)
        if value is None or not value.official:
            return None
        rivals = {
            other.values[column].rounded
            for other in self.lines
            if other.kind == line.kind and column in other.values and other.values[column].official
        }
        rank = sorted(rivals, reverse=True).index(value.rounded) + 1
        return rank if rank <= 2 and len(rivals) > 1 else None


@dataclass(frozen=True)
class Tables:
    """All tables of some results, with their footnotes and where every row comes from."""

    tables: list[Table]
    notes: list[str]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By method: configuration, seeds, hashes of splits and weights."""


def make_tables(results: Sequence[Result], published: Sequence[str], notes: Sequence[str] = ()) -> Tables:
    """Tables of every data set that the results are of.

    Args:
        results: of any number of configurations, categories and seeds.
        published: the methods to show published figures of.
        notes: footnotes to add.

    Raises:
        InputError: results of one configuration and category were measured on different files.
    """
    groups = _named_groups(results)
    there = {result.dataset for result in results}
    datasets = [*(name for name in _TITLES if name in there), *sorted(there - _TITLES.keys())]
    tables = [
        _table(dataset, figure, groups, published) for dataset in datasets for figure in _titles(dataset)
    ]
    automatic = _notes(groups, published, datasets)
    return Tables(tables, [*automatic, *notes], {name: _origin(group) for name, group in groups.items()})


def _named_groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each row of a table, by its name: method and backbone, and what else tells it apart."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.row].append(result)
    alike: dict[str, list[list[Result]]] = defaultdict(list)
    for group in groups.values():
        alike[group[0].config.full_label].append(group)
    named: dict[str, list[Result]] = {}
    for name, members in alike.items():
        for number, group in enumerate(members, 1):
            differing = _differing(group[0], [other[0] for other in members])
            full = ", ".join([name, *differing])
            named[full if full not in named else f"{full} ({number})"] = group
    return named


def _differing(result: Result, others: Iterable[Result]) -> list[str]:
    """The fields of a result's configuration in which some of the others differ, with its own values."""

    def flat(one: Result) -> dict[str, Any]:
        sections = one.config.model_dump(mode="json", include={"model", "training", "weights_digest"})
        weights = (sections.pop("weights_digest") or "")[:10]
        if not one.config.uses_backbone:
            weights = sections["model"]["backbone"] = ""
        fields = {name: value for section in sections.values() for name, value in section.items()}
        return {**fields, "weights": weights}

    mine = flat(result)
    names = {n for other in others for n, value in flat(other).items() if value != mine[n]} - {"seed"}
    return [f"{name.replace('_', ' ')} {mine[name]}" for name in mine if name in names]


def _table(dataset: str, figure: str, groups: dict[str, list[Result]], published: Sequence[str]) -> Table:
    official = official_categories(dataset)
    others = sorted(
        {r.category for g in groups.values() for r in g if r.dataset == dataset} - official.keys()
    )
    columns = {**official, MEAN: "Mean", **{name: name for name in others}}
    kinds: tuple[str | None, ...] = KINDS if "{kind}" in figure else (None,)
    lines = [line for line in _published_lines(dataset, figure) if line.method in published]
    for name, group in groups.items():
        members = [result for result in group if result.dataset == dataset]
        if members:
            lines += [_measured(name, members, figure, kind, list(official)) for kind in kinds]
    order = {kind: rank for rank, kind in enumerate(kinds)}
    return Table(
        dataset, figure, _titles(dataset)[figure], columns, sorted(lines, key=lambda x: order[x.kind])
    )


def _published_lines(dataset: str, figure: str) -> list[Line]:
    lines = []
    for table in published_tables():
        if table.dataset == dataset and table.figure == figure:
            for method, row in table.rows.items():
                known = {c: Value(v) for c, v in zip(table.columns, row, strict=True) if v is not None}
                if "{kind}" in figure:  # printed are means over the categories, one for each kind
                    lines += [Line(method, kind, True, {MEAN: value}) for kind, value in known.items()]
                else:
                    lines.append(Line(method, None, True, known))
    return lines


def _measured(
    name: str, results: Sequence[Result], figure: str, kind: str | None, official: Sequence[str]
) -> Line:
    key = figure.format(kind=kind)
    by_category: dict[str, dict[int, float]] = defaultdict(dict)
    undefined, altered = set(), set()
    for result in sorted(results, key=lambda one: one.seed):
        value = result.figures.get(key)
        if value is None:
            undefined.add(result.category)
        else:
            by_category[result.category][result.seed] = 100 * value
        if result.category not in official or unofficial(result):
            altered.add(result.category)
    values = {
        category: _value(list(by_seed.values()), category not in altered)
        for category, by_seed in by_category.items()
        if category not in undefined
    }
    if official and all(
        category in values for category in official
    ):  # a mean over some of them is not the mean
        values[MEAN] = _mean_value([by_category[c] for c in official], not altered & set(official))
    return Line(name, kind, False, values)


def _value(values: Sequence[float], official: bool) -> Value:
    found = spread(values)
    assert found is not None
    return Value(found["mean"], found["std"], official)


def _mean_value(categories: Sequence[dict[int, float]], official: bool) -> Value:
    """The mean over the categories; its deviation over the seeds only if all have the same seeds."""
    if all(one.keys() == categories[0].keys() for one in categories):
        return _value([mean(one[seed] for one in categories) for seed in categories[0]], official)
    return replace(Value(mean(mean(one.values()) for one in categories)), official=official)


def _notes(groups: dict[str, list[Result]], published: Sequence[str], datasets: Sequence[str]) -> list[str]:
    notes = []
    unknown = set()
    for category, results in _by_category(groups).items():
        problems = sorted({problem for result in results for problem in unofficial(result)})
        if category not in official_categories(results[0].dataset):
            notes.append(
                f"† {category}: not a category of the official data set; not ranked, not in any mean."
            )
        elif problems:
            notes.append(f"† {category}: not the official data ({'; '.join(problems)}); not ranked.")
        elif not is_checked(results[0]):
            unknown.add(category)
    if unknown:
        listed = ", ".join(sorted(unknown))
        notes.append(f"Official numbers of images are not known to this program, so not checked: {listed}.")
    if published:
        notes.append(f"Published figures: {source()}, means as printed.")
    shown = {t.number: t for t in published_tables() if t.dataset in datasets}
    for number, method, printed, exact in discrepancies():
        if number in shown and method in published:
            notes.append(
                f"Table {number}: the printed mean of {method}, {printed}, is not its row's mean, {exact}."
            )
    said = {method: text for dataset in datasets for method, text in remarks(dataset).items()}
    return notes + [f"{method}: {text}." for method, text in said.items() if method in published]


def _by_category(groups: dict[str, list[Result]]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = defaultdict(list)
    for group in groups.values():
        for result in group:
            found[result.category].append(result)
    return dict(sorted(found.items()))


def _origin(group: Sequence[Result]) -> dict[str, Any]:
    """Configuration, seeds and hashes behind a row."""
    categories: dict[str, Any] = {}
    for result in group:
        new = {"seeds": [], "weights_sha256": [], "data": result.data}
        entry = categories.setdefault(f"{result.dataset}/{result.category}", new)
        if entry["data"] != result.data:
            raise InputError(
                f"tables: {result.source} was measured on other files of {result.category} than the other "
                "results of its configuration"
            )
        entry["seeds"] = sorted([*entry["seeds"], result.seed])
        entry["weights_sha256"] = sorted({*entry["weights_sha256"], str(result.config.weights_digest)})
        exclude: Any = {"training": {"seed"}, "weights_digest": True, "dataset": True}
        entry["config"] = result.config.model_dump(mode="json", exclude=exclude)
    return {"categories": categories}
