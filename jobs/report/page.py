"""One night's page, and that of an audience on demand: sections filled into templates, everything inline.

A family may have a section of its own: a module, named by its record, with ANCHOR and NAME (of the list of contents),
TEMPLATE (a file beside the module, which reads what the section shows as `section.shown`) and `shown(night)`.
"""

from __future__ import annotations

import functools
import importlib
from importlib.resources import files
from types import ModuleType
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from jobs.report import keys, lookalike, profiles, sections, text
from jobs.report.charts import legend
from jobs.report.night import Night, Stage
from jobs.report.people import People
from jobs.report.portraits import map_of, neighbours_of, told_of
from jobs.report.recommendations import recommendations
from jobs.report.training import training
from models import families

HERE = "jobs.report"
BEFORE_FAMILIES = (
    ("events", "Events"), ("checks", "Checks"), ("graph", "Graph"), ("training", "Training"), ("quality", "Lookalike"),
    ("backtest", "Backtest"), ("audiences", "Audiences"), ("profiles", "Profiles"),
    ("recommendations", "Recommendations"))  # fmt: skip
AFTER_FAMILIES = (("space", "Drift"), ("map", "Map"), ("neighbours", "Neighbours"), ("stages", "Time"))
OF_CLIENTS = ("quality", "backtest", "audiences")
NO_VECTORS = "No map: no model published vectors tonight."
FILTERS = (
    text.count, text.figure, text.percent, text.signed_percent, text.duration, text.memory, text.shown, text.shown_text,
    text.words, text.breakable)  # fmt: skip


def render(night: Night, shown: dict[str, Any]) -> str:
    """The page as HTML; `shown` holds what the templates name beside the night."""
    return _fill("page.html.jinja", _modules(night), night=night, date=night.date, **shown)


def render_request(report: dict[str, Any]) -> str:
    """The page of an audience on demand; `report` is what its JSON holds."""
    lines = [("the model", "c0", report["curves"])]
    charts = lookalike.curve_charts(report["audience"], lines, report["prevalence"], who="seeds")
    return _fill("request.html.jinja", [], report=report, charts=charts)


def contents_of(night: Night, has_people: bool) -> list[tuple[str, str]]:
    """(anchor, name) of the sections that the page has."""
    there = {"neighbours": has_people, "profiles": night.profiles, "recommendations": bool(night.flow.recommending)}
    there |= dict.fromkeys(OF_CLIENTS, night.prospects)
    own = [(module.ANCHOR, module.NAME) for module in _modules(night)]
    return [entry for entry in (*BEFORE_FAMILIES, *own, *AFTER_FAMILIES) if there.get(entry[0], True)]


def _modules(night: Night) -> list[ModuleType]:
    """The sections of the published models' families, in the order of the records."""
    published = [family for family in families.FAMILIES if set(family.models) & set(night.models)]
    return [importlib.import_module(family.section) for family in published if family.section]


def _fill(name: str, modules: list[ModuleType], **shown: Any) -> str:
    environment = _environment(tuple(dict.fromkeys([HERE, *(module.__package__ for module in modules)])))
    style = Markup(files(HERE).joinpath("page.css").read_text(encoding="utf-8"))  # ours, not foreign: nothing to escape
    return environment.get_template(name).render(style=style, **shown)


@functools.cache
def _environment(packages: tuple[str, ...]) -> Environment:
    """Templates that lie in these packages."""
    loader = ChoiceLoader([PackageLoader(package, "") for package in packages])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {f.__name__: f for f in FILTERS}
    environment.globals["legend"] = legend
    return environment


def first_publish(night: Night) -> Stage:
    """The publish whose absence explains a missing section: one that failed, else the first."""
    stages = [stage for _, stage in night.of_models("publish_users")]
    return next((s for s in stages if s.status == "failed"), stages[0])


def shown_of(
    night: Night, arrival: dict | None, audiences: list[dict], people: list[People], moved: dict[str, np.ndarray],
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Everything the templates name, but for lineage and times."""
    main = people[0] if people else None
    shown = {
        "status": sections.status_of(night), "checks": sections.checks(night), "arrival": arrival,
        "graph": sections.graph(night), "training": training(night), "first_training": next(night.training())[1],
        "quality": lookalike.quality(night), "too_few": lookalike.too_few(night),
        "recommendations": recommendations(night), "backtest": lookalike.backtest(night),
        "audiences": audiences,
        "pool": lookalike.pool(night), "gain_by_group": lookalike.gain_by_group(night),
        "suppression": lookalike.suppression(night), "profiles": profiles.profiles(night),
        "heads": profiles.heads_of(night), "space": sections.space(night, moved), "first_publish": first_publish(night),
        "own_sections": [{"template": m.TEMPLATE, "shown": m.shown(night)} for m in _modules(night)],
        "map": map_of(main, seed) if main else None, "told": told_of(people), "map_model": main and main.model,
        "map_reason": "No map: fewer than ten users with vectors that differ." if main else NO_VECTORS,
        "neighbours": neighbours_of(main, seed) if main else [], "sampled": len(main.ids) if main else 0}
    return shown | {"keys": keys.figures_of(night, shown)}
