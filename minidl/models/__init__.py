"""Ready-made architectures, one family a file: networks with fresh weights, and BERTs with those of a checkpoint."""

from __future__ import annotations

from minidl.models.bert import BertModel, BertOutput
from minidl.models.bert_files import bert_folder, bert_from_pretrained
from minidl.models.bert_heads import BertForMaskedLM, SentenceEncoder
from minidl.models.cnn import cifar_cnn, mnist_cnn
from minidl.models.gpt import GPT
from minidl.models.text import RecurrentClassifier
from minidl.models.word2vec import SkipGram, nearest

__all__ = ["BertForMaskedLM", "BertModel", "BertOutput", "GPT", "RecurrentClassifier", "SentenceEncoder", "SkipGram",
           "bert_folder", "bert_from_pretrained", "cifar_cnn", "mnist_cnn", "nearest"]
