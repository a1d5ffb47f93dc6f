"""The page's tabs, one file each: controls, and handlers that ask the engine."""
