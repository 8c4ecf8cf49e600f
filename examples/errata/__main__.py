"""The gallery of errata: runs every wrong script in this folder and shows what minidl says of it, with the cure.

    python examples/errata             prints the table
    python examples/errata FILE.md     writes it, as `docs/errata.md` is written

Each script makes one mistake of the articles that minidl was specified by, as it was made, in minidl's words.
"""

import os
import re
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted(path for path in HERE.glob("[A-Z]*.py"))
INTRO = """# Errata: what minidl says of wrong programs

Every script in `examples/errata/` makes one mistake of the articles that minidl was specified by: their listings (L1 to
L19), the worked example (W1) and the formulas (A2). minidl refuses each, or warns, and the message names the mistake.
Where an article's error is no error of a program there is no script: an outdated installation command (L5), a correct
one (L18), a baseline that was not computed (L8), wrong dates and names.
Written by `python examples/errata docs/errata.md`.
"""


def parts(path):
    """What is wrong and the cure, from the script's docstring, and the code below it."""
    _, text, code = path.read_text().split('"""', 2)
    wrong, _, cure = (" ".join(part.split()) for part in text.partition("\n\n"))
    return wrong, cure.removeprefix("Cure: "), code.strip()


def said_of(path):
    """Run the script in an empty folder: the class and the message of its error, or of the first warning."""
    before, code = os.getcwd(), compile(path.read_text(), str(path), "exec")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        os.chdir(folder)
        try:
            exec(code, {"__name__": "__main__"})
        except Exception as error:  # whatever it is, the gallery shows it
            return type(error).__name__, str(error)
        finally:
            os.chdir(before)
    if not caught:
        raise AssertionError(f"{path.name} ran, and nothing was said")
    return caught[0].category.__name__, str(caught[0].message)


def entry(path):
    wrong, cure, code = parts(path)
    kind, message = said_of(path)
    message = re.sub(r"\s+", " ", f"{kind}: {message}")
    shown = textwrap.fill(message, 110, break_long_words=False, break_on_hyphens=False)
    return (f"## {path.stem}\n\n{wrong}\n\n```python\n{code}\n```\n\nminidl says:\n\n```\n{shown}\n```\n\n"
            f"Cure: {cure}\n")


def row(path):
    wrong, cure, _ = parts(path)
    kind, message = said_of(path)
    message = re.sub(r"\s+", " ", message).replace("|", "\\|")
    return f"| [{path.stem.split('_')[0]}](../examples/errata/{path.name}) | {wrong} | {kind}: {message} | {cure} |"


def gallery():
    table = ["| | wrong | message | cure |", "|---|---|---|---|", *map(row, SCRIPTS)]
    return INTRO + "\n" + "\n".join(table) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(gallery())
    else:
        print("\n".join(map(entry, SCRIPTS)))
