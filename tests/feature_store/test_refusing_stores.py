"""Object stores that refuse: one clear error each, which says what was found, where, and what to do."""

import builtins
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from feature_store import Table
from feature_store.__main__ import main
from feature_store.credentials import aws_provider
from feature_store.disk import open_disk
from feature_store.errors import BadName, CannotWrite, DiskFull, StorageRefused, StoreError, may_pass
from feature_store.storage import Storage
from tests.faulty_proxy import Proxy, proxy_before
from tests.feature_store.samples import embeddings, publish
from tests.s3_server import BUCKET, KEY, READ_ONLY_KEY, READ_ONLY_SECRET, SECRET, S3Server

DATE = "2026-01-05"


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy_before(s3_server.endpoint) as started:
        yield started


def _verbs(table: Table) -> list[Callable[[], object]]:
    return [
        table.values, lambda: table.manifest(DATE), lambda: table.read(DATE), lambda: table.rollback(DATE),
        lambda: table.disk.exists(table.uri), lambda: publish(table, DATE, embeddings(1))]  # fmt: skip


def test_a_bucket_that_is_missing_is_never_an_empty_one(s3_server: S3Server, capsys: pytest.CaptureFixture) -> None:
    table = Table("s3://no-such-bucket/t", filesystem=s3_server.storage())
    for verb in _verbs(table):
        with pytest.raises(StorageRefused, match="bucket does not exist .*s3://no-such-bucket.*Create it") as refused:
            verb()
        assert not may_pass(refused.value)
    assert main(["list", "--root", "s3://no-such-bucket/t"]) == 2
    said = capsys.readouterr().err
    assert "bucket does not exist" in said and len(said.splitlines()) == 1


def test_a_bucket_that_is_not_writable_is_read_and_refuses_a_publish(
    bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(Table(f"{bucket}/t", filesystem=s3_server.storage()), DATE, embeddings(0))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READ_ONLY_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READ_ONLY_SECRET)
    table = Table(f"{bucket}/t", filesystem=s3_server.storage())
    with pytest.raises(StorageRefused, match=r"no right to do that \(AccessDenied\) while writing .*unchanged. Grant"):
        publish(table, DATE, embeddings(1))
    assert table.read(DATE).equals(embeddings(0)) and table.verify(DATE) == []


@pytest.mark.parametrize("key, secret, said", [
    (KEY, "wrong-9", "secret key does not belong to the access key"),
    ("nobody-9", "x-9", "does not know the access key")])
def test_wrong_keys_are_told_and_are_not_repeated(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, said: str
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    table = Table(f"s3://{BUCKET}/t", filesystem=s3_server.storage())
    with pytest.raises(StorageRefused, match=said) as refused:
        table.read(DATE)
    assert "-9" not in str(refused.value)


@pytest.mark.parametrize("code", ["AuthorizationHeaderMalformed", "PermanentRedirect"])
def test_a_bucket_of_another_region_says_so(bucket: str, s3_server: S3Server, proxy: Proxy, code: str) -> None:
    proxy.start(lambda *_: code)
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(endpoint=proxy.endpoint, retry_seconds=0))
    with pytest.raises(StorageRefused, match="bucket is in (the|another) region.*Set `region: .*AWS_REGION.*own"):
        publish(table, DATE, embeddings(1))


@pytest.mark.parametrize("code, said", [
    ("ExpiredToken", "credentials have expired"), ("RequestTimeTooSkewed", "clock differs .*15 minutes")])
