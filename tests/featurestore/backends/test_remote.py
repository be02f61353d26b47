"""Object stores: addresses, credentials, errors told apart, outages, and how a layer is read."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from cli import main
from featurestore import open_store
from featurestore.backends import remote
from featurestore.backends.remote import ObjectStorage
from featurestore.backends.remote_settings import check_environment, hide_credentials, hide_urls
from featurestore.backends.storage import open_storage
from featurestore.errors import ConfigError, CorruptData, DependencyMissing, StoreError
from featurestore.format import layer_arrays
from featurestore.store.writer import open_key
from tests.featurestore.s3proxy import Proxy, proxy_before
from tests.featurestore.s3server import ADMIN, OPEN_BUCKET, READER, S3Server
from tests.featurestore.scenario import manifest_of, request, write

pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
KEPT = "nothing stored before is lost, run the same command again"


@pytest.fixture
def proxy(s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """`s3_url` is reached through it."""
    with proxy_before(s3_server.endpoint) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
        yield found


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """An endpoint at which nobody listens."""
    for name, value in {
        "ALLOW_HTTP": "true",
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "x-secret-x",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return "http://127.0.0.1:9"


def refusal(call: Callable[[], object]) -> str:
    """The message of the `StoreError` that this raises: one line, no secret."""
    with pytest.raises(StoreError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    for secret in (ADMIN[1], READER[1], "x-secret-x"):
        assert secret not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "s3://user:x-secret-x@b/p",
            "gs://x-secret-x@b",
            "az://b/p?sig=x-secret-x",
            "s3:/KEY:x-secret-x@b",
            "s3:KEY:x-secret-x@b",
            "s3:/KEY:with/a/slash/x-secret-x@b/p",
            "s3://KEY:with/a/slash/x-secret-x@b/p",
            "s3://KEY:x-secret-x/p",
            "az:/b/p?sig=x-secret-x",
        ],
    )
    def test_credentials_in_a_url_are_refused(self, url: str) -> None:
        text = refusal(lambda: open_storage(url))
        assert "with credentials or options in it is refused" in text

    @pytest.mark.parametrize(
        "url", ["s3:///p", "s3://B/p", "s3://b/p", "gs://bucket/a//b", "az://bucket/../b"]
    )
    def test_what_is_no_address_is_refused(self, url: str) -> None:
        assert "expected" in refusal(lambda: open_storage(url))

    def test_a_password_in_a_url_of_another_kind_is_not_repeated(self) -> None:
        assert "unknown kind of store 'ftp'" in refusal(lambda: open_storage("ftp://me:x-secret-x@host/x"))
        web = refusal(lambda: open_storage("https://b.example.com/p?sig=x-secret-x"))
        assert web.startswith("https://b.example.com/p: is on a web server")
        assert "secret" not in web
        assert "unknown kind" in refusal(lambda: open_storage("S3://KEY:a/x-secret-x@b/p"))
        assert hide_credentials("https://me:pw@host/x?sig=1#y") == "https://host/x"
        assert hide_credentials("s3://bucket/who@home") == "s3://bucket/who@home"

    def test_a_url_of_one_slash_is_told_of_the_other(self) -> None:
        text = refusal(lambda: open_storage("s3:/bucket/p"))
        assert text == "s3:/bucket/p: expected s3://bucket/p, with two slashes"

    def test_urls_in_a_message_are_shown_without_their_secrets(self) -> None:
        shown = hide_urls("no 's3:/K:x/y@b/p' nor az://b/q?sig=z, but s3://b/a@c and a file what?.csv")
        assert shown == "no 's3:/b/p' nor az://b/q but s3://b/a@c and a file what?.csv"

    def test_credentials_in_the_endpoint_are_refused(
        self, nobody: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:x-secret-x@127.0.0.1:9")
        text = refusal(lambda: open_storage("s3://bucket/p"))
        assert text.startswith("AWS_ENDPOINT_URL: a URL with credentials or options in it is refused")

    def test_a_signature_in_the_endpoint_is_refused(
        self, nobody: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ALLOW_HTTP")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9/?sig=x-secret-x")
        assert "credentials or options in it is refused" in refusal(lambda: open_storage("s3://bucket/p"))

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("AWS_REGION", "eu-1\n", r"AWS_REGION: expected text on one line, got '\\n' in it"),
            ("AWS_SESSION_TOKEN", "x-secret-x\r", r"AWS_SESSION_TOKEN: expected text on one line, got '\\r'"),
            (
                "AWS_ENDPOINT_URL",
                "http://\xe9:9",
                r"AWS_ENDPOINT_URL: expected an address in ASCII .* '\\xe9'",
            ),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9 ", r"AWS_ENDPOINT_URL: expected an address .* ' '"),
        ],
        ids=["region", "token", "host", "blank"],
    )
    def test_a_value_that_cannot_be_sent_is_one_line_and_no_panic_of_the_client(
        self, nobody: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
    ) -> None:
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "0")
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=message) as caught:
            open_storage("s3://bucket/p")
        assert "x-secret-x" not in str(caught.value)

    def test_keys_of_several_lines_are_let_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{\n  "private_key": "-----"\n}')
        check_environment()

    def test_plain_http_must_be_allowed(self, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ALLOW_HTTP")
        assert "set AWS_ALLOW_HTTP=true" in refusal(lambda: open_storage("s3://bucket/p"))

    def test_the_patience_is_a_number(self, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "soon")
        with pytest.raises(
            ConfigError, match="FEATURESTORE_RETRY_S: expected seconds from 0 to 86400, got 'soon'"
        ):
            open_storage("s3://bucket/p")

    def test_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "obstore", None)
        with pytest.raises(DependencyMissing, match=r"pip install 'featurestore-audio\[s3\]'"):
            open_storage("s3://bucket/p")


class TestNobodyAnswers:
    @pytest.mark.slow
    def test_opening_says_so_soon(self, nobody: str) -> None:
        began = time.monotonic()
        text = refusal(lambda: open_storage("s3://bucket/p"))
        assert f"cannot open it: {nobody} did not answer within 5 s (connection refused)" in text
        assert "check AWS_ENDPOINT_URL and the network" in text
        assert text.endswith(KEPT)
        assert time.monotonic() - began < 20

    def test_the_command_line_ends_with_one_line_and_code_2(
        self, nobody: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "OPEN_RETRY_S", 0.5)
        result = CliRunner().invoke(main, ["ls", "s3://bucket/p"])
        assert result.exit_code == 2
        assert result.stderr.startswith("error: s3://bucket/p: cannot open it: ")
        assert result.stderr.count("\n") == 1
        assert "x-secret-x" not in result.output

    def test_azure_is_asked_where_the_environment_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote, "OPEN_RETRY_S", 0.5)
        assert "AZURE_STORAGE_ACCOUNT_NAME" in refusal(lambda: open_storage("az://container/p"))
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no base64: x-secret-x")
        assert "AZURE_STORAGE_ACCOUNT_KEY" in refusal(lambda: open_storage("az://container/p"))
        # A token that travels in the URL of every request.
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024-01-01&sig=x-secret-x")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
        text = refusal(lambda: open_storage("az://container/p"))
        assert "http://127.0.0.1:9 did not answer within 0.5 s (connection refused)" in text


@pytest.mark.s3
class TestRefusals:
    def test_no_such_bucket(self, s3_url: str, s3_server: S3Server) -> None:
        text = refusal(lambda: open_storage("s3://no-such-bucket/p"))
        assert f"there is no bucket 'no-such-bucket' at {s3_server.endpoint}" in text

    def test_wrong_key(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x-secret-x")
        text = refusal(lambda: open_storage(s3_url))
        assert "access denied (HTTP 403 SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID and" in text

    def test_a_key_that_may_only_read(
        self, s3_url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_storage(s3_url).put("a/b", b"1")
        for name, value in s3_server.environment(READER).items():
            monkeypatch.setenv(name, value)
        storage = open_storage(s3_url)
        assert storage.get("a/b") == b"1"
        for call in (
            lambda: storage.put("a/b", b"2"),
            lambda: storage.put("a/c", b"2", if_absent=True),
            lambda: storage.delete("a/b"),
        ):
            text = refusal(call)
            assert "access denied (HTTP 403 AccessDenied)" in text
            assert text.endswith(KEPT)
        assert storage.get("a/b") == b"1"

    def test_no_credentials_at_all(self, s3_url: str, monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.169.254")
        monkeypatch.setattr(remote, "OPEN_RETRY_S", 0.5)
        text = refusal(lambda: open_storage(s3_url))
        assert "no credentials for S3 in the environment of this process" in text
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in text

    def test_an_object_is_not_larger_than_one_request(
        self, s3_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "MAX_PUT_BYTES", 10)
        assert "at most 10; use a smaller --unit-rows" in refusal(
            lambda: open_storage(s3_url).put("a", b"x" * 11)
        )

    def test_a_forked_process_is_told(self, s3_url: str) -> None:
        storage = open_storage(s3_url)
        storage.put("a", b"1")
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                storage.get("a")
            except StoreError as error:
                os.write(send, str(error).encode())
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as file:
            assert "forked" in file.read()
        os.waitpid(child, 0)


@pytest.mark.s3
class TestSecrets:
    def test_they_do_not_travel(self, s3_url: str) -> None:
        storage = open_storage(s3_url)
        for thing in (storage, storage.zarr_store(), vars(storage)["location"]):
            assert ADMIN[1].encode() not in pickle.dumps(thing)
            assert ADMIN[1] not in repr(thing)
        storage.put("a/b", b"1")
        assert pickle.loads(pickle.dumps(storage)).get("a/b") == b"1"

    def test_another_key_is_another_client(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        first = open_storage(s3_url)
        assert open_storage(s3_url) is first
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x-secret-x")
        refusal(lambda: open_storage(s3_url))


@pytest.mark.s3
class TestGoogle:
    """Google's client against the same server: both speak path-style HTTP with XML listings."""

    def test_reading(self, s3_url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        path = f"{OPEN_BUCKET}/{s3_url.rpartition('/')[2]}"
        open_storage(f"s3://{path}").put("m/d/zarr.json", b"{}")
        monkeypatch.setenv("GOOGLE_BASE_URL", s3_server.endpoint)
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
        storage = open_storage(f"gs://{path}/")
        assert storage.url == f"gs://{path}"
        assert storage.get("m/d/zarr.json") == b"{}"
        assert storage.get("m/e/zarr.json") is None
        assert list(storage.objects("m")) == [("m/d/zarr.json", 2)]
        assert storage.children("m") == ["d"]


@pytest.mark.s3
class TestConditionalPut:
    def test_switched_off(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
        storage = open_storage(s3_url)
        assert storage.put("a", b"1", if_absent=True)
        assert not storage.put("a", b"2", if_absent=True)
        assert storage.get("a") == b"1"

    def test_a_server_that_does_not_know_it(
        self, proxy: Proxy, s3_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "0")
        storage = open_storage(s3_url)
        refused = iter([501])
        proxy.fault = lambda r: next(refused, None) if r.method == "PUT" else None
        assert storage.put("a", b"1", if_absent=True)
        assert not storage.put("a", b"2", if_absent=True)
        assert storage.put("b", b"2", if_absent=True)
        assert [r.method for r in proxy.requests if "/a" in r.path] == ["HEAD", "PUT", "HEAD", "PUT", "HEAD"]

    def test_a_conflict_is_no_answer(self, proxy: Proxy, s3_url: str) -> None:
        storage = open_storage(s3_url)
        # S3: two conditional writes at once, try again.
        conflict = iter([409])
        proxy.fault = lambda r: next(conflict, None) if r.method == "PUT" else None
        assert storage.put("a", b"1", if_absent=True)
        assert storage.get("a") == b"1"


@pytest.mark.s3
class TestOutages:
    def test_a_busy_server_is_asked_again(self, proxy: Proxy, s3_url: str) -> None:
        storage = open_storage(s3_url)
        answers = iter([503, 500, 429])
        proxy.fault = lambda r: next(answers, None)
        storage.put("a", b"1")
        answers = iter([503, 502])
        assert storage.get("a") == b"1"
        answers = iter([503])
        assert [k for k, _ in storage.objects("")] == ["a"]

    def test_a_server_that_stays_busy_is_an_error(
        self, proxy: Proxy, s3_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "1")
        storage = open_storage(s3_url)
        proxy.fault = lambda r: 503
        assert f"{proxy.endpoint} answered HTTP 503, and again for 1 s" in refusal(
            lambda: storage.put("a", b"1")
        )

    def test_a_reply_that_breaks_off_is_read_again(self, proxy: Proxy, s3_url: str) -> None:
        storage = open_storage(s3_url)
        data = np.random.default_rng(0).bytes(300_000)
        storage.put("a", data)
        broken = iter([0, 0])
        proxy.fault = lambda r: next(broken, None)
        assert storage.get("a") == data

    def test_a_lost_reply_to_a_put_is_written_again(self, proxy: Proxy, s3_url: str) -> None:
        storage = open_storage(s3_url)
        lost = iter([-1])
        proxy.fault = lambda r: next(lost, None)
        storage.put("a", b"1")
        assert storage.get("a") == b"1"
        assert [r.method for r in proxy.requests if r.path.endswith("/a")] == ["PUT", "PUT", "GET"]

    def test_a_lost_reply_to_a_delete_is_asked_again(self, proxy: Proxy, s3_url: str) -> None:
        storage = open_storage(s3_url)
        storage.put("a", b"1")
        lost = iter([-1, 503])
        proxy.fault = lambda r: next(lost, None)
        storage.delete("a")
        assert storage.get("a") is None

    def test_a_lost_reply_to_a_conditional_put_is_no_defeat(self, proxy: Proxy, s3_url: str) -> None:
        storage = open_storage(s3_url)
        lost = iter([-1])
        proxy.fault = lambda r: next(lost, None) if r.method == "PUT" else None
        assert storage.put("a", b"mine", if_absent=True)
        assert not storage.put("a", b"mine", if_absent=True)
        lost = iter([-1])
        assert storage.put("b", b"mine", if_absent=True)

    def test_a_server_that_hangs(
        self, s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "PUT_TIMEOUT_S", 1.0)
        monkeypatch.setattr(remote, "READ_TIMEOUT_S", 1.0)
        storage = ObjectStorage(s3_url)
        storage.put("a", b"1")
        with ThreadPoolExecutor(2) as pool:
            s3_server.pause()
            try:
                put = pool.submit(storage.put, "a", b"2")
                get = pool.submit(storage.get, "b")
                time.sleep(2.5)
                assert not put.done()
                assert not get.done()
            finally:
                s3_server.resume()
            assert put.result(30) is True
            assert get.result(30) is None
        assert storage.get("a") == b"2"

    def test_a_server_that_is_killed(
        self, s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every operation says so in one line; the first waits, the next ones do not; then all is there."""
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "2")
        monkeypatch.setattr(remote, "OPEN_RETRY_S", 0.2)
        storage = open_storage(s3_url)
        storage.put("m/a", b"1")
        reader = storage.zarr_store()
        s3_server.kill()
        try:
            said = f"{s3_server.endpoint} did not answer within"
            assert f"cannot write m/a: {said} 2 s" in refusal(lambda: storage.put("m/a", b"2"))
            began = time.monotonic()
            assert f"cannot read m/a: {said} 0.2 s" in refusal(lambda: storage.get("m/a"))
            assert f"cannot write m/b: {said}" in refusal(lambda: storage.put("m/b", b"", if_absent=True))
            assert f"cannot delete m/a: {said}" in refusal(lambda: storage.delete("m/a"))
            assert f"cannot list m: {said}" in refusal(lambda: list(storage.objects("m")))
            assert f"cannot list m: {said}" in refusal(lambda: storage.children("m"))
            assert f"cannot read m/d/zarr.json: {said}" in refusal(
                lambda: zarr.open_array(reader, path="m/d", mode="r", zarr_format=3)
            )
            assert time.monotonic() - began < 15
        finally:
            s3_server.start()
        assert storage.get("m/a") == b"1"
        assert [k for k, _ in storage.objects("")] == ["m/a"]
        storage.put("m/a", b"3")
        assert storage.get("m/a") == b"3"


@pytest.mark.s3
class TestReadingALayer:
    # So wide that half a shard fills an inner chunk.
    N, N_FEATURES = 130, layer_arrays.TARGET_CHUNK_BYTES // (4 * 2 * 4)

    @pytest.fixture
    def stored(self, s3_url: str, proxy: Proxy) -> str:
        """17 shards of 8 rows, each of two inner chunks."""
        manifest = manifest_of(self.N)
        ids = manifest.table["utterance_id"].to_numpy(object)
        wanted = request(n_features=self.N_FEATURES, layers=(1,))
        writer, _ = open_key(open_storage(s3_url), wanted, manifest, ids)
        write(writer, {1: self.values()})
        assert writer.info.shape.chunk_rows == 4
        return s3_url

    def values(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((self.N, 2, self.N_FEATURES)).astype(np.float32)

    def test_shards_are_asked_for_side_by_side_and_not_all_at_once(self, stored: str, proxy: Proxy) -> None:
        layer = open_store(stored).features("tiny", "calls").layer(1)
        proxy.reset()
        proxy.delay_s = 0.05
        np.testing.assert_array_equal(layer.numpy(), self.values())
        asked = [r.path.split("/c/")[1] for r in proxy.requests if "/c/" in r.path]
        assert set(asked) == {f"{i}/0/0" for i in range(17)}
        # A reader may ask for its next shard before the proxy has seen the end of its last answer.
        assert 2 < proxy.most_in_flight < 17
        # Read by plain Zarr it is no different, but for Zarr's own bound.
        proxy.reset()
        np.testing.assert_array_equal(layer.zarr[:], self.values())
        assert 2 < proxy.most_in_flight <= zarr.config.get("async.concurrency")

    def test_a_few_rows_are_ranges(self, stored: str, proxy: Proxy) -> None:
        layer = open_store(stored).features("tiny", "calls").layer(1)
        proxy.reset()
        np.testing.assert_array_equal(layer.numpy([5, 100]), self.values()[[5, 100]])
        asked = [r for r in proxy.requests if "/c/" in r.path]
        assert {r.path.split("/c/")[1] for r in asked} == {"0/0/0", "12/0/0"}
        assert all(r.range for r in asked)

    def test_an_outage_is_not_taken_for_damage(
        self, stored: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEATURESTORE_RETRY_S", "0.5")
        layer = open_store(stored).features("tiny", "calls").layer(1)
        proxy.fault = lambda r: 503 if "/layer_01/c/" in r.path else None
        with pytest.raises(StoreError, match="answered HTTP 503") as caught:
            layer.numpy()
        assert not isinstance(caught.value, CorruptData)
        proxy.fault = lambda r: None
        np.testing.assert_array_equal(layer.numpy(), self.values())
