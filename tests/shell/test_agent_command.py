"""``stolon agent`` and every command against a running one, as processes."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.shell.making import BACKBONE, SKY, single

from stolon.agent import Agent
from stolon.errors import (
    AgentUnreachableError,
    DataMissingError,
    DataProblemsError,
    ModuleRefusedError,
    Problem,
    StolonError,
    StoreFullError,
    TaskUnknownError,
)
from stolon.nets.backbone import pretrained
from stolon.shell import exit_codes, population, remote
from stolon.shell.jobs import Jobs
from stolon.streams import folders


@pytest.fixture(scope="module")
def backbone(made):
    return pretrained(BACKBONE, made / "weights.safetensors")


@pytest.fixture(scope="module")
def pair(made, backbone, tmp_path_factory):
    """Two running agents that trust each other; ant learned fruit, bee learned sky."""
    root = tmp_path_factory.mktemp("pair")
    stores = {name: root / name for name in ("ant", "bee")}
    population.found(stores, backbone)
    with population.running(stores) as members:
        population.learn_all(members, {"ant": [made / "fruit"], "bee": [made / "sky"]}, seed=0)
        population.wait_until_equal(members, ["fruit", "sky"], 60)
        yield members


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.05)


class TestTwoAgents:
    def test_each_answers_for_what_the_other_learned_and_both_alike(self, pair, made):
        ant, bee = pair
        task = folders.read_task(made / "sky", size=16)
        mine, theirs = ant.answers(task), bee.answers(task)
        assert mine == theirs
        right = [a["task"] == "sky" and a["class"] in SKY for a in mine]
        assert sum(right) >= len(right) / 2

    def test_commands_reach_the_running_agent(self, pair, run, made, tmp_path):
        _, bee = pair
        ended = run("tasks", "--store", bee.folder, "--json")
        rows = {row["task"]: row for row in json.loads(ended.out)}
        assert rows["fruit"]["taught_by"] == "ant"
        assert rows["sky"]["taught_by"] == "you"
        assert all(row["active"] and row["bytes"] > 0 and row["arrived"] for row in rows.values())
        picture = next((made / "fruit" / "apple").iterdir())
        (answer,) = json.loads(run("classify", "--store", bee.folder, picture, "--json").out)
        assert set(answer) == {"image", "task", "class", "confidence", "known"}
        (peer,) = json.loads(run("peers", "--store", bee.folder, "--json").out)
        assert (peer["name"], peer["linked"], peer["in_step"]) == ("ant", True, True)
        assert "ant" in run("peers", "--store", bee.folder).out
        assert (
            run("learn", "--store", bee.folder, made / "sky").out
            == "sky: learned already, from the same data\n"
        )

    def test_an_error_in_the_agent_is_the_command_s_own(self, pair, run, made, tmp_path):
        ant, _ = pair
        ended = run(
            "classify",
            "--store",
            ant.folder,
            next((made / "fruit" / "apple").iterdir()),
            "--task",
            "nonsense",
        )
        assert ended.code == 4
        assert ended.err.startswith("stolon classify: unknown task 'nonsense'")
        ended = run("learn", "--store", ant.folder, tmp_path / "nowhere")
        assert ended.code == 3
        assert "nowhere" in ended.err
        assert run("export", "--store", ant.folder, "nonsense").code == 4
        assert run("forget", "--store", ant.folder, "nonsense").code == 4

    def test_a_second_agent_on_the_same_store_is_refused(self, pair, run):
        ended = run("agent", "--store", pair[0].folder)
        assert ended.code == 6
        assert "an agent runs on" in ended.err

    def test_files_go_out_and_in(self, pair, run, made, tmp_path, monkeypatch):
        ant, _ = pair
        file = tmp_path / "sky.stolon"
        assert run("export", "--store", ant.folder, "sky", "--out", file).code == 0
        ended = run("inspect", file, "--json")
        found = json.loads(ended.out)
        assert found["task"] == "sky"
        assert found["classes"] == sorted(SKY)
        assert found["bytes"] == file.stat().st_size
        ended = run("inspect", "--store", ant.folder, file)
        assert "on the trust list" in ended.out
        assert "fits" in ended.out
        ended = run("import", "--store", ant.folder, file)
        assert ended.code == 0
        assert "taught by bee: active" in ended.out

    def test_only_the_owner_can_read_the_address(self, pair):
        path = pair[0].folder / remote.ADDRESS
        assert path.stat().st_mode & 0o777 == 0o600
        address = json.loads(path.read_text())
        wrong = remote.Remote({**address, "token": "wrong"})
        with pytest.raises(StolonError, match="expected the token"):
            wrong.get("/status")

    def test_a_task_learned_now_reaches_the_other_and_is_taken_back_everywhere(self, pair, run, tmp_path):
        ant, bee = pair
        single(tmp_path / "extra", {"one": (10, 90, 200), "two": (120, 10, 120)})
        assert run("learn", "--store", ant.folder, tmp_path / "extra").code == 0
        until(lambda: "extra" in {row["task"] for row in bee.remote.get("/tasks")["tasks"]})
        assert run("forget", "--store", ant.folder, "extra").code == 0
        until(lambda: "extra" not in {row["task"] for row in bee.remote.get("/tasks")["tasks"]})

    def test_trust_is_changed_in_the_running_agent(self, pair, run):
        ant, bee = pair
        key = bee.remote.get("/status")["key"]
        shown = json.loads(run("trust", "show", "--store", ant.folder, "--json").out)
        assert {author["name"] for author in shown["authors"]} == {"me", "bee"}
        assert run("trust", "add", "--store", ant.folder, key, "--name", "wasp").code == 0
        until(lambda: {row["taught_by"] for row in ant.remote.get("/tasks")["tasks"]} == {"you", "wasp"})
        assert run("trust", "add", "--store", ant.folder, key, "--name", "bee").code == 0


class TestOneAgent:
    def test_killed_while_learning_it_goes_on_and_ends_with_the_same_module(self, backbone, made, tmp_path):
        stores = {name: tmp_path / name for name in ("killed", "quiet")}
        population.found(stores, backbone)
        key = (stores["quiet"] / "key").read_bytes()
        (stores["killed"] / "key").write_bytes(key)  # the same author, so that the modules can be the same
        for store in stores.values():
            for path in (store / "bank").rglob("*"):
                if path.is_file() and path.parent.name == "trust":
                    path.unlink()
        with Agent(stores["quiet"], backbone) as agent:
            for _ in agent.learn(folders.read_task(made / "fruit", size=16)):
                pass
        with population.running({"killed": stores["killed"]}) as (member,):
            body = {"folder": str(made / "fruit"), "seed": 0, "settings": {}}
            events = member.remote.follow("/learn", body)
            for _ in range(6):
                next(events)
            member.process.kill()
            member.process.wait()
            with pytest.raises(StolonError):
                list(events)
        with population.running({"killed": stores["killed"]}) as (member,):
            until(lambda: member.tasks() == ("fruit",))
        assert member.process.returncode == 0
        with (
            Agent(stores["killed"], backbone, write=False) as killed,
            Agent(stores["quiet"], backbone) as quiet,
        ):
            (one,), (two,) = killed.bank.modules(), quiet.bank.modules()
            assert [file.sha256 for file in one.manifest.files] == [
                file.sha256 for file in two.manifest.files
            ]
            x = torch.rand(8, 3, 16, 16)
            assert torch.equal(killed.predict(x).confidence, quiet.predict(x).confidence)

    def test_bad_arguments_end_it_before_anything_is_opened(self, run, empty):
        for arguments, code, word in (
            (("--listen", "nonsense"), 8, "tcp/"),
            (("--http", "nonsense"), 2, "HOST:PORT"),
            (("--http", "0.0.0.0:0"), 2, "0.0.0.0"),
            (("--listen", "tls/127.0.0.1:0"), 8, "TLS"),
        ):
            ended = run("agent", "--store", empty, *arguments)
            assert ended.code == code, ended.err
            assert word in ended.err
        assert not (empty / remote.ADDRESS).exists()
        with Agent(empty):
            pass  # the lock is free

    def test_its_page_is_served_and_logs_are_one_object_a_line(self, made, backbone, tmp_path):
        import urllib.request

        population.found({"ant": tmp_path / "ant"}, backbone)
        command = [sys.executable, "-m", "stolon.shell.main", "agent", "--store", str(tmp_path / "ant")]
        process = subprocess.Popen(
            [*command, "--http", "127.0.0.1:0", "--log", "json"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            until(lambda: remote.running(tmp_path / "ant") is not None, 60)
            reached = remote.running(tmp_path / "ant")
            with urllib.request.urlopen(reached.get("/status")["page"], timeout=10) as page:
                assert b"stolon" in page.read()
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        lines = [json.loads(line) for line in err.decode().splitlines()]
        assert [line["message"] for line in lines][-2:] == ["agent runs", "agent stops"]
        assert not (tmp_path / "ant" / remote.ADDRESS).exists()


class TestRemote:
    def test_what_a_killed_agent_left_is_not_taken_for_an_agent(self, tmp_path):
        assert remote.running(tmp_path) is None
        for text in ("", "{", "[]", '{"pid": 4000000, "port": 1, "token": "x"}'):
            (tmp_path / remote.ADDRESS).write_text(text)
            assert remote.running(tmp_path) is None

    def test_an_agent_that_does_not_answer_is_named(self, tmp_path):
        remote.announce(tmp_path, 9, "token")  # nobody listens at 9
        with pytest.raises(AgentUnreachableError, match="does not answer"):
            remote.running(tmp_path)
        remote.withdraw(tmp_path)
        assert remote.running(tmp_path) is None

    def test_errors_keep_their_class_on_the_way(self):
        for error in (
            TaskUnknownError("x"),
            DataMissingError("y"),
            StoreFullError("z"),
            DataProblemsError("w", [Problem("broken image", "a.png", "damaged")]),
            ModuleRefusedError("bad-signature", "v"),
        ):
            again = remote._error(remote.as_json(error))
            assert isinstance(again, type(error))
            assert str(again) == str(error)
            assert exit_codes.of(again) == exit_codes.of(error)
        assert isinstance(remote._error({"error": "SystemExit"}), AgentUnreachableError)


class TestJobs:
    def test_a_damaged_list_of_jobs_is_an_empty_one(self, store):
        (store / "jobs.json").write_text("{damaged")
        with Agent(store) as agent:
            jobs = Jobs(agent)
            jobs.start()
            assert jobs.waiting == ()
            jobs.stop()

    def test_a_job_that_fails_is_told_and_does_not_come_back(self, store, tmp_path):
        with Agent(store) as agent:
            jobs = Jobs(agent)
            jobs.start()
            job = jobs.add(str(tmp_path / "nowhere"), 0, {})
            with pytest.raises(StolonError, match="nowhere"):
                list(job.events())
            until(lambda: jobs.waiting == ())
            jobs.stop()
        assert json.loads((store / "jobs.json").read_text()) == []
