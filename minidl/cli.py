"""The `minidl` command: thin, each verb calls the library.

`minidl demo` learns MNIST and carries the network to Fashion-MNIST; `minidl compare-transfer` measures six methods of
carrying a network to a task; `minidl data get NAME` downloads a data set; `minidl warmup` compiles the kernels;
`minidl certify FILE` does the training that a file describes and writes its hashes into it, `minidl replay FILE` does
it again and finds the first step that differs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import minidl
from minidl.certify import EXAMPLE, certify, replay
from minidl.compare import METHODS, run_comparison, write_report
from minidl.compare import Settings as ComparisonSettings
from minidl.compare.report import proofs, summary
from minidl.data import download
from minidl.demo import Settings, run_demo
from minidl.report import prepare, require_matplotlib
from minidl.warmup import warm_up

COMPARE = """\
carry a trained network to a task by several methods, each with the same images in the same order and as many optimiser
steps, over several seeds, and say which gain and which lose against training from scratch

  minidl compare-transfer --source mnist --target fashion_mnist --labels 1%,10%,100% --seeds 5
  minidl compare-transfer --source resnet20-cifar10 --target fashion_mnist --labels 200,1000
  minidl compare-transfer --source runs/demo/source.safetensors --target mnist:4,9 --methods features,lora
"""
QUICK = {"labels": ["100", "1000"], "seeds": 2, "budget": 100, "source_budget": 200}
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

    _add_comparison(verbs)

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


def _add_comparison(verbs: argparse._SubParsersAction) -> None:
    """The options of compare-transfer; what is not given is left to `Settings`, or to QUICK."""
    default = {field.name: field.default for field in fields(ComparisonSettings)}
    compare = verbs.add_parser("compare-transfer", help="compare six methods of carrying a network to a task",
                               description=COMPARE, formatter_class=argparse.RawDescriptionHelpFormatter,
                               argument_default=argparse.SUPPRESS)
    add = compare.add_argument
    add("--source", required=True, help="mnist, fashion_mnist or cifar10 (a network is trained on it first, once for "
        "each seed), the file of a model, or known weights (resnet20-cifar10)")
    add("--target", required=True, help="a data set, or some classes of one: cifar10:cat,dog or mnist:4,9")
    add("--labels", nargs="+", action="extend", type=_words, metavar="LABELS", help="labelled images of the target: "
        "a share such as 10%%, or a number, balanced over the classes; several with commas (default: 1%%,10%%,100%%)")
    add("--methods", nargs="+", action="extend", type=_words, metavar="METHOD",
        help=f"some of {', '.join(METHODS)}, with commas; scratch is always among them (default: all)")
    add("--seeds", type=int, help=f"how many times, with successive seeds (default: {default['seeds']})")
    add("--seed", type=int, help=f"the first seed (default: {default['seed']})")
    add("--budget", type=int, help=f"optimiser steps of every run on the target (default: {default['budget']})")
    add("--source-budget", type=int, help=f"optimiser steps of the source (default: {default['source_budget']})")
    add("--batch-size", type=int, help=f"images a step (default: {default['batch_size']})")
    add("--model", help="an architecture of the zoo (default: mnist_cnn, cifar_cnn for colour, or what the file says)")
    add("--size", type=int, help="rows and columns of the images that the network is given (default: the target's, if "
        "the network takes them)")
    add("--rate", action="append", type=_rate, metavar="METHOD=RATE", dest="rates",
        help="another highest learning rate for a method, or for all=RATE; which is best depends on the network and "
        "the data, and --validate tells; without: "
        + ", ".join(f"{name}={method.rate:g}" for name, method in METHODS.items()))
    add("--validate", action="store_true", help="measure on a sixth of the target's training images instead of the "
        "test images, and train on the others: for choosing rates")
    add("--embedded", action="store_true", help="use the images that come with minidl even where full data is found")
    add("--output", help=f"folder for results.json, report.md, accuracy.png and the trained sources (default: "
        f"{default['output']})")
    add("--json", type=Path, metavar="PATH", help="write a copy of results.json there")
    add("--no-plot", action="store_true", help="draw no picture (matplotlib is not needed then)")
    add("--quick", action="store_true", help="a look in half a minute: embedded images, "
        + ", ".join(f"{name.replace('_', ' ')} {','.join(value) if isinstance(value, list) else value}"
                    for name, value in QUICK.items()) + ", unless said otherwise")
    add("--quiet", action="store_true", help="no line for each run and no bar")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _rate(text: str) -> tuple[str, float]:
    method, equals, rate = text.partition("=")
    try:
        return method, float(rate)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form METHOD=RATE, such as lora=0.003") from None


def compare(options: argparse.Namespace) -> int:
    """Run compare-transfer; 130 if Ctrl-C ended it, with what was finished written."""
    given = vars(options)
    chosen = {**(QUICK | {"embedded": True} if given.get("quick") else {}),
              **{field.name: given[field.name] for field in fields(ComparisonSettings) if field.name in given}}
    for name in ("labels", "methods"):
        if given.get(name):
            chosen[name] = [word for words in given[name] for word in words]
    settings = ComparisonSettings(**{**chosen, "rates": dict(chosen.get("rates", ()))})
    plot, json_path, folder = not given.get("no_plot"), given.get("json"), Path(settings.output)
    if plot:
        require_matplotlib()
    if json_path is not None:
        prepare(json_path.parent)
    results = run_comparison(settings, progress=not given.get("quiet"))
    if results.runs:
        write_report(results, folder, plot, json_path)
        print("", results.table(), "", *summary(results), *proofs(results), f"\nwritten to {folder}{os.sep}", sep="\n")
    return 0 if results.complete else 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it worked, 1 with the reason on standard error when it did not."""
    options = parser().parse_args(arguments)
    try:
        if options.verb == "data":
            download.get(options.name, root=options.root)
        elif options.verb == "warmup":
            warm_up()
        elif options.verb == "compare-transfer":
            return compare(options)
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
