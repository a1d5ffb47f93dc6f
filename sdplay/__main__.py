"""`python -m sdplay`."""

from sdplay.cli import main

raise SystemExit(main())
