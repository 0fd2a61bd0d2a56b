"""The peer of `sign-in`: nothing but comparing a password with its hash, as many at once as the service allows itself.

`python -m tests.benchmarks.peers.argon SECONDS` answers with the comparisons per second.
"""

from __future__ import annotations

import sys
import threading
import time

from argon2 import PasswordHasher

from commands.users.passwords import AT_ONCE_MAX, MEMORY_KIB

PASSWORD = "correct horse battery staple"


def main() -> int:
    """Compare for SECONDS in `AT_ONCE_MAX` threads (argon2 lets go of the interpreter's lock)."""
    seconds = float(sys.argv[1])
    hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)
    stored = hasher.hash(PASSWORD)
    counts = [0] * AT_ONCE_MAX
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            hasher.verify(stored, PASSWORD)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(AT_ONCE_MAX)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counts) / seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
