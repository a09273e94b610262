"""Entry point of `singan-aug` and `python -m singan_aug`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it with 130 even while it is still being loaded."""
    try:
        from singan_aug.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
