"""Prints lists of words that a broker's bridge sends over zenoh (pip install eclipse-zenoh).

    python3 subscriber.py ENDPOINT KEY

Ends when the publisher has ended. The attachment says so. It also shows whether the bytes are those that were
sent, and whether several messages share a sample: see bridges/SPEC.md.
"""

import sys

import zenoh

import attachments
import flat_strings
from publisher import config


def main(endpoint, key):
    with zenoh.open(config(endpoint)) as session:
        # Kept in a variable: an iterator alone would not keep the subscriber.
        subscriber = session.declare_subscriber(key)
        for sample in subscriber:
            if sample.attachment is None:
                continue
            try:
                messages = attachments.messages(sample.attachment.to_bytes(), sample.payload.to_bytes())
            except attachments.Invalid as error:
                print(error, file=sys.stderr)
                continue
            if not messages:
                return
            for message in messages:
                print(*flat_strings.decode(message), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
