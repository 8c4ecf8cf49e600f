"""The commonest misuse of every name of minidl.data and minidl.train; see misuse_cases_layers.py."""

import numpy as np
from misuse_cases_layers import LABELS, ROWS, r

import minidl
from minidl import data, nn, optim, train

BYTES, IMAGES = np.zeros((4, 3, 8, 8), np.uint8), np.zeros((4, 3, 8, 8), np.float32)
IDS = [[1, 2, 3], [2, 3]]
NOWHERE = "/no/such/place"


def network():
    return nn.Sequential({"body": nn.Linear(6, 5), "relu": nn.ReLU(), "head": nn.Linear(5, 3)})


def trainer(model=None):
    model = model or network()
    return train.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))


DATA = {
    "BPETokenizer": (
        lambda: data.BPETokenizer("abc"),
        TypeError, 'BPETokenizer: a tokenizers.Tokenizer is needed, got str;'),
    "BucketBatchSampler": (
        lambda: data.BucketBatchSampler(IDS, batch_size=0),
        TypeError, 'BucketBatchSampler: got the sequences themselves, their'),
    "CharTokenizer": (
        lambda: data.CharTokenizer("abc"),
        TypeError, 'CharTokenizer: a Vocabulary is needed, got str;'),
    "Compose": (
        lambda: data.Compose([5]),
        TypeError, 'Compose: number 0 of the transforms is 5; each must be'),
    "ConcatDataset": (
        lambda: data.ConcatDataset([]),
        ValueError, 'ConcatDataset: give it at least one data set'),
    "Corpus": (
        lambda: data.Corpus(5),
        TypeError, 'Corpus: one text (str) is needed, got int; join several with'),
    "DataLoader": (
        lambda: data.DataLoader([1, 2], batch_size=0),
        ValueError, 'DataLoader: batch_size must be an integer of at least 1, got'),
    "Dataset": (
        lambda: data.Dataset()[0],
        NotImplementedError, 'Dataset must define __getitem__(index), which returns one'),
    "ImageDataset": (
        lambda: data.ImageDataset(BYTES[:, 0], [0, 1, 0, 1], ["a", "b"]),
        minidl.ShapeError, 'ImageDataset: images must be uint8 (N, C, H, W), got uint8'),
    "Normalize": (
        lambda: data.Normalize(0.5, 0.5)(BYTES),
        TypeError, 'Normalize: expected floating-point data, got uint8; for'),
    "RandomCrop": (
        lambda: data.RandomCrop(9)(IMAGES),
        minidl.ShapeError, 'RandomCrop: a window of (9, 9) does not fit images of (8, 8)'),
    "RandomHorizontalFlip": (
        lambda: data.RandomHorizontalFlip(50),
        ValueError, 'RandomHorizontalFlip: p is a probability, got 50'),
    "RandomRotation": (
        lambda: data.RandomRotation((20, 10)),
        ValueError, 'RandomRotation: degrees must be a positive number or (low,'),
    "RandomTransform": (
        lambda: data.RandomTransform(generator=0),
        TypeError, 'RandomTransform: generator must be a numpy.random.Generator'),
    "RandomVerticalFlip": (
        lambda: data.RandomVerticalFlip(-0.5),
        ValueError, 'RandomVerticalFlip: p is a probability, got -0.5'),
    "SequenceDataset": (
        lambda: data.SequenceDataset(["some text", "more"]),
        TypeError, 'SequenceDataset: sequence 0 must be a list of token ids'),
    "SkipGrams": (
        lambda: data.SkipGrams(IDS, num_tokens=3),
        IndexError, 'SkipGrams: the id 3 lies outside the vocabulary of 3 tokens'),
    "Standardize": (
        lambda: data.Standardize()(IMAGES),
        RuntimeError, 'Standardize: call fit(training_data) first; it takes mean and'),
    "Subset": (
        lambda: data.Subset(data.TensorDataset(ROWS), [0, 1])[2],
        IndexError, 'Subset: index 2 is out of range for 2 items; it counts the'),
    "SubwordTokenizer": (
        lambda: data.SubwordTokenizer("abc"),
        TypeError, 'SubwordTokenizer: a tokenizers.Tokenizer is needed, got str;'),
    "TensorDataset": (
        lambda: data.TensorDataset(ROWS, LABELS[:3]),
        minidl.ShapeError, 'TensorDataset: all tensors need the same length along their'),
    "TextDataset": (
        lambda: data.TextDataset(["a", "b"], [0], ["x"]),
        minidl.ShapeError, 'TextDataset: 2 texts need labels of shape (2,), got (1,)'),
    "Transform": (
        lambda: data.Transform()(IMAGES),
        NotImplementedError, 'Transform must define __call__(images)'),
    "Vocabulary": (
        lambda: data.Vocabulary("abc"),
        TypeError, 'Vocabulary: tokens must be a list of strings, got one string'),
    "WordPieceTokenizer": (
        lambda: data.WordPieceTokenizer("abc"),
        TypeError, 'WordPieceTokenizer: a tokenizers.Tokenizer is needed, got'),
    "WordTokenizer": (
        lambda: data.WordTokenizer("abc"),
        TypeError, 'WordTokenizer: a Vocabulary is needed, got str;'),
    "cifar10": (
        lambda: data.cifar10("training"),
        ValueError, "cifar10: split must be 'train' or 'test', got 'training'"),
    "default_collate": (
        lambda: data.default_collate([np.ones(2), np.ones(3)]),
        minidl.ShapeError, 'default_collate: items of one batch have different shapes'),
    "fashion_mnist": (
        lambda: data.fashion_mnist("valid"),
        ValueError, "fashion_mnist: split must be 'train' or 'test', got 'valid'"),
    "get": (
        lambda: data.get("imagenet"),
        ValueError, "unknown data set 'imagenet'; minidl can get mnist,"),
    "length_mask": (
        lambda: data.length_mask([3, 5], 4),
        ValueError, 'length_mask: a length of 5 does not fit into a size of 4;'),
    "mnist": (
        lambda: data.mnist("training"),
        ValueError, "mnist: split must be 'train' or 'test', got 'training'"),
    "one_hot": (
        lambda: data.one_hot([1, 2, 3], 3),
        ValueError, 'one_hot: label 3 at position 2 is outside 0..2 (as are 1 of 3'),
    "pad_sequences": (
        lambda: data.pad_sequences([[1], []]),
        ValueError, 'SequenceDataset: sequence 1 is empty; leave it out, or give'),
    "random_split": (
        lambda: data.random_split([1, 2, 3], [2, 2]),
        ValueError, 'random_split: lengths [2, 2] add up to 4, the data set has 3'),
    "rotate": (
        lambda: data.rotate(BYTES, 10),
        TypeError, 'rotate: expected floating-point data, got uint8; for images'),
    "rt_polarity": (
        lambda: data.rt_polarity("training"),
        ValueError, "rt_polarity: split must be 'train', 'validation', 'test' or"),
    "sms_spam": (
        lambda: data.sms_spam("training"),
        ValueError, "sms_spam: split must be 'train', 'validation', 'test' or"),
    "tinyshakespeare": (
        lambda: data.tinyshakespeare("training"),
        ValueError, "tinyshakespeare: split must be 'train', 'validation' or"),
}
TRAIN = {
    "Accuracy": (
        lambda: train.Accuracy()(r(4, 3), r(4)),
        TypeError, 'metric: the target must be class labels (whole numbers), got'),
    "BestWeights": (
        lambda: train.BestWeights("wellness"),
        ValueError, "is a lower or a higher 'wellness' better? Say mode='min' or"),
    "CSVLog": (
        lambda: trainer().fit((ROWS, LABELS), callbacks=[train.CSVLog("/dev/null/log.csv")], progress=False),
        FileExistsError, '[Errno 17] CSVLog cannot write its file, choose another'),
    "Callback": (
        lambda: trainer().fit((ROWS, LABELS), callbacks=[train.Callback], progress=False),
        TypeError, 'fit: every callback must be a train.Callback, got the class'),
    "Certificate": (
        lambda: train.Certificate(weights_every=0),
        ValueError, 'Certificate: weights_every must be a whole number from 1, got'),
    "Checkpoint": (
        lambda: train.Checkpoint("runs", every_epochs=0),
        ValueError, 'Checkpoint: every_epochs must be a whole number from 1 or'),
    "ConfusionMatrix": (
        lambda: train.ConfusionMatrix(0),
        ValueError, 'confusion_matrix: num_classes must be a whole number from 1,'),
    "EarlyStopping": (
        lambda: train.EarlyStopping(patience=0),
        ValueError, 'EarlyStopping: patience must be at least 1, got 0'),
    "F1": (
        lambda: train.F1()(LABELS, LABELS),
        ValueError, "f1: average='binary' is for the labels 0 and 1, there is a"),
    "History": (
        lambda: train.History(loss=[1.0]).best("accuracy"),
        ValueError, "there is no figure 'accuracy', only loss"),
    "JSONLinesLog": (
        lambda: trainer().fit((ROWS, LABELS), callbacks=[train.JSONLinesLog("/dev/null/log")], progress=False),
        FileExistsError, '[Errno 17] JSONLinesLog cannot write its file, choose another'),
    "LearningRate": (
        lambda: train.LearningRate(None, every="batch"),
        ValueError, "LearningRate: every must be 'epoch' or 'step', got 'batch'"),
    "MeanAbsoluteError": (
        lambda: train.MeanAbsoluteError()(r(4, 1), r(4)),
        minidl.ShapeError, 'mean_absolute_error: output has shape (4, 1), target (4,);'),
    "MeanSquaredError": (
        lambda: train.MeanSquaredError()(r(4, 1), r(4)),
        minidl.ShapeError, 'mean_squared_error: output has shape (4, 1), target (4,);'),
    "Metric": (
        lambda: train.Metric().update(ROWS, LABELS),
        NotImplementedError, 'Metric must define update()'),
    "Perplexity": (
        lambda: train.Perplexity()(r(2, 7, 5), np.zeros((2, 5), int)),
        minidl.ShapeError, 'perplexity: logits of shape (2, 7, 5) and targets of shape'),
    "Precision": (
        lambda: train.Precision("mean"),
        ValueError, "precision: average must be one of ('binary', 'micro',"),
    "Recall": (
        lambda: train.Recall(num_classes=0),
        ValueError, 'recall: num_classes must be a whole number from 1, got 0;'),
    "TopKAccuracy": (
        lambda: train.TopKAccuracy(5)(r(4, 3), LABELS),
        ValueError, 'top_5_accuracy: there are only 3 classes'),
    "Trainer": (
        lambda: train.Trainer(network(), nn.CrossEntropyLoss()).fit((ROWS, LABELS), progress=False),
        ValueError, 'fit: the trainer has no optimiser; give Trainer(model, loss,'),
    "WeightAveraging": (
        lambda: train.WeightAveraging(network()),
        TypeError, 'WeightAveraging: an ExponentialMovingAverage is needed, got'),
    "accuracy": (
        lambda: train.accuracy(r(4, 3), LABELS[:2]),
        minidl.ShapeError, 'metric: output of shape (4, 3) and target of shape (2,) do'),
    "confusion_matrix": (
        lambda: train.confusion_matrix(LABELS, LABELS, 2),
        ValueError, 'confusion_matrix: label 2 does not fit num_classes=2'),
    "f1": (
        lambda: train.f1(LABELS, LABELS),
        ValueError, "f1: average='binary' is for the labels 0 and 1, there is a"),
    "fine_tune": (
        lambda: train.fine_tune(network(), (ROWS, LABELS), stages=5, progress=False),
        ValueError, 'fine_tune: stages must be a whole number from 1 to 1, the'),
    "first_difference": (
        lambda: train.first_difference({}, {}),
        ValueError, 'first_difference: two certificates as read_certificate(path)'),
    "lr_find": (
        lambda: train.lr_find(network(), nn.CrossEntropyLoss(), (ROWS, LABELS), start=1.0, end=0.1),
        ValueError, 'lr_find: start must be above 0 and below end, got start=1.0,'),
    "mean_absolute_error": (
        lambda: train.mean_absolute_error(r(4, 1), r(4)),
        minidl.ShapeError, 'mean_absolute_error: output has shape (4, 1), target (4,);'),
    "mean_squared_error": (
        lambda: train.mean_squared_error(r(4, 1), r(4)),
        minidl.ShapeError, 'mean_squared_error: output has shape (4, 1), target (4,);'),
    "perplexity": (
        lambda: train.perplexity(r(4, 3), LABELS + 1),
        ValueError, 'metric: the target holds the label 3, expected labels from 0'),
    "precision": (
        lambda: train.precision(LABELS, LABELS),
        ValueError, "precision: average='binary' is for the labels 0 and 1, there"),
    "read_certificate": (
        lambda: train.read_certificate(f"{NOWHERE}/run.json"),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "recall": (
        lambda: train.recall(LABELS, LABELS),
        ValueError, "recall: average='binary' is for the labels 0 and 1, there is"),
    "top_k_accuracy": (
        lambda: train.top_k_accuracy(r(4, 3), LABELS, 0),
        ValueError, 'TopKAccuracy: k must be at least 1, got 0'),
    "train_head": (
        lambda: train.train_head(network(), (ROWS, LABELS), keep_best=True, progress=False),
        ValueError, 'train_head: keep_best needs validation data to tell which'),
}
