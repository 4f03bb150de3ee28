"""`python -m grafana.alerts`: write the alerting files alone. `python -m grafana render` writes them too."""

from __future__ import annotations

from grafana.alerts import render


def main() -> None:
    for path, text in render().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{path.name}: written")


if __name__ == "__main__":
    main()
