"""The client that runs one case: it sends what the case wants, valid or not, and reports what it receives."""

import asyncio
import base64
import os
import struct

from cases import Protocol

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

# Seconds for the answer to a close frame, and for the server to close the connection after it.
CLOSE_TIMEOUT = 10


class ProtocolError(Exception):
    """The server has sent what it must not send."""


class Factory:
    isServer = False


class Fuzzer(Protocol):
    """The members in camel case are those that the cases use."""

    factory = Factory()

    def __init__(self):
        self.state = self.STATE_CONNECTING
        self.connectionWasOpen = False
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode = self.localCloseReason = self.trafficStats = None
        self.createWirelog = False
        self.autoFragmentSize = 0
        self.txFrameStats = {}
        self.error = None
        self.message = []
        self.queue = asyncio.Queue()
        self.timers = []

    async def run(self, host, port, case):
        """Runs a case to the end of its connection."""
        reader, self.writer = await asyncio.open_connection(host, port)
        sender = asyncio.create_task(self.send_queued())
        try:
            await self.handshake(host, reader)
            await self.receive(reader, case)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except ProtocolError as error:
            self.error = str(error)
        finally:
            self.state = self.STATE_CLOSED
            for timer in self.timers:
                timer.cancel()
            sender.cancel()
            self.writer.close()
        case.onConnectionLost(self.failedByMe)

    async def handshake(self, host, reader):
        key = base64.b64encode(os.urandom(16)).decode()
        extensions = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
        self.writer.write(
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 ") or b"sec-websocket-extensions" in head.lower():
            raise ProtocolError(f"the response is {head!r}")

    async def send_queued(self):
        """Writes each piece on its own, so that the server may read it alone."""
        while True:
            self.writer.write(await self.queue.get())
            await self.writer.drain()

    async def receive(self, reader, case):
        while True:
            first, second = await reader.readexactly(2)
            length = second
            if second == 126:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
            elif second == 127:
                (length,) = struct.unpack("!Q", await reader.readexactly(8))
            elif second > 127:
                raise ProtocolError("a masked frame")
            opcode, is_final = first & 15, first >> 7 == 1
            payload = await reader.readexactly(length)
            if first & 0x70:
                raise ProtocolError("a reserved bit")
            if opcode >= CLOSE and (length > 125 or not is_final):
                raise ProtocolError("a control frame that is too long or fragmented")
            self.receive_frame(case, opcode, is_final, payload)

    def receive_frame(self, case, opcode, is_final, payload):
        text = payload.decode("latin-1")
        if opcode in (0, TEXT, BINARY):
            if (opcode == 0) != bool(self.message):
                raise ProtocolError("a continuation of nothing, or a message within a message")
            self.message.append((opcode, text))
            if is_final:
                parts, self.message = self.message, []
                if not self.connectionWasOpen:
                    # The server greets its client.
                    self.connectionWasOpen, self.state = True, self.STATE_OPEN
                    return case.onOpen()
                case.onMessage("".join(text for _, text in parts), parts[0][0] == BINARY)
        elif opcode == PING:
            self.sendFrame(PONG, text)
            case.onPing(text)
        elif opcode == PONG:
            case.onPong(text)
        elif opcode == CLOSE:
            self.receive_close(case, payload)
        else:
            raise ProtocolError(f"the opcode {opcode}")

    def receive_close(self, case, payload):
        if len(payload) == 1:
            raise ProtocolError("half a close code")
        self.remoteCloseCode = struct.unpack("!H", payload[:2])[0] if payload else None
        self.wasClean = True
        if self.state == self.STATE_OPEN:
            self.state = self.STATE_CLOSING
            self.send_close_frame(self.remoteCloseCode)
        # The server closes the connection.
        self.later(CLOSE_TIMEOUT, self.drop)
        case.onClose(self.wasClean, self.remoteCloseCode, payload[2:].decode("latin-1"))

    def later(self, seconds, call):
        self.timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def drop(self):
        self.droppedByMe = True
        self.wasClean = False
        self.writer.transport.abort()

    def send(self, data, chopsize=None):
        for begin in range(0, len(data), chopsize or max(len(data), 1)):
            self.queue.put_nowait(data[begin : begin + (chopsize or len(data))])

    def sendFrame(self, opcode, payload="", fin=True, rsv=0, payload_len=None, chopsize=None, sync=False):
        data = payload.encode("latin-1")
        if payload_len is not None:
            data = (data * (payload_len // len(data) + 1))[:payload_len] if data else b""
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        mask = os.urandom(4)
        # One operation on the whole payload takes a hundredth of the time of a loop.
        masked = int.from_bytes(data) ^ int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)])
        self.send(self.head(opcode, fin, rsv, len(data)) + mask + masked.to_bytes(len(data)), chopsize)

    def head(self, opcode, fin, rsv, length):
        """A frame up to its mask."""
        first = int(fin) << 7 | rsv << 4 | opcode
        if length < 126:
            return struct.pack("!BB", first, 0x80 | length)
        if length < 1 << 16:
            return struct.pack("!BBH", first, 0x80 | 126, length)
        return struct.pack("!BBQ", first, 0x80 | 127, length)

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False):
        size = fragmentSize or self.autoFragmentSize or max(len(payload), 1)
        parts = [payload[begin : begin + size] for begin in range(0, len(payload), size)] or [""]
        for number, part in enumerate(parts):
            opcode = (BINARY if isBinary else TEXT) if number == 0 else 0
            self.sendFrame(opcode, part, fin=number + 1 == len(parts))

    def beginMessage(self, opcode=TEXT):
        self.begins_with = opcode

    def beginMessageFrame(self, length):
        # The mask 0, because the payload follows in pieces.
        self.send(self.head(self.begins_with, False, 0, length) + bytes(4))

    def sendMessageFrameData(self, payload, sync=False):
        self.send(payload.encode("latin-1"))

    def endMessage(self):
        self.sendFrame(0)

    def sendClose(self, code=None, reason=None):
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code, reason)

    def sendCloseFrame(self, code=None, reasonUtf8=None):
        self.state = self.STATE_CLOSING
        self.closedByMe = True
        self.send_close_frame(code, reasonUtf8)
        self.later(CLOSE_TIMEOUT, self.drop)

    def send_close_frame(self, code, reason=None):
        payload = b"" if code is None else struct.pack("!H", code)
        self.localCloseReason = reason
        self.sendFrame(CLOSE, (payload + (reason or "").encode("latin-1")).decode("latin-1"))

    def killAfter(self, seconds):
        self.later(seconds, self.fail)

    def fail(self):
        if self.state != self.STATE_CLOSED and not self.failedByMe:
            self.failedByMe = True
            if self.state == self.STATE_OPEN:
                self.sendCloseFrame(1001)
            elif self.remoteCloseCode is None:
                self.drop()

    def closeAfter(self, seconds):
        self.later(seconds, self.sendClose)

    def continueLater(self, seconds, call, tag=None):
        self.later(seconds, lambda: call() if self.state != self.STATE_CLOSED else None)

    def enableWirelog(self, enable):
        pass
