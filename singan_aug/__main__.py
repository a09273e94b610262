"""Entry point of `singan-aug` and `python -m singan_aug`."""

import signal
import sys


def _terminate(*_: object) -> None:
    sys.exit(143)


def main() -> None:
    """Run the command line; Ctrl-C ends it with 130, SIGTERM with 143, even while it is still being loaded."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from singan_aug.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
