"""The sampled people on the page: the map, what their vectors know of tastes, some users with their nearest."""

from __future__ import annotations

from typing import Any

from jobs.report import text
from jobs.report.charts import scatter
from jobs.report.likeness import NEIGHBOURS, examples, lay_out, like_minded, nearest
from jobs.report.people import Bought, People

IN_A_BASKET = 6


def map_of(people: People, seed: int) -> dict[str, Any] | None:
    """The map with its legend."""
    laid = lay_out(people, seed)
    if laid is None:
        return None
    chosen, points = laid
    colours = people.colours
    classes = [colours[people.favourite[i]] for i in chosen]
    names = [people.favourite[i] if c != "other" else "others" for i, c in zip(chosen, classes, strict=True)]
    drawn = scatter(f"Map of {len(chosen)} users", points, classes, [text.shown(name) for name in names])
    entries = [(c, text.shown(name)) for name, c in colours.items() if c != "other"]
    entries += [("other", "others, or nothing bought")] if "other" in classes else []
    return {
        "svg": drawn, "legend": entries, "model": people.model, "attribute": people.attribute, "shown": len(chosen)}


def told_of(people: list[People]) -> dict[str, Any] | None:
    """Per item attribute, how many of a user's nearest share the favourite value, by each model and by chance."""
    by_model = {p.model: like_minded(p) for p in people}
    attributes = list(dict.fromkeys(a for told in by_model.values() for a in told))
    rows = []
    for name in attributes:
        known = [told.get(name) for told in by_model.values()]
        chance = next(k[1] for k in known if k)
        rows.append({"attribute": name, "chance": chance, "shares": [k and k[0] for k in known]})
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
        pairs = zip(positions, values, strict=True)
        others = [{**_person(people, p, colours, mine), "cosine": float(c)} for p, c in pairs]
        found.append({**_person(people, row, colours, set()), "nearest": others})
    return found


def _person(people: People, row: int, colours: dict[str, str], mine: set[str]) -> dict[str, Any]:
    favourite, basket = people.favourite[row], _basket(people.baskets[row], mine, people.attribute)
    return {"id": people.ids[row], "favourite": favourite, "colour": colours[favourite], "basket": basket}


def _basket(basket: list[Bought], mine: set[str], attribute: str) -> list[dict[str, Any]]:
    """What is shown of a basket: what both bought first, then the most bought."""
    ranked = sorted(basket, key=lambda b: (b.item not in mine, -b.count, b.item))[:IN_A_BASKET]
    return [
        {"item": b.item, "count": b.count, "shared": b.item in mine, "about": _about(b, attribute)} for b in ranked]


def _about(bought: Bought, attribute: str) -> list[str]:
    """An item in two words: the map's attribute, and the next one that has a single value."""
    names = [name for name, _ in bought.attributes]
    single = [pair for pair in bought.attributes if names.count(pair[0]) == 1]
    return [value for _, value in sorted(single, key=lambda pair: (pair[0] != attribute, pair[0]))[:2]]
