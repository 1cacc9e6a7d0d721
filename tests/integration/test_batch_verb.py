"""`penstock batch` and `penstock stream` as a person uses them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from project_folder import COMMAND, Project
from run_processes import until


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("verbs") / "shop")


def test_what_is_wrong_is_said_with_the_next_action(shop: Project) -> None:
    """Wrong input is exit code 2, in words and as JSON."""
    (shop.root / "orders.csv").write_text("item\ntea\n")
    done = shop.command("batch", "shop", "--in", "orders.csv", "--out", "a", "--keep", "nothing")
    assert done.returncode == 1
    assert "The input has no column 'nothing' to keep" in done.stderr
    done = shop.command("batch", "shop", "--in", "nowhere", "--out", "b", "--json")
    assert done.returncode == 2
    assert "prices" in json.loads(done.stdout or done.stderr)["error"]["hint"]
    done = shop.command("stream", "shop", "--in", "kafka://nobody", "--out", "c")
    assert done.returncode == 2
    assert "kafka://host:9092/topic" in done.stderr


def test_ctrl_c_leaves_what_is_done_and_the_same_command_goes_on(shop: Project) -> None:
    """Exit code 130; the next start answers the rest, in order."""
    count = 1_500_000
    pl.DataFrame({"item": ["tea", "milk"] * (count // 2)}).write_parquet(shop.root / "many.parquet")
    words = [*COMMAND, "batch", "shop", "--in", "many.parquet", "--out", "many", "--workers", "1"]
    slow = {**os.environ, "PENSTOCK_FAULT": "batch_before_part:slow:500"}  # so that it is under way when it is told
    with subprocess.Popen(
        words, cwd=shop.root, env=slow, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until(lambda: list(shop.root.glob("many/part-*")))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
    done = subprocess.run(words, cwd=shop.root, capture_output=True, text=True, check=False)
    assert f"{count:,} of {count:,} rows answered" in done.stdout, done.stderr
    answers = pl.read_parquet(shop.root / "many" / "*.parquet")
    assert answers["answer"].to_list() == [3.0, 1.0] * (count // 2)


def test_a_directory_is_followed_until_it_is_told_to_stop(shop: Project) -> None:
    """Files that come are answered; SIGTERM ends with 0, and the next start goes on."""
    inbox = shop.root / "inbox"
    inbox.mkdir()
    words = [*COMMAND, "stream", "shop", "--in", "inbox", "--out", "followed"]
    with subprocess.Popen(words, cwd=shop.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        (inbox / "1.jsonl").write_text('{"item": "tea"}\n{"item": "broken"}\n')
        until(lambda: list(shop.root.glob("followed/part-*")))
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "shop@1 price: 2 rows answered\n")
    (inbox / "2.jsonl").write_text('{"item": "milk"}\n')
    done = shop.command("stream", "shop", "--in", "inbox", "--out", "followed", "--once")
    assert done.stdout == "shop@1 price: 1 row answered\n", done.stderr
    lines = [
        json.loads(line) for part in sorted(shop.root.glob("followed/part-*")) for line in part.read_text().splitlines()
    ]
    assert [(line["answer"], line["error"]) for line in lines] == [(3.0, None), (None, "ValueError"), (1.0, None)]
