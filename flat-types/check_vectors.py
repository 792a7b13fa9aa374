#!/usr/bin/env python3
"""Checks vectors.json with a reader and a writer that share only FORMAT.md with the Rust crate.

Usage: check_vectors.py [vectors.json]

Reads every valid message and compares its value and fingerprint. Writes every value: the result must equal the message
if it is canonical, and differ otherwise. Every invalid message must be rejected. Prints failures and exits with 1 if
there are any.
"""

import json
import math
import pathlib
import struct
import sys

NUMBERS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "s8": "<b", "s16": "<h", "s32": "<i", "s64": "<q",
           "f32": "<f", "f64": "<d"}
SCALARS = {**NUMBERS, "bool": "<B", "char": "<I"}


class Invalid(Exception):
    """The bytes are not a valid message."""


def up(offset, align):
    return -(-offset // align) * align


def parse(text):
    """Parses a type into nested tuples: ("list", ("string",)), ("flags", 3), ("variant", None, ("u8",))."""
    def one(at):
        end = at
        while end < len(text) and text[end] not in "<>,":
            end += 1
        word = text[at:end]
        if word == "_":
            return None, end
        if end == len(text) or text[end] != "<":
            return (word,), end
        if word == "flags":
            close = text.index(">", end)
            return (word, int(text[end + 1:close])), close + 1
        parts = []
        end += text[end + 1] == ">"
        while text[end] != ">":
            part, end = one(end + 1)
            parts.append(part)
        return (word, *parts), end + 1
    kind, end = one(0)
    assert end == len(text), text
    return kind


class Layout:
    """Sizes and offsets at one index width."""

    def __init__(self, width):
        self.index = {"u8": "<B", "u16": "<H", "u32": "<I"}[width]
        self.idx = struct.calcsize(self.index)
        self.aligned = width == "u32"

    def size_align(self, kind):
        size, align = self.natural(kind)
        return (size, align) if self.aligned else (size, 1)

    def natural(self, kind):
        if kind is None:
            return 0, 1
        word = kind[0]
        if word in SCALARS:
            size = struct.calcsize(SCALARS[word])
            return size, size
        if word in ("string", "list", "map"):
            return 2 * self.idx, self.idx
        if word == "flags":
            size = next(size for size in (1, 2, 4, 8) if kind[1] <= 8 * size)
            return size, size
        align = max((self.size_align(part)[1] for part in kind[1:]), default=1)
        if word == "tuple":
            end = 0
            for offset, part in self.offsets(kind):
                end = offset + self.size_align(part)[0]
            return up(end, align), align
        discriminant = self.discriminant(kind)
        align_all = max(align, discriminant if self.aligned else 1)
        largest = max(self.size_align(part)[0] for part in kind[1:])
        return up(self.payload(kind) + largest, align_all), align_all

    def offsets(self, kind):
        end = 0
        for part in kind[1:]:
            size, align = self.size_align(part)
            end = up(end, align)
            yield end, part
            end += size

    @staticmethod
    def discriminant(kind):
        cases = len(kind) - 1
        return 1 if cases <= 1 << 8 else 2 if cases <= 1 << 16 else 4

    def payload(self, kind):
        return up(self.discriminant(kind), max(self.size_align(part)[1] for part in kind[1:]))


def element(kind):
    return ("tuple", *kind[1:]) if kind[0] == "map" else kind[1]


class Reader(Layout):
    def __init__(self, width, message):
        super().__init__(width)
        self.message, self.cursor = message, 0

    def zero(self, start, end):
        if any(self.message[start:end]):
            raise Invalid(f"padding at {start}")

    def read(self, kind):
        self.cursor = self.size_align(kind)[0]
        if self.cursor > len(self.message):
            raise Invalid("no header")
        value = self.visit(kind, 0)
        if self.cursor != len(self.message):
            raise Invalid(f"trailing bytes at {self.cursor}")
        return value

    def region(self, at, size, align):
        delta, = struct.unpack_from(self.index, self.message, at)
        count, = struct.unpack_from(self.index, self.message, at + self.idx)
        start = at + delta
        if start < self.cursor:
            raise Invalid(f"overlap at {at}")
        if start + count * size > len(self.message):
            raise Invalid(f"out of bounds at {at}")
        if count and start % align:
            raise Invalid(f"misaligned at {at}")
        self.zero(self.cursor, start)
        self.cursor = start + count * size
        return start, count

    def visit(self, kind, at):
        if kind is None:
            return None
        word, size = kind[0], self.size_align(kind)[0]
        if word in SCALARS:
            value, = struct.unpack_from(SCALARS[word], self.message, at)
            if word == "bool" and value > 1:
                raise Invalid(f"bool at {at}")
            if word == "char" and (value > 0x10FFFF or 0xD800 <= value < 0xE000):
                raise Invalid(f"char at {at}")
            return bool(value) if word == "bool" else chr(value) if word == "char" else value
        if word == "string":
            start, length = self.region(at, 1, 1)
            try:
                return self.message[start:start + length].decode("utf-8")
            except UnicodeDecodeError as error:
                raise Invalid(f"utf-8 at {at}") from error
        if word in ("list", "map"):
            part = element(kind)
            part_size, align = self.size_align(part)
            start, count = self.region(at, part_size, align)
            values = [self.visit(part, start + n * part_size) for n in range(count)]
            if word == "map":
                keys = [key.encode() if isinstance(key, str) else key for key, _ in values]
                if any(low >= high for low, high in zip(keys, keys[1:])):
                    raise Invalid(f"key order at {at}")
            return values
        if word == "flags":
            value = int.from_bytes(self.message[at:at + size], "little")
            if value >> kind[1]:
                raise Invalid(f"flags at {at}")
            return value
        if word == "tuple":
            values, end = [], 0
            for offset, part in self.offsets(kind):
                self.zero(at + end, at + offset)
                values.append(self.visit(part, at + offset))
                end = offset + self.size_align(part)[0]
            self.zero(at + end, at + size)
            return values
        assert word == "variant", word
        bytes_ = self.discriminant(kind)
        case = int.from_bytes(self.message[at:at + bytes_], "little")
        if case >= len(kind) - 1:
            raise Invalid(f"discriminant at {at}")
        part, payload = kind[1 + case], self.payload(kind)
        self.zero(at + bytes_, at + payload)
        value = self.visit(part, at + payload)
        self.zero(at + payload + self.size_align(part)[0], at + size)
        return [case] if part is None else [case, value]


class Writer(Layout):
    def __init__(self, width):
        super().__init__(width)
        self.message = bytearray()

    def write(self, kind, value):
        self.message = bytearray(self.size_align(kind)[0])
        self.visit(kind, 0, value)
        return bytes(self.message)

    def region(self, at, count, size, align):
        if count:
            self.message.extend(bytes(up(len(self.message), align) - len(self.message)))
        start = len(self.message)
        struct.pack_into(self.index, self.message, at, start - at)
        struct.pack_into(self.index, self.message, at + self.idx, count)
        self.message.extend(bytes(count * size))
        return start

    def visit(self, kind, at, value):
        if kind is None:
            return
        word = kind[0]
        if word in SCALARS:
            value = ord(value) if word == "char" else float(value) if word in ("f32", "f64") else value
            struct.pack_into(SCALARS[word], self.message, at, value)
        elif word == "string":
            text = value.encode()
            start = self.region(at, len(text), 1, 1)
            self.message[start:] = text
        elif word in ("list", "map"):
            part = element(kind)
            size, align = self.size_align(part)
            start = self.region(at, len(value), size, align)
            for n, item in enumerate(value):
                self.visit(part, start + n * size, item)
        elif word == "flags":
            size = self.size_align(kind)[0]
            self.message[at:at + size] = value.to_bytes(size, "little")
        elif word == "tuple":
            for (offset, part), item in zip(self.offsets(kind), value):
                self.visit(part, at + offset, item)
        else:
            bytes_ = self.discriminant(kind)
            self.message[at:at + bytes_] = value[0].to_bytes(bytes_, "little")
            self.visit(kind[1 + value[0]], at + self.payload(kind), value[1] if len(value) > 1 else None)


def fingerprint(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def same(a, b):
    """Whether two values are equal. JSON spells infinite floats and NaN as strings."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        b = float(b)
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def main():
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("vectors.json"))
    vectors = json.loads(path.read_text())
    failures = []
    for vector in vectors["valid"]:
        name = f'{vector["index"]} {vector["type"]} {vector["value"]!r}'
        kind, message = parse(vector["type"]), bytes.fromhex(vector["hex"])
        try:
            value = Reader(vector["index"], message).read(kind)
            if not same(value, vector["value"]):
                failures.append(f"{name}: read as {value!r}")
        except (Invalid, struct.error) as error:
            failures.append(f"{name}: rejected: {error}")
        written = Writer(vector["index"]).write(kind, vector["value"])
        if (written == message) != vector["canonical"]:
            failures.append(f"{name}: written as {written.hex()}")
        if vector["fingerprint"] != fingerprint(f'flat1/{vector["index"]}:{vector["type"]}'):
            failures.append(f"{name}: the fingerprint differs")
    for vector in vectors["invalid"]:
        try:
            value = Reader(vector["index"], bytes.fromhex(vector["hex"])).read(parse(vector["type"]))
            failures.append(f'{vector["index"]} {vector["type"]} {vector["hex"]}: read as {value!r}, but {vector["why"]}')
        except (Invalid, struct.error):
            pass
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f'{len(vectors["valid"])} valid and {len(vectors["invalid"])} invalid messages, {len(failures)} failures')
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
