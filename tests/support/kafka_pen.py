"""A process for tests, patched: holds state partition 0 by decree and puts rows as fast as it may.

Prints ``put <offset>`` once the row of that offset was called back.
"""

import sys
from pathlib import Path

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402 - nothing may be imported before the patch

from tests.support.kafka_reader_world import options_of  # noqa: E402
from tests.support.kafka_store_world import Pen  # noqa: E402


def main(bootstrap: str, prefix: str, state: str) -> None:
    pen = Pen(options_of(bootstrap, prefix), Path(state))
    pen.hold(1)
    made = said = 0
    while True:
        for _ in range(50):
            pen.put(pen.row(made))
            made += 1
        while len(pen.told) < made - 500:
            gevent.sleep(0.001)
        for told in pen.told[said:]:
            print(told)
        said = len(pen.told)
        sys.stdout.flush()
        gevent.sleep(0)


if __name__ == "__main__":
    main(*sys.argv[1:4])
