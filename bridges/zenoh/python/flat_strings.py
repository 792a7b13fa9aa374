"""Reads and writes messages of the flat layout that are a list of strings.

The layout is described in flat-types/FORMAT.md. This file needs nothing but Python:

    python3 flat_strings.py VECTORS     checks it against flat-types/vectors.json
"""

import json
import struct
import sys

# The format and the size of an index.
WIDTHS = {"u8": ("B", 1), "u16": ("H", 2), "u32": ("I", 4)}


class Invalid(ValueError):
    """The bytes are not a list of strings."""


def schema(width="u32"):
    """The name of the schema."""
    return f"flat1/{width}:list<string>"


def decode(message, width="u32"):
    """Returns the strings. Raises Invalid if the bytes are not exactly one valid message."""
    letter, size = WIDTHS[width]
    header = struct.Struct("<" + 2 * letter)
    cursor = header.size

    def region(at, length, align):
        """The start of the region to which the header at `at` points."""
        nonlocal cursor
        if at + header.size > len(message):
            raise Invalid("a header is cut off")
        start = at + header.unpack_from(message, at)[0]
        if start < cursor or (length and start % align) or start + length > len(message):
            raise Invalid("a region is out of place")
        if any(message[cursor:start]):
            raise Invalid("unused bytes are not zero")
        cursor = start + length
        return start

    def count(at):
        if at + header.size > len(message):
            raise Invalid("a header is cut off")
        return header.unpack_from(message, at)[1]

    elements = count(0)
    align = size if width == "u32" else 1
    first = region(0, elements * header.size, align)
    strings = []
    for at in range(first, first + elements * header.size, header.size):
        length = count(at)
        start = region(at, length, 1)
        try:
            strings.append(bytes(message[start:start + length]).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Invalid(str(error)) from error
    if cursor != len(message):
        raise Invalid("bytes are left")
    return strings


def encode(strings, width="u32"):
    """Returns the canonical message."""
    letter, _ = WIDTHS[width]
    header = struct.Struct("<" + 2 * letter)
    texts = [string.encode("utf-8") for string in strings]
    headers, end = [header.pack(header.size, len(texts))], header.size * (1 + len(texts))
    for index, text in enumerate(texts):
        headers.append(header.pack(end - header.size * (1 + index), len(text)))
        end += len(text)
    return b"".join(headers + texts)


def check(path):
    """Compares with the published vectors. Returns how many there are."""
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    checked = 0
    for vector in vectors["valid"]:
        if vector["type"] == "list<string>":
            message = bytes.fromhex(vector["hex"])
            assert decode(message, vector["index"]) == vector["value"], vector
            assert (encode(vector["value"], vector["index"]) == message) == vector["canonical"], vector
            checked += 1
    for vector in vectors["invalid"]:
        if vector["type"] == "list<string>":
            try:
                decode(bytes.fromhex(vector["hex"]), vector["index"])
            except Invalid:
                checked += 1
            else:
                raise AssertionError(vector)
    return checked


if __name__ == "__main__":
    print(f"{check(sys.argv[1])} vectors")
