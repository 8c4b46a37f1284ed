"""The section `pods`, and keys in plain: what is refused, with its dotted path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError

IMAGE = "registry.example.com:5000/nocturne/jobs:0.2.0"


def written(folder: Path, **sections: Any) -> Path:
    told = {
        "data_root": "/data/nocturne", "source": {"events": {"path": "/lake/events/*.parquet"}},
        "events": {"behaviors": ["purchase"]}, "graph": {"behaviors": {"purchase": {}}},
        "pods": {"image": IMAGE, "claim": "nocturne-data", "lakes": {"/lake": "lake"}}}
    for name, section in sections.items():
        mixed = isinstance(section, dict) and name in told
        told[name] = told[name] | section if mixed else section
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path


def test_a_section_that_will_do(tmp_path: Path) -> None:
    pods = {"training": {"gpus": 1, "tolerations": [{"key": "nvidia.com/gpu"}]}, "secrets": ["lake"],
            "jobs": {"build_graphs": {"memory": "16Gi", "cpu": "500m"}}}  # fmt: skip
    settings = load_settings(written(tmp_path, pods=pods))
    assert settings.pods.training.tolerations[0].operator == "Exists"
    assert settings.pods.jobs["build_graphs"].gpus is None, "not said: as for all"
    assert load_settings(written(tmp_path, pods=None)).pods is None


def test_a_root_and_sources_on_an_object_store_need_no_claim(tmp_path: Path) -> None:
    far = {"data_root": "s3://shop/nights", "source": {"events": {"path": "s3://lake/*.parquet"}}}
    pods = {"claim": None, "lakes": {}}
    assert load_settings(written(tmp_path, pods=pods, **far)).pods.claim is None
    near = {"source": {"events": [*far["source"].values(), {"path": "/home/orders.parquet"}]}}
    with pytest.raises(ConfigError, match=r"source.events\[1\].path is '/home/orders.parquet'.*what a pod mounts"):
        load_settings(written(tmp_path, pods=pods, **far | near))
    with pytest.raises(ConfigError, match="lookalike.suppress is '/data/out.csv'.*what a pod mounts"):
        load_settings(written(tmp_path, pods=pods, lookalike={"suppress": "/data/out.csv"}, **far))


@pytest.mark.parametrize(
    ("pods", "says"),
    [
        ({"imgae": IMAGE}, "Unknown key 'pods.imgae'. Did you mean 'image'"),
        ({"training": {"gpu": 1}}, "Unknown key 'pods.training.gpu'. Did you mean 'gpus'"),
        ({"jobs": {"build_graph": {}}}, "pods.jobs.build_graph is .*expected a job's name: .*build_graphs"),
        ({"image": "jobs"}, "pods.image is 'jobs'.*version or digest"),
        ({"image": "jobs:latest"}, "pods.image is 'jobs:latest'.*not latest"),
        ({"memory": "16GB"}, "pods.memory is '16GB'.*such as 4Gi"),
        ({"cpu": 2}, "pods.cpu is 2"),
        ({"cpu": "0"}, "pods.cpu is '0'"),
        ({"mount": "data"}, "pods.mount is 'data'.*absolute"),
        ({"claim": None}, "pods.claim is None.*holds the data root; without one that is on an object store"),
        ({"mount": "/elsewhere"}, "data_root is '/data/nocturne'.*expected pods.mount"),
        ({"lakes": {}}, "source.events.path is '/lake/events/.*what a pod mounts: /data"),
        ({"lakes": {"/lake": "A claim"}}, "pods.lakes./lake is 'A claim'.*claim's name"),
        ({"lakes": {"/data/lake": "lake"}}, "pods.lakes./data/lake.*outside /data"),
        ({"lakes": {"/lake": "lake", "/tmp": "other"}}, "pods.lakes./tmp.*outside /tmp"),
        ({"mount": "/tmp/data"}, "pods.mount is '/tmp/data'.*outside /tmp"),
        ({"env": {"PASSWORD": "x"}}, "Unknown key 'pods.env'"),
        ({"secrets": ["key=abc"]}, r"pods.secrets\[0\] is 'key=abc'.*name of a Secret"),
        ({"secrets": {"AWS_SECRET_ACCESS_KEY": "abc"}}, "pods.secrets is .*expected a list"),
    ],
)
def test_what_no_pod_could_be_made_of_is_refused(tmp_path: Path, pods: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings(written(tmp_path, pods=pods))


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"data_root": "data"}, "data_root"),
        ({"data_root": "/data/../etc"}, "data_root"),
        ({"source": {"items": {"path": "items.csv", "format": "csv"}}}, "source.items.path"),
        ({"source": {"ready_marker": "/ready/{ds}"}}, "source.ready_marker"),
        ({"lookalike": {"suppress": "/etc/opt_outs.csv"}}, "lookalike.suppress"),
    ],
)
def test_what_a_pod_would_not_find_is_refused(tmp_path: Path, sections: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is "):
        load_settings(written(tmp_path, **sections))


@pytest.mark.parametrize(
    "key",
    ["spark.hadoop.fs.s3a.secret.key", "spark.hadoop.fs.s3a.access.key", "spark.ssl.keyPassword",
     "spark.hadoop.fs.azure.account.key.store.dfs.core.windows.net", "spark.my.api-token",
     "spark.authenticate.secret"],
)  # fmt: skip
def test_a_key_in_plain_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(written(tmp_path, spark={"conf": {key: "AKIA-hidden"}}))
    assert f"spark.conf.{key}" in str(refused.value) and "AKIA" not in str(refused.value)
    load_settings(written(tmp_path, spark={"conf": {key: "${env.FROM_A_SECRET}"}}))


@pytest.mark.parametrize(
    "value",
    ["-Xss4m -Djavax.net.ssl.trustStorePassword={}", "jdbc:postgresql://metastore/hive?user=me&password={}",
     "jdbc:sqlserver://metastore;user=me;Password={};", "https://me:{}@proxy.example.com:3128",
     "https://store.blob.core.windows.net/lake?se=2027-01-01&sig={}", 'org.Login required password="{}";'],
)  # fmt: skip
def test_a_key_within_a_setting_is_refused_and_not_repeated(tmp_path: Path, value: str) -> None:
    key = "spark.driver.extraJavaOptions"
    with pytest.raises(ConfigError) as refused:
        load_settings(written(tmp_path, spark={"conf": {key: value.format("hidden")}}))
    assert f"spark.conf.{key}" in str(refused.value) and "hidden" not in str(refused.value)
    load_settings(written(tmp_path, spark={"conf": {key: value.format("${env:FROM_A_SECRET}")}}))


@pytest.mark.parametrize(
    "value",
    ["-Xss4m -Djavax.net.ssl.trustStore=/etc/store", "https://me@proxy.example.com:3128", "local[2]", "a:b@c",
     "-Dtoken.file=/var/run/token", "k8s://https://kubernetes.default.svc:443"],
)  # fmt: skip
def test_a_setting_without_a_key_in_it_will_do(tmp_path: Path, value: str) -> None:
    load_settings(written(tmp_path, spark={"conf": {"spark.driver.extraJavaOptions": value}}))


@pytest.mark.parametrize(
    "key",
    ["spark.kubernetes.authenticate.oauthTokenFile", "spark.kubernetes.executor.secretKeyRef.KEY",
     "spark.hadoop.fs.s3a.aws.credentials.provider", "spark.sql.shuffle.partitions"],
)  # fmt: skip
def test_a_setting_that_says_where_a_secret_is_will_do(tmp_path: Path, key: str) -> None:
    load_settings(written(tmp_path, spark={"conf": {key: "/var/run/token"}}))
