"""A .tflite file as objects, and back. May import flatbuffers, NumPy and LiteRT's schema, never TensorFlow."""

from typing import Any

import flatbuffers
import numpy as np

IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of every buffer: `force_align` of the schema
PLACED_BEHIND = 1  # from this offset on, a buffer's bytes stand behind the flatbuffer; 0 and 1 mean that they do not


def is_model(content: bytes) -> bool:
    """Whether it begins as a .tflite file does."""
    return content[4:8] == IDENTIFIER


def unpack(content: bytes) -> Any:
    """A file as LiteRT's `ModelT`, to be changed; every buffer holds its bytes itself."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    model.buffers = [_aligned_buffer(schema, _bytes_of(buffer, content)) for buffer in model.buffers]
    return model


def pack(model: Any) -> bytes:
    """The file of a `ModelT`."""
    from ai_edge_litert import schema_py_generated as schema

    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    model.buffers = [_aligned_buffer(schema, buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(size + (1 << 16))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def new_buffer(model: Any, data: bytes) -> int:
    """Add a buffer to a `ModelT`; its number."""
    from ai_edge_litert import schema_py_generated as schema

    model.buffers.append(_aligned_buffer(schema, np.frombuffer(data, np.uint8)))
    return len(model.buffers) - 1


def _bytes_of(buffer: Any, content: bytes) -> Any:
    if buffer.offset > PLACED_BEHIND:
        return np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    return buffer.data


def _aligned_buffer(schema: Any, data: Any) -> Any:
    """A buffer that is packed at a multiple of ALIGNMENT; flatbuffers' own way forgets that."""

    class Aligned(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> int:
            vector = None
            if self.data is not None and len(self.data):
                payload = np.asarray(self.data, np.uint8).tobytes()
                builder.StartVector(1, len(payload), ALIGNMENT)
                builder.head -= len(payload)
                builder.Bytes[builder.head : builder.head + len(payload)] = payload
                vector = builder.EndVector()
            schema.BufferStart(builder)
            if vector is not None:
                schema.BufferAddData(builder, vector)
            end: int = schema.BufferEnd(builder)
            return end

    return Aligned(data)
