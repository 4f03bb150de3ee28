from __future__ import annotations

from pathlib import Path

import pytest

from tools.docs_pages import pages


@pytest.mark.parametrize("path", pages(), ids=lambda p: p.name)
def test_a_page_says_what_the_code_says(path: Path) -> None:
    assert path.read_text() == pages()[path], "run `python -m shopstream pages`"
