"""`python -m tfcore` is the command `tfcore`."""

from .cli import main

raise SystemExit(main())
