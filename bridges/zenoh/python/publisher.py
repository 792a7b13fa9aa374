"""Publishes lists of words to a topic of a broker, over zenoh (pip install eclipse-zenoh).

    python3 publisher.py ENDPOINT KEY LINE...

The broker's bridge must name the schema of the topic in its rules: these messages have no attachment.
"""

import sys
import time

import zenoh

import flat_strings


def config(endpoint):
    """Connects to one endpoint, and looks for nothing else."""
    settings = zenoh.Config()
    settings.insert_json5("mode", '"peer"')
    settings.insert_json5("connect/endpoints", f'["{endpoint}"]')
    settings.insert_json5("listen/endpoints", "[]")
    settings.insert_json5("scouting/multicast/enabled", "false")
    return settings


def main(endpoint, key, *lines):
    with zenoh.open(config(endpoint)) as session:
        publisher = session.declare_publisher(
            key, encoding=f"application/vnd.blockcast;{flat_strings.schema()}"
        )
        while not publisher.matching_status.matching:
            time.sleep(0.01)
        for line in lines:
            publisher.put(flat_strings.encode(line.split()))


if __name__ == "__main__":
    main(*sys.argv[1:])