def test_what_the_server_refuses_within_a_publish_is_one_error_and_the_old_version_stays(
    bucket: str, s3_server: S3Server, proxy: Proxy, code: str, said: str
) -> None:  # fmt: skip
    """From each request on: also when the commit has been put, and only cleaning up fails."""
    direct = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=0.5))
    through = Table(f"{bucket}/t", filesystem=s3_server.storage(
        endpoint=proxy.endpoint, retry_seconds=0, lease_seconds=0.5))  # fmt: skip
    publish(direct, DATE, embeddings(0))
    for first in (1, 4, 9, 14, 18):
        before = direct.read(DATE)
        proxy.start(lambda at, *_, first=first: code if at >= first else None)
        with pytest.raises(StorageRefused, match=f"{said}.*run it again") as refused:
            publish(through, DATE, embeddings(first))
        assert may_pass(refused.value), "with new credentials, a set clock"
        assert len(proxy.requests) > first - 1 and direct.verify(DATE) == []
        assert direct.read(DATE).equals(before) or direct.read(DATE).equals(embeddings(first))
    publish(direct, DATE, embeddings(7))
    assert direct.read(DATE).equals(embeddings(7)) and direct.orphans(DATE) == []


def test_a_server_that_is_down_is_told_and_may_pass() -> None:
    table = Table("s3://bucket/t", filesystem=Storage(endpoint="http://127.0.0.1:9", region="x", retry_seconds=0))
    with pytest.raises(CannotWrite, match="did not answer as it should .*s3://bucket/t") as refused:
        publish(table, DATE, embeddings(1))
    assert may_pass(refused.value)


def test_an_address_where_no_object_store_is_is_told_and_not_asked_for_ever() -> None:
    """A web server that has no such page answers a put as an object store does that found another writer's."""
    asked = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            assert len(asked) < 50, "asked again and again"
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_error(404)

        do_HEAD = do_PUT = do_POST = do_GET
        log_message = lambda *_: None  # noqa: E731

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        table = Table("s3://bucket/t", filesystem=Storage(endpoint=endpoint, region="x", retry_seconds=0))
        with pytest.raises(StorageRefused, match="This is no object store, or not its address: check `endpoint`"):
            publish(table, DATE, embeddings(1))
        server.shutdown()


def _full() -> IO[bytes]:
    return open("/dev/full", "w+b", buffering=0)


def _none() -> IO[bytes]:
    raise FileNotFoundError(2, "No usable temporary directory found")


@pytest.mark.parametrize("temporary, kind, said", [
    (_full, DiskFull, "No space left on device"), (_none, CannotWrite, "No usable temporary directory")])
def test_a_temporary_folder_without_room_is_told_and_is_not_the_stores(
    bucket: str, storage: Storage, monkeypatch: pytest.MonkeyPatch, temporary: Callable[[], IO[bytes]],
    kind: type[StoreError], said: str,
) -> None:  # fmt: skip
    table = Table(f"{bucket}/t", filesystem=storage)
    publish(table, DATE, embeddings(0))
    monkeypatch.setattr("feature_store.object_file.tempfile.TemporaryFile", temporary)
    with pytest.raises(kind, match=f"{said}.*in the temporary folder.*unchanged. Make room .*TMPDIR") as refused:
        publish(table, DATE, embeddings(1))
    assert "s3://" not in str(refused.value) and may_pass(refused.value)
    assert table.read(DATE).equals(embeddings(0)) and table.orphans(DATE) == [] and table.verify(DATE) == []


