"""What every model client must do, whatever stands behind it: see `suite`."""
