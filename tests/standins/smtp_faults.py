#!/usr/bin/env python3
"""A mail server that fails as asked, by the recipient's local part. (For a true one see smtp.mjs.)

usage: smtp_faults.py --log FILE.jsonl [--auth USER:PASSWORD] [--port N] [--while-stdin]

Prints {"port": N} when it listens (on 127.0.0.1). Recipients:
    rcpt450 rcpt550 data451 data554 (after the message)  drop-rcpt (before DATA is answered)
    drop-data (after 354, nothing recorded)  drop-after (recorded, never confirmed)  hang-after (recorded, silent)
Each message that was taken is a line of the log: {"from", "to", "data"}.
"""
import argparse
import base64
import json
import os
import socketserver
import sys
import threading
import time


class Handler(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def hear(self):
        return self.rfile.readline().decode(errors="replace").rstrip("\r\n")

    def auth(self, line):
        kind, _, first = line[5:].partition(" ")
        if kind.upper() == "PLAIN":
            if not first:
                self.say("334 ")
                first = self.hear()
            _, user, password = base64.b64decode(first).decode().split("\0")
        else:
            self.say("334 VXNlcm5hbWU6")
            user = base64.b64decode(self.hear()).decode()
            self.say("334 UGFzc3dvcmQ6")
            password = base64.b64decode(self.hear()).decode()
        ok = f"{user}:{password}" == self.server.auth
        told = base64.b64encode(f"\0{user}\0{password}".encode()).decode()  # some servers say what they were told
        self.say("235 ok" if ok else f"535 5.7.8 authentication failed: {user} {password} {told}")
        return ok

    def data(self, sender, rcpt):
        local = rcpt.partition("@")[0]
        if local == "drop-rcpt":
            return False
        self.say("354 go on")
        if local == "drop-data":
            self.rfile.readline()
            return False
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        if not line:
            return False
        if local in ("data451", "data554"):
            self.say(local[4:] + " not this one")
            return True
        entry = {"from": sender, "to": rcpt, "data": b"".join(lines).decode("latin-1")}
        os.write(self.server.log, (json.dumps(entry) + "\n").encode())
        if local == "drop-after":
            return False
        if local == "hang-after":
            time.sleep(60)
        self.say("250 taken")
        return True

    def handle(self):
        known, sender, rcpt = not self.server.auth, "", ""
        self.say("220 here")
        while line := self.hear():
            verb = line[:4].upper()
            if verb in ("EHLO", "HELO"):
                self.wfile.write(b"250-here\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")
            elif verb == "AUTH":
                known = self.auth(line)
            elif verb == "QUIT":
                self.say("221 bye")
                return
            elif not known:
                self.say("530 5.7.0 authentication required")
            elif verb == "MAIL":
                sender = line[line.index("<") + 1:line.index(">")]
                self.say("250 ok")
            elif verb == "RCPT":
                rcpt = line[line.index("<") + 1:line.index(">")]
                local = rcpt.partition("@")[0]
                self.say(local[4:] + " no" if local in ("rcpt450", "rcpt550") else "250 ok")
            elif verb == "DATA":
                if not self.data(sender, rcpt):
                    return
            else:
                self.say("250 ok")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # a client that went away


def exit_with_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--auth", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--while-stdin", action="store_true", help="exit when stdin ends")
    args = parser.parse_args()
    server = Server(("127.0.0.1", args.port), Handler)
    server.auth = args.auth
    server.log = os.open(args.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    if args.while_stdin:
        threading.Thread(target=exit_with_stdin, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
