"""From the products topic to the item index."""
