"""The commonest misuse of every name of minidl.transfer, models, onnx and compare; see misuse_cases_layers.py."""

from pathlib import Path

import numpy as np
from misuse_cases_data import BYTES, IMAGES, NOWHERE, network
from misuse_cases_layers import LABELS, MAPS, ROWS, WORDS, nn, r

import minidl
from minidl import compare, models, onnx, transfer

FEATURES = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
TARGETS = np.array([0, 1, 0, 1])


class Mine(nn.Module):
    """A class that nobody registered."""


TRANSFER = {
    "ExponentialMovingAverage": (
        lambda: transfer.ExponentialMovingAverage(network(), decay=1.0),
        ValueError, 'ExponentialMovingAverage: decay must be from 0 to below 1,'),
    "FrozenPrefix": (
        lambda: transfer.FrozenPrefix(network(), cache="yes"),
        ValueError, "frozen_cache: there is no folder 'yes'; give 'auto', False, a"),
    "TaskVector": (
        lambda: transfer.task_vector(network(), network()).apply(network(), scaling="1"),
        ValueError, "TaskVector.apply: scaling must be a finite number, not '1'"),
    "adapters": (
        lambda: transfer.adapters("resnet18"),
        TypeError, 'adapters: the model itself, a Module, is needed first, got'),
    "atomic_write": (
        lambda: transfer.atomic_write(NOWHERE + "/file").__enter__(),
        FileNotFoundError, '[Errno 2] cannot write /no/such/place/file: No such file or'),
    "average": (
        lambda: transfer.average(network()),
        TypeError, 'average: give a list of models, state dicts or files, not one'),
    "build": (
        lambda: transfer.build({"class": "Lineer"}),
        minidl.FileFormatError, "architecture: the model: unknown layer 'Lineer'; did you mean"),
    "compute_features": (
        lambda: transfer.compute_features(network(), ROWS, "boddy"),
        KeyError, '"Sequential has no module \'boddy\'; did you mean \'body\'?"'),
    "features": (
        lambda: transfer.features(network(), "boddy"),
        KeyError, '"Sequential has no module \'boddy\'; did you mean \'body\'?"'),
    "fine_tune": (
        lambda: transfer.fine_tune(nn.Linear(6, 3), (ROWS, LABELS), progress=False),
        ValueError, "layer_groups: the head '' must be a layer inside the model"),
    "forget_merged": (
        lambda: transfer.forget_merged("resnet18"),
        TypeError, 'forget_merged: the model itself, a Module, is needed first,'),
    "freeze": (
        lambda: transfer.freeze(network(), "boddy.*"),
        ValueError, "freeze: the pattern 'boddy.*' matches nothing; did you mean"),
    "frozen": (
        lambda: transfer.frozen("resnet18"),
        TypeError, 'frozen: the model itself, a Module, is needed first, got str;'),
    "frozen_prefix": (
        lambda: transfer.frozen_prefix(network(), cache="yes"),
        ValueError, "frozen_cache: there is no folder 'yes'; give 'auto', False, a"),
    "greedy_soup": (
        lambda: transfer.greedy_soup([], len),
        ValueError, 'average: no models to average'),
    "h_score": (
        lambda: transfer.h_score(FEATURES, TARGETS[:3]),
        minidl.ShapeError, 'h_score: 4 samples need labels of shape (4,), not (3,)'),
    "head_path": (
        lambda: transfer.head_path(nn.Sequential(nn.ReLU())),
        ValueError, 'Sequential has no head that can be recognised, a Linear or a'),
    "headless": (
        lambda: transfer.headless(network(), at="haed"),
        ValueError, "headless: at='haed' names no layer of this Sequential; did"),
    "layer_groups": (
        lambda: transfer.layer_groups(nn.Linear(6, 3)),
        ValueError, "layer_groups: the head '' must be a layer inside the model"),
    "layerwise_parameters": (
        lambda: transfer.layerwise_parameters(network(), lr=-1),
        ValueError, 'layerwise_parameters: lr must be a finite number that is not'),
    "ledger": (
        lambda: transfer.ledger("resnet18"),
        TypeError, 'ledger: the model itself, a Module, is needed first, got str;'),
    "leep": (
        lambda: transfer.leep(FEATURES * 3, TARGETS),
        ValueError, 'leep: source_probabilities must be at least 0 and sum to 1 in'),
    "linear_probe": (
        lambda: transfer.linear_probe(FEATURES, np.zeros(4, int)),
        ValueError, 'linear_probe: all 4 labels are 0; a score needs samples of at'),
    "load": (
        lambda: transfer.load(NOWHERE + ".safetensors"),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "load_keras": (
        lambda: transfer.load_keras(NOWHERE + ".h5", network()),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "load_lora": (
        lambda: transfer.load_lora(NOWHERE + ".safetensors", network()),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "load_metadata": (
        lambda: transfer.load_metadata(NOWHERE + ".safetensors"),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "load_structure": (
        lambda: transfer.load_structure(NOWHERE + ".safetensors"),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "load_tensors": (
        lambda: transfer.load_tensors(NOWHERE + ".pt"),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "logistic_regression": (
        lambda: transfer.logistic_regression(FEATURES, TARGETS[:3]),
        minidl.ShapeError, 'logistic_regression: 4 samples need labels of shape (4,), not'),
    "logme": (
        lambda: transfer.logme(FEATURES, TARGETS[:3]),
        minidl.ShapeError, 'logme: 4 samples need labels of shape (4,), not (3,)'),
    "lora": (
        lambda: transfer.lora(network(), "attention.*"),
        ValueError, "lora: the pattern 'attention.*' matches nothing; there are"),
    "lr_find": (
        lambda: transfer.lr_find(transfer.freeze(network()), nn.CrossEntropyLoss(), (ROWS, LABELS)),
        ValueError, 'lr_find: nothing to train: all parameters of the model are'),
    "merge": (
        lambda: transfer.merge(network()),
        ValueError, 'merge: this Sequential has no adapters; lora(model, …) makes'),
    "nce": (
        lambda: transfer.nce(TARGETS, TARGETS[:3]),
        minidl.ShapeError, 'nce: 4 samples need labels of shape (4,), not (3,)'),
    "preprocess": (
        lambda: transfer.preprocess(IMAGES, {"mean": [0.5, 0.5]}),
        minidl.ShapeError, 'preprocess: images of shape (4, 3, 8, 8) do not have the 2'),
    "register": (
        lambda: transfer.register(network()),
        TypeError, 'register: got a Sequential that is made already, the class'),
    "rehead": (
        lambda: transfer.rehead(network(), 0),
        ValueError, 'rehead: num_classes must be a whole number of at least 1, not'),
    "remove_lora": (
        lambda: transfer.remove_lora(network()),
        ValueError, 'remove_lora: this Sequential has no adapters; lora(model, …)'),
    "rename_by_order": (
        lambda: transfer.rename_by_order({"a": FEATURES}, network()),
        ValueError, "rename_by_order: 'a' (4, 6) in the file meets 'body.weight'"),
    "rename_keras_by_order": (
        lambda: transfer.rename_keras_by_order(NOWHERE + ".h5", network()),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
    "save": (
        lambda: transfer.save(network().state_dict(), "model.safetensors"),
        TypeError, 'save: the first argument must be a Module, not a dict;'),
    "save_lora": (
        lambda: transfer.save_lora(network(), "adapter.safetensors"),
        ValueError, 'save_lora: this Sequential has no adapters; lora() makes them'),
    "save_tensors": (
        lambda: transfer.save_tensors({"a": "text"}, "tensors.safetensors"),
        TypeError, "save_tensors: 'a' is <U4, which the format cannot hold: it"),
    "structure": (
        lambda: transfer.structure(Mine()),
        TypeError, 'structure: the model (Mine) is a class of your own: decorate'),
    "task_vector": (
        lambda: transfer.task_vector(network(), nn.Linear(6, 3)),
        ValueError, 'task_vector: the fine-tuned network differs from the base:'),
    "train_head": (
        lambda: transfer.train_head(network(), (ROWS, LABELS + 1), epochs=1, progress=False),
        ValueError, "train_head: the head 'head' has 3 outputs, labels of train"),
    "trainable": (
        lambda: transfer.trainable("resnet18"),
        TypeError, 'trainable: the model itself, a Module, is needed first, got'),
    "unfreeze": (
        lambda: transfer.unfreeze(network(), ["body"]),
        TypeError, 'unfreeze: give patterns, modules or parameters one by one,'),
    "unfreeze_next": (
        lambda: transfer.unfreeze_next(network()),
        ValueError, 'unfreeze_next: nothing to unfreeze, all 1 groups before the'),
    "unfreeze_top": (
        lambda: transfer.unfreeze_top(network(), count=99),
        ValueError, 'unfreeze_top: count 99 is more than the 1 groups before the'),
    "unmerge": (
        lambda: transfer.unmerge(network()),
        ValueError, 'unmerge: merge() was not called on this Sequential, or its'),
    "untrained": (
        lambda: transfer.untrained("resnet18"),
        TypeError, 'untrained: the model itself, a Module, is needed first, got'),
    "update_bn": (
        lambda: transfer.update_bn(nn.Sequential(nn.BatchNorm1d(6)), iter([])),
        ValueError, 'update_bn: the data gave no batches; an iterator can be read'),
    "which_model": (
        lambda: transfer.which_model({}, (FEATURES, TARGETS)),
        ValueError, 'which_model: no candidates; give a dict of networks by name'),
    "write_bytes": (
        lambda: transfer.write_bytes(NOWHERE + "/file", b""),
        FileNotFoundError, '[Errno 2] cannot write /no/such/place/file: No such file or'),
    "write_text": (
        lambda: transfer.write_text(NOWHERE + "/file", ""),
        FileNotFoundError, '[Errno 2] cannot write /no/such/place/file: No such file or'),
}
MODELS = {
    "AlexNet": (
        lambda: models.AlexNet(hidden=8)(MAPS[:, 0]),
        minidl.ShapeError, 'features.0 (Conv2d(3, 64, kernel_size=(11, 11), stride=(4,'),
    "BertForMaskedLM": (
        lambda: models.BertForMaskedLM("bert-base-uncased"),
        TypeError, 'BertForMaskedLM: a BertModel is needed, got str;'),
    "BertModel": (
        lambda: models.BertModel(hidden_size=10, num_attention_heads=3),
        ValueError, 'BertSelfAttention: hidden_size 10 cannot be split among 3'),
    "CifarResNet": (
        lambda: models.CifarResNet(18),
        ValueError, 'CifarResNet: depth is 6 n + 2, such as 20, 32, 44, 56 or 110,'),
    "EfficientNetLite": (
        lambda: models.EfficientNetLite(3)(r(1, 1, 32, 32)),
        minidl.ShapeError, 'conv_stem (Conv2dSame(3, 32, kernel_size=(3, 3), stride=(2,'),
    "GPT": (
        lambda: models.GPT(9, 4, n_layer=1, n_head=1, n_embd=4)(np.zeros((1, 5), int)),
        minidl.ShapeError, 'GPT: ids (1, 5) are 5 tokens, the position table has 4 rows'),
    "Inception3": (
        lambda: models.Inception3(3, aux_logits=False)(r(1, 3, 32, 32)),
        ValueError, 'Mixed_5b.branch3x3dbl_1.bn (BatchNorm2d(64, eps=0.001,'),
    "LeNet5": (
        lambda: models.LeNet5()(r(4, 1, 14, 14)),
        minidl.ShapeError, 'fc1 (Linear(in_features=400, out_features=120, bias=True)):'),
    "MobileNetV2": (
        lambda: models.MobileNetV2(dropout=50),
        ValueError, 'Dropout: p is the probability to be dropped, between 0 and 1,'),
    "RecurrentClassifier": (
        lambda: models.RecurrentClassifier(9, 2, recurrent="rnm"),
        ValueError, 'RecurrentClassifier: recurrent is one of rnn, lstm, gru, pool'),
    "ResNet": (
        lambda: models.ResNet("basic", (2, 2)),
        ValueError, 'ResNet: block is one of basic, bottleneck and layers four'),
    "SentenceEncoder": (
        lambda: models.SentenceEncoder("all-MiniLM-L6-v2"),
        TypeError, 'SentenceEncoder: a BertModel is needed, got str;'),
    "SkipGram": (
        lambda: models.SkipGram(9, 4)(WORDS, WORDS),
        minidl.ShapeError, 'SkipGram: centers (B,) and words (B, 1 + K) are expected, got'),
    "VGG": (
        lambda: models.VGG(17),
        ValueError, 'VGG: depth is 11, 13, 16 or 19, not 17'),
    "bert_folder": (
        lambda: models.bert_folder("bert-base-uncased"),
        FileNotFoundError, "bert_from_pretrained: 'bert-base-uncased' is neither a folder"),
    "bert_from_pretrained": (
        lambda: models.bert_from_pretrained("bert-base-uncased"),
        FileNotFoundError, "bert_from_pretrained: 'bert-base-uncased' is neither a folder"),
    "cifar_cnn": (
        lambda: models.cifar_cnn()(r(2, 3, 28, 28)),
        minidl.ShapeError, 'classifier.dense (Linear(in_features=1024, out_features=64,'),
    "create_model": (
        lambda: models.create_model("resnet19"),
        ValueError, "create_model: no model is called 'resnet19'; did you mean"),
    "mnist_cnn": (
        lambda: models.mnist_cnn()(r(2, 3, 28, 28)),
        minidl.ShapeError, 'features.conv1 (Conv2d(1, 32, kernel_size=(3, 3), stride=(1,'),
    "nearest": (
        lambda: models.nearest(FEATURES, 4),
        IndexError, 'nearest: there is no row 4 among 4 vectors; vocabulary[word]'),
    "register_model": (
        lambda: models.register_model("resnet18", network),
        ValueError, "register_model: there is a model called 'resnet18' already"),
}
ONNX = {
    "export": (
        lambda: onnx.export(network(), ROWS, "model.safetensors", opset_version=1),
        ValueError, 'export: opset_version must be from 17 to 21, not 1'),
    "load": (
        lambda: onnx.load(NOWHERE + ".onnx"),
        FileNotFoundError, '[Errno 2] no such file; it must be written first, such as by'),
}
COMPARE = {
    "Settings": (
        lambda: compare.Settings("mnist", "fashion_mnist", methods=["finetune"]),
        ValueError, "compare-transfer: no method is called 'finetune'; did you"),
    "Task": (
        lambda: compare.Task("digits", BYTES, BYTES),
        TypeError, 'Task: train must be an ImageDataset, got ndarray; of arrays:'),
    "compare_transfer": (
        lambda: compare.compare_transfer("mnist", "fashion_mnist", seeds=0),
        ValueError, 'compare-transfer: seeds 0: at least 1 is needed'),
    "fit_images": (
        lambda: compare.fit_images(IMAGES[0], 3, (8, 8)),
        minidl.ShapeError, 'images of shape (3, 8, 8) cannot be given 3 channels'),
    "load_task": (
        lambda: compare.load_task("mnits"),
        ValueError, "no data set is called 'mnits'; did you mean 'mnist'?; there"),
    "paired": (
        lambda: compare.paired([0.5, 0.6], [0.5]),
        ValueError, 'paired: as many figures of the method as of scratch are'),
    "run_comparison": (
        lambda: compare.run_comparison("mnist"),
        TypeError, 'run_comparison: a Settings is needed, got str;'),
    "write_report": (
        lambda: compare.write_report({}, Path(NOWHERE)),
        TypeError, 'write_report: the Comparison that compare_transfer returns is'),
}
