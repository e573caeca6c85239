#!/usr/bin/env python3
"""Verify an audit export of aios (`aios audit export`), trusting nothing but a public key. Python's standard library only.

usage: aios-verify-audit.py EXPORT --key HEX [--checkpoints FILE] [--events events.def]

Checks that each commit follows from the one before (chain), that each event is under its commit's root (inclusion), that
none of the window is missing or out of order, and that a checkpoint signed with the key covers the last of them. With
--checkpoints (JSON Lines as aios sends them), those are checked too, and every one within the export must agree. With
--events (src/core/events.def), what is shown for people is compared with the bytes that are proven.
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

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def blake(data):
    return hashlib.blake2b(data, digest_size=32).digest()


# --- Ed25519 (RFC 8032): points as (X, Y, Z, T) ---
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1:
            q = add(q, p)
        p, s = add(p, p), s >> 1
    return q


def point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        raise ValueError("not a point")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def signed(key, message, signature):
    try:
        a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
        h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
        p, q = mul(s, point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))), add(r, mul(h, a))
    except ValueError:
        return False
    same = not (p[0] * q[2] - q[0] * p[2]) % P and not (p[1] * q[2] - q[1] * p[2]) % P
    return len(signature) == 64 and s < L and same


class Bad(Exception):
    pass


def once(pairs):
    """No member twice: who reads the line must not see another than is checked here."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member stands there twice")
    return dict(pairs)


def checkpoint(k, key, log):
    text = f"aios checkpoint 1\nlog {k['log']}\nseq {k['checkpoint']}\nchain {k['chain']}\ntime {k['time']}\n"
    if k["log"] != log:
        raise Bad(f"event {k['checkpoint']}: its checkpoint is of another log")
    if not signed(key, b"aios/1/checkpoint\0" + text.encode(), bytes.fromhex(k["signature"])):
        raise Bad(f"event {k['checkpoint']}: its checkpoint is not signed by this key")


def event(line, commit, window, records):
    seq, raw = line["seq"], base64.b64decode(line["bytes"], validate=True)
    i, n, h, proof = seq - commit["commit"], commit["count"], blake(b"\0" + raw), list(line["proof"])
    if not 0 <= i < n or not window[0] <= seq <= window[1]:
        raise Bad(f"event {seq}: it does not belong here")
    while n > 1:
        if i % 2 or i + 1 < n:
            if not proof:
                raise Bad(f"event {seq}: its proof is too short")
            sibling = bytes.fromhex(proof.pop(0))
            h = blake(b"\1" + sibling + h) if i % 2 else blake(b"\1" + h + sibling)
        i, n = i // 2, (n + 1) // 2
    if proof or h.hex() != commit["root"]:
        raise Bad(f"event {seq}: it is not under the root of its commit")
    if records and "event" in line and line["event"] != {**aios_events.decode(raw, records), "seq": seq}:
        raise Bad(f"event {seq}: what is shown is not what is proven")
    return seq


def verify(lines, key, others, records):
    head = next(lines, None)
    if not head or head.get("aios_audit") != 1:
        raise Bad("event 0: this is no export")
    chain, at, commit, window = bytes.fromhex(head["before"]), head["first"], None, (head["from"], head["to"])
    part, want, chains, points, ended, count = "run" in head or "heads" in head, head["from"], {}, [], False, 0
    if not head["first"] <= head["from"] <= head["to"] or (head["first"] == 1) != (chain == bytes(32)):
        raise Bad(f"event {head['first']}: the window does not begin where it says")
    for line in lines:
        if ended:
            raise Bad(f"event {at}: something follows the end")
        if "commit" in line:
            if not part and commit and want < min(at, window[1] + 1):
                raise Bad(f"event {want}: it is missing")
            if line["commit"] != at or line["count"] < 1:
                raise Bad(f"event {at}: the commit that holds it is missing or out of order")
            chain = blake(chain + bytes.fromhex(line["root"]) + at.to_bytes(8, "little")
                          + line["count"].to_bytes(4, "little") + (line["time"] % 2**64).to_bytes(8, "little"))
            if chain.hex() != line["chain"]:
                raise Bad(f"event {at}: its commit does not continue the chain")
            commit, at = line, at + line["count"]
            chains[at - 1] = line["chain"]
        elif "seq" in line:
            if not commit or line["seq"] < want or (not part and line["seq"] != want):
                raise Bad(f"event {want}: it is missing or out of order")
            want, count = event(line, commit, window, records) + 1, count + 1
        elif "checkpoint" in line:
            points.append(line)
        else:
            ended = line.get("end") == window[1]
    if not ended or (not part and want != window[1] + 1) or at <= window[1]:
        raise Bad(f"event {min(want, at) if not part else at}: the export ends before it")
    covered = 0
    for k in points + others:
        checkpoint(k, key, head["log"])
        if k["checkpoint"] in chains:
            if chains[k["checkpoint"]] != k["chain"]:
                raise Bad(f"event {max([head['first']] + [s + 1 for s in chains if s <= covered])}: from here on, at most up to "
                          f"event {k['checkpoint']}, this is not what was signed")
            covered = max(covered, k["checkpoint"])
        elif k["checkpoint"] >= head["first"] and (k["checkpoint"] < at or k in points):
            raise Bad(f"event {k['checkpoint']}: a checkpoint was signed there, where no commit ends")
    if covered < window[1]:
        raise Bad(f"event {max(covered + 1, window[0])}: no checkpoint covers it and what follows")
    return head, count, len(chains), covered


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("export")
    a.add_argument("--key", required=True, help="the vault's public key, hex: aios audit checkpoint shows it; keep it elsewhere")
    a.add_argument("--checkpoints", help="those that were sent to a place that aios cannot rewrite")
    a.add_argument("--events", help="src/core/events.def")
    a = a.parse_args()
    try:
        others = [json.loads(s) for s in open(a.checkpoints, encoding="utf-8")] if a.checkpoints else []
        others.sort(key=lambda k: k["checkpoint"])
        lines = (json.loads(s, object_pairs_hook=once) for s in open(a.export, encoding="utf-8"))
        head, count, commits, covered = verify(lines, bytes.fromhex(a.key), others, aios_events.declared(a.events) if a.events else {})
    except Bad as bad:
        sys.exit(f"NOT VERIFIED: {bad}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as err:
        sys.exit(f"NOT VERIFIED: a line is malformed: {err!r}")
    except OSError as err:
        print(err, file=sys.stderr)
        sys.exit(2)
    what = " (only those of run %d; what else there is, it does not say)" % head["run"] if "run" in head else ""
    print(f"verified: {count} events of {head['from']} to {head['to']} in {commits} commits{what}; signed up to {covered}")
    if not a.events:
        print("only `bytes` is proven: what is shown as `event` was not compared with it (--events)")


if __name__ == "__main__":
    main()
