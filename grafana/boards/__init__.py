"""The boards, one per file."""

from __future__ import annotations

from grafana.boards.dead_letters import DEAD_LETTERS
from grafana.boards.live import LIVE
from grafana.boards.pipeline import PIPELINE
from grafana.boards.products import PRODUCTS
from grafana.boards.quality import QUALITY
from grafana.boards.runbook import RUNBOOK
from grafana.boards.shops import SHOPS_BOARD

BOARDS = (LIVE, SHOPS_BOARD, PRODUCTS, QUALITY, DEAD_LETTERS, PIPELINE)
"""Those that show numbers."""
ALL = (*BOARDS, RUNBOOK)
TITLES = {board.uid: board.title for board in ALL}
BY_UID = {board.uid: board for board in ALL}
