"""What `make demo-in-image` asks of the images, and that it ends at what is not so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.configuration.load import load_settings
from tests.deploy import demo_in_image
from tests.deploy.demo_in_image import CONFIG, Container, NotSo, container, look_at_pods, written
from tests.s3_server import BUCKET, S3Server

SERVER = S3Server("http://127.0.0.1:1", Path("nowhere"), 0)
SECRET = SERVER.environment["AWS_SECRET_ACCESS_KEY"]
COMMAND = ["python", "-m", "jobs.graphs.build_graphs", "--date=2026-01-12"]


@pytest.fixture
def buildah(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with what a pretended buildah was asked for, a line each time; the status of a run stands in `status`."""
    program = tmp_path / "bin" / "buildah"
    program.parent.mkdir()
    asked, status = tmp_path / "asked", tmp_path / "status"
    program.write_text(
        f"#!/bin/sh\nprintf '%s\\037' \"$@\" >> {asked}; echo >> {asked}\necho one-working-container\n"
        f'[ "$1" != run ] || exit $(cat {status})\n', encoding="utf-8")
    program.chmod(0o755)
    status.write_text("0")
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return asked


def test_the_demos_configuration_is_one_in_a_bucket_with_and_without_pods(tmp_path: Path) -> None:
    pods = {"image": "nocturne-jobs:0.2.0", "secrets": ["nocturne-s3"]}
    for sections in ({}, {"pods": pods}):
        settings = load_settings(written(tmp_path / "n.yaml", demo_in_image.configuration(SERVER, **sections)))
        assert settings.data_root == f"s3://{BUCKET}/nocturne" and len(settings.dag.dates) == 3
        assert settings.source.users.path == f"s3://{BUCKET}/source/users.parquet"
        assert SECRET not in (tmp_path / "n.yaml").read_text("utf-8")


def test_a_container_is_confined_has_three_folders_and_is_gone_afterwards(tmp_path: Path, buildah: Path) -> None:
    with container("nocturne-laptop:0.2.0", tmp_path / "one", {"A": "1 2"}) as one:
        one.run(["nocturne", "--help"], tmp_path / "n.yaml")
        (tmp_path / "status").write_text("3")
        with pytest.raises(NotSo, match="nocturne --help in one-working-container ended with exit status 3"):
            one.run(["nocturne", "--help"], tmp_path / "n.yaml")
        with pytest.raises(NotSo, match="exit status 3"):
            one.told(["nocturne", "--help"], tmp_path / "n.yaml")
    lines = [line.rstrip("\x1f\n").split("\x1f") for line in buildah.read_text("utf-8").split("\x1f\n") if line]
    assert lines[0] == ["from", "--pull-never", "nocturne-laptop:0.2.0"]
    assert lines[-1] == ["rm", "one-working-container"]
    assert lines[1][0] == "run" and "--env=A=1 2" in lines[1] and lines[1][-2:] == ["nocturne", "--help"]
    assert demo_in_image.CONFINED.read_text("utf-8").rstrip() in lines[1][-3]
    mounts = {word.rpartition(":")[2] for word in lines[1] if word.startswith("--volume=")}
    assert mounts == {"/tmp", "/data", "/opt/airflow", "ro"}
    assert f"--volume={tmp_path / 'n.yaml'}:{CONFIG}:ro" in lines[1]


class Told(Container):
    """One that tells what it was given, first of processes and then of pods."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        super().__init__("one", Path("nowhere"), SERVER.environment)
        object.__setattr__(self, "answers", list(answers))

    def told(self, words: list[str], config: Path) -> str:
        return json.dumps(self.answers.pop(0))


def pod(command: list[str], **container: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "job", "image": "i:1", "command": command} | container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "nocturne-one"}, "spec": spec}


def test_pods_that_are_as_they_should_be_are_counted() -> None:
    local, rendered = {"a": [["/opt/python", *COMMAND[1:]], {}]}, {"a": [COMMAND, pod(COMMAND)]}
    assert look_at_pods(Told(local, rendered), Path("n"), Path("p")) == 1


@pytest.mark.parametrize(
    ("rendered", "says"),
    [
        ({"a": [COMMAND, {}]}, "has not the command of its process"),
        ({"a": [[*COMMAND, "--x=1"], pod([*COMMAND, "--x=1"])]}, "has not the command of its process"),
        ({"a": [COMMAND, pod(COMMAND[:2])]}, "has not the command of its process"),
        ({"a": [COMMAND, pod(COMMAND, env=[{"name": "K", "value": SECRET}])]}, "the secret key in plain"),
        ({}, r"differ: \['a'\]"),
        ({"a": [COMMAND, pod(COMMAND, imagge="x")]}, "not valid"),
    ],
)
def test_a_pod_that_is_not_ends_it(rendered: dict[str, Any], says: str) -> None:
    if says == "not valid" and not (demo_in_image.TOOLS / "python").exists():
        pytest.skip("no validator: `make .venv-deploy/.installed` brings it")
    local = {"a": [["/opt/python", *COMMAND[1:]], {}]}
    with pytest.raises(NotSo, match=says):
        look_at_pods(Told(local, rendered), Path("n"), Path("p"))
