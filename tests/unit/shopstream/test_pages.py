from __future__ import annotations

from pathlib import Path

import pytest

from tools import docs_pages
from tools.docs_pages import pages


@pytest.mark.parametrize("path", pages(), ids=lambda p: p.name)
def test_a_page_says_what_the_code_says(path: Path) -> None:
    assert path.read_text() == pages()[path], "run `make render`"


def test_a_page_that_differs_is_named_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "rules.md"
    page.write_text("old")
    monkeypatch.setattr(docs_pages, "ROOT", tmp_path)
    monkeypatch.setattr(docs_pages, "pages", lambda: {page: "new"})
    assert docs_pages.main(["--check"]) == 1
    assert (page.read_text(), capsys.readouterr().out) == ("old", "rules.md: differs\n")
    assert docs_pages.main([]) == 0
    assert (page.read_text(), capsys.readouterr().out) == ("new", "rules.md: written\n")
    assert docs_pages.main(["--check"]) == 0
