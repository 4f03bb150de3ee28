"""Ways through a shop: session paths, sampled from a Markov chain once at the start.

Each session follows one of them, so that no chain is walked per event.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from generators.shoppers.pools import HABITS

PATHS_PER_HABIT = 1536
MAX_STEPS = 40
MAX_CART_ITEMS = 8


class Step(IntEnum):
    """What a shopper does next; each step is one event."""

    HOME = 0
    LIST = 1
    PRODUCT = 2
    SEARCH = 3
    ADD = 4
    REMOVE = 5
    CART = 6
    CHECKOUT = 7
    PURCHASE = 8
    REFUND = 9


EVENT_TYPES = (
    "PAGE_VIEW",
    "PAGE_VIEW",
    "PAGE_VIEW",
    "SEARCH",
    "ADD_TO_CART",
    "REMOVE_FROM_CART",
    "PAGE_VIEW",
    "CHECKOUT",
    "PURCHASE",
    "REFUND",
)

# What follows a step, in weights; None is the exit.
_NEXT: dict[Step, list[tuple[Step | None, float]]] = {
    Step.HOME: [(Step.LIST, 4), (Step.SEARCH, 3), (Step.PRODUCT, 2), (None, 2)],
    Step.LIST: [(Step.PRODUCT, 6), (Step.LIST, 2), (Step.SEARCH, 1), (None, 1.5)],
    Step.SEARCH: [(Step.PRODUCT, 6), (Step.SEARCH, 2), (None, 1.5)],
    Step.PRODUCT: [(Step.ADD, 3), (Step.LIST, 2), (Step.PRODUCT, 2), (Step.SEARCH, 1), (None, 2)],
    Step.ADD: [(Step.CART, 3), (Step.PRODUCT, 3), (Step.LIST, 1), (Step.CHECKOUT, 2), (None, 1)],
    Step.REMOVE: [(Step.CART, 2), (Step.LIST, 2), (Step.CHECKOUT, 1), (None, 2)],
    Step.CART: [(Step.CHECKOUT, 5), (Step.REMOVE, 1.5), (Step.PRODUCT, 1), (None, 2)],
    Step.CHECKOUT: [(Step.PURCHASE, 6), (Step.CART, 1), (None, 2)],
    Step.PURCHASE: [(Step.REFUND, 0.8), (None, 8)],
    Step.REFUND: [(None, 1)],
}
# By habit, what scales the weight of the exit: window-shoppers leave, buyers go on.
_EXIT_FACTOR = (2.0, 1.0, 0.45)


@dataclass(frozen=True)
class SessionPaths:
    """All session paths end to end.

    Shape: path p has the steps [start[p], start[p] + length[p]); step s shows the product slots
    slots[item_start[s] : item_start[s] + item_count[s]]. The paths of habit h are [h, h + 1) *
    PATHS_PER_HABIT.
    """

    start: np.ndarray
    length: np.ndarray
    kind: np.ndarray
    item_start: np.ndarray
    item_count: np.ndarray
    slots: np.ndarray


def make_session_paths(seed: int) -> SessionPaths:
    """Sample the paths of all habits."""
    rng = random.Random(f"{seed}/walks")  # the name is part of the seed
    paths = [_path(rng, habit) for habit in range(HABITS) for _ in range(PATHS_PER_HABIT)]
    steps = [step for path in paths for step in path]
    length = np.array([len(path) for path in paths], dtype=np.int32)
    count = np.array([len(slots) for _, slots in steps], dtype=np.int32)
    return SessionPaths(
        start=(np.cumsum(length) - length).astype(np.int32),
        length=length,
        kind=np.array([kind for kind, _ in steps], dtype=np.int8),
        item_start=(np.cumsum(count) - count).astype(np.int32),
        item_count=count,
        slots=np.array([slot for _, slots in steps for slot in slots], dtype=np.uint64),
    )


def _path(rng: random.Random, habit: int) -> list[tuple[Step, list[int]]]:
    """Walk the chain once, with a cart: checkout and purchase show what is in it at that step."""
    step: Step | None = rng.choice((Step.HOME, Step.HOME, Step.PRODUCT, Step.LIST))
    path: list[tuple[Step, list[int]]] = []
    cart: list[int] = []
    bought: list[int] = []
    slot = 0
    while step is not None and len(path) < MAX_STEPS:
        shown: list[int] = []
        if step is Step.PRODUCT:
            slot += 1
            shown = [slot]
        elif step is Step.ADD:
            cart.append(slot)
            shown = [slot]
        elif step is Step.REMOVE:
            shown = [cart.pop(rng.randrange(len(cart)))]
        elif step is Step.CHECKOUT:
            shown = list(cart)
        elif step is Step.PURCHASE:
            shown, bought, cart = list(cart), list(cart), []
        elif step is Step.REFUND:
            shown = rng.sample(bought, rng.randint(1, len(bought)))
        path.append((step, shown))
        step = _next(rng, habit, step, cart, slot)
    return path


def _next(rng: random.Random, habit: int, step: Step, cart: list[int], slot: int) -> Step | None:
    def possible(follower: Step | None) -> bool:
        if follower in (Step.CHECKOUT, Step.REMOVE, Step.CART):
            return bool(cart)
        if follower is Step.ADD:
            return slot not in cart and len(cart) < MAX_CART_ITEMS
        return True

    followers = [
        (follower, weight * (_EXIT_FACTOR[habit] if follower is None else 1.0))
        for follower, weight in _NEXT[step]
        if possible(follower)
    ]
    steps = [follower for follower, _ in followers]
    return rng.choices(steps, [weight for _, weight in followers])[0]
