"""One session and its children: turns, models, tools, services. See docs/architecture.md."""
