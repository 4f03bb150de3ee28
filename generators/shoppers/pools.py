"""What a shop has before it opens: products, shoppers, and what they search for.

Faker is called only here, once per run: a name takes it 10 µs, a whole event of the stream 2 µs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from generators.errors import ConfigError
from generators.rng import bits16, choice_table, draw, hex_text, stream

if TYPE_CHECKING:
    from faker import Faker

CATEGORIES = (
    "lamps",
    "chairs",
    "kitchen",
    "garden",
    "toys",
    "books",
    "shoes",
    "bags",
    "posters",
    "tea",
)
NOUNS = (
    "lamp",
    "chair",
    "teapot",
    "lantern",
    "puzzle",
    "notebook",
    "boots",
    "satchel",
    "print",
    "mug",
    "bowl",
    "rug",
)
# country -> (weight, currency, shop): several currencies, so that a sum over two of them would show
COUNTRIES = {
    "GB": (28, "GBP", "shop-uk"),
    "DE": (18, "EUR", "shop-eu"),
    "FR": (12, "EUR", "shop-eu"),
    "NL": (6, "EUR", "shop-eu"),
    "IE": (4, "EUR", "shop-uk"),
    "SE": (5, "SEK", "shop-eu"),
    "PL": (4, "PLN", "shop-eu"),
    "US": (16, "USD", "shop-us"),
    "JP": (6, "JPY", "shop-jp"),
    "ZZ": (1, "EUR", "shop-eu"),
}
CHANNELS = ("UNKNOWN", "DIRECT", "SEARCH", "SOCIAL", "EMAIL", "ADS", "REFERRAL")
DEVICES = ("UNKNOWN", "DESKTOP", "MOBILE", "TABLET")
APP_VERSIONS = ("4.2.0", "4.1.3", "4.1.2", "3.9.8", None)
HABITS = 3  # window-shopper, browser, buyer
FIXED_PAGES = ("/", "/search", "/cart", "/checkout", "/order/thanks", "/account/orders")


@dataclass(frozen=True)
class Pools:
    """Arrow pools to take from, and tables to choose by (rng.choice_table).

    Shape: `visitor_*` arrays have one entry per visitor, the product columns one per product.
    Units: `price` in the minor unit of whatever currency the shopper pays in.
    """

    product_ids: pa.StringArray
    product_categories: pa.StringArray
    price: np.ndarray
    popularity: np.ndarray
    pages: pa.StringArray
    queries: pa.StringArray
    query_popularity: np.ndarray
    visitor_ids: pa.StringArray
    visitor_keys: list[bytes]
    customer_ids: pa.StringArray
    visitor_country: np.ndarray
    visitor_device: np.ndarray
    visitor_channel: np.ndarray
    visitor_habit: np.ndarray
    countries: pa.StringArray
    currencies: pa.StringArray
    shops: pa.StringArray


def make_pools(seed: int, visitors: int, products: int) -> Pools:
    """Fill the pools from a seed."""
    fake = _faker(seed)
    names = [f"{fake.color_name()} {fake.random_element(NOUNS)}" for _ in range(products)]
    category = [CATEGORIES[fake.random_int(0, len(CATEGORIES) - 1)] for _ in range(products)]
    price = np.array(
        [
            fake.random_int(1, 60) * 100 + fake.random_element((0, 49, 95, 99))
            for _ in range(products)
        ]
    )
    slugs = [f"/p/{name.lower().replace(' ', '-')}-{n}" for n, name in enumerate(names)]
    queries = _queries(fake, names)
    number = np.arange(visitors, dtype=np.uint64)
    ids = hex_text(b"v-", draw(stream(seed, "visitor id"), number))
    traits = draw(stream(seed, "visitor traits"), number)
    signed_in = bits16(draw(stream(seed, "visitor sign-in"), number), 0) % 5 < 2
    customers = pa.array(
        [f"c-{n:06d}" if yes else None for n, yes in enumerate(signed_in.tolist())], pa.string()
    )
    return Pools(
        product_ids=pa.array([f"p-{n:04d}" for n in range(products)]),
        product_categories=pa.array(category),
        price=price.astype(np.int64),
        popularity=choice_table(1.0 / np.arange(1, products + 1) ** 0.9),
        pages=pa.array([*FIXED_PAGES, *(f"/c/{name}" for name in CATEGORIES), *slugs]),
        queries=pa.array(queries),
        query_popularity=choice_table(1.0 / np.arange(1, len(queries) + 1)),
        visitor_ids=ids,
        visitor_keys=[text.encode() for text in ids.to_pylist()],
        customer_ids=customers,
        visitor_country=choice_table([weight for weight, _, _ in COUNTRIES.values()])[
            bits16(traits, 0)
        ],
        visitor_device=choice_table((1, 35, 55, 9))[bits16(traits, 1)],
        visitor_channel=choice_table((1, 30, 28, 12, 10, 14, 5))[bits16(traits, 2)],
        visitor_habit=choice_table((45, 40, 15))[bits16(traits, 3)],
        countries=pa.array(list(COUNTRIES)),
        currencies=pa.array([currency for _, currency, _ in COUNTRIES.values()]),
        shops=pa.array([shop for _, _, shop in COUNTRIES.values()]),
    )


def _faker(seed: int) -> Faker:
    # imported only where it is used: the operator's commands do without the extra `load`
    try:
        from faker import Faker
    except ModuleNotFoundError as error:
        raise ConfigError("shoppers need Faker: pip install 'shopstream[load]'") from error
    fake = Faker("en_GB")
    fake.seed_instance(seed)
    return fake


def _queries(fake: Faker, names: list[str]) -> list[str]:
    """Write what people type: names in any case, with spaces around them, some with accents."""
    typed: list[str] = ["café table", "Übertopf"]
    for name in names[:150]:
        typed.append(name.lower())
        if fake.random_int(0, 3) == 0:
            typed.append(f"  {name.upper()} ")
        if fake.random_int(0, 3) == 0:
            typed.append(name)
    return typed + list(NOUNS)
