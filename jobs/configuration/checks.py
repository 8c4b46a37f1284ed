"""Rules of the configuration that one value's type cannot say: names, ranges, and what has to fit across sections."""

from __future__ import annotations

import codecs
import datetime
import itertools
import re
import zoneinfo
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from feature_store.layout import root_meant_by
from jobs.configuration.feature_names import POOLED_SETS, FeatureSet
from jobs.configuration.histories import are_read, check_sequences
from jobs.configuration.messages import ConfigError, expect, listed
from jobs.configuration.pod_checks import check_no_key_in_plain, check_pods
from jobs.configuration.predicates import PredicateError, parse
from jobs.configuration.profiles import check_profiles
from jobs.configuration.recommendations import check_recommendations
from jobs.configuration.tree import NAME
from jobs.events.time_texts import canonical
from jobs.tables import TABLES
from models import families

if TYPE_CHECKING:
    from jobs.configuration.sections import Events, Graph, Lookalike, Source, SourceTable
    from jobs.configuration.settings import Settings

TIMES = ("event_time", "ingested_at", "valid_from", "valid_to")


def check(settings: Settings) -> None:
    """ConfigError for the first rule that does not hold: dotted path, what was found, what would do."""
    graph, events, models = settings.graph, settings.events, families.published_models()
    _check_graph(graph, events)
    for i, model in enumerate(settings.publishing.models):
        expect(model in models, model, f"publishing.models[{i}]", f"one of {', '.join(models)}")
    expect(bool(settings.publishing.models), settings.publishing.models, "publishing.models", "at least one model")
    _check_sources(settings.source)
    _check_behaviors(settings.source, events)
    _check_tables(graph, settings.source)
    _check_lookalike(settings)
    check_profiles(settings.profiles, graph, settings.source, settings.publishing.models)
    check_recommendations(settings.recommendations, settings.publishing.models, graph)
    docs, folders = settings.quality.data_docs, {contract.path.split("/")[0] for contract in TABLES.values()}
    usable = docs is None or (NAME.fullmatch(docs) and docs not in folders)
    expect(
        bool(usable),
        docs,
        "quality.data_docs",
        "the name of a folder of [a-z0-9_]+ that is no table's, such as data_docs",
    )
    check_sequences(settings.sequences, events)
    _check_retention(settings)
    check_no_key_in_plain(settings)
    check_pods(settings)
    least, most = settings.publishing.min_norm, settings.publishing.max_norm
    expect(least < most, least, "publishing.min_norm", f"less than publishing.max_norm ({most})")
    for i, (former, date) in enumerate(itertools.pairwise(settings.dag.dates), 1):
        wanted = f"a later date than the one before ({former}): nights run in order"
        expect(former < date, date, f"dag.dates[{i}]", wanted)


def check_data_root(root: str) -> None:
    """ConfigError for a root, absolute, that every program would take for the feature store of another."""
    meant = root_meant_by(root)
    wanted = f"a folder of another name, such as {meant}/nights: this one is taken for the feature store of {meant}"
    expect(meant == root, root, "data_root", f"{wanted}. Rename it where tables lie in it already")


def _check_graph(graph: Graph, events: Events) -> None:
    for name, relation in graph.behaviors.items():
        path, days = f"graph.behaviors.{name}", relation.window_days
        expect(name in events.behaviors, name, path, f"one of events.behaviors: {listed(events.behaviors)}")
        wanted = "a name of [a-z0-9_]+ (the source may call it otherwise: source.events.behaviors, its word: this name)"
        expect(bool(NAME.fullmatch(name)), name, path, wanted)
        expect(
            days is None or 1 <= days <= graph.window_days,
            days,
            f"{path}.window_days",
            f"1 to graph.window_days ({graph.window_days})",
        )
    expect(
        graph.purchase in graph.behaviors,
        graph.purchase,
        "graph.purchase",
        f"one of graph.behaviors: {listed(graph.behaviors)}",
    )
    for kind in ("item_attributes", "user_attributes"):
        for name, attribute in getattr(graph, kind).items():
            path, entity_type = f"graph.{kind}.{name}", attribute.entity_type or name
            usable = NAME.fullmatch(entity_type) and entity_type not in ("user", "item", "relation")
            expect(
                bool(usable),
                entity_type,
                path,
                "an entity type of [a-z0-9_]+ other than user, item, relation (set entity_type)",
            )
            ascending = all(a < b for a, b in itertools.pairwise(attribute.bounds))
            expect(ascending, attribute.bounds, f"{path}.bounds", "ascending numbers")
            expect(
                attribute.type == "number" or not attribute.bounds,
                attribute.bounds,
                f"{path}.bounds",
                "none: only a number has bounds (type: number)",
            )
            least = attribute.min_entities
            expect(
                attribute.type == "category" or least == 1,
                least,
                f"{path}.min_entities",
                "1: a least number is for categories only",
            )


