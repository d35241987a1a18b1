"""Messages of protobuf, by a schema that names only the fields that are read.

The ``protobuf`` package parses and checks; a schema is a table instead of generated code. Fields
that it leaves out are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Schema", "parse_message"]

# Message -> field -> (number, type, default). A type is a scalar's or another message's name, with
# "*" behind it where the field is repeated.
Schema = Mapping[str, Mapping[str, tuple[int, str] | tuple[int, str, str]]]


def parse_message(schema: Schema, name: str, data: bytes = b"") -> Any:
    """``data`` as the message ``name``; `ValueError` unless it is one, with all text in UTF-8."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    # Fields know whether they were there, and text is checked: neither syntax before had both.
    file = descriptor_pb2.FileDescriptorProto(
        name="schema", syntax="editions", edition=descriptor_pb2.EDITION_2023
    )
    for title, fields in schema.items():
        made = file.message_type.add(name=title)
        for field, (number, kind, *default) in fields.items():
            plain = kind.removesuffix("*")
            made.field.add(
                name=field,
                number=number,
                label=kinds.LABEL_OPTIONAL if plain == kind else kinds.LABEL_REPEATED,
                type=kinds.Type.Value(f"TYPE_{'MESSAGE' if plain in schema else plain.upper()}"),
                type_name=plain if plain in schema else None,
                default_value=next(iter(default), None),
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(name)).FromString(data)
    except message.DecodeError as error:
        raise ValueError(str(error)) from error
