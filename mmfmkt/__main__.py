"""Entry point of ``python -m mmfmkt``."""

from mmfmkt.cli import main

if __name__ == '__main__':
    raise SystemExit(main())
