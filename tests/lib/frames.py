"""The frames between aiosd and its processes, from src/wire/frames.def: for stand-ins that speak as one of them."""
import os
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Record:
    def __init__(self, name, number, way):
        self.name, self.number, self.way, self.fields = name, number, way, []


def declared():
    """Records by name, and the version that both ends must agree on (tools/gen.py)."""
    records = []
    for line in (ROOT / "src/wire/frames.def").read_text().splitlines():
        words = line.partition("#")[0].split()
        if words and words[0] == "record":
            records.append(Record(words[1], int(words[2]), words[3]))
        elif len(words) == 2 and words[0] != "retired":
            records[-1].fields.append((words[0], words[1]))
    shape = repr([(r.name, r.number, r.way, r.fields) for r in records])
    version = 2166136261
    for byte in shape.encode():
        version = ((version ^ byte) * 16777619) & 0xFFFFFFFF
    return {r.name: r for r in records}, version


RECORDS, VERSION = declared()
BY_NUMBER = {r.number: r for r in RECORDS.values()}


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode(name, **values):
    out = b""
    for kind, field in RECORDS[name].fields:
        v = values.pop(field, None)
        if kind == "hash":
            out += v or bytes(32)
        elif kind in ("str", "bytes", "json"):
            v = v.encode() if isinstance(v, str) else v or b""
            out += varint(len(v)) + v
        else:
            v = v or 0
            out += varint((v << 1 ^ v >> 63) & (1 << 64) - 1 if kind == "i64" else v)
    assert not values, f"{name} has no {list(values)}"
    return out


def decode(record, data):
    out, at = {}, 0

    def number():
        nonlocal at
        n = shift = 0
        while at < len(data):
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return n
    for kind, field in record.fields:
        if kind == "hash":
            out[field], at = data[at:at + 32], at + 32
        elif kind in ("str", "bytes", "json"):
            size = number()
            out[field] = data[at:at + size] if kind == "bytes" else data[at:at + size].decode()
            at += size
        else:
            n = number()
            out[field] = n >> 1 ^ -(n & 1) if kind == "i64" else n
    return out


class Peer:
    """The end of one process: descriptor 3."""

    def __init__(self, process, fd=3):
        self.fd, self.buffer = fd, b""
        self.send("hello", version=VERSION, process=process, sandbox="none", public_key=bytes(32))

    def raw(self, number, body):
        data = struct.pack("<IHH", len(body), number, 0) + body
        while data:
            data = data[os.write(self.fd, data):]

    def send(self, name, **values):
        self.raw(RECORDS[name].number, encode(name, **values))

    def next(self):
        """(name, fields); None when aiosd is gone."""
        while True:
            if len(self.buffer) >= 8:
                size, number, _ = struct.unpack("<IHH", self.buffer[:8])
                if len(self.buffer) >= 8 + size:
                    body, self.buffer = self.buffer[8:8 + size], self.buffer[8 + size:]
                    record = BY_NUMBER[number]
                    return record.name, decode(record, body)
            data = os.read(self.fd, 1 << 16)
            if not data:
                return None
            self.buffer += data
