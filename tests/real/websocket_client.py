"""Speaks to websocket_server.py through an HTTP proxy or a bound port.

usage: websocket_client.py ws://HOST:PORT/
"""

import asyncio
import sys

from websockets.asyncio.client import connect


async def main(url):
    async with connect(url, max_size=None, proxy=None, open_timeout=20) as socket:
        for message in ["hello", "ü" * 1000, b"\x00\xff" * 500_000]:
            await socket.send(message)
            answer = await asyncio.wait_for(socket.recv(), 20)
            if answer != message:
                sys.exit(f"FAILED: sent {len(message)}, got {len(answer)}")
            print(f"ok {type(message).__name__} {len(message)}", flush=True)


asyncio.run(main(sys.argv[1]))
