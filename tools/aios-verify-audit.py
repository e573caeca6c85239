#!/usr/bin/env python3
"""Verify an audit export of aios (`aios audit export`), trusting nothing but a public key. Python's standard library only.

usage: aios-verify-audit.py EXPORT --key HEX [--checkpoints FILE] [--events events.def]

Each commit follows from the one before (chain), each event is under its commit's root (inclusion), none of the window is
missing or out of order, a checkpoint signed with the key covers the last, and no line says more than is checked. --checkpoints:
those that aios sent (JSON Lines) agree too. --events (src/core/events.def): what is shown for people is what is proven.
Exit code: 0 verified, 1 not (the first bad position is named), 2 it could not be read.
"""
import argparse
import base64
import hashlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import aios_events  # noqa: E402: reads an event's bytes; only for --events
from ed25519 import signed  # noqa: E402

HEAD = {"aios_audit", "log", "from", "to", "first", "before", "run", "heads"}
LINES = {"commit": {"commit", "count", "time", "root", "chain"}, "seq": {"seq", "bytes", "proof", "event"}, "end": {"end"},
         "checkpoint": {"checkpoint", "log", "chain", "time", "public_key", "signature"}}


class Bad(Exception):
    pass


def need(true, seq, why):
    if not true:
        raise Bad(f"event {seq}: {why}")


def once(pairs):
    """No member twice: who reads the line must not see another than is checked here."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member stands there twice")
    return dict(pairs)


def read(path):
    return (json.loads(s, object_pairs_hook=once) for s in open(path, encoding="utf-8"))


def blake(data):
    return hashlib.blake2b(data, digest_size=32).digest()


def event(line, commit, window, records):
    seq, raw = line["seq"], base64.b64decode(line["bytes"], validate=True)
    i, n, h, proof = seq - commit["commit"], commit["count"], blake(b"\0" + raw), list(line["proof"])
    need(type(seq) is int and 0 <= i < n and window[0] <= seq <= window[1], seq, "it does not belong here")
    while n > 1:
        if i % 2 or i + 1 < n:
            need(proof, seq, "its proof is too short")
            sibling = bytes.fromhex(proof.pop(0))
            h = blake(b"\1" + sibling + h) if i % 2 else blake(b"\1" + h + sibling)
        i, n = i // 2, (n + 1) // 2
    need(not proof and h.hex() == commit["root"], seq, "it is not under the root of its commit")
    shown = not records or "event" not in line or line["event"] == {**aios_events.decode(raw, records), "seq": seq}
    need(shown, seq, "what is shown is not what is proven")


def points(all_, key, head, at, chains):
    """The last event that a checkpoint covers, if all of them agree with the export and with one another."""
    covered, said = 0, {}
    for k in all_:
        seq, chain = k["checkpoint"], k["chain"]
        text = f"aios checkpoint 1\nlog {k['log']}\nseq {seq}\nchain {chain}\ntime {k['time']}\n"
        need(k["log"] == head["log"], seq, "its checkpoint is of another log")
        need(signed(key, b"aios/1/checkpoint\0" + text.encode(), bytes.fromhex(k["signature"])), seq,
             "its checkpoint is not signed by this key")
        need(said.setdefault(seq, chain) == chain, seq, "two checkpoints were signed there, of different logs")
        need(seq in chains or not head["first"] <= seq < at, seq, "a checkpoint was signed there, where no commit ends")
        need(chains.get(seq, chain) == chain, max([head["first"]] + [s + 1 for s in chains if s <= covered]),
             f"from here on, at most up to event {seq}, this is not what was signed")
        covered = max(covered, seq if seq in chains else 0)
    return covered


def verify(lines, key, others, records):
    head = next(lines, {})
    need(head.get("aios_audit") == 1 and set(head) <= HEAD, 0, "this is no export")
    chain, at, want, (first, last) = bytes.fromhex(head["before"]), head["first"], head["from"], (head["from"], head["to"])
    part, commit, chains, own, count, ended = "run" in head or "heads" in head, None, {}, [], 0, False
    need(at <= first <= last and (at == 1) == (chain == bytes(32)), at, "the window does not begin where it says")
    for line in lines:
        what = next((k for k in LINES if k in line), None)
        need(not ended and what and set(line) <= LINES[what], at, "something stands there that is not checked")
        if what == "commit":
            need(part or not commit or want >= min(at, last + 1), want, "it is missing")
            need(line["commit"] == at and line["count"] > 0, at, "the commit that holds it is missing or out of order")
            chain = blake(chain + bytes.fromhex(line["root"]) + at.to_bytes(8, "little")
                          + line["count"].to_bytes(4, "little") + line["time"].to_bytes(8, "little", signed=True))
            need(chain.hex() == line["chain"], at, "its commit does not continue the chain")
            commit, at = line, at + line["count"]
            chains[at - 1] = line["chain"]
        elif what == "seq":
            need(commit and (line["seq"] >= want if part else line["seq"] == want), want, "it is missing or out of order")
            event(line, commit, (first, last), records)
            want, count = line["seq"] + 1, count + 1
        elif what == "checkpoint":
            own.append(line)
        else:
            ended = line["end"] == last
    need(ended and (part or want == last + 1) and at > last, at if part else min(want, at), "the export ends before it")
    covered = points(own + others, key, head, at, chains)
    need(covered >= last, max(covered + 1, first), "no checkpoint covers it and what follows")
    return head, count, len(chains), covered


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("export")
    a.add_argument("--key", required=True, help="the vault's public key, hex: aios audit checkpoint shows it; keep it elsewhere")
    a.add_argument("--checkpoints", help="those that were sent to a place that aios cannot rewrite")
    a.add_argument("--events", help="src/core/events.def")
    a = a.parse_args()
    try:
        others = sorted(read(a.checkpoints), key=lambda k: k["checkpoint"]) if a.checkpoints else []
        records = aios_events.declared(a.events) if a.events else {}
        head, count, commits, covered = verify(read(a.export), bytes.fromhex(a.key), others, records)
    except Bad as bad:
        sys.exit(f"NOT VERIFIED: {bad}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as err:
        sys.exit(f"NOT VERIFIED: a line is malformed: {err!r}")
    except OSError as err:
        print(err, file=sys.stderr)
        sys.exit(2)
    part = "" if count == head["to"] - head["from"] + 1 else " in part (others are left out, and it does not say which)"
    print(f"verified{part}: {count} events of {head['from']} to {head['to']} in {commits} commits; signed up to {covered}")
    if not a.events:
        print("only `bytes` is proven: what is shown as `event` was not compared with it (--events)")


if __name__ == "__main__":
    main()
