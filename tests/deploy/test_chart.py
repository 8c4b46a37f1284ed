"""The chart: linted, rendered as the golden files have it, valid for Kubernetes, and of one mind with the pipeline."""

from __future__ import annotations

import configparser
import copy
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from feature_store import FeatureStore
from feature_store.__main__ import parser as store_parser
from feature_store.bucket import is_object_uri
from feature_store.commands import storage_of
from feature_store.storage import Storage
from jobs import spark
from jobs.configuration.load import load_settings
from jobs.configuration.settings import settings_class
from jobs.tables import TABLES
from tests.deploy.rendering import CHART, GOLDEN, ROOT, TOOLS, VALUES, asked, golden, manifests, values_of
from tests.feature_store.samples import embeddings, publish

needs_tools = pytest.mark.skipif(
    not (TOOLS / "python").exists(), reason="no helm: `make .venv-deploy/.installed` brings it")


@pytest.fixture(scope="module", params=VALUES)
def rendered(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """(name of the values file, template → text); tests of it are skipped without the tools."""
    if not (TOOLS / "python").exists():
        pytest.skip("no helm: `make .venv-deploy/.installed` brings it")
    return request.param, manifests(request.param)


def documents(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [one for text in texts.values() for one in yaml.safe_load_all(text) if one]


def named(texts: dict[str, str], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents(texts) if one["kind"] == kind}


def pod_specs(texts: dict[str, str]) -> list[dict[str, Any]]:
    """Of jobs and cron jobs, and of Spark's executors."""
    found = [one["spec"]["template"]["spec"] for one in named(texts, "Job").values()]
    found += [one["spec"]["jobTemplate"]["spec"]["template"]["spec"] for one in named(texts, "CronJob").values()]
    executor = named(texts, "ConfigMap")["nocturne-config"]["data"].get("executor.yaml")
    return found + ([yaml.safe_load(executor)["spec"]] if executor else [])


def test_it_is_as_the_golden_file_has_it(rendered: tuple[str, dict[str, str]]) -> None:
    name, texts = rendered
    assert golden(texts) == (GOLDEN / f"{name}.yaml").read_text("utf-8"), "wanted? python -m tests.deploy.rendering"


def test_it_is_linted_and_valid_for_the_newest_kubernetes(rendered: tuple[str, dict[str, str]]) -> None:
    name, texts = rendered
    report = asked("lint", str(CHART), values_of(name))
    assert not report["errors"] and all(message["severity"] < 2 for message in report["messages"]), report
    executor = named(texts, "ConfigMap")["nocturne-config"]["data"].get("executor.yaml")
    pods = [yaml.safe_load(executor) | {"metadata": {"name": "executor"}}] if executor else []
    found = asked("validate", documents(texts) + pods)
    assert len(found) == 3 and not any(found.values()), found


@needs_tools
def test_the_validation_would_find_a_wrong_manifest() -> None:
    wrong = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x"}, "spec": {"shedule": "@daily"}}
    assert all(asked("validate", [wrong]).values())


def test_the_pipeline_takes_the_rendered_configuration(rendered: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    _, texts = rendered
    maps = named(texts, "ConfigMap")
    path = tmp_path / "nocturne.yaml"
    path.write_text(maps["nocturne-config"]["data"]["nocturne.yaml"], encoding="utf-8")
    settings = load_settings(path)
    assert maps["nocturne-config-to-check"]["data"]["nocturne.yaml"] == path.read_text("utf-8")
    claims = named(texts, "PersistentVolumeClaim")
    assert (settings.pods.claim in claims) if settings.pods.claim else not claims
    assert (settings.pods.claim is None) == is_object_uri(settings.data_root)
    assert settings.pods.service_account in named(texts, "ServiceAccount")
    assert settings.pods.config_map in maps and settings.pods.namespace == "night"
    assert settings.pods.image.endswith(f":{version()}")
    template = settings.spark.conf.get("spark.kubernetes.executor.podTemplateFile")
    assert (template == "/etc/nocturne/executor.yaml") == ("executor.yaml" in maps["nocturne-config"]["data"])


def test_every_pod_is_confined(rendered: tuple[str, dict[str, str]]) -> None:
    for spec in pod_specs(rendered[1]):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and own["capabilities"] == {"drop": ["ALL"]}
            assert own["allowPrivilegeEscalation"] is False and "env" not in container
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in spec["volumes"]}
            if container["name"] != "executor":  # whose resources Spark sets
                assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_commands_are_those_of_the_programs(rendered: tuple[str, dict[str, str]]) -> None:
    name, texts = rendered
    cron = named(texts, "CronJob")
    configured = values_of(name)["configuration"]
    assert set(cron) == {"nocturne-verify", *(["nocturne-prune"] if configured.get("retention") else [])}
    for one in cron.values():
        container = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        assert container["command"][:3] == ["python", "-m", "feature_store"]
        options = store_parser().parse_args(container["command"][3:])
        assert options.root == configured["data_root"]
        if is_object_uri(options.root):
            assert storage_of(options.storage) == Storage(**configured["storage"])
            assert container["envFrom"] == [{"secretRef": {"name": "object-store"}}]
            assert [mount["name"] for mount in container["volumeMounts"]] == ["scratch"]
        else:
            assert container["volumeMounts"][0]["readOnly"] == (container["name"] == "verify")
        if container["name"] == "prune":
            assert json.loads(options.retention) == configured["retention"] and options.allow_missing


@needs_tools
def test_the_clocks_prune_takes_what_is_old_of_tables_by_the_configurations_names(tmp_path: Path) -> None:
    """Of one that lies below feature_store, beside one that no night has written yet."""
    values, root = values_of("default"), tmp_path / "data"
    retention = {"user_embeddings": 10, "recommendations": 10, "nights": 10}
    values["configuration"] |= {"data_root": str(root), "retention": retention}
    values["data"]["mount"] = str(tmp_path)
    texts = asked("render", str(CHART), values)["manifests"]
    cron = named({path: text for path, text in texts.items() if path.endswith(".yaml")}, "CronJob")["nocturne-prune"]
    command = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    table = FeatureStore(str(root / "feature_store")).table("user_embeddings", "transe")
    for date in ("2026-01-05", "2026-01-30", "2026-02-05"):
        publish(table, date, embeddings(0, dt=date))
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert table.values() == ["2026-01-30", "2026-02-05"]
    assert all(f"{name}: no table under {root} yet" in done.stdout for name in ("recommendations", "nights"))


def test_the_store_finds_every_table_by_the_configurations_name() -> None:
    """As `prune` looks for it: at its name, or below feature_store."""
    places = {name: contract.folder for name, contract in TABLES.items() if contract.key != "segments"}
    assert all(folder in (name, f"feature_store/{name}") for name, folder in places.items()), places


def test_rights_are_the_least_that_work(rendered: tuple[str, dict[str, str]]) -> None:
    name, texts = rendered
    roles = named(texts, "Role")
    assert set(roles) == {"nocturne-airflow", *(["nocturne-spark-driver"] if name == "gpu" else [])}
    rules = {one["resources"][0]: set(one["verbs"]) for one in roles["nocturne-airflow"]["rules"]}
    assert set(rules) == {"pods", "pods/log", "events"} and rules["pods/log"] == {"get"}
    assert not {"update", "deletecollection", "*"} & rules["pods"]
    assert not [one for one in documents(texts) if one["kind"].startswith("Cluster") or one["kind"] == "Secret"]


@needs_tools
def test_the_policy_lets_spark_talk_and_nobody_else() -> None:
    policies = named(manifests("gpu"), "NetworkPolicy")
    everyone = policies["nocturne-jobs"]["spec"]
    assert everyone["ingress"] == [] and [p["port"] for p in everyone["egress"][0]["ports"]] == [53, 53]
    assert len(everyone["egress"]) == 1
    driver = policies["nocturne-spark-driver"]["spec"]
    assert [str(p["port"]) for p in driver["ingress"][0]["ports"]] == list(spark.PORTS.values())
    assert driver["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "build-graphs"


@needs_tools
def test_a_root_on_an_object_store_needs_no_claim_and_its_port_is_open() -> None:
    for endpoint, port in (
        (None, 443), ("https://s3.example.com", 443), ("http://minio.night.svc", 80), ("http://minio:9000/", 9000)
    ):  # fmt: skip
        values = values_of("gpu")
        values["configuration"] |= {"data_root": "s3://bucket/nocturne", "storage": {"endpoint": endpoint}}
        found = asked("render", str(CHART), values)["manifests"]
        texts = {path: text for path, text in found.items() if path.endswith(".yaml")}
        assert not named(texts, "PersistentVolumeClaim")
        egress = named(texts, "NetworkPolicy")["nocturne-jobs"]["spec"]["egress"]
        assert egress[1:] == [{"ports": [{"port": port, "protocol": "TCP"}]}], endpoint
        executor = pod_specs(texts)[-1]
        assert [volume["name"] for volume in executor["volumes"]] == ["scratch", "lake-0"]
        assert executor["containers"][0]["envFrom"] == [{"secretRef": {"name": "lake-credentials"}}]


@needs_tools
@pytest.mark.parametrize("lookalike", [
    {"suppress": "s3://lists/no.csv"}, {"campaigns": {"spring": {"suppress": "s3://lists/no.csv"}, "autumn": {}}}])
def test_the_port_of_a_store_with_nothing_but_a_suppression_list_is_open(lookalike: dict[str, Any]) -> None:
    values = values_of("gpu")
    values["configuration"] |= {"storage": {"endpoint": "http://minio:9000"}, "lookalike": lookalike}
    found = asked("render", str(CHART), values)["manifests"]
    policies = named({path: text for path, text in found.items() if path.endswith(".yaml")}, "NetworkPolicy")
    assert policies["nocturne-jobs"]["spec"]["egress"][1:] == [{"ports": [{"port": 9000, "protocol": "TCP"}]}]


@needs_tools
def test_the_port_of_each_of_several_tables_of_events_is_open() -> None:
    one = {"path": "s3://lake/clicks/*.parquet", "storage": {"endpoint": "https://minio:9000"}}
    two = {"path": "s3://orders/*.csv", "format": "csv", "storage": {"endpoint": "http://orders:8333"}}
    near = {"path": "/lake/more.csv", "format": "csv"}
    for tables, ports in (([one], [443, 9000]), ([two, near, one], [443, 8333, 9000]), ([near], [443])):
        values = values_of("object-store")
        values["configuration"] |= {"storage": {"region": "eu-central-1"}, "source": {"events": tables}}
        found = asked("render", str(CHART), values)["manifests"]
        policies = named({path: text for path, text in found.items() if path.endswith(".yaml")}, "NetworkPolicy")
        (rule,) = policies["nocturne-jobs"]["spec"]["egress"][1:]
        assert [port["port"] for port in rule["ports"]] == ports, tables


@needs_tools
def test_executors_mount_every_lake_whatever_its_folder_is_called() -> None:
    """Names of volumes are short, of few characters, and differ."""
    values = values_of("gpu")
    folders = ["/lake", "/lake/a_b", "/lake/a/b", "/LAKE (old)", f"/{'deep/' * 14}er"]
    values["configuration"]["pods"]["lakes"] = {folder: f"claim-{n}" for n, folder in enumerate(folders)}
    texts = asked("render", str(CHART), values)["manifests"]
    text = named({path: text for path, text in texts.items() if path.endswith(".yaml")}, "ConfigMap")
    pod = yaml.safe_load(text["nocturne-config"]["data"]["executor.yaml"])
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "lake" in v["name"]}
    mounts = {m["name"]: m for m in pod["spec"]["containers"][0]["volumeMounts"] if "lake" in m["name"]}
    assert {mounts[name]["mountPath"]: claim for name, claim in claims.items()} == {
        folder: f"claim-{n}" for n, folder in enumerate(folders)}  # fmt: skip
    assert all(m["readOnly"] for m in mounts.values())
    found = asked("validate", [pod | {"metadata": {"name": "executor"}}])
    assert not any(found.values()), found


@needs_tools
@pytest.mark.parametrize(
    ("path", "says"),
    [
        (("imgae", "tag"), "imgae"), (("image", "tagg"), "tagg"), (("data", "siz"), "siz"),
        (("verify", "shedule"), "shedule"), (("prune", "resources", "limit"), "limit"),
        (("networkPolicy", "enable"), "enable"), (("quota", "hart"), "hart"), (("airflow", "namespaces"), "namespaces"),
        (("serviceAccount", "nam"), "nam"), (("configuration", "lookalik"), "lookalik"), (("check", "on"), "on"),
    ],
)  # fmt: skip
def test_a_typo_in_the_values_is_refused_by_its_name(path: tuple[str, ...], says: str) -> None:
    values = copy.deepcopy(values_of("default"))
    place = values
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = "x"
    answer = asked("render", str(CHART), values)
    assert f"'{says}'" in answer.get("refused", ""), answer


@needs_tools
@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("image", {"tag": "latest"}), ("data", {"size": "100GB"}), ("data", {"accessMode": "ReadWrite"}),
        ("data", {"mount": "data"}), ("verify", {"enabled": "yes"}), ("airflow", {"serviceAccounts": []}),
        ("configuration", {"data_root": "data"}), ("configuration", {"data_root": "ftp://host/data"}),
        ("configuration", {"data_root": "s3://"}), ("configuration", {"data_root": "s3://me:word@bucket/x"}),
        ("verify", {"schedule": "every day"}),
        ("networkPolicy", {"egress": [{"too": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
        ("networkPolicy", {"egress": [{}]}), ("networkPolicy", {"egress": [{"to": []}]}),
        ("networkPolicy", {"egress": [{"to": [{"ipBlok": {"cidr": "10.0.0.0/8"}}]}]}),
    ],
)  # fmt: skip
def test_a_value_that_would_not_do_is_refused(section: str, wrong: dict[str, Any]) -> None:
    values = values_of("default")
    assert "refused" in asked("render", str(CHART), values | {section: values[section] | wrong})


@needs_tools
def test_a_rule_of_who_else_may_be_talked_to_joins_the_policy() -> None:
    """Of what it does not know Kubernetes makes a rule without a limit."""
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443, "protocol": "TCP"}]}
    values = values_of("default") | {"networkPolicy": {"enabled": True, "egress": [rule]}}
    texts = asked("render", str(CHART), values)["manifests"]
    found = named({path: text for path, text in texts.items() if path.endswith(".yaml")}, "NetworkPolicy")
    assert found["nocturne-jobs"]["spec"]["egress"][1:] == [rule]


def version() -> str:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["metadata"]["version"]


def test_versions_are_one() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    airflow = yaml.safe_load((ROOT / "helm" / "airflow-values.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == version()
    assert airflow["images"]["airflow"]["tag"] == airflow["defaultAirflowTag"] == version()
    assert values_of("gpu")["configuration"]["pods"]["training"]["image"].endswith(f":{version()}")
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert f"apache-airflow=={airflow['airflowVersion']}" in pins


def test_the_schema_knows_every_section_of_the_configuration() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    known = schema["properties"]["configuration"]["propertyNames"]["enum"]
    assert known == sorted(field.name for field in dataclasses.fields(settings_class()))
    assert set(schema["properties"]) == {*values_of("default"), "global"}


def test_airflow_finds_the_configuration_where_jobs_do() -> None:
    airflow = yaml.safe_load((ROOT / "helm" / "airflow-values.yaml").read_text("utf-8"))
    values = values_of("default")
    volumes = {one["name"]: one for one in airflow["volumes"]}
    mounts = {one["name"]: one for one in airflow["volumeMounts"]}
    assert airflow["env"] == [{"name": "NOCTURNE_CONFIG", "value": "/etc/nocturne/nocturne.yaml"}]
    assert volumes["nocturne-config"]["configMap"] == {"name": "nocturne-config"}
    assert volumes["nocturne-data"]["persistentVolumeClaim"]["claimName"] == values["data"]["claim"]
    assert mounts["nocturne-data"]["mountPath"] == values["data"]["mount"] and mounts["nocturne-config"]["readOnly"]
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
    assert f"--uid {airflow['uid']} " in dockerfile and airflow["config"]["core"]["dags_folder"] in dockerfile
    pods = (ROOT / "dags" / "dagkit" / "pods.py").read_text("utf-8")
    assert int(re.search(r"(?m)^USER = (\d+)", pods)[1]) == airflow["uid"]
