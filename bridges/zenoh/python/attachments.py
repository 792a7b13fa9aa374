"""Reads what accompanies the messages that bridges send, and splits batches. See bridges/SPEC.md.

This file needs nothing but Python:

    python3 attachments.py SPECIFICATION     checks it against the tables of bridges/SPEC.md
"""

import struct
import sys
import zlib

# Magic, version, flags, hops, reserved, origin, publisher, sequence, fingerprint, time, messages, check.
LAYOUT = struct.Struct("<4sBBBB16sQQQQII")
LENGTH = struct.Struct("<I")
CHECKED = 1
UNREACHABLE = 1 << 62


class Invalid(ValueError):
    """The bytes are not what a bridge sends."""


def messages(attachment, payload):
    """Returns the messages in a sample of a bridge: none if its publisher has ended.

    Raises Invalid if the attachment is not correct, or belongs to other bytes.
    """
    if len(attachment) != LAYOUT.size:
        raise Invalid("the attachment has another length")
    magic, version, flags, hops, reserved, *_, sequence, _, _, count, check = LAYOUT.unpack(attachment)
    if (magic, version, flags & ~CHECKED, hops, reserved) != (b"BCST", 2, 0, 1, 0):
        raise Invalid("the attachment is not one of this version")
    if sequence + max(count, 1) > UNREACHABLE:
        raise Invalid("the sequence is impossible")
    if check != (zlib.crc32(payload, zlib.crc32(attachment[:60])) if flags & CHECKED else 0):
        raise Invalid("some bytes are wrong")
    if count == 0:
        return []
    return [payload] if count == 1 else split(payload, count)


def split(payload, count):
    """Returns the messages of a batch. Raises Invalid if it does not have exactly this number of them."""
    found, at = [], 0
    while len(found) < count:
        if at + LENGTH.size > len(payload):
            raise Invalid("a message is missing")
        (length,) = LENGTH.unpack_from(payload, at)
        at += LENGTH.size
        if at + length > len(payload):
            raise Invalid("a message is cut off")
        found.append(payload[at:at + length])
        at += length
    if at != len(payload):
        raise Invalid("something follows the last message")
    return found


def check(path):
    """Compares with the tables of the specification. Returns the number of rows."""
    rows, head = {}, None
    with open(path, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
            if not line.startswith("|"):
                head = None
            elif head is None:
                head = cells[:2] + cells[-1:]
            elif not line.startswith("| --"):
                rows.setdefault(" ".join(head), []).append(cells)

    def bytes_of(text):
        return b"" if text == "empty" else bytes.fromhex(text)

    def refuses(read, *arguments):
        try:
            read(*arguments)
        except Invalid:
            return True
        return False

    tables = [rows[head] for head in (
        "attachment payload check",
        "attachment because because",
        "attachment payload changed",
        "payload of a batch messages bytes of the messages",
        "payload of no batch messages because",
    )]
    for attachment, payload, *_, count, _ in tables[0]:
        assert len(messages(bytes_of(attachment), bytes_of(payload))) == int(count), attachment
    for attachment, because in tables[1]:
        assert refuses(messages, bytes_of(attachment), b""), because
    for attachment, payload, changed in tables[2]:
        assert refuses(messages, bytes_of(attachment), bytes_of(payload)), changed
    for payload, count, parts in tables[3]:
        expected = [bytes_of(part.strip("`")) for part in parts.split(", ")]
        assert split(bytes_of(payload), int(count)) == expected, payload
    for payload, count, because in tables[4]:
        assert refuses(split, bytes_of(payload), int(count)), because
    return sum(map(len, tables))


if __name__ == "__main__":
    print(f"{check(sys.argv[1])} rows")
