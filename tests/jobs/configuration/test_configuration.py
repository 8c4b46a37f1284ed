"""The configuration says what is wrong, where, and what would do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from jobs.configuration.__main__ import main
from jobs.configuration.load import load_settings
from jobs.configuration.tree import ConfigError
from models.families import published_models
from tests.jobs.embeddings.planted import write_config


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"sead": 3}, r"Unknown key 'sead'.*'seed'"),
        ({"seed": "three"}, r"seed is 'three' \(str\); expected a whole number"),
        ({"seed": True}, r"seed is True \(bool\); expected a whole number"),
        (
            {"graph": {"behaviors": {"purchase": {"windw_days": 3}}}},
            r"graph\.behaviors\.purchase\.windw_days.*'window_days'",
        ),
        ({"graph": {"behaviors": {"buy": {}}}}, r"graph\.behaviors\.buy is 'buy'.*events\.behaviors"),
        (
            {"graph": {"behaviors": {"purchase": {}}, "item_attributes": {"user": {}}}},
            r"graph\.item_attributes\.user.*entity_type",
        ),
        ({"transe": {"norm": "l3"}}, r"transe\.norm is 'l3'; expected one of l1, l2"),
        ({"transe": {"learning_rate": -1}}, r"transe\.learning_rate is -1"),
        ({"publishing": {"models": ["transe", "bert"]}}, r"publishing\.models\[1\] is 'bert'.*kqgc_mean"),
        ({"training": {"on_gap": "ignore"}}, r"training\.on_gap is 'ignore'.*'warm', 'fail'"),
        ({"lookalike": {"clients": {"../x": {}}}}, r"lookalike\.clients\.\.\./x"),
        ({"events": {"behaviors": ["purchase"], "max_rejected_share": 2}}, r"events\.max_rejected_share is 2"),
        (
            {"source": {"events": {"path": "x", "timezone": "Europe/Pariss"}}},
            r"source\.events\.timezone is 'Europe/Pariss'.*a zone such as",
        ),
        (
            {"source": {"events": {"path": "x", "delimiter": "||"}}},
            r"source\.events\.delimiter is '\|\|'.*one character",
        ),
        (
            {"source": {"events": {"path": "x", "columns": {"price": "p"}}}},
            r"source\.events\.columns\.price is 'price'.*one of our columns: user_id.*value",
        ),
        (
            {"events": {"behaviors": ["Purchase"]}, "graph": {"purchase": "Purchase", "behaviors": {"Purchase": {}}}},
            r"graph\.behaviors\.Purchase is 'Purchase'.*\[a-z0-9_\]\+.*source\.events\.behaviors",
        ),
        (
            {"source": {"events": {"path": "x", "behaviors": {"Add to Cart": "basket"}}}},
            r"source\.events\.behaviors\.Add to Cart is 'basket'.*one of events\.behaviors: ",
        ),
        (
            {"source": {"events": {"path": "x"}, "items": {"path": "x", "behaviors": {"a": "purchase"}}}},
            r"source\.items\.behaviors\.a is 'purchase'.*of events alone",
        ),
        (
            {"source": {"events": {"path": "x"}, "items": {"path": "x", "timezone": ""}}},
            r"source\.items\.timezone is ''",
        ),
        (
            {"graph": {"behaviors": {"purchase": {"window_days": 99}}, "window_days": 9}},
            r"graph\.behaviors\.purchase\.window_days is 99.*1 to graph\.window_days \(9\)",
        ),
        (
            {"graph": {"behaviors": {"purchase": {}}, "item_attributes": {"price": {"type": "number", "bins": 1}}}},
            r"graph\.item_attributes\.price\.bins is 1.*at least 2",
        ),
        (
            {"graph": {"behaviors": {"purchase": {}}, "user_attributes": {"age": {"min_entities": 0}}}},
            r"graph\.user_attributes\.age\.min_entities is 0",
        ),
        ({"quality": {"data_docs": "../out"}}, r"quality\.data_docs is '\.\./out'.*a folder"),
        ({"quality": {"data_docs": "clean_events"}}, r"quality\.data_docs is 'clean_events'.*no table's"),
        (
            {
                "graph": {
                    "behaviors": {"purchase": {}},
                    "item_attributes": {"price": {"type": "number", "bounds": [5, 5]}},
                }
            },
            r"price\.bounds is \[5\.0, 5\.0\].*ascending",
        ),
        (
            {"graph": {"behaviors": {"purchase": {}}, "item_attributes": {"brand": {"bounds": [5]}}}},
            r"graph\.item_attributes\.brand\.bounds.*type: number",
        ),
        (
            {
                "graph": {
                    "behaviors": {"purchase": {}},
                    "item_attributes": {"price": {"type": "number", "min_entities": 9}},
                }
            },
            r"price\.min_entities is 9.*categories only",
        ),
        ({"source": {}}, r"Missing key 'source\.events'"),
        ({"dag": {"start_date": "soon"}}, r"dag\.start_date is 'soon'.*a date"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(tmp_path: Path, sections: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(write_config(tmp_path, **sections))


USERS = {"events": {"path": "x"}, "users": {"path": "x", "columns": {"region": "area"}}}
REGIONS = {"behaviors": {"purchase": {}}, "user_attributes": {"region": {}}}


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        (
            {"labels": {"region": {}}},
            r"profiles\.labels\.region\.column is 'region'.*no attribute of the graph; "
            r"graph\.user_attributes\.region would tell",
        ),
        (
            {"labels": {"home": {"column": "region"}}},
            r"profiles\.labels\.home\.column is 'region'.*no attribute of the graph",
        ),
        (
            {"labels": {"home": {"column": "area"}}},
            r"profiles\.labels\.home\.column is 'area'.*graph\.user_attributes\.region",
        ),
        ({"labels": {"Gender": {}}}, r"profiles\.labels\.Gender is 'Gender'.*a name of"),
        ({"labels": {"gender": {"colum": "sex"}}}, r"profiles\.labels\.gender\.colum.*Did you mean 'column'"),
        ({"labels": {"age": {"bounds": [50, 30]}}}, r"profiles\.labels\.age\.bounds is \[50\.0, 30\.0\].*ascending"),
        ({"labels": ["gender"]}, r"profiles\.labels is \['gender'\].*a mapping"),
        ({"models": ["rhgn"]}, r"profiles\.models\[0\] is 'rhgn'.*publishing\.models"),
        ({"models": []}, r"profiles\.models is \[\].*at least one model"),
        ({"folds": {"a": 0.5, "b": 0.5, "c": 0.5}}, r"profiles\.folds is 1\.5.*add up to 1"),
        ({"folds": {"a": 0.5, "b": 0.5, "c": 0}}, r"profiles\.folds\.c is 0\.0.*above 0"),
        ({"folds": {"a": -0.2, "b": 1, "c": 0.2}}, r"profiles\.folds\.a is -0\.2"),
        ({"cross_validation": 1}, r"profiles\.cross_validation is 1.*at least 2"),
        ({"min_users_per_class": 3}, r"profiles\.min_users_per_class is 3.*at least profiles\.cross_validation \(5\)"),
        ({"trees": {"rounds": 0}}, r"profiles\.trees\.rounds is 0"),
    ],
)
def test_wrong_profiles_are_named_by_their_path(tmp_path: Path, profiles: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(write_config(tmp_path, source=USERS, graph=REGIONS, profiles=profiles))


def test_labels_need_a_table_of_users(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"profiles\.labels\.gender is 'gender'.*only where there is source\.users"):
        load_settings(
            write_config(
                tmp_path,
                source={"events": {"path": "x"}},
                graph={"behaviors": {"purchase": {}}},
                profiles={"labels": {"gender": {}}},
            )
        )


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No configuration at"):
        load_settings(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_settings(tmp_path / "broken.yaml")
    with pytest.raises(ConfigError, match="cannot be read as a text"):
        load_settings(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("seed: ü".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read as a text"):
        load_settings(tmp_path / "latin.yaml")


def test_relative_paths_are_seen_from_the_files_folder(tmp_path: Path) -> None:
    settings = load_settings(write_config(tmp_path))
    assert load_settings(write_config(tmp_path, quality={"data_docs": "docs"})).quality.data_docs == str(
        tmp_path / "data/docs"
    )
    assert (
        settings.quality.data_docs is None
        and settings.data_root == str(tmp_path / "data")
        and settings.source.events.path == str(tmp_path / "events.parquet")
    )


def test_the_demo_of_all_models_is_the_demo_with_every_model_that_there_is() -> None:
    configs = Path(__file__).parents[3] / "jobs" / "configs"
    demo, everything = (yaml.safe_load((configs / f"{name}.yaml").read_text()) for name in ("demo", "demo_all_models"))
    own = {"data_root", "source", "publishing", "recommendations", "kqgc", "relgnn", "hugt"}
    assert {key: value for key, value in everything.items() if key not in own} == {
        key: value for key, value in demo.items() if key not in own
    }
    assert set(everything["publishing"]["models"]) == set(published_models())


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "jobs" / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_configuration_is_valid_and_names_dates(path: Path) -> None:
    assert load_settings(path).dag.dates


def test_settings_that_change_nothing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no error; of families that are not published nothing is said."""
    models = {"publishing": {"models": ["transe", "kqgc_mean", "kqgc_attention2"]}}
    config = write_config(tmp_path, kqgc={"epochs": 3}, **models)
    assert main([str(config)]) == 0
    said = capsys.readouterr()
    assert "all is well" in said.out
    first, second = said.err.splitlines()
    assert first.startswith("warning: Without effect: kqgc.epochs. ")
    assert second.startswith("warning: kqgc_attention2 is equal to kqgc_mean")
    for sections in ({"kqgc": {"learned": True, "epochs": 3}, **models},
                     {"kqgc": {"epochs": 3}, "publishing": {"models": ["transe"]}}):  # fmt: skip
        assert main([str(write_config(tmp_path, **sections))]) == 0
        assert capsys.readouterr().err == ""
