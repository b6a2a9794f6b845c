"""From shopper events to lists: intake, state, batches."""
