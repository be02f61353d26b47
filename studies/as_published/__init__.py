"""What the study's published protocol does to test UAR, one difference from a sound one at a time.

Nothing of `fs` comes here: some of it trains or tests on what must not be. See `docs/as_published.md`.
"""
