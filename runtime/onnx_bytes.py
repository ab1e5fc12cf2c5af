"""A look into ONNX files without the onnx package: does a model keep its tensors to itself?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moksori.runtime.errors import VoiceError


def check_closed(role: str, model: bytes) -> None:
    """Refuse (VoiceError) a model that keeps tensors in other files: onnxruntime would read them from anywhere.

    Walks the protobuf (onnx.proto3) by hand, since the runtime does without the onnx package.
    """
    try:
        outside = any(_external(memoryview(model)))
    except (ValueError, IndexError) as error:
        raise VoiceError(f"the {role} graph is damaged ({error}); copy or export the voice again") from error
    if outside:
        raise VoiceError(
            f"the {role} graph keeps weights in another file (ONNX external data), which a voice must not; "
            "save it with its weights inside"
        )


# Submessages of onnx.proto3 in which a tensor can lie: message -> field -> message.
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor


def _external(model: memoryview) -> Iterator[bool]:
    pending = [("model", model)]
    while pending:
        message, data = pending.pop()
        for field, value in _fields(data):
            if message == "tensor" and field in (_EXTERNAL_DATA, _DATA_LOCATION):
                yield field == _EXTERNAL_DATA or value != 0
            inner = _MESSAGES[message].get(field)
            if inner and isinstance(value, memoryview):
                pending.append((inner, value))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message; ValueError or IndexError when it is not one."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = (key & 0xFFFFFFFF) >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it is cut short")
            yield field, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("it is no ONNX file")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is no ONNX file")
