"""The sample shop: a made-up catalogue and log."""
