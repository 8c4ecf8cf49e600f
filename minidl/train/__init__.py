"""Training: the loop, what it measures, and what may be hung into it. Read `trainer.py` first, then `run.py`.

`finetune.py` teaches a trained network a new task; `range_test.py` looks for a learning rate.
"""

from __future__ import annotations

from minidl.train.averaging import WeightAveraging
from minidl.train.callbacks import BestWeights, Callback, CSVLog, EarlyStopping, JSONLinesLog, LearningRate
from minidl.train.certificate import Certificate, RunsDiffer, first_difference, read_certificate
from minidl.train.checkpoint import Checkpoint
from minidl.train.checks import TrainingWarning
from minidl.train.finetune import FineTuneHistory, fine_tune, train_head
from minidl.train.history import History
from minidl.train.metrics import (
    F1,
    Accuracy,
    ConfusionMatrix,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Perplexity,
    Precision,
    Recall,
    TopKAccuracy,
    accuracy,
    confusion_matrix,
    f1,
    mean_absolute_error,
    mean_squared_error,
    perplexity,
    precision,
    recall,
    top_k_accuracy,
)
from minidl.train.range_test import RangeTest, lr_find
from minidl.train.trainer import Trainer

__all__ = [
    "Accuracy", "BestWeights", "CSVLog", "Callback", "Certificate", "Checkpoint", "ConfusionMatrix", "EarlyStopping",
    "F1", "FineTuneHistory", "History", "JSONLinesLog", "LearningRate", "MeanAbsoluteError", "MeanSquaredError",
    "Metric", "Perplexity", "Precision", "RangeTest", "Recall", "RunsDiffer", "TopKAccuracy", "Trainer",
    "TrainingWarning", "WeightAveraging", "accuracy", "confusion_matrix", "f1", "fine_tune", "first_difference",
    "lr_find", "mean_absolute_error", "mean_squared_error", "perplexity", "precision", "read_certificate", "recall",
    "top_k_accuracy", "train_head",
]
