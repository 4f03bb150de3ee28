"""Arrival times of an open loop: fixed before the first record is sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Knots of a curved shape; between them the rate is constant. An odd number has one in the middle.
_CURVE_KNOTS = 4097
FLASH_START, FLASH_END = 0.45, 0.55


def _steps(*steps: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Integrate piecewise constant rates given as (length, rate) with a mean of 1."""
    lengths, rates = np.array(steps).T
    share = np.concatenate([[0.0], np.cumsum(lengths)])
    count = np.concatenate([[0.0], np.cumsum(lengths * rates)])
    return share / share[-1], count / count[-1]


def _curve(total: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    share = np.linspace(0.0, 1.0, _CURVE_KNOTS)
    count = total(share)
    return share, count / count[-1]


SHAPES: dict[str, tuple[str, Callable[[], tuple[np.ndarray, np.ndarray]]]] = {
    "constant": ("the same rate all the time", lambda: _steps((1.0, 1.0))),
    "ramp": (
        "from a fifth of the mean rate up to nine fifths",
        lambda: _curve(lambda u: 0.2 * u + 0.8 * u * u),
    ),
    "burst": (
        "ten bursts at 3.4 times the mean, a fifth of it between them",
        lambda: _steps(*[(0.075, 0.2), (0.025, 3.4)] * 10),
    ),
    "sine": (
        "a day: 1.8 times the mean at the peak, a fifth of it at the trough",
        lambda: _curve(lambda u: u + 0.8 * (1 - np.cos(2 * math.pi * u)) / (2 * math.pi)),
    ),
    "flash_sale": (
        "twenty times the ground rate for the middle tenth, mostly for one product",
        lambda: _steps((FLASH_START, 1.0), (FLASH_END - FLASH_START, 20.0), (1 - FLASH_END, 1.0)),
    ),
}


@dataclass(frozen=True)
class Schedule:
    """When each of `events` is due.

    Time: seconds from the start on the wall clock; speed turns them into event time.
    """

    shape: str
    events: int
    seconds: float
    knots: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, shape: str, events: int, seconds: float) -> Schedule:
        """Lay a shape over a run."""
        return cls(shape, events, seconds, SHAPES[shape][1]())

    def due_us(self, first: int, last: int) -> np.ndarray:
        """Give the due times of events [first, last) in microseconds, ascending."""
        share, count = self.knots
        share_of_run = np.interp((np.arange(first, last) + 0.5) / max(self.events, 1), count, share)
        due: np.ndarray = np.round(share_of_run * self.seconds * 1e6).astype(np.int64)
        return due

    def in_flash(self, due_us: np.ndarray) -> np.ndarray:
        """Tell which due times lie in the sale."""
        if self.shape != "flash_sale":
            return np.zeros(len(due_us), dtype=bool)
        share_of_run = due_us / (self.seconds * 1e6)
        return (share_of_run >= FLASH_START) & (share_of_run < FLASH_END)


@dataclass(frozen=True)
class EventClock:
    """Turn due times into event times.

    Time: `start_ms` is the event time of the schedule's zero; `pace` is event seconds per scheduled
    second.
    """

    start_ms: int
    pace: float

    def event_ms(self, due_us: np.ndarray) -> np.ndarray:
        """Give event times in milliseconds, not descending when the due times are not."""
        return self.start_ms + (due_us * self.pace / 1000.0).astype(np.int64)
