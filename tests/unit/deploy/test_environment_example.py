"""`.env.example` names every variable that can be set, and nothing that cannot."""

from __future__ import annotations

import re
import subprocess

from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name
from tools.environment_example import compose_defaults, environment_example

ENTRY = re.compile(r"^#([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


def test_the_file_is_what_the_code_says() -> None:
    assert (ROOT / ".env.example").read_text() == environment_example(), "run `make render`"


def test_it_names_every_setting_and_every_variable_of_compose_once() -> None:
    names = [name for name, _ in ENTRY.findall(environment_example())]
    settings = {environment_name(name) for name in FIELDS}
    assert len(names) == len(set(names))
    assert set(names) == settings | compose_defaults().keys()


def test_a_shell_can_read_it_with_every_line_in_force() -> None:
    lines = ENTRY.sub(r"\1=\2", environment_example())
    script = f'set -eu\n{lines}\nprintf %s "$KAFKA_BOOTSTRAP_SERVERS"'
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "127.0.0.1:9092"