def _check_sources(source: Source) -> None:
    expect(bool(source.event_tables), source.events, "source.events", "a table, or a list of at least one")
    for setting, table in source.tables.items():
        check_source(table, setting, TABLES["clean_events"].columns if setting in source.event_tables else None)


def _check_tables(graph: Graph, source: Source) -> None:
    """Attributes come from a table."""
    for kind, table in (("item", "items"), ("user", "users")):
        names = list(getattr(graph, f"{kind}_attributes"))
        wanted = f"none without source.{table}: configure that table, or leave the attributes out"
        expect(not names or getattr(source, table) is not None, names, f"graph.{kind}_attributes", wanted)


def check_source(table: SourceTable, path: str, known: Collection[str] | None) -> None:
    """ConfigError for a zone or delimiter that is none, or a mapping of a column that nothing reads (`known`; None: any
    may be an attribute)."""
    expect(
        _is_zone(table.timezone),
        table.timezone,
        f"{path}.timezone",
        "a zone such as Europe/Berlin, UTC, or an offset such as +01:00",
    )
    wanted = 'one character that ends no line (a tab is "\\t" in double quotes)'
    usable = len(table.delimiter) == 1 and table.delimiter not in "\r\n"
    expect(usable, table.delimiter, f"{path}.delimiter", wanted)
    check_reading(table, path, [name for name in TIMES if (name.startswith("valid")) == (known is None)])
    _check_version(table, path)
    for ours, separator in table.separators.items():
        plain = known is not None or ours in {*TIMES, "user_id", "item_id"}
        expect(not plain, separator, f"{path}.columns.{ours}.separator", "none: only an attribute may be a list")
        expect(bool(separator), separator, f"{path}.columns.{ours}.separator", 'a text, such as "|"')
    for key in ("columns", "constants"):
        for ours in getattr(table, key):
            expect(
                known is None or ours in known,
                ours,
                f"{path}.{key}.{ours}",
                f"one of our columns: {', '.join(known or ())}",
            )


def _check_behaviors(source: Source, events: Events) -> None:
    """What words of the source mean is a behaviour that is known."""
    for path, table in source.tables.items():
        is_of_events = path in source.event_tables
        for theirs, ours in table.behaviors.items():
            wanted = f"one of events.behaviors: {listed(events.behaviors)}" if is_of_events else "none: of events alone"
            expect(is_of_events and ours in events.behaviors, ours, f"{path}.behaviors.{theirs}", wanted)


def check_reading(table: SourceTable, path: str, times: Sequence[str]) -> None:
    """ConfigError for an encoding, a unit or a form of times that is none, or that is of no column of `times`."""
    wanted = "the name of a text encoding that Python knows, such as utf-8, latin-1, cp1252 or utf-16"
    expect(_is_encoding(table.encoding), table.encoding, f"{path}.encoding", wanted)
    plain = table.format == "csv" or codecs.lookup(table.encoding).name == "utf-8"
    expect(plain, table.encoding, f"{path}.encoding", "none but with format: csv; Parquet and JSON are UTF-8")
    for key in ("time_unit", "time_format"):
        given = getattr(table, key)
        for name in given if isinstance(given, dict) else ():
            expect(name in times, name, f"{path}.{key}.{name}", f"one of our columns of times: {', '.join(times)}")
    for name in times:
        unit, form = table.unit_of(name), table.form_of(name)
        wanted = f"a unit or a form, not both: {path}.time_unit is {unit!r}"
        expect(unit is None or form is None, form, f"{path}.time_format", wanted)
        _check_form(form, path)


def _check_version(table: SourceTable, path: str) -> None:
    for name in ("version", "as_of"):
        value = getattr(table, name)
        expect(value is None or table.is_lake, value, f"{path}.{name}", "none but with format: delta or iceberg")
    if table.as_of is not None:
        time = canonical(table.as_of)
        wanted = 'a time in ISO 8601 such as "2026-01-05T10:00:00Z"'
        expect(time is not None and len(time) > 10, table.as_of, f"{path}.as_of", wanted)
        expect(table.version is None, table.as_of, f"{path}.as_of", "a version or a time, not both")


