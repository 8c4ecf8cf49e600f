"""The fields of an ONNX file that minidl reads, by their numbers in the published `onnx.proto`.

Left out are documentation, names of types and shapes of inner values, and what is recognised only to be refused: the
contents of subgraphs, functions and sparse tensors are never looked into, so that nothing in a file nests.
"""

from __future__ import annotations

from minidl.onnx.wire import Field, Schema

PAIR: Schema = {1: Field("key", "text"), 2: Field("value", "text")}

TENSOR: Schema = {
    1: Field("dims", "integer", True), 2: Field("data_type", "integer"), 3: Field("segment", "bytes"),
    4: Field("float_data", "float", True), 5: Field("int32_data", "integer", True),
    6: Field("string_data", "bytes", True), 7: Field("int64_data", "integer", True), 8: Field("name", "text"),
    9: Field("raw_data", "bytes"), 10: Field("double_data", "double", True),
    11: Field("uint64_data", "integer", True), 13: Field("external_data", PAIR, True),
    14: Field("data_location", "integer"),
}

ATTRIBUTE: Schema = {
    1: Field("name", "text"), 2: Field("f", "float"), 3: Field("i", "integer"), 4: Field("s", "text"),
    5: Field("t", TENSOR), 6: Field("g", "bytes"), 7: Field("floats", "float", True),
    8: Field("ints", "integer", True), 9: Field("strings", "text", True), 10: Field("tensors", "bytes", True),
    11: Field("graphs", "bytes", True), 14: Field("tp", "bytes"), 15: Field("type_protos", "bytes", True),
    20: Field("type", "integer"), 21: Field("ref_attr_name", "text"), 22: Field("sparse_tensor", "bytes"),
    23: Field("sparse_tensors", "bytes", True),
}

NODE: Schema = {
    1: Field("input", "text", True), 2: Field("output", "text", True), 3: Field("name", "text"),
    4: Field("op_type", "text"), 5: Field("attribute", ATTRIBUTE, True), 7: Field("domain", "text"),
}

DIMENSION: Schema = {1: Field("value", "integer"), 2: Field("parameter", "text")}
SHAPE: Schema = {1: Field("dim", DIMENSION, True)}
TENSOR_TYPE: Schema = {1: Field("elem_type", "integer"), 2: Field("shape", SHAPE)}
TYPE: Schema = {1: Field("tensor_type", TENSOR_TYPE)}
VALUE_INFO: Schema = {1: Field("name", "text"), 2: Field("type", TYPE)}

GRAPH: Schema = {
    1: Field("node", NODE, True), 2: Field("name", "text"), 5: Field("initializer", TENSOR, True),
    11: Field("input", VALUE_INFO, True), 12: Field("output", VALUE_INFO, True),
    15: Field("sparse_initializer", "bytes", True),
}

OPERATOR_SET: Schema = {1: Field("domain", "text"), 2: Field("version", "integer")}

MODEL: Schema = {
    1: Field("ir_version", "integer"), 2: Field("producer_name", "text"), 3: Field("producer_version", "text"),
    7: Field("graph", GRAPH), 8: Field("opset_import", OPERATOR_SET, True), 14: Field("metadata_props", PAIR, True),
    25: Field("functions", "bytes", True),
}
