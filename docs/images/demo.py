"""Write demo.svg: the demo as a terminal shows it.

uv run python docs/images/demo.py
"""

import re
from pathlib import Path

from rich.console import Console

from bookwheel import cli

PICTURE = Path(__file__).with_name("demo.svg")


def main() -> None:
    """Run the demo into a recording console."""
    cli.out = Console(record=True, width=110, force_terminal=True, force_interactive=False)
    cli.demo()
    drawn = cli.out.export_svg(title="uv run bookwheel demo")
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))  # no fonts from the internet


if __name__ == "__main__":
    main()
