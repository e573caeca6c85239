#!/usr/bin/env python3
"""The newsletter demo from end to end: `tools/run --headless`, and what it left behind looked at independently."""
import csv
import email
import email.policy
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def fail(why):
    print(f"FAIL: {why}")
    sys.exit(1)


def main():
    with tempfile.TemporaryDirectory(prefix="aios-e2e-") as folder:
        ws = pathlib.Path(folder) / "ws"
        p = subprocess.run([ROOT / "tools/run", "--headless", "--workspace", ws], text=True, capture_output=True,
                           env=dict(os.environ), timeout=600)
        print(p.stdout, end="")
        print(p.stderr, end="", file=sys.stderr)
        if p.returncode:
            fail(f"tools/run ended with {p.returncode}")
        summary = json.loads(p.stdout.strip().splitlines()[-1])
        wanted = ["workspace", "maildir", "readers", "mails", "duplicates", "gates", "cost_usd", "seconds", "log_verified"]
        if list(summary) != wanted:
            fail(f"the summary has {list(summary)}")
        with open(ws / "files/readers.csv", newline="") as f:
            readers = {r["email"]: r for r in csv.DictReader(f)}
        if summary["readers"] != 200 or len(readers) != 200 or summary["mails"] != 200 or summary["duplicates"] != 0:
            fail("not 200 readers and 200 mails")
        if summary["gates"] < 1 or summary["log_verified"] is not True or not summary["cost_usd"] >= 0:
            fail("gates, log or cost are not as they must be")
        check_mails(pathlib.Path(summary["maildir"]), readers)
    print("ok")


def check_mails(maildir, readers):
    seen, subjects, bodies, ids = {}, {}, set(), set()
    left = [p for p in (maildir / "tmp").iterdir()]
    if left:
        fail(f"half-written mails: {left[:3]}")
    for path in (maildir / "new").iterdir():
        raw = path.read_bytes()
        message = email.message_from_bytes(raw, policy=email.policy.default)
        if message.defects:
            fail(f"{path.name}: {message.defects}")
        if any(len(line) > 998 for line in raw.splitlines()):
            fail(f"{path.name}: a line is longer than 998 bytes")
        to = message["To"].addresses[0].addr_spec
        seen[to] = seen.get(to, 0) + 1
        subjects.setdefault(message["Subject"], set()).add(readers[to]["segment"])
        ids.add(message["Message-ID"])
        if readers[to]["id"] not in message["List-Unsubscribe"]:
            fail(f"{path.name}: its List-Unsubscribe is another reader's")
        text, html = (message.get_body(preferencelist=(kind,)) for kind in ("plain", "html"))
        if text is None or html is None:
            fail(f"{path.name}: it needs text and HTML")
        bodies.add(text.get_content())
    if set(seen) != set(readers) or set(seen.values()) != {1}:
        fail(f"{len(set(readers) - set(seen))} readers got nothing, {sum(n > 1 for n in seen.values())} got it twice")
    if len(subjects) != 2 or any(len(segments) < 2 for segments in subjects.values()):
        fail(f"not two subjects, each in several segments: {subjects}")
    if len(ids) != 200 or len(bodies) != 1:
        fail("the mails must differ in Message-ID and in nothing else")


if __name__ == "__main__":
    main()
