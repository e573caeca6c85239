#!/usr/bin/env python3
"""The ledger of the `test` connector: a process of its own that counts what really happened, and so is the judge.

usage: ledger.py --file LEDGER.jsonl [--port N] [--while-stdin]

Prints {"port": N} when it listens (on 127.0.0.1). Each thing that happened is one line of the file, synced before it is
answered: {"n", "class", "key", "ledger", "value", "at_ms"}. Classes `idempotent` and `lookup` happen once for a key; `once` and
`read` happen each time they arrive.

POST / {"class", "key", "mode": "send"|"lookup", "args": {"value", "ledger", "delay_ms", "die": "before"|"after"}}
    die before: the connection drops and nothing happened; die after: it happened and the connection drops.
    delay_ms: between what happened and its answer. mode lookup: 200 with what happened, or 404.
GET /entries: all that happened; ?key=KEY: under that key. GET /stats: {"entries", "suppressed", "lookups", "keys"}.
"""
import argparse
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Ledger:
    def __init__(self, path):
        self.lock = threading.Lock()
        self.entries, self.by_key = [], {}
        self.suppressed = self.lookups = 0
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    if line.endswith("\n"):
                        self.remember(json.loads(line))
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def remember(self, entry):
        self.entries.append(entry)
        self.by_key.setdefault((entry["class"], entry["key"]), entry)

    def record(self, cls, key, args):
        with self.lock:
            known = self.by_key.get((cls, key))
            if known and cls in ("idempotent", "lookup"):
                self.suppressed += 1
                return known
            entry = {"n": len(self.entries) + 1, "class": cls, "key": key, "ledger": args.get("ledger", ""),
                     "value": args.get("value"), "at_ms": int(time.time() * 1000)}
            os.write(self.fd, (json.dumps(entry) + "\n").encode())
            os.fsync(self.fd)
            self.remember(entry)
            return entry

    def find(self, cls, key):
        with self.lock:
            self.lookups += 1
            return self.by_key.get((cls, key))

    def stats(self):
        with self.lock:
            return {"entries": len(self.entries), "suppressed": self.suppressed, "lookups": self.lookups,
                    "keys": len(self.by_key)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drop(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_GET(self):
        ledger = self.server.ledger
        path, _, query = self.path.partition("?")
        if path == "/entries":
            keys = urllib.parse.parse_qs(query).get("key")
            self.answer(200, [e for e in list(ledger.entries) if not keys or e["key"] in keys])
        elif self.path == "/stats":
            self.answer(200, ledger.stats())
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self):
        ledger = self.server.ledger
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            cls, key, args = body["class"], body["key"], body["args"]
        except (ValueError, KeyError, TypeError) as e:
            self.answer(400, {"error": str(e)})
            return
        if body.get("mode") == "lookup":
            entry = ledger.find(cls, key)
            self.answer(200 if entry else 404, entry or {"error": "not found"})
            return
        if args.get("die") == "before":
            self.drop()
            return
        entry = ledger.record(cls, key, args)
        time.sleep(args.get("delay_ms", 0) / 1000)
        if args.get("die") == "after":
            self.drop()
            return
        try:
            self.answer(200, entry)
        except OSError:
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        pass  # a client that went away


def exit_with_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--while-stdin", action="store_true", help="exit when stdin ends")
    args = parser.parse_args()
    server = Server(("127.0.0.1", args.port), Handler)
    server.ledger = Ledger(args.file)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    if args.while_stdin:
        threading.Thread(target=exit_with_stdin, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
