"""The fuzz runner finds, keeps and reports broken contracts, and no harness has one."""

from __future__ import annotations

import random

import pytest

import fuzz.run
from fuzz.registry import HARNESSES, Harness, harness
from fuzz.run import main, mutate, run_harness


@pytest.fixture
def crashes(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz.run, "CRASHES", tmp_path / "crashes")
    return tmp_path / "crashes"


@pytest.fixture
def broken(monkeypatch):
    """A harness with a bug that the runner has to look for."""

    def check(data: bytes) -> None:
        assert b"\0" not in data, "a NUL"

    monkeypatch.setitem(HARNESSES, "broken", Harness("broken", check, (b"abc",)))


@pytest.mark.parametrize("name", sorted(HARNESSES))
def test_harness_holds_for_a_moment(name, crashes):
    runs = run_harness(HARNESSES[name], 0.2, random.Random(name))
    assert runs
    assert runs >= len(HARNESSES[name].seeds)
    assert not crashes.exists()


def test_a_broken_contract_is_kept_and_reported(broken, crashes, capsys):
    assert main(["broken", "--seconds", "30", "--seed", "1"]) == 1
    (kept,) = crashes.iterdir()
    assert kept.name.startswith("broken-")
    assert b"\0" in kept.read_bytes()
    out, err = capsys.readouterr()
    assert "BROKEN" in out
    assert "seed 1" in out
    assert "a NUL" in err
    assert str(kept) in err


def test_a_kept_input_is_tried_again(broken, crashes, tmp_path, capsys):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"a")
    bad.write_bytes(b"\0")
    assert main(["broken", "--input", str(good)]) == 0
    assert "1 runs" in capsys.readouterr().out
    assert main(["broken", "--input", str(bad)]) == 1


def test_a_run_that_holds_ends_with_success(crashes, capsys):
    assert main(["percent_decode", "--seconds", "0.01"]) == 0
    assert "percent_decode" in capsys.readouterr().out


def test_the_names_can_be_listed_and_an_unknown_one_is_refused(capsys):
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == sorted(HARNESSES)
    with pytest.raises(SystemExit) as caught:
        main(["nonsense"])
    assert caught.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_the_same_seed_makes_the_same_inputs():
    seeds = [b"one", b"two" * 100]
    first, second = random.Random(5), random.Random(5)
    made = [mutate(first, seeds) for _ in range(200)]
    assert made == [mutate(second, seeds) for _ in range(200)]
    assert len(set(made)) > 100
    assert max(map(len, made)) <= fuzz.run.MAX_LENGTH


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="two harnesses"):

        @harness(seeds=[])
        def url(data: bytes) -> None: ...
