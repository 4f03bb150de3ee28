"""The list of families, and what follows from it: every metric, and every rule by its name."""

from __future__ import annotations

from flows.domain.family import Family
from flows.domain.rules import JUDGED_RULES
from flows.domain.web import WEB

FAMILIES: tuple[Family, ...] = (WEB,)

BY_NAME = {family.name: family for family in FAMILIES}
CATALOGUE = tuple(metric for family in FAMILIES for metric in family.metrics)
RULES = {
    rule.name: rule
    for family in FAMILIES
    for rule in (*family.rules, *family.item_rules, *JUDGED_RULES)
}
