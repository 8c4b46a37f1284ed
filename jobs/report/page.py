"""One night's page, and that of an audience on demand: sections filled into templates, everything inline."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from jobs.report import lookalike, profiles, rhgn_attention, sections, text
from jobs.report.charts import legend, scatter
from jobs.report.night import Night, Stage
from jobs.report.people import NEIGHBOURS, Bought, People, examples, lay_out, like_minded, nearest

CONTENTS = (
    ("events", "Events"), ("checks", "Checks"), ("graph", "Graph"), ("training", "Training"), ("quality", "Lookalike"), ("backtest", "Backtest"),
    ("audiences", "Audiences"), ("profiles", "Profiles"), ("attention", "Attention"), ("space", "Drift"), ("map", "Map"), ("neighbours", "Neighbours"), ("stages", "Time"))
OF_CLIENTS = ("quality", "backtest", "audiences")
IN_A_BASKET = 6
FILTERS = (text.count, text.figure, text.percent, text.signed_percent, text.duration, text.memory, text.shown, text.shown_text, text.words, text.breakable)


def render(night: Night, shown: dict[str, Any]) -> str:
    """The page as HTML; `shown` holds what the template names beside the night."""
    return _fill("page.html.jinja", night=night, date=night.date, legend=legend, **shown)


def render_request(report: dict[str, Any]) -> str:
    """The page of an audience on demand; `report` is what its JSON holds."""
    charts = lookalike.curve_charts(report["audience"], [("the model", "c0", report["curves"])], report["prevalence"], who="seeds")
    return _fill("request.html.jinja", report=report, charts=charts)


def contents_of(night: Night, has_people: bool) -> list[tuple[str, str]]:
    """(anchor, name) of the sections that the page has."""
    there = {"neighbours": has_people, "profiles": night.profiles, "attention": "rhgn" in night.models} | dict.fromkeys(OF_CLIENTS, night.prospects)
    return [entry for entry in CONTENTS if there.get(entry[0], True)]


def _fill(name: str, **shown: Any) -> str:
    folder = files("jobs.report")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {f.__name__: f for f in FILTERS}
    style = Markup(folder.joinpath("page.css").read_text(encoding="utf-8"))  # ours, not foreign: nothing to escape
    return environment.from_string(folder.joinpath(name).read_text(encoding="utf-8")).render(style=style, **shown)


def figures_of(night: Night, arrival: dict | None, graph: dict | None, space: list[dict], quality: dict | None, backtest: dict) -> list[dict[str, str]]:
    """The strip on top: the night in six figures, four of a night without clients."""
    of_clients = [_gain_key(quality), _backtest_key(backtest)] if night.prospects else []
    return [_events_key(arrival), _users_key(space), _graph_key(graph), *of_clients, _drift_key(space)]


def _key(name: str, value: str, more: str) -> dict[str, str]:
    return {"name": name, "value": value, "more": more}


def _events_key(arrival: dict | None) -> dict[str, str]:
    rows = arrival and arrival["rows_in"]
    return _key("Events in", text.count(rows), f"{text.percent(arrival['share'], 2)} rejected" if arrival and arrival["share"] is not None else "not recorded")


def _users_key(space: list[dict]) -> dict[str, str]:
    known = [row for row in space if row["users"] is not None]
    if not known:
        return _key("Users published", text.MISSING, "no model published tonight")
    counts = {row["users"] for row in known}
    more = ", ".join(row["model"] for row in known) if len(counts) == 1 else ", ".join(f"{row['model']} {text.count(row['users'])}" for row in known)
    return _key("Users published", text.count(max(counts)), f"by each of {more}" if len(known) > 1 and len(counts) == 1 else more)


def _graph_key(graph: dict | None) -> dict[str, str]:
    if not graph:
        return _key("Edges in the graph", text.MISSING, "not built tonight")
    return _key("Edges in the graph", text.count(graph["edges_total"]), f"between {text.count(graph['entities_total'])} entities")


def _gain_key(quality: dict | None) -> dict[str, str]:
    if not quality or not quality["best"]:
        return _key("Best PR-AUC gain", text.MISSING, "no classifier trained tonight")
    name, gain = quality["best"]
    others = [f"{text.signed_percent(gains[name])} over {base}" for base, gains in quality["gains"].items() if base != quality["baseline"] and name in gains]
    return _key("Best PR-AUC gain", text.signed_percent(gain), "; ".join([f"{name} over {quality['baseline']}, validation", *others]))


def _backtest_key(backtest: dict) -> dict[str, str]:
    lifts = [row["lift_at_k"] for row in backtest["chosen"] if isinstance(row.get("lift_at_k"), (int, float))]
    if not lifts:
        return _key("Backtest", text.MISSING, "no earlier scores to hold against what happened")
    auc = [row["pr_auc_population"] for row in backtest["chosen"] if isinstance(row.get("pr_auc_population"), (int, float))]
    more = f"lift at k, mean of {len(lifts)} client{'s' if len(lifts) > 1 else ''}; PR-AUC {text.figure(float(np.mean(auc)) if auc else None)}"
    more += "".join(f", {text.signed_percent(gain)} over {base}" for base, gain in backtest["gains"])
    return _key("Backtest, out of time", f"{np.mean(lifts):.1f}×", more)


def _drift_key(space: list[dict]) -> dict[str, str]:
    medians = {row["model"]: row["before"].get("median") for row in space if isinstance(row["before"].get("median"), (int, float))}
    if not medians:
        return _key("Drift", text.MISSING, "no night before in this space")
    worst = max(medians, key=lambda model: medians[model])
    return _key("Drift, median", text.figure(medians[worst], 3), f"cosine distance to the night before, {worst}")


def first_publish(night: Night) -> Stage:
    """The publish whose absence explains a missing section: one that failed, else the first."""
    stages = [stage for _, stage in night.of_models("publish_users")]
    return next((s for s in stages if s.status == "failed"), stages[0])


def map_of(people: People, seed: int) -> dict[str, Any] | None:
    """The map with its legend."""
    laid = lay_out(people, seed)
    if laid is None:
        return None
    chosen, points = laid
    colours = people.colours
    classes = [colours[people.favourite[i]] for i in chosen]
    names = [people.favourite[i] if c != "other" else "others" for i, c in zip(chosen, classes, strict=True)]
    entries = [(c, text.shown(name)) for name, c in colours.items() if c != "other"]
    rest = [("other", "others, or nothing bought")] if "other" in classes else []
    return {"svg": scatter(f"Map of {len(chosen)} users", points, classes, [text.shown(n) for n in names]), "legend": entries + rest, "model": people.model,
            "attribute": people.attribute, "shown": len(chosen)}


def told_of(people: list[People]) -> dict[str, Any] | None:
    """Per item attribute, how many of a user's nearest share the favourite value, by each model and by chance."""
    by_model = {p.model: like_minded(p) for p in people}
    attributes = list(dict.fromkeys(a for told in by_model.values() for a in told))
    rows = []
    for name in attributes:
        known = [told.get(name) for told in by_model.values()]
        rows.append({"attribute": name, "chance": next(k[1] for k in known if k), "shares": [k and k[0] for k in known]})
    return {"models": list(by_model), "rows": rows} if rows else None


