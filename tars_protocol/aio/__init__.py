"""asyncio shells around the protocol: a server and a client. On uvloop where the program runs one."""
