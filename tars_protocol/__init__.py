"""The TARS protocol: frames, packets, interfaces and dispatch without I/O, and asyncio shells around them (``aio``)."""
