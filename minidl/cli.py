"""The `minidl` command: thin, each verb calls the library.

`minidl demo` learns MNIST and carries the network to Fashion-MNIST; `minidl data get NAME` downloads a data set;
`minidl warmup` compiles the kernels; `minidl certify FILE` does the training that a file describes and writes its
hashes into it, `minidl replay FILE` does it again and finds the first step that differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import minidl
from minidl.certify import EXAMPLE, certify, replay
from minidl.data import download
from minidl.demo import Settings, run_demo
from minidl.warmup import warm_up

HELP = {
    "labels": "labelled target images that each method may use",
    "epochs": "epochs on the source",
    "target_epochs": "epochs on the target, for each method",
    "batch_size": "images a step",
    "learning_rate": "Adam's learning rate",
    "seed": "seed of the first run",
    "seeds": "how many runs with successive seeds; more than one gives means and standard deviations",
    "output": "folder for source.safetensors, report.md, curves.png and results.json",
}


def parser() -> argparse.ArgumentParser:
    """The command line: verbs, options and their defaults."""
    top = argparse.ArgumentParser(prog="minidl", description=minidl.__doc__)
    top.add_argument("--version", action="version", version=f"minidl {minidl.__version__}")
    verbs = top.add_subparsers(dest="verb", required=True)

    demo = verbs.add_parser("demo", help="learn MNIST, carry the network to Fashion-MNIST four ways, compare",
                            formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in fields(Settings):
        kind = type(field.default)
        demo.add_argument("--" + field.name.replace("_", "-"), type=kind, default=field.default, help=HELP[field.name])
    demo.add_argument("--json", type=Path, metavar="PATH", help="write a copy of results.json there")
    demo.add_argument("--embedded", action="store_true", help="use the embedded subset even where full data is found")
    demo.add_argument("--no-plot", action="store_true", help="draw no picture (matplotlib is not needed then)")
    demo.add_argument("--quiet", action="store_true", help="no progress bars")

    data = verbs.add_parser("data", help="download data sets").add_subparsers(dest="action", required=True)
    get = data.add_parser("get", help="download the official files, check and keep them")
    get.add_argument("name", choices=sorted(download.FILES))
    get.add_argument("--root", type=Path, help="folder to keep them in (default: MINIDL_DATA or the user's cache)")

    make = verbs.add_parser("certify", help="do the training that a file describes and write its hashes into the file")
    make.add_argument("path", type=Path, metavar="run.json", help=f"what to train, such as {EXAMPLE}")
    make.add_argument("--force", action="store_true", help="replace a certificate that is there")
    again = verbs.add_parser("replay", help="do a certified training again and find the first step that differs")
    again.add_argument("path", type=Path, metavar="run.json")
    again.add_argument("other", type=Path, nargs="?", metavar="other.json", help="compare two certificates instead")

    verbs.add_parser("warmup", help="compile all kernels now and keep them on disk, so that no training waits for it")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it worked, 1 with the reason on standard error when it did not."""
    options = parser().parse_args(arguments)
    try:
        if options.verb == "data":
            download.get(options.name, root=options.root)
        elif options.verb == "warmup":
            warm_up()
        elif options.verb == "certify":
            made = certify(options.path, options.force)
            print(f"certified: {len(made['steps']):,} steps, chain {made['chain']}, written to {options.path}")
        elif options.verb == "replay":
            outcome = replay(options.path, options.other)
            print(outcome.text)
            return 0 if outcome.equal else 1
        else:
            settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
            run_demo(settings, json_path=options.json, embedded=options.embedded, plot=not options.no_plot,
                     progress=not options.quiet)
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        print(f"minidl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("minidl: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
