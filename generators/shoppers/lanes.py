"""Shoppers in lanes: every lane runs one session after another, and every round each lane emits one
event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from generators.rng import bits16, draw, hex_text, lottery, stream, uuid_text
from generators.shoppers.pools import (
    APP_VERSIONS,
    CATEGORIES,
    CHANNELS,
    DEVICES,
    FIXED_PAGES,
    Pools,
)
from generators.shoppers.sessions import EVENT_TYPES, WALKS_PER_HABIT, Step, Walks

THINK_SECONDS = 3.0  # between two steps of one shopper; with the rate it gives the number of lanes
FEWEST_LANES, MOST_LANES = 64, 60_000
_SLOT = np.uint64(0xD1B54A32D192ED03)  # odd, so that the slots of one session differ
_QUANTITY = np.repeat(np.array([1, 2, 3, 6], dtype=np.int32), (49_152, 9_830, 4_588, 1_966))
_EVENT_TYPES = pa.array(EVENT_TYPES)
_CHANNELS, _DEVICES = pa.array(CHANNELS), pa.array(DEVICES)
_APPS = pa.array(APP_VERSIONS, pa.string())
_APP_TICKETS = lottery((50, 25, 12, 8, 5))
_SHOWS_PRODUCT = np.isin(np.arange(len(Step)), (Step.PRODUCT, Step.ADD, Step.REMOVE))
_PAGE = np.array([0, 0, 0, 1, 0, 0, 2, 3, 4, 5])  # by step, into FIXED_PAGES
_TAX_PERCENT = 20


@dataclass(frozen=True)
class Healthy:
    """A stretch of the healthy stream.

    Shape: `batch` has the columns of web_event v2; `visitor` indexes the pools; times are int64.
    """

    first: int
    batch: pa.RecordBatch
    visitor: np.ndarray
    event_ms: np.ndarray
    due_us: np.ndarray


class Shoppers:
    """Emit the healthy stream in order.

    State: one walk and position a lane; everything else is a hash of (seed, lane, session, slot).
    """

    def __init__(self, seed: int, pools: Pools, walks: Walks, lanes: int) -> None:
        self._pools, self._walks, self._lanes = pools, walks, lanes
        self._of = {
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
        self._walk = np.zeros(lanes, dtype=np.int32)
        self._at = np.zeros(lanes, dtype=np.int32)
        self._in_flash = np.zeros(lanes, dtype=bool)
        self._lane, self._emitted = 0, 0
        everyone = np.arange(lanes)
        self._begin(everyone)
        # The doors are open already: half of the lanes are found in the middle of their walk.
        begin = draw(self._of["begin"], everyone.astype(np.uint64))
        part = (begin >> np.uint64(1)) % walks.length[self._walk].astype(np.uint64)
        self._at[:] = np.where(begin & np.uint64(1), part, 0).astype(np.int32)

    def emit(self, due_us: np.ndarray, event_ms: np.ndarray, in_flash: np.ndarray) -> Healthy:
        """Emit the next events, one for each due time."""
        first, count = self._emitted, len(due_us)
        step, key, visitor, flash = self._advance(count, in_flash)
        self._emitted += count
        return Healthy(
            first,
            self._columns(first, event_ms, step, key, visitor, flash),
            visitor,
            event_ms,
            due_us,
        )

    def _begin(self, lanes: np.ndarray) -> None:
        """Open the next session of these lanes."""
        entity = (lanes.astype(np.uint64) << np.uint64(32)) | self._session[lanes]
        key = draw(self._of["session"], entity)
        visitor = (draw(self._of["who"], key) % np.uint64(len(self._pools.visitor_keys))).astype(
            np.int64
        )
        choice = (draw(self._of["walk"], key) % np.uint64(WALKS_PER_HABIT)).astype(np.int32)
        self._key[lanes], self._visitor[lanes] = key, visitor
        self._walk[lanes] = self._pools.visitor_habit[visitor] * WALKS_PER_HABIT + choice
        self._at[lanes] = 0

    def _advance(
        self, count: int, in_flash: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Move lanes on, round by round, until there are enough events."""
        step = np.empty(count, dtype=np.int32)
        key = np.empty(count, dtype=np.uint64)
        visitor = np.empty(count, dtype=np.int64)
        flash = np.empty(count, dtype=bool)
        done = 0
        while done < count:
            a = self._lane
            b = min(a + count - done, self._lanes)
            to = done + b - a
            walk, at = self._walk[a:b], self._at[a:b]
            self._in_flash[a:b] = np.where(at == 0, in_flash[done:to], self._in_flash[a:b])
            step[done:to] = self._walks.start[walk] + at
            key[done:to], visitor[done:to] = self._key[a:b], self._visitor[a:b]
            flash[done:to] = self._in_flash[a:b]
            at += 1
            over = np.flatnonzero(at >= self._walks.length[walk]) + a
            if len(over):
                self._session[over] += np.uint64(1)
                self._begin(over)
            self._lane, done = b % self._lanes, to
        return step, key, visitor, flash

    def _columns(
        self,
        first: int,
        event_ms: np.ndarray,
        step: np.ndarray,
        key: np.ndarray,
        visitor: np.ndarray,
        flash: np.ndarray,
    ) -> pa.RecordBatch:
        """Draw every attribute of the events."""
        pools, kind = self._pools, self._walks.kind[step]
        items, offsets, product, value = self._items(step, key, flash)
        count = np.diff(offsets)
        number = np.arange(first, first + len(step), dtype=np.uint64)
        traits = draw(self._of["traits"], key)
        money = draw(self._of["money"], key)
        country = pools.visitor_country[visitor]
        owner = pa.array(visitor)
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
        where = pa.array(country)
        return pa.RecordBatch.from_arrays(
            [
                uuid_text(draw(self._of["id high"], number), draw(self._of["id low"], number)),
                _EVENT_TYPES.take(pa.array(kind)),
                pa.array(event_ms, pa.timestamp("ms")),
                pools.visitor_ids.take(owner),
                pools.customer_ids.take(owner),
                pools.shops.take(where),
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
                pools.countries.take(where),
                items,
                _APPS.take(pa.array(_APP_TICKETS[bits16(traits, 3)])),
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

    def _items(
        self, step: np.ndarray, key: np.ndarray, flash: np.ndarray
    ) -> tuple[pa.ListArray, np.ndarray, np.ndarray, np.ndarray]:
        """List the products of each step: the same slot of a session is the same product, quantity
        and price.
        """
        count = self._walks.item_count[step]
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
        row = np.repeat(np.arange(len(step)), count)
        within = np.arange(len(row)) - offsets[row]
        slot_key = key[row] + self._walks.slots[self._walks.item_start[step[row]] + within] * _SLOT
        drawn = draw(self._of["product"], slot_key)
        product = self._pools.popularity[bits16(drawn, 0)]
        product = np.where(flash[row] & (bits16(drawn, 1) < 52_000), 0, product)
        quantity = _QUANTITY[bits16(draw(self._of["quantity"], slot_key), 0)]
        quantity = np.where(self._walks.kind[step[row]] == Step.PRODUCT, np.int32(1), quantity)
        price = self._pools.price[product]
        taken = pa.array(product)
        lines = pa.StructArray.from_arrays(
            [
                self._pools.product_ids.take(taken),
                self._pools.product_categories.take(taken),
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
        drawn = draw(self._of["query"], number)
        found = np.where(bits16(drawn, 1) < 7_000, 0, bits16(drawn, 2) % 60 + 1)
        return self._pools.query_popularity[bits16(drawn, 0)], found.astype(np.int32)

    def _pages(
        self,
        number: np.ndarray,
        kind: np.ndarray,
        count: np.ndarray,
        offsets: np.ndarray,
        product: np.ndarray,
    ) -> np.ndarray:
        page = _PAGE[kind]
        listed = len(FIXED_PAGES) + draw(self._of["list"], number) % np.uint64(len(CATEGORIES))
        page = np.where(kind == Step.LIST, listed.astype(np.int64), page)
        shows = np.flatnonzero(_SHOWS_PRODUCT[kind] & (count > 0))
        page[shows] = len(FIXED_PAGES) + len(CATEGORIES) + product[offsets[shows]]
        return page

    def _orders(self, key: np.ndarray, ordered: np.ndarray) -> pa.Array:
        """Name the order of a session, the same in its purchase and its refund."""
        rows = np.flatnonzero(ordered)
        names = hex_text(b"o-", draw(self._of["order"], key[rows]))
        at = np.zeros(len(key), dtype=np.int64)
        at[rows] = np.arange(len(rows))
        if not len(rows):
            return pa.nulls(len(key), pa.string())
        return names.take(pa.array(at, mask=~ordered))


def lanes_for(events_per_second: float) -> int:
    """Give as many shoppers as the rate and their thinking time need."""
    return int(min(max(events_per_second * THINK_SECONDS, FEWEST_LANES), MOST_LANES))
