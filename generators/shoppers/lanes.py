"""Shoppers in lanes: concurrent sessions, advanced column by column.

A lane runs one session after another, and in each round every lane emits one event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from generators.rng import bits16, choice_table, draw, hex_text, stream, uuid_text
from generators.shoppers.pools import (
    APP_VERSIONS,
    CATEGORIES,
    CHANNELS,
    DEVICES,
    FIXED_PAGES,
    Pools,
)
from generators.shoppers.sessions import EVENT_TYPES, PATHS_PER_HABIT, SessionPaths, Step

THINK_SECONDS = 3.0  # between two steps of one shopper; with the rate it gives the number of lanes
MIN_LANES, MAX_LANES = 64, 60_000
_SLOT = np.uint64(0xD1B54A32D192ED03)  # odd, so that the slots of one session differ
_QUANTITY = np.repeat(np.array([1, 2, 3, 6], dtype=np.int32), (49_152, 9_830, 4_588, 1_966))
_EVENT_TYPES = pa.array(EVENT_TYPES)
_CHANNELS, _DEVICES = pa.array(CHANNELS), pa.array(DEVICES)
_APPS = pa.array(APP_VERSIONS, pa.string())
_APP_CHOICES = choice_table((50, 25, 12, 8, 5))
_SHOWS_PRODUCT = np.isin(np.arange(len(Step)), (Step.PRODUCT, Step.ADD, Step.REMOVE))
_PAGE = np.array([0, 0, 0, 1, 0, 0, 2, 3, 4, 5])  # by step, into FIXED_PAGES
_TAX_PERCENT = 20


@dataclass(frozen=True)
class HealthyEvents:
    """A chunk of the healthy stream.

    Shape: `batch` has the columns of web_event v2; `visitor` indexes the pools; times are int64.
    """

    first: int
    batch: pa.RecordBatch
    visitor: np.ndarray
    event_ms: np.ndarray
    due_us: np.ndarray


@dataclass(frozen=True)
class _Steps:
    """One step of a session per event.

    Shape: `index` into the steps of all paths, `key` the hash of the session, `visitor` into the
    pools, `flash` whether the session began in the sale.
    """

    index: np.ndarray
    key: np.ndarray
    visitor: np.ndarray
    flash: np.ndarray


class Shoppers:
    """Emit the healthy stream in order.

    State: path and position per lane; everything else is a hash of seed, lane, session and slot.
    """

    def __init__(self, seed: int, pools: Pools, paths: SessionPaths, lanes: int) -> None:
        self._pools, self._paths, self._lanes = pools, paths, lanes
        self._streams = {  # the names are part of the seed: another name gives other bytes
            name: stream(seed, name)
            for name in (
                "session",
                "who",
                "walk",
                "begin",
                "traits",
                "product",
                "quantity",
                "money",
                "order",
                "query",
                "list",
                "id high",
                "id low",
            )
        }
        self._session = np.zeros(lanes, dtype=np.uint64)
        self._key = np.zeros(lanes, dtype=np.uint64)
        self._visitor = np.zeros(lanes, dtype=np.int64)
        self._path = np.zeros(lanes, dtype=np.int32)
        self._position = np.zeros(lanes, dtype=np.int32)
        self._in_flash = np.zeros(lanes, dtype=bool)
        self._lane, self._emitted = 0, 0
        everyone = np.arange(lanes)
        self._begin(everyone)
        # The shop is open already: half of the lanes start in the middle of a session.
        begin = draw(self._streams["begin"], everyone.astype(np.uint64))
        position = (begin >> np.uint64(1)) % paths.length[self._path].astype(np.uint64)
        self._position[:] = np.where(begin & np.uint64(1), position, 0).astype(np.int32)

    def emit(self, due_us: np.ndarray, event_ms: np.ndarray, in_flash: np.ndarray) -> HealthyEvents:
        """Emit the next events, one per due time."""
        first, count = self._emitted, len(due_us)
        steps = self._advance(count, in_flash)
        self._emitted += count
        return HealthyEvents(
            first=first,
            batch=self._columns(first, event_ms, steps),
            visitor=steps.visitor,
            event_ms=event_ms,
            due_us=due_us,
        )

    def _begin(self, lanes: np.ndarray) -> None:
        """Open the next session of these lanes."""
        entity = (lanes.astype(np.uint64) << np.uint64(32)) | self._session[lanes]
        key = draw(self._streams["session"], entity)
        visitor = (
            draw(self._streams["who"], key) % np.uint64(len(self._pools.visitor_keys))
        ).astype(np.int64)
        choice = (draw(self._streams["walk"], key) % np.uint64(PATHS_PER_HABIT)).astype(np.int32)
        self._key[lanes], self._visitor[lanes] = key, visitor
        self._path[lanes] = self._pools.visitor_habit[visitor] * PATHS_PER_HABIT + choice
        self._position[lanes] = 0

    def _advance(self, count: int, in_flash: np.ndarray) -> _Steps:
        """Move lanes on, round by round, until there are enough events."""
        steps = _Steps(
            index=np.empty(count, dtype=np.int32),
            key=np.empty(count, dtype=np.uint64),
            visitor=np.empty(count, dtype=np.int64),
            flash=np.empty(count, dtype=bool),
        )
        filled = 0
        while filled < count:
            first = self._lane
            last = min(first + count - filled, self._lanes)
            lanes, events = slice(first, last), slice(filled, filled + last - first)
            path, position = self._path[lanes], self._position[lanes]
            # A session keeps the sale that it began in, so that its cart stays what it was.
            self._in_flash[lanes] = np.where(position == 0, in_flash[events], self._in_flash[lanes])
            steps.index[events] = self._paths.start[path] + position
            steps.key[events] = self._key[lanes]
            steps.visitor[events] = self._visitor[lanes]
            steps.flash[events] = self._in_flash[lanes]
            position += 1  # a view: this moves the lanes themselves
            ended = np.flatnonzero(position >= self._paths.length[path]) + first
            if len(ended):
                self._session[ended] += np.uint64(1)
                self._begin(ended)
            self._lane, filled = last % self._lanes, events.stop
        return steps

    def _columns(self, first: int, event_ms: np.ndarray, steps: _Steps) -> pa.RecordBatch:
        """Draw every attribute of the events."""
        key, visitor = steps.key, steps.visitor
        pools, kind = self._pools, self._paths.kind[steps.index]
        items, offsets, product, value = self._items(steps)
        count = np.diff(offsets)
        number = np.arange(first, first + len(key), dtype=np.uint64)
        traits = draw(self._streams["traits"], key)
        money = draw(self._streams["money"], key)
        country = pools.visitor_country[visitor]
        visitor_index, country_index = pa.array(visitor), pa.array(country)
        bought = kind == Step.PURCHASE
        ordered = bought | (kind == Step.REFUND)
        total = np.diff(np.concatenate([[0], np.cumsum(value)])[offsets])
        channel = np.where(
            bits16(traits, 0) < 45_000, pools.visitor_channel[visitor], bits16(traits, 1) % 6 + 1
        )
        device = np.where(
            bits16(traits, 2) < 58_000, pools.visitor_device[visitor], bits16(traits, 1) % 3 + 1
        )
        cut = np.where(bits16(money, 0) < 19_660, bits16(money, 1) % 26 + 5, 0).astype(np.int64)
        discount = total * cut // 100
        tax = (total - discount) * _TAX_PERCENT // 100
        shipping = np.where(total > 5_000, 0, 499)
        query, results = self._searches(number)
        searched = kind == Step.SEARCH
        return pa.RecordBatch.from_arrays(
            [
                uuid_text(
                    draw(self._streams["id high"], number), draw(self._streams["id low"], number)
                ),
                _EVENT_TYPES.take(pa.array(kind)),
                pa.array(event_ms, pa.timestamp("ms")),
                pools.visitor_ids.take(visitor_index),
                pools.customer_ids.take(visitor_index),
                pools.shops.take(country_index),
                pools.pages.take(pa.array(self._pages(number, kind, count, offsets, product))),
                _CHANNELS.take(pa.array(channel)),
                pools.queries.take(pa.array(query, mask=~searched)),
                pa.array(results, mask=~searched),
                self._orders(key, ordered),
                pools.currencies.take(pa.array(country, mask=count == 0)),
                pa.array(discount, mask=~(bought & (cut > 0))),
                pa.array(tax, mask=~bought),
                pa.array(shipping, mask=~bought),
                _DEVICES.take(pa.array(device)),
                pools.countries.take(country_index),
                items,
                _APPS.take(pa.array(_APP_CHOICES[bits16(traits, 3)])),
            ],
            names=[
                "event_id",
                "event_type",
                "event_time",
                "visitor_id",
                "customer_id",
                "shop_id",
                "page",
                "channel",
                "search_query",
                "search_results",
                "order_id",
                "currency",
                "discount_minor",
                "tax_minor",
                "shipping_minor",
                "device",
                "country",
                "items",
                "app_version",
            ],
        )

    def _items(self, steps: _Steps) -> tuple[pa.ListArray, np.ndarray, np.ndarray, np.ndarray]:
        """List the products of each step.

        Shape: the items, their offsets by event, and product and value by item. The same slot of a
        session is always the same product, quantity and price.
        """
        step, key, flash = steps.index, steps.key, steps.flash
        count = self._paths.item_count[step]
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
        row = np.repeat(np.arange(len(step)), count)
        within = np.arange(len(row)) - offsets[row]
        slot_key = key[row] + self._paths.slots[self._paths.item_start[step[row]] + within] * _SLOT
        drawn = draw(self._streams["product"], slot_key)
        product = self._pools.popularity[bits16(drawn, 0)]
        product = np.where(flash[row] & (bits16(drawn, 1) < 52_000), 0, product)
        quantity = _QUANTITY[bits16(draw(self._streams["quantity"], slot_key), 0)]
        quantity = np.where(self._paths.kind[step[row]] == Step.PRODUCT, np.int32(1), quantity)
        price = self._pools.price[product]
        indices = pa.array(product)
        lines = pa.StructArray.from_arrays(
            [
                self._pools.product_ids.take(indices),
                self._pools.product_categories.take(indices),
                pa.array(quantity),
                pa.array(price),
            ],
            names=["product_id", "category", "quantity", "unit_price_minor"],
        )
        return (
            pa.ListArray.from_arrays(pa.array(offsets), lines),
            offsets,
            product,
            quantity * price,
        )

    def _searches(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw(self._streams["query"], number)
        results = np.where(bits16(drawn, 1) < 7_000, 0, bits16(drawn, 2) % 60 + 1)
        return self._pools.query_popularity[bits16(drawn, 0)], results.astype(np.int32)

    def _pages(
        self,
        number: np.ndarray,
        kind: np.ndarray,
        count: np.ndarray,
        offsets: np.ndarray,
        product: np.ndarray,
    ) -> np.ndarray:
        page = _PAGE[kind]
        listed = len(FIXED_PAGES) + draw(self._streams["list"], number) % np.uint64(len(CATEGORIES))
        page = np.where(kind == Step.LIST, listed.astype(np.int64), page)
        shows = np.flatnonzero(_SHOWS_PRODUCT[kind] & (count > 0))
        page[shows] = len(FIXED_PAGES) + len(CATEGORIES) + product[offsets[shows]]
        return page

    def _orders(self, key: np.ndarray, ordered: np.ndarray) -> pa.Array:
        """Name the order of a session, the same in its purchase and its refund."""
        rows = np.flatnonzero(ordered)
        names = hex_text(b"o-", draw(self._streams["order"], key[rows]))
        index = np.zeros(len(key), dtype=np.int64)
        index[rows] = np.arange(len(rows))
        if not len(rows):
            return pa.nulls(len(key), pa.string())
        return names.take(pa.array(index, mask=~ordered))


def lanes_for(events_per_second: float) -> int:
    """Give the number of concurrent shoppers that make a rate with their thinking time."""
    return int(min(max(events_per_second * THINK_SECONDS, MIN_LANES), MAX_LANES))
