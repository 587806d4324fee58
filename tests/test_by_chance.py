from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from . import by_chance

ROOT = Path(__file__).parent.parent
FILE = "tests/publishing/test_eager.py"


@dataclass(eq=False)
class Item:
    """As much of a collected test as matters."""

    nodeid: str
    callspec: Any = None
    marks: tuple[str, ...] = ()

    def get_closest_marker(self, name: str) -> bool:
        return name in self.marks


def on_databases(
    name: str, *, last: str = "", fixture: str = "any_database"
) -> list[Any]:
    return [
        Item(
            f"{name}[{database}{last}]",
            SimpleNamespace(id=f"{database}{last}", params={fixture: alias}),
        )
        for database, alias in by_chance.ALIASES.items()
    ]


def leave_out(items: list[Any], seed: int) -> tuple[list[str], dict[str, int]]:
    kept = [*items]
    count = by_chance.leave_out(kept, seed)
    return [item.nodeid for item in kept], count


def test_one_database_is_left_of_each_test_whichever_the_seed_chooses() -> None:
    items = [
        *on_databases("a.py::test", last="-one"),
        *on_databases("a.py::test", last="-other"),
        *on_databases("b.py::test"),
        Item("b.py::test_without"),
    ]

    runs = [leave_out(items, seed) for seed in range(50)]

    for kept, count in runs:
        assert [name.partition("[")[0] for name in kept] == [
            *["a.py::test"] * 2,
            *["b.py::test", "b.py::test_without"],
        ]
        assert ["-one]" in kept[0], "-other]" in kept[1]] == [True, True]
        assert count == {by_chance.ONE_DATABASE: 6}
    assert {name for kept, _ in runs for name in kept} == {i.nodeid for i in items}
    assert {*leave_out(items[::-1], 1)[0]} == {*runs[1][0]}  # in whatever order


def test_what_is_quick_on_one_database_is_always_tried_on_some() -> None:
    versions = on_databases("a.py::test", fixture="engine")
    for item in versions[1:]:
        item.marks = ("proof",)

    assert {len(leave_out(versions, seed)[0]) for seed in range(20)} == {1}


def test_a_quarter_of_the_slow_ones_is_left() -> None:
    slow = [Item(f"a.py::test_{n}", marks=("proof",)) for n in range(300)]
    slow += [Item(f"b.py::test_{n}", marks=("browser",)) for n in range(300)]
    quick = [Item(f"c.py::test_{n}") for n in range(10)]

    kept, count = leave_out([*slow, *quick], 1)

    assert count == {by_chance.SLOW_ONES: 450}
    assert kept[-10:] == [item.nodeid for item in quick]
    runs = [{*leave_out(slow, seed)[0]} for seed in range(20)]
    assert set.union(*runs) == {item.nodeid for item in slow}
    assert {len({*run} & {slow[0].nodeid}) for run in runs} == {0, 1}


def test_each_test_keeps_two_databases_whichever_the_seed_chooses() -> None:
    items = [*on_databases("a.py::test"), Item("a.py::test_without")]

    runs = []
    for seed in range(50):
        kept: list[Any] = [*items]
        assert by_chance.leave_out_databases(kept, seed, 2) == 1
        runs.append([item.nodeid for item in kept])

    assert {run[-1] for run in runs} == {"a.py::test_without"}
    assert {name for run in runs for name in run} == {item.nodeid for item in items}


def test_each_test_keeps_a_few_of_its_parameters_whichever_the_seed_chooses() -> None:
    items = [Item(f"a.py::test_many[{n}]") for n in range(40)]
    items += [Item("a.py::test_two[1]"), Item("a.py::test_two[2]"), Item("a.py::test")]

    runs = []
    for seed in range(200):
        kept: list[Any] = [*items]
        assert by_chance.leave_out_variants(kept, seed, 3) == 37
        runs.append([item.nodeid for item in kept])

    assert {tuple(run[-3:]) for run in runs} == {
        ("a.py::test_two[1]", "a.py::test_two[2]", "a.py::test")
    }
    assert {name for run in runs for name in run} == {item.nodeid for item in items}


@pytest.mark.proof
@pytest.mark.parametrize(
    ("options", "left_out"),
    [(["-o", f"testpaths={FILE}"], 20), (["-o", f"testpaths={FILE}", "--all"], 0)],
)
def test_the_end_says_what_was_left_out_unless_all_was_asked_for(
    options: list[str], left_out: int
) -> None:
    command = [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-q", *options]
    plain = {key: os.environ[key] for key in os.environ.keys() - {"PYTEST_ADDOPTS"}}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True)

    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert len(collected) == 30 - left_out
    said = f"{left_out} left out on other databases, of tests that fit any: give --all"
    assert (said in done.stdout) == bool(left_out), done.stdout
