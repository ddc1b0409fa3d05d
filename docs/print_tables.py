"""Prints the tables of settings and metrics into README.md: ``python docs/print_tables.py``.

`tests/test_readme.py` fails when they are out of date.
"""

from pathlib import Path

from producer import config
from thorn_worker import metrics

README = Path(__file__).parents[1] / "README.md"


def with_tables(text: str) -> str:
    """`text` with the tables between its markers printed anew."""
    for name, table in (("settings", config.markdown_table()), ("metrics", metrics.markdown_table())):
        before, rest = text.split(f"<!-- {name}:", 1)
        marker, rest = rest.split("\n", 1)
        _, after = rest.split(f"<!-- end of {name} -->", 1)
        text = f"{before}<!-- {name}:{marker}\n{table.strip()}\n<!-- end of {name} -->{after}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
