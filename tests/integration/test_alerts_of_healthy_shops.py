"""Healthy shops of three sizes and what breaks in them: false alarms, and how soon true ones come.

A month is `python -m tools.alarms`; here are a week of the alerts that look at whole hours, a day
of the others, and every fault.
"""

from __future__ import annotations

import pytest

from grafana.alerts import GROUPS
from grafana.queries import Sql
from shopstream.demo.dev_services import Services
from tools.alarms.shops import FAULTS, SHOPS, Shop
from tools.alarms.simulate import BY_HOURS, RULES, false_alarms, found_after, of_shop, sight

WEEK = 7
# a row of the ledger of losses, or one that is changed by hand: test_alerts_fire.py
BY_HAND = {"lost-records", "gold-residue"}


def test_every_rule_that_reads_the_database_is_looked_at_and_has_a_fault() -> None:
    slugs = {r.slug for g in GROUPS for r in g.rules if isinstance(r.query, Sql)}
    assert set(RULES) == slugs
    assert {fault.rule for fault in FAULTS} == slugs - BY_HAND


@pytest.mark.parametrize("shop", SHOPS, ids=lambda shop: shop.name)
def test_a_healthy_shop_wakes_nobody_and_a_fault_is_found_in_time(
    embedded_services: Services, shop: Shop
) -> None:
    with sight(embedded_services, shop, WEEK) as seen:
        alarms = false_alarms(seen, WEEK, BY_HOURS)
        alarms |= false_alarms(seen, 1, [slug for slug in RULES if slug not in BY_HOURS])
        assert not {slug: times for slug, times in alarms.items() if len(times) > 1}
        for fault in of_shop(shop):
            after = found_after(seen, fault)
            assert after is not None, fault
            assert after <= fault.within, fault
            if fault.rule in BY_HOURS:
                assert after.total_seconds() > 3_600  # before a whole hour nobody can know
