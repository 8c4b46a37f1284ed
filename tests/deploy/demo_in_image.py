"""The demo in the images, confined as pods are, with sources and data root in a bucket of a real S3 server: what
`make demo-in-image` does, as root, of images that `make images` has built.

The nights run through Airflow in `laptop`, which also renders every task's pod; `reader` verifies what came out. Only
/tmp, /data and /opt/airflow can be written there. Ends with 1 at the first thing that is not as expected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from feature_store import FeatureStore, Table
from feature_store.tree import DataRoot
from jobs.configuration.load import load_settings
from tests.deploy.rendering import ROOT, TOOLS, asked
from tests.s3_server import BUCKET, S3Server, in_environment, started

DEMO = ROOT / "jobs" / "configs" / "demo.yaml"
CONFINED = ROOT / "docker" / "confined.py"
RENDERED_PODS = ROOT / "tests" / "dags" / "rendered_pods.py"
CONFIG = "/etc/nocturne/nocturne.yaml"  # of the images
WRITABLE = {"/tmp": "tmp", "/data": "data", "/opt/airflow": "airflow"}
POOR = "import os, sys; sys.exit(os.getuid() == 0 or os.access('/', os.W_OK) or os.access('/opt/nocturne', os.W_OK))"


class NotSo(Exception):
    """What was expected of an image, and what it did."""


@dataclass(frozen=True)
class Container:
    """One of an image, with folders of this machine where it may write, and the configuration that it is given."""

    name: str
    folder: Path
    environment: dict[str, str]

    def command(self, words: list[str], config: Path) -> list[str]:
        """What runs the words in it, confined."""
        mounts = [f"{self.folder / own}:{place}" for place, own in WRITABLE.items()] + [f"{config}:{CONFIG}:ro"]
        options = ["--user", "0", "--cap-add", "CAP_SYS_ADMIN", "--network", "host"]
        # Java looks its own name up, which buildah, unlike Docker and Kubernetes, does not write into /etc/hosts
        options += ["--hostname", "localhost"]
        options += [f"--volume={mount}" for mount in mounts]
        options += [f"--env={name}={value}" for name, value in self.environment.items()]
        return ["buildah", "run", *options, self.name, "--", "python", "-c", CONFINED.read_text("utf-8"), *words]

    def run(self, words: list[str], config: Path) -> None:
        """NotSo: it ended with another status than 0. Its output is this program's."""
        status = subprocess.run(self.command(words, config), stdin=subprocess.DEVNULL, check=False).returncode
        if status:
            raise NotSo(f"{' '.join(words)[:200]} in {self.name} ended with exit status {status}; expected 0.")

    def told(self, words: list[str], config: Path) -> str:
        """The last line of its output."""
        done = subprocess.run(
            self.command(words, config), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotSo(f"{words[0]} in {self.name} ended with exit status {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout.strip().splitlines()[-1]


@contextlib.contextmanager
def container(image: str, folder: Path, environment: dict[str, str]) -> Iterator[Container]:
    """A container of an image that is here; it is gone after the block."""
    asked_for = ["buildah", "from", "--pull-never", image]
    name = subprocess.run(asked_for, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        for own in WRITABLE.values():
            (folder / own).mkdir(parents=True, exist_ok=True)
            (folder / own).chmod(0o1777)
        yield Container(name, folder, environment)
    finally:
        subprocess.run(["buildah", "rm", name], stdout=subprocess.DEVNULL, check=True)


def configuration(server: S3Server, **sections: Any) -> dict[str, Any]:
    """The demo's, with sources and data root in the bucket."""
    demo = yaml.safe_load(DEMO.read_text("utf-8"))
    sources = {name: {"path": f"s3://{BUCKET}/source/{name}.parquet"} for name in demo["source"]}
    storage = {"endpoint": server.endpoint, "region": "us-east-1"}
    return demo | {"data_root": f"s3://{BUCKET}/nocturne", "storage": storage, "source": sources} | sections


def written(path: Path, document: dict[str, Any]) -> Path:
    """A configuration that user 10001 can read."""
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    path.chmod(0o644)
    return path


def deliver_sources(folder: Path) -> None:
    """The demo log, in the bucket."""
    command = [sys.executable, "-m", "jobs.events.generate_demo", "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    disk = DataRoot(f"s3://{BUCKET}").disk
    for path in folder.glob("*.parquet"):
        disk.put_atomic(f"s3://{BUCKET}/source/{path.name}", path.read_bytes())


def look_at_pods(laptop: Container, plain: Path, pods: Path) -> int:
    """Every task's pod, rendered in the image: the same command as of a process, valid, and without the key. How many
    there are."""
    words = ["python", "-c", RENDERED_PODS.read_text("utf-8")]
    local, rendered = (json.loads(laptop.told(words, config)) for config in (plain, pods))
    secret = laptop.environment["AWS_SECRET_ACCESS_KEY"]
    for name, (command, pod) in rendered.items():
        if not pod or command[1:] != local[name][0][1:] or pod["spec"]["containers"][0]["command"] != command:
            raise NotSo(f"{name}: its pod has not the command of its process, {local[name][0]}: {pod}")
        if secret in json.dumps(pod):
            raise NotSo(f"{name}: its pod has the secret key in plain.")
    if set(local) != set(rendered):
        raise NotSo(f"Tasks of processes and of pods differ: {sorted(set(local) ^ set(rendered))}")
    if (TOOLS / "python").exists():
        wrong = asked("validate", [pod for _, pod in rendered.values()])
        if any(wrong.values()):
            raise NotSo(f"Pods are not valid: {wrong}")
    return len(rendered)


def look_at_results(config: Path, dates: list[str]) -> None:
    """Every night has its report, and vectors of every model."""
    settings = load_settings(config)
    store = FeatureStore(f"{settings.data_root}/feature_store")
    for date in dates:
        for model in settings.publishing.models:
            rows = store.read("user_embeddings", model=model, dt=date).table.num_rows
            print(f"  {date} {model:<12} {rows:>6,} users")
        for page in Table(f"{settings.data_root}/reports").files(date):
            if b"</html>" not in DataRoot(settings.data_root).disk.read_bytes(page):
                raise NotSo(f"The report {page} has no end.")
            print(f"  {date} {page}")


def play(images: str, version: str, dates: list[str], folder: Path, server: S3Server) -> None:
    """All of it, one step after the other."""
    plain = written(folder / "nocturne.yaml", configuration(server))
    shape = {"image": f"{images}nocturne-jobs:{version}", "secrets": ["nocturne-s3"]}
    pods = written(folder / "pods.yaml", configuration(server, pods=shape))
    environment = server.environment | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    deliver_sources(folder / "source")
    dates = dates or [str(date) for date in load_settings(plain).dag.dates]
    with container(f"{images}nocturne-laptop:{version}", folder / "laptop", environment) as laptop:
        laptop.run(["python", "-c", POOR], plain)
        for config in (plain, pods):
            laptop.run(["nocturne", "configuration", CONFIG], config)
        count = look_at_pods(laptop, plain, pods)
        nights = ["nocturne", "nightly", "--config", CONFIG, "--folder", "/opt/airflow/nights"]
        laptop.run([*nights, "--dates", ",".join(dates)], plain)
    look_at_results(plain, dates)
    with container(f"{images}nocturne-reader:{version}", folder / "reader", server.environment) as reader:
        reader.run(["nocturne", "store", "verify", "--root", f"s3://{BUCKET}/nocturne"], plain)
    print(f"{len(dates)} nights in the image, {count} pods rendered, the store verified")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.deploy.demo_in_image", description=__doc__.split("\n\n")[0])
    options.add_argument("--registry", default="", help="before the images' names")
    options.add_argument("--version", required=True, help="of the images")
    options.add_argument("--dates", default="", metavar="D1,D2,…", help="default: the demo's")
    given = options.parse_args()
    dates = [date for date in given.dates.split(",") if date]
    with tempfile.TemporaryDirectory(prefix="demo-in-image-") as folder, started() as server, in_environment(server):
        Path(folder).chmod(0o755)
        try:
            play(given.registry, given.version, dates, Path(folder), server)
        except NotSo as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
