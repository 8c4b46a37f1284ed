"""What is checked of campaigns when the configuration is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from tests.jobs.embeddings.planted import write_config

CLIENTS = {"acme": {"brand": "a"}, "dune": {"brand": "d"}}


@pytest.mark.parametrize(("lookalike", "said"), [
    ({"suppress": ""}, r"lookalike\.suppress is ''.*a path on a local disk"),
    ({"suppress": "ftp://bucket/out.csv"}, r"lookalike\.suppress is 'ftp://bucket/out.csv'.*a path"),
    ({"suppress": ["a.csv"]}, r"lookalike\.suppress is \['a.csv'\] \(list\); expected a text"),
    ({"control_share": -0.1}, r"lookalike\.control_share is -0\.1 .*at least 0 and at most 0\.9"),
    ({"control_share": 10}, r"lookalike\.control_share is 10\.0 .*at most 0\.9"),
    ({"control_share": "10%"}, r"lookalike\.control_share is '10%'.*a number"),
    ({"campaigns": {"acm": {}}}, r"lookalike\.campaigns\.acm is 'acm'.*one of lookalike\.clients: acme, dune"),
    ({"campaigns": ["acme"]}, r"lookalike\.campaigns is .*a mapping"),
    ({"campaigns": {"acme": {"supress": "x"}}}, r"'lookalike\.campaigns\.acme\.supress'.*Did you mean 'suppress'"),
    ({"campaigns": {"acme": {"control_share": 1}}}, r"lookalike\.campaigns\.acme\.control_share is 1\.0"),
    ({"campaigns": {"acme": {"suppress": "a\nb"}}}, r"lookalike\.campaigns\.acme\.suppress is 'a\\nb'"),
    ({"exclude_attributes": ["brand", "gender"]},
     r"exclude_attributes\[1\] is 'gender'.*graph\.user_attributes and graph\.item_attributes: brand, region"),
    ({"exclude_attributes": "region"}, r"lookalike\.exclude_attributes is 'region'.*a list"),
    ({"exclude_attributes": ["brand"], "history_attribute": "brand"},
     r"lookalike\.history_attribute is 'brand'.*lookalike\.exclude_attributes does not leave out"),
])  # fmt: skip
def test_what_cannot_be_is_named_by_its_path(tmp_path: Path, lookalike: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(write_config(tmp_path, lookalike={"clients": CLIENTS} | lookalike))


def test_lists_are_seen_from_the_files_folder(tmp_path: Path) -> None:
    campaigns = {"acme": {"suppress": "../own.txt", "control_share": 0}, "dune": None}
    given = {"clients": CLIENTS, "suppress": "out.csv", "campaigns": campaigns, "exclude_attributes": ["region"]}
    look = load_settings(write_config(tmp_path, lookalike=given)).lookalike
    assert look.suppress == str(tmp_path / "out.csv") and look.control_share == 0
    assert look.campaigns["acme"].suppress == str(tmp_path.parent / "own.txt")
    assert look.campaigns["acme"].control_share == 0 and look.campaigns["dune"].control_share is None
    assert load_settings(write_config(tmp_path)).lookalike.suppress is None
