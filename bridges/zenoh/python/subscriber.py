"""Prints lists of words that a broker's bridge sends over zenoh (pip install eclipse-zenoh).

    python3 subscriber.py ENDPOINT KEY

Ends when the publisher has ended. The attachment says so: see bridges/SPEC.md.
"""

import sys

import zenoh

import flat_strings
from publisher import config

END = 1


def main(endpoint, key):
    with zenoh.open(config(endpoint)) as session:
        # Kept in a variable: an iterator alone would not keep the subscriber.
        subscriber = session.declare_subscriber(key)
        for sample in subscriber:
            attachment = sample.attachment.to_bytes() if sample.attachment else b""
            if attachment[:5] == b"BCST\1" and attachment[5] & END:
                return
            print(*flat_strings.decode(sample.payload.to_bytes()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