def neighbours_of(people: People, seed: int) -> list[dict[str, Any]]:
    """Some users with their nearest, and what each bought."""
    rows = examples(people, seed)
    if len(people.ids) < 2:
        return []
    order, cosines = nearest(people.vectors, rows, NEIGHBOURS)
    colours = people.colours
    found = []
    for row, positions, values in zip(rows, order, cosines, strict=True):
        mine = {b.item for b in people.baskets[row]}
        others = [{**_person(people, p, colours, mine), "cosine": float(c)} for p, c in zip(positions, values, strict=True)]
        found.append({**_person(people, row, colours, set()), "nearest": others})
    return found


def _person(people: People, row: int, colours: dict[str, str], mine: set[str]) -> dict[str, Any]:
    favourite = people.favourite[row]
    return {"id": people.ids[row], "favourite": favourite, "colour": colours[favourite], "basket": _basket(people.baskets[row], mine, people.attribute)}


def _basket(basket: list[Bought], mine: set[str], attribute: str) -> list[dict[str, Any]]:
    """What is shown of a basket: what both bought first, then the most bought."""
    ranked = sorted(basket, key=lambda b: (b.item not in mine, -b.count, b.item))[:IN_A_BASKET]
    return [{"item": b.item, "count": b.count, "shared": b.item in mine, "about": _about(b, attribute)} for b in ranked]


def _about(bought: Bought, attribute: str) -> list[str]:
    """An item in two words: the map's attribute, and the next one that has a single value."""
    names = [name for name, _ in bought.attributes]
    single = [pair for pair in bought.attributes if names.count(pair[0]) == 1]
    return [value for _, value in sorted(single, key=lambda pair: (pair[0] != attribute, pair[0]))[:2]]


def shown_of(night: Night, arrival: dict | None, audiences: list[dict], people: list[People], moved: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Everything the template names, but for lineage and times."""
    graph, space, quality, backtest = sections.graph(night), sections.space(night, moved), lookalike.quality(night), lookalike.backtest(night)
    main = people[0] if people else None
    drawn = map_of(main, seed) if main else None
    return {
        "status": sections.status_of(night), "keys": figures_of(night, arrival, graph, space, quality, backtest),
        "checks": sections.checks(night), "arrival": arrival, "graph": graph, "training": sections.training(night),
        "quality": quality, "too_few": lookalike.too_few(night), "backtest": backtest,
        "audiences": audiences, "profiles": profiles.profiles(night), "attention": rhgn_attention.attention(night), "few_messages": rhgn_attention.FEW_MESSAGES, "space": space,
        "first_publish": first_publish(night), "map": drawn, "told": told_of(people), "map_model": main and main.model,
        "map_reason": "No map: fewer than ten users with vectors that differ." if main else "No map: no model published vectors tonight.",
        "neighbours": neighbours_of(main, seed) if main else [], "sampled": len(main.ids) if main else 0}