def _check_form(form: str | None, path: str) -> None:
    if form is None:
        return
    wanted = "a form in strptime's letters that has year, month and day, such as '%d/%m/%Y %H:%M'"
    expect(_says_the_day(form), form, f"{path}.time_format", wanted)
    named = "%Z" not in form.replace("%%", "")
    wanted = "a form without %Z, which Python reads and forgets: an offset is %z; of a zone's name write its letters"
    expect(named, form, f"{path}.time_format", f"{wanted}, and {path}.timezone")


def _says_the_day(form: str) -> bool:
    moment = datetime.datetime(2027, 11, 23, 14, 5, 6, tzinfo=datetime.UTC)
    try:
        return datetime.datetime.strptime(moment.strftime(form), form).date() == moment.date()
    except (ValueError, UnicodeError, re.error):
        return False


def _is_encoding(name: str) -> bool:
    try:
        return bool("".encode(name).decode(name) == "" and codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _is_zone(name: str) -> bool:
    if re.fullmatch(r"[+-]\d{2}:\d{2}", name):
        return True
    try:
        return bool(zoneinfo.ZoneInfo(name))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False


def _check_retention(settings: Settings) -> None:
    """No night may find that what it has to read is gone."""
    lookalike = settings.lookalike
    for name, days in settings.retention.items():
        known = name in TABLES and TABLES[name].key != "segments"
        expect(
            known,
            name,
            f"retention.{name}",
            f"a table with dates: {', '.join(n for n, t in TABLES.items() if t.key != 'segments')}",
        )
        windows = lookalike.label_windows if lookalike.pooled and name == "clean_events" else 1
        least = windows * lookalike.label_window_days + 1
        if name == "clean_events":
            least += max(settings.graph.window_days, lookalike.active_days)
            if are_read(settings):
                history = settings.sequences.history_days
                wanted = "none: sequences.history_days is null, so that nights read every day there is"
                expect(history is not None, days, f"retention.{name}", wanted)
                least = max(least, history + 1)
        expect(days >= least, days, f"retention.{name}", f"at least {least} days, which later nights still read")


def _check_lookalike(settings: Settings) -> None:
    lookalike, item_attributes = settings.lookalike, settings.graph.item_attributes
    for name, predicate in lookalike.clients.items():
        path = f"lookalike.clients.{name}"
        expect(bool(NAME.fullmatch(name)), name, path, "a name of [a-z0-9_]+")
        try:
            parse(predicate, path, item_attributes)
        except PredicateError as error:
            raise ConfigError(str(error)) from error
    for i, name in enumerate(lookalike.affinities or []):
        published = f"one of publishing.models, each once: {', '.join(settings.publishing.models)}"
        is_new = name not in lookalike.affinities[:i]
        expect(name in settings.publishing.models and is_new, name, f"lookalike.affinities[{i}]", published)
    named = {f"lookalike.feature_sets[{i}]": name for i, name in enumerate(lookalike.feature_sets or [])}
    if lookalike.score_with and not (lookalike.pooled and lookalike.score_with in POOLED_SETS):
        named["lookalike.score_with"] = lookalike.score_with
    for path, name in named.items():
        try:
            FeatureSet.parse(name, settings.publishing.models)
        except ValueError as error:
            raise ConfigError(f"{path} {error}.") from error
    attribute = lookalike.history_attribute
    known = listed(item_attributes) or "none is configured"
    expect(
        attribute is None or attribute in item_attributes,
        attribute,
        "lookalike.history_attribute",
        f"one of graph.item_attributes: {known}",
    )
    _check_campaigns(lookalike, settings.graph)


def _check_campaigns(lookalike: Lookalike, graph: Graph) -> None:
    for name in lookalike.campaigns:
        known = listed(lookalike.clients) or "none is configured"
        expect(name in lookalike.clients, name, f"lookalike.campaigns.{name}", f"one of lookalike.clients: {known}")
    known = listed(sorted({*graph.user_attributes, *graph.item_attributes})) or "none is configured"
    wanted = f"one of graph.user_attributes and graph.item_attributes: {known}"
    for i, name in enumerate(lookalike.exclude_attributes):
        is_one = name in graph.user_attributes or name in graph.item_attributes
        expect(is_one, name, f"lookalike.exclude_attributes[{i}]", wanted)
    attribute = lookalike.history_attribute
    kept = attribute is None or attribute not in lookalike.exclude_attributes
    wanted = "an attribute that lookalike.exclude_attributes does not leave out of the columns"
    expect(kept, attribute, "lookalike.history_attribute", wanted)