def test_credentials_come_from_the_usual_files_and_are_read_again(
    bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    credentials.write_text(f"[night]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    said = f'{{"Version": 1, "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}"}}'
    (tmp_path / "said.json").write_text(said)
    asked = f"[profile asked]\ncredential_process = cat {tmp_path / 'said.json'}\n"
    config.write_text(asked + "[profile role]\nrole_arn = x\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    for profile in ("night", "asked"):
        table = Table(f"{bucket}/{profile}", filesystem=s3_server.storage(profile=profile))
        publish(table, DATE, embeddings(1))
        assert table.read(DATE).equals(embeddings(1))
    credentials.write_text("[night]\naws_access_key_id = new\naws_secret_access_key = newer\n")
    assert aws_provider("night")()["access_key_id"] == "new"
    with pytest.raises(StorageRefused, match="no section 'day' in .*there are: asked, night, role"):
        aws_provider("day")
    with pytest.raises(StorageRefused, match="holds no keys but a role .*pip install boto3"):
        aws_provider("role")
    (tmp_path / "said.json").write_text("{}")
    with pytest.raises(StorageRefused, match="gave no credentials"):
        aws_provider("asked")


SECRETS = [
    {"endpoint": "https://key:secret@host"}, {"profile": "AKIAIOSFODNN7EXAMPLE"},
    {"kms_key_id": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}, {"endpoint": "https://host/?sig=abc&x=1"},
    {"access_key_id": "x"}, {"secret": "x"}, {"aws_secret_access_key": "x"}, {"session_token": "x"}, {"password": "x"},
    {"account_key": "x"}, {"sas_token": "x"}, {"credentials": "x"}]  # fmt: skip


@pytest.mark.parametrize("settings", SECRETS, ids=[" ".join(one) for one in SECRETS])
def test_a_key_in_plain_is_refused_and_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="Credentials come from the environment .*profile.*Remove it here") as refused:
        Storage.from_mapping(settings)
    assert not any(len(text) > 1 and text in str(refused.value) for text in settings.values())


def test_a_key_in_a_uri_is_refused() -> None:
    for uri in ("s3://AKIAIOSFODNN7EXAMPLE:secret@bucket/x", "s3://key:secret@bucket", "az://container/x?sig=abc"):
        with pytest.raises(StoreError, match="looks like a key in plain") as refused:
            open_disk(uri, Storage())
        assert "secret" not in str(refused.value).lower().replace("secret_access_key", "")


@pytest.mark.parametrize("settings, said", [
    ({"endpoint": "s3.example.com"}, "expected a URL"), ({"lease_seconds": 0}, "expected seconds, from 0.1"),
    ({"lease_seconds": True}, "expected seconds"), ({"retry_seconds": "9"}, "expected seconds, from 0 to"),
    ({"virtual_hosted": "yes"}, "expected true or false"), ({"region": ""}, "expected a text"),
    ({"region": 7}, "expected a text"), ({"encryption": "rot13"}, "expected 'AES256'"),
    ({"lease_second": 3}, "it has endpoint, region, profile")])
def test_settings_of_another_kind_are_refused(settings: dict[str, Any], said: str) -> None:  # fmt: skip
    with pytest.raises(StoreError, match=said):
        Storage.from_mapping(settings)


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "s3://bucket/../x", "s3://bucket/a/./b", "gs://b?x=1", "az://c#x"])
def test_uris_that_name_no_prefix_of_a_bucket_are_refused(uri: str) -> None:
    with pytest.raises(BadName, match="expected scheme://bucket/prefix"):
        open_disk(uri, Storage())


def test_other_clouds_are_opened_by_their_own_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no server of theirs here: that they are spoken to rightly is obstore's."""
    from obstore.store import AzureStore, GCSStore

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert isinstance(open_disk("az://container/x", Storage(account="account"))[0].bucket, AzureStore)
    assert open_disk("abfss://container/x", Storage(account="account"))[1] == "az://container/x"
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    disk, path = open_disk("gs://bucket/x", Storage())
    assert isinstance(disk.bucket, GCSStore) and path == "gs://bucket/x"


def test_without_obstore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "obstore":
            raise ModuleNotFoundError(f"No module named {name!r}", name="obstore")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(CannotWrite, match=r"s3://elsewhere .*pip install 'nocturne\[s3\]'"):
        open_disk("s3://elsewhere/x", Storage())


def test_settings_are_plain_and_travel_to_other_processes() -> None:
    import pickle

    storage = Storage(endpoint="https://s3.example.com", lease_seconds=5)
    assert pickle.loads(pickle.dumps(storage)) == storage == Storage.from_mapping(dataclasses.asdict(storage))
    assert not any(name in str(storage) for name, text in os.environ.items() if text and "SECRET" in name)
