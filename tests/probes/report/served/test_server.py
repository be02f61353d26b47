"""The server as a user and as a stranger meet it: in a process of its own, over a real connection."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from report_results import CLASSES, write_results
from serving import Served, served

import cli
from probes.results.results_folder import PREDICTIONS_FOLDER, RESULTS_NAME


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("served") / "results")


@pytest.fixture(scope="module")
def server(results: Path) -> Iterator[Served]:
    with served(results) as found:
        yield found


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def test_a_page_is_there_at_once(server: Served, results: Path) -> None:
    before = state_of(results)
    response, shell = server.ask("")
    assert response.status == 200
    assert 'id="utterances"' in shell
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    policy = str(response.getheader("Content-Security-Policy"))
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "Python" not in str(response.getheader("Server"))
    response, body = server.ask("", "HEAD")
    assert (response.status, body) == (200, "")
    assert int(str(response.getheader("Content-Length"))) > 1000
    # Nothing was written beside the results, nor in them.
    assert state_of(results) == before


@pytest.mark.slow
def test_the_page_is_whole_when_it_is_made(server: Served, results: Path) -> None:
    before = state_of(results)
    server.wait("isReady")
    _, page = server.ask("")
    assert 'id="charts-data"' in page
    assert "<script>alert(1)" not in page
    assert page.count('id="utterances"') == 1
    assert "figures/" not in page  # files that a served page has not
    assert ".md" not in page.partition("charts-data")[0]
    found = server.found("suspects")
    assert found["n"] == len(found["rows"])
    assert found["n"] or found["reasons"]
    assert state_of(results) == before


def test_a_table_is_whole_in_pages(server: Served, results: Path) -> None:
    found = server.found("utterances", layers="every")
    assert (found["n"], found["nTested"], found["nPages"]) == (38, 38, 1)
    assert sorted(found["classes"]["asIs"]) == sorted(CLASSES)
    wrong = server.found("utterances", layers="every", answer="wrong", **{"class": CLASSES[0]})
    assert {row["true"] for row in wrong["rows"]} == {CLASSES[0]}
    assert 0 < wrong["n"] == len(wrong["rows"]) < 38
    assert server.found("utterances", text="U3", order="id")["rows"][0]["id"] == "u3"
    assert server.found("utterances", page=99)["page"] == 1
    one = server.found("utterance", asked=0, utterance=found["rows"][0]["utterance"], layers="every")
    assert one["id"] == found["rows"][0]["id"]
    assert len(one["answers"]) == 7 * 3  # of seven layers three seeds
    assert "store" in one["noSound"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("nothing", 404),
        ("..%2f..%2fetc/passwd", 404),
        ("/", 404),
        ("/etc/passwd", 404),
        ("/http://[", 404),
        ("/wrong-token/", 404),
        ("/wrong-token/state", 404),
        ("utterances?path=/etc/passwd", 400),
        ("utterances?page=x", 400),
        ("utterance?asked=0", 400),
        ("utterance?asked=0&utterance=999999", 404),
        ("utterance?asked=9&utterance=0", 404),
    ],
)
def test_what_is_not_there_is_not_there(server: Served, name: str, status: int) -> None:
    response, text = server.ask(name)
    assert response.status == status
    assert "Traceback" not in text
    assert server.path.strip("/") not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_pages_of_elsewhere_are_refused(server: Served, headers: dict[str, str]) -> None:
    named = {name: value.format(port=server.port) for name, value in headers.items()}
    response, text = server.ask("state", **named)
    assert response.status == 403
    assert "stage" not in text


def test_its_own_pages_are_not(server: Served) -> None:
    own = {"Host": f"localhost:{server.port}", "Origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("state", Sec_Fetch_Site="same-origin", **own)[0].status == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND"]
)
def test_nothing_but_reading_is_answered(server: Served, method: str) -> None:
    response, _ = server.ask("state", method)
    assert response.status == 405
    assert response.getheader("Allow") == "GET, HEAD"


def test_two_hosts_or_nonsense_are_refused(server: Served) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("GET", server.path + "state", skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.port}")
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()
    for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 70_000):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(nonsense)
            raw.shutdown(socket.SHUT_WR)
            assert b"200" not in raw.recv(1 << 16).split(b"\r\n")[0]
    assert server.found("state")["nBatches"] > 0


def test_it_listens_on_loopback_alone(server: Served) -> None:
    listening = {
        line.split()[1].split(":")[0]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if int(line.split()[1].split(":")[1], 16) == server.port and line.split()[3] == "0A"
    }
    assert listening == {"0100007F"}


def test_a_port_in_use_is_one_line(server: Served, results: Path) -> None:
    done = CliRunner().invoke(cli.main, ["serve", str(results), "--port", str(server.port)])
    one_line(done.exit_code, done.stderr, f"--port {server.port}", "is in use")


def test_ctrl_c_ends_it_without_a_word(server: Served) -> None:
    code, said = server.interrupt()
    assert (code, said) == (0, "")


def one_line(code: int, said: str, *parts: str) -> None:
    assert code == 2
    assert len(said.splitlines()) == 1
    for part in parts:
        assert part in said


@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_a_number_that_is_no_port_is_one_line(results: Path, port: str) -> None:
    done = CliRunner().invoke(cli.main, ["serve", str(results), "--port", port])
    one_line(done.exit_code, done.stderr, "--port: expected 1 to 65535", port)


def test_what_is_no_results_folder_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        done = CliRunner().invoke(cli.main, ["serve", str(folder)])
        one_line(done.exit_code, done.stderr, str(folder), "expected the results of `fs probe`")


@pytest.mark.parametrize("where", ["results", "predictions"])
def test_damage_is_one_line_before_anything_is_served(results: Path, tmp_path: Path, where: str) -> None:
    out = Path(shutil.copytree(results, tmp_path / "r"))
    path = out / RESULTS_NAME if where == "results" else sorted((out / PREDICTIONS_FOLDER).iterdir())[1]
    path.write_bytes(path.read_bytes()[:-30])
    done = CliRunner().invoke(cli.main, ["serve", str(out)])
    one_line(done.exit_code, done.stderr, str(path), "cannot be read")


@pytest.mark.slow
def test_damage_that_only_reading_finds_ends_it_with_one_line(results: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(results, tmp_path / "r"))
    path = sorted((out / PREDICTIONS_FOLDER).iterdir())[1]
    table = pd.read_parquet(path)
    table["target"] = table["target"].where(table.index > 2)
    table.to_parquet(path)
    with served(out) as server:
        _, said = server.process.communicate(timeout=60)
        one_line(server.process.returncode, said, str(path), "column 'target', row 0: expected a value")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may take any port")
def test_a_port_of_the_system_is_one_line(results: Path) -> None:
    done = CliRunner().invoke(cli.main, ["serve", str(results), "--port", "1"])
    one_line(done.exit_code, done.stderr, "is not for ordinary users")
