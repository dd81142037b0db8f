"""The gRPC services' messages, from descriptions that protoc compiled: the emulator uses protobuf itself.

``descriptors.bin`` is made of the ``.proto`` files beside it, and a test makes it anew and compares::

    cd cosyclient/emulator/protos
    python -m grpc_tools.protoc -I. --descriptor_set_out=descriptors.bin cosyvoice.proto grpc_predict_v2.proto

A description works with every version of protobuf's runtime, where generated modules must not be newer than it nor
much older, and a pool of its own avoids conflicts with others of the same names: tritonclient brings its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _pool() -> descriptor_pool.DescriptorPool:
    described = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("descriptors.bin").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


def message(name: str) -> Any:
    """Return the class of the message called *name*, package included."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
