"""Tools: the port, the dispatcher, and the tools that come with the runtime."""
