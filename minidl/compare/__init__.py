"""compare_transfer: does it pay to carry a trained network to a task, and by which method? Measured, with its doubt.

Read `methods.py` (the six methods), `networks.py` (what they start with), `tasks.py` (data by name), then
`experiment.py`, and `results.py` for the verdicts. `minidl compare-transfer` is this as a command.
"""

from minidl.compare.experiment import Settings, compare_transfer, run_comparison
from minidl.compare.methods import METHODS
from minidl.compare.report import write_report
from minidl.compare.results import Comparison, Difference, paired
from minidl.compare.tasks import Task, fit_images, load_task

__all__ = ["METHODS", "Comparison", "Difference", "Settings", "Task", "compare_transfer", "fit_images", "load_task",
           "paired", "run_comparison", "write_report"]
