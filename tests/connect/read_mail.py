#!/usr/bin/env python3
"""Reads one mail as a strict reader would, and prints what it holds as one JSON object.

usage: read_mail.py FILE        (or --log FILE.jsonl: the last message of a mail server's log)

Any defect that Python's parser finds is an error, and so are lines over 998 bytes and bytes that are not ASCII.
"""
import email
import email.policy
import json
import sys


def main():
    if sys.argv[1] == "--log":
        with open(sys.argv[2], encoding="utf-8") as f:
            raw = json.loads(f.readlines()[-1])["data"].encode("latin-1")
    else:
        with open(sys.argv[1], "rb") as f:
            raw = f.read()
    for line in raw.splitlines():
        if len(line) > 998 or any(b > 126 for b in line):
            sys.exit(f"a line that cannot be sent: {line[:60]!r}")
    policy = email.policy.default.clone(raise_on_defect=True)
    mail = email.message_from_bytes(raw, policy=policy)
    parts = {p.get_content_type(): p.get_content() for p in mail.walk() if not p.is_multipart()}
    for p in mail.walk():
        if p.defects:
            sys.exit(f"defects: {p.defects}")
    for name in ("Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Content-Type"):
        if len(mail.get_all(name, [])) != 1:
            sys.exit(f"{name} stands {len(mail.get_all(name, []))} times")
    headers = [[k, str(v)] for k, v in mail.items()]
    print(json.dumps({
        "type": mail.get_content_type(), "from": str(mail["From"]), "to": str(mail["To"]),
        "from_address": mail["From"].addresses[0].addr_spec, "from_name": mail["From"].addresses[0].display_name,
        "to_count": len(mail["To"].addresses), "subject": mail["Subject"], "id": mail["Message-ID"],
        "date": mail["Date"].datetime.isoformat(), "text": parts.get("text/plain", ""),
        "html": parts.get("text/html", ""), "headers": headers, "names": [k for k, _ in headers],
        "unsubscribe": mail.get("List-Unsubscribe", "").replace(" ", ""),
        "one_click": mail.get("List-Unsubscribe-Post", ""), "custom": mail.get("X-Custom", "")}))


if __name__ == "__main__":
    main()
