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


def leave_out(items: list[pytest.Item], seed: object) -> Counter[str]:
    """Take tests off the list. Return how many, by what they are."""
    why: dict[pytest.Item, str] = {}
    versions: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        versions[_name_on_every_database(item)].append(item)
    slow: dict[str, list[str]] = defaultdict(list)
    for name, alike in versions.items():
        alike.sort(key=lambda item: item.nodeid)
        kept = random.Random(f"{seed} {name}").choice(alike)
        why |= {item: ONE_DATABASE for item in alike if item is not kept}
        versions[name] = [kept]
        if all(any(map(item.get_closest_marker, SLOW)) for item in alike):
            slow[name.partition("::")[0]].append(name)
    for file, names in slow.items():
        first = random.Random(f"{seed} {file}").randrange(EVERY)
        # Neighbours are alike, and every fourth one is a fair sample of them.
        for number, name in enumerate(sorted(names), first):
            if number % EVERY:
                why[versions[name][0]] = SLOW_ONES
    items[:] = [item for item in items if item not in why]
    return Counter(why.values())


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
