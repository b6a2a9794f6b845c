"""``python -m stream.demo.sample DIR``: see ``files``."""

from stream.demo.sample.files import main

main()
