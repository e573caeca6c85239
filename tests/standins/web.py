#!/usr/bin/env python3
"""A web server that behaves as asked: /ok /echo /status/N /redirect/PATH /big/BYTES /binary /feed /drop /hang /half
/repeated /latin. Prints {"port": N} when it listens (on 127.0.0.1).

usage: web.py [--port N] [--while-stdin]
"""
import argparse
import gzip
import json
import os
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FEED = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>https://example.org/</link>
<description>d</description><item><title>One</title><link>https://example.org/1</link></item></channel></rss>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body, headers=(), length=None):
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def drop(self):
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_GET(self):
        what, _, rest = self.path[1:].partition("/")
        if what == "status":
            retry = [("Retry-After", "2")] if rest in ("429", "503") else []
            self.send(int(rest), b"status", retry)
        elif what == "redirect":
            self.send(302, b"", [("Location", "/" + rest)])
        elif what == "big":
            self.send(200, b"x" * int(rest))
        elif what == "bomb":  # 4 MiB of zeros as 4 KiB
            self.send(200, gzip.compress(bytes(int(rest) << 20)), [("Content-Encoding", "gzip"), ("Content-Type", "text/plain")])
        elif what == "binary":
            self.send(200, bytes(range(256)))
        elif what == "feed":
            self.send(200, FEED, [("Content-Type", "application/rss+xml")])
        elif what == "echo":
            self.send(200, json.dumps({k.lower(): v for k, v in self.headers.items()}).encode())
        elif what == "repeated":
            self.send(200, b"ok", [("X-Many", "one"), ("X-Many", "two")])
        elif what == "drop":
            self.drop()
        elif what == "half":
            self.send(200, b"half", length=100)
            self.drop()
        elif what == "hang":
            time.sleep(60)
        else:
            self.send(200, b"ok", [("Content-Type", "text/plain")])


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that went away


def exit_with_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--while-stdin", action="store_true", help="exit when stdin ends")
    args = parser.parse_args()
    server = Server(("127.0.0.1", args.port), Handler)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    if args.while_stdin:
        threading.Thread(target=exit_with_stdin, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
