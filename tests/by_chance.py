"""
What a run of the whole suite leaves out, so that it takes minutes.

The seed of the order chooses: each run tries something else, and `--all` tries it all.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

#: What the tests call the databases, and their aliases.
ALIASES = {"sqlite": "default", "postgresql": "postgresql", "mariadb": "mariadb"}
PER_DATABASE = ["any_database", "any_committed_database", "engine"]
# Marks of what takes seconds a test.
SLOW = ["proof", "browser"]
EVERY = 4
ONE_DATABASE = "on other databases, of tests that fit any"
SLOW_ONES = "of the proofs and browser tests"
VARIANTS = "of tests with many parameters"
FEWER_DATABASES = "on further databases"
#: How to run them all the same.
REMEDIES = {VARIANTS: "leave out --variants", FEWER_DATABASES: "leave out --databases"}


def leave_out(items: list[pytest.Item], seed: object) -> Counter[str]:
    """Take tests off the list. Return how many, by what they are."""
    versions = _versions(items)
    kept = {name: _some(alike, name, seed, 1)[0] for name, alike in versions.items()}
    why = {
        item: ONE_DATABASE
        for name, alike in versions.items()
        for item in alike
        if item is not kept[name]
    }
    slow: dict[str, list[str]] = defaultdict(list)
    for name, alike in versions.items():
        if all(any(map(item.get_closest_marker, SLOW)) for item in alike):
            slow[name.partition("::")[0]].append(name)
    for file, names in slow.items():
        first = random.Random(f"{seed} {file}").randrange(EVERY)
        # Neighbours are alike, and every fourth one is a fair sample of them.
        for number, name in enumerate(sorted(names), first):
            if number % EVERY:
                why[kept[name]] = SLOW_ONES
    items[:] = [item for item in items if item not in why]
    return Counter(why.values())


def leave_out_databases(items: list[pytest.Item], seed: object, most: int) -> int:
    """Leave each test on at most so many databases; return how many tests go."""
    kept = {
        item
        for name, alike in _versions(items).items()
        for item in _some(alike, name, seed, most)
    }
    count = len(items) - len(kept)
    items[:] = [item for item in items if item in kept]
    return count


def _versions(items: list[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """Return the tests that differ only in their database, by what they share."""
    found: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        found[_name_on_every_database(item)].append(item)
    return found


def _some(
    alike: list[pytest.Item], name: str, seed: object, most: int
) -> list[pytest.Item]:
    alike = sorted(alike, key=lambda item: item.nodeid)
    return random.Random(f"{seed} {name}").sample(alike, min(most, len(alike)))


def leave_out_variants(items: list[pytest.Item], seed: object, most: int) -> int:
    """Leave at most so many of each function's sets of parameters; return how many go."""
    variants: dict[str, list[str]] = defaultdict(list)
    for item in items:
        variants[item.nodeid.partition("[")[0]].append(item.nodeid)
    kept: set[str] = set()
    for function, names in variants.items():
        chance = random.Random(f"{seed} {function}")
        kept.update(chance.sample(sorted(names), min(most, len(names))))
    count = len(items) - len(kept)
    items[:] = [item for item in items if item.nodeid in kept]
    return count


def _name_on_every_database(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    for fixture in PER_DATABASE:
        for name, alias in ALIASES.items():
            if callspec and callspec.params.get(fixture) in (name, alias):
                function = item.nodeid.removesuffix(f"[{callspec.id}]")
                return f"{function}[{callspec.id.replace(name, '*', 1)}]"
    return item.nodeid
