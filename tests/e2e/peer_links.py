"""The network between nodes, for tests that cut it: a small TCP proxy for each ordered pair. While a direction is cut no byte
goes that way, over connections that either side made; nothing is reset, and what was sent arrives after healing, as with
TCP over a network that drops packets."""
import asyncio
import threading

CHUNK = 1 << 16


class PeerLinks:
    """Node `a` reaches `b` through port(a, b) of this machine."""

    def __init__(self, peer_ports):
        self.peer_ports = peer_ports  # node -> its real port
        self.ports, self.gates = {}, {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(10)

    def port(self, a, b):
        return self.ports[a, b]

    def cut(self, a, b):
        """What `a` sends to `b` does not arrive any more."""
        self.loop.call_soon_threadsafe(self.gates[a, b].clear)

    def heal(self):
        for gate in self.gates.values():
            self.loop.call_soon_threadsafe(gate.set)

    def end(self):
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _open(self):
        self.servers = []
        pairs = [(a, b) for a in self.peer_ports for b in self.peer_ports if a != b]
        for pair in pairs:
            self.gates[pair] = asyncio.Event()
            self.gates[pair].set()
        for a, b in pairs:
            async def connected(reader, writer, a=a, b=b):
                await self._carry(a, b, reader, writer)
            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            self.servers.append(server)
            self.ports[a, b] = server.sockets[0].getsockname()[1]

    async def _close(self):
        for server in self.servers:
            server.close()
        own = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, a, b, reader, writer):
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.peer_ports[b])
        except OSError:
            writer.transport.abort()
            return
        ways = [asyncio.ensure_future(self._pump(reader, there_writer, self.gates[a, b])),
                asyncio.ensure_future(self._pump(there_reader, writer, self.gates[b, a]))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            there_writer.transport.abort()

    @staticmethod
    async def _pump(reader, writer, gate):
        try:
            while True:
                await gate.wait()
                data = await reader.read(CHUNK)
                await gate.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return
