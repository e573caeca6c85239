#!/usr/bin/env python3
"""The audit, with the real processes: who did, was allowed, approved and saw what; the export and its verifier.

usage: audit.py"""
import base64
import http.server
import importlib.util
import json
import pathlib
import random
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, Problem, until, ROOT  # noqa: E402

FLOW = """
import { flow } from "aios";
export default flow({ name: "pay", input: { type: "object" }, grants: ["test.*", "gate.*", "memory.*"] },
  async (ctx, input) => {
    await ctx.memory.put("payee/last", { name: input.who });
    await ctx.call("test.echo", { value: input.who });
    try { await ctx.call("mail.send", { to: "x@example.org", subject: "s", text: "t" }); } catch (e) { /* it has no grant */ }
    const ok = await ctx.approve({ title: "Pay?", show: { who: input.who } });
    return { ok };
  });
"""
FILES = {
    "aios.yaml": "name: Audit\nworkers: 1\n",
    "policy.yaml": 'rules:\n  - { name: trials, on: "test.*", then: allow }\n',
    "flows/pay.js": FLOW,
}


CHECKPOINTS = """
mail: { from: "a@example.org", transport: maildir, maildir: files/outbox }
audit:
  every: 1h
  checkpoints:
    - { name: disk, to: file, path: HOME/notary }
    - { name: stick, to: file, path: HOME/mounted }
    - { name: web, to: http, url: "http://127.0.0.1:PORT/notary" }
    - { name: me, to: mail, address: "me@example.org" }
"""


class Post:
    """A place that takes what is posted to it."""

    def __enter__(self):
        post = self
        self.got = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                post.got.append({"path": self.path, "body": body})
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()


def audit(a, *args):
    return json.loads(a.cli("audit", "--json", *map(str, args)).stdout)["items"]


def key_of(a, name, *grants):
    return a.post("/v1/keys", {"name": name, "grants": list(grants)})["key"]


def as_key(a, key, method, path, body=None):
    return a.ask(method, path, body, headers={"Authorization": f"Bearer {key}"})


def work(a):
    """A run that is allowed one thing, denied another, and approved by a person."""
    run = a.post("/v1/flows/pay/runs", {"input": {"who": "Ann"}, "customer": "ann"})["run"]
    gate = until(lambda: [g for g in a.get("/v1/gates")["items"] if g["run"] == run], 20)[0]
    shown = a.get(f"/v1/gates/{gate['gate']}")
    a.post(f"/v1/gates/{gate['gate']}/approve", {"shown": shown["shown"], "reason": "we owe it"})
    a.get(f"/v1/runs/{run}?wait=20")
    return run, gate["gate"]


def answers(a):
    run, gate = work(a)
    did = audit(a, "--run", run, "--kind", "did")
    assert {"test.echo", "memory.put"} <= {r["action"] for r in did}, did
    echo = next(r for r in did if r["action"] == "test.echo")
    assert echo["by"] == "flow/pay" and echo["rule"] and echo["customer"] == "ann" and "cost" in echo, echo
    denied = audit(a, "--run", run, "--kind", "denied")
    assert [r["action"] for r in denied] == ["mail.send"], denied
    approved = audit(a, "--gate", gate, "--kind", "approved")
    assert len(approved) == 1 and approved[0]["by"] == "operator", approved
    assert approved[0]["text"] == "approve: we owe it" and approved[0]["run"] == run, approved
    assert [r for r in audit(a, "--kind", "configured") if r["type"] == "flow.deployed" and r["object"] == "pay"]
    assert audit(a, "--who", "nobody") == [] and audit(a, "--since", "2099-01-01") == []
    text = a.cli("audit", "--run", str(run)).stdout
    assert "mail.send" in text and "operator" in text, text
    return run


def who_saw(a, run):
    """Reads are noted with who made them, together; a refused one is denied. A stop loses none."""
    anna = key_of(a, "anna", "api.run", "api.run_value", "api.gates", "api.fact")
    as_key(a, anna, "GET", f"/v1/runs/{run}/value")
    for _ in range(5):
        as_key(a, anna, "GET", f"/v1/runs/{run}")
    as_key(a, anna, "GET", "/v1/memory/facts/payee/last")
    try:
        as_key(a, anna, "GET", "/v1/secrets")
        raise AssertionError("a key without the grant saw the secrets")
    except Problem as p:
        assert p.status == 403, p
    a.get("/v1/secrets")
    # What shows everything is in the log before the answer; the rest came along with it.
    saw = until(lambda: audit(a, "--kind", "saw", "--who", "key/anna"), 10)
    assert {(r["action"], r["object"]) for r in saw} == {("api.run", str(run)), ("api.run_value", str(run)), ("api.fact", "payee/last")}, saw
    of_run = {r["action"] for r in audit(a, "--run", run) if r["kind"] == "saw" and r["by"] == "key/anna"}
    assert of_run == {"api.run", "api.run_value"}, of_run  # whatever way it was looked at
    assert next(r for r in saw if r["action"] == "api.run")["text"] == "5 times", saw
    assert [r for r in audit(a, "--kind", "saw", "--who", "operator") if r["action"] == "api.audit"]
    assert [r["action"] for r in audit(a, "--kind", "denied", "--who", "key/anna")] == ["api.secrets"]
    as_key(a, anna, "GET", "/v1/gates")
    a.stop()
    a.start()
    assert [r for r in audit(a, "--kind", "saw", "--who", "key/anna") if r["action"] == "api.gates"]
    # Repeated reads grow the log no further: they are counted.
    before = a.get("/v1/status")["seq"]
    for _ in range(50):
        a.get(f"/v1/runs/{run}")
        a.get("/v1/audit?limit=1")
    assert a.get("/v1/status")["seq"] - before <= 2


def verifier():
    spec = importlib.util.spec_from_file_location("verifier", ROOT / "tools/aios-verify-audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(a, *args):
    return [json.loads(s) for s in a.cli("audit", "export", *map(str, args)).stdout.splitlines()]


def signed_places(a, got):
    """A checkpoint is signed at once when it is asked for, and reaches a folder, an HTTP address and a mailbox; a folder that
    is not there is said to fail, and gets it when it comes."""
    first = json.loads(a.cli("audit", "checkpoint", "--json").stdout)
    place = a.home / "mounted"
    files = until(lambda: list((a.home / "notary").glob("checkpoints-*.jsonl")), 20)
    until(lambda: got and list((a.dir / "files/outbox/new").iterdir()), 30)
    line = json.loads(files[0].read_text().splitlines()[0])
    assert line == {k: first[k] for k in ("checkpoint", "log", "chain", "time", "public_key", "signature")}, (line, first)
    assert json.loads(got[0]["body"]) == line, got
    state = lambda: {p["name"]: p["state"] for p in a.get("/v1/status")["checkpoints"]["places"]}
    until(lambda: state() == {"disk": "has it", "web": "has it", "me": "has it", "stick": "failing"}, 20)
    assert [r for r in audit(a, "--action", "checkpoint.sent") if r["how"] == "stick" and "No such" in r["text"]]
    place.mkdir()
    a.cli("audit", "checkpoint")
    until(lambda: state()["stick"] == "has it", 60)
    # Nothing happened since: none is made.
    seq = a.get("/v1/status")["checkpoints"]["seq"]
    a.cli("audit", "checkpoint")
    assert a.get("/v1/status")["checkpoints"]["seq"] == seq
    return files[0], first["public_key"]


def exported(a, run, key, file):
    """What is exported is verified by a program of another language that knows the public key alone; each change is found."""
    v = verifier()
    out = a.home / "export.jsonl"
    a.get("/v1/keys")  # something of the operator's
    a.cli("audit", "checkpoint")
    a.cli("audit", "export", "--out", str(out))
    tool = [sys.executable, str(ROOT / "tools/aios-verify-audit.py"), str(out), "--key", key, "--checkpoints", str(file)]
    p = subprocess.run(tool + ["--events", str(ROOT / "src/core/events.def")], capture_output=True, text=True)
    assert p.returncode == 0 and "verified" in p.stdout, p
    p = subprocess.run(tool[:4] + ["00" * 32], capture_output=True, text=True)
    assert p.returncode == 1 and "not signed by this key" in p.stderr, p
    lines = [json.loads(s) for s in out.read_text().splitlines()]
    forged = a.home / "forged.jsonl"
    text = out.read_text()
    for before, after in (('"reason":"we owe it"', '"reason":"he asked"'), ('"answer":"approve"', '"answer":"deny","answer":"approve"'),
                          ('"by":"operator"', '"by":"operator","more":1')):
        assert before in text
        forged.write_text(text.replace(before, after, 1))
        p = subprocess.run(tool[:2] + [str(forged)] + tool[3:] + ["--events", str(ROOT / "src/core/events.def")],
                           capture_output=True, text=True)
        assert p.returncode == 1 and ("not what is proven" in p.stderr or "twice" in p.stderr), p
    checked = v.verify(iter(lines), bytes.fromhex(key), [], v.aios_events.declared(str(ROOT / "src/core/events.def")))
    assert checked[1] == len([x for x in lines if "seq" in x]) > 30
    # Windows and runs, with what is needed to verify them and no more.
    part = export(a, "--from", 10, "--to", 20)
    assert [x["seq"] for x in part if "seq" in x] == list(range(10, 21))
    v.verify(iter(part), bytes.fromhex(key), [], {})
    of_run = export(a, "--run", run)
    # What leaves something out says so, also where it was made to look like a part.
    forged.write_text("".join(json.dumps({**x, "heads": True} if "aios_audit" in x else x) + "\n" for i, x in enumerate(lines) if i != 5 or "seq" not in x))
    assert "verified in part" in subprocess.run(tool[:2] + [str(forged)] + tool[3:5], capture_output=True, text=True).stdout
    assert v.verify(iter(of_run), bytes.fromhex(key), [], {})[1] < checked[1]
    types = {x["event"]["type"] for x in of_run if "seq" in x}
    assert {"run.started", "step.called", "gate.decided", "run.ended"} <= types, types
    heads = export(a, "--heads")
    assert v.verify(iter(heads), bytes.fromhex(key), [json.loads(s) for s in open(file)], {})[1] == 0
    return lines, v


def locked_vault(a):
    """A locked vault signs nothing, and says so; unlocked it signs what came meanwhile."""
    a.cli("vault", "lock")
    a.ask("PUT", "/v1/memory/facts/while/locked", {"value": 1})
    p = a.cli("audit", "checkpoint", check=False)
    assert p.returncode == 1 and "locked" in p.stderr, p
    assert "locked" in a.get("/v1/status")["checkpoints"]["why"]
    assert "no checkpoint could be signed" in a.cli("status").stdout
    a.cli("vault", "unlock")
    a.cli("audit", "checkpoint")
    assert "why" not in a.get("/v1/status")["checkpoints"]


def who_may_ask(a):
    """An auditor's key asks and exports and does nothing else; one with a scope is told nothing of the whole."""
    auditor = key_of(a, "auditor", "api.audit", "api.audit_export")
    assert as_key(a, auditor, "GET", "/v1/audit")["items"] and as_key(a, auditor, "GET", "/v1/audit/export?to=5")["items"]
    scoped = a.post("/v1/keys", {"name": "guest", "kind": "visitor", "grants": ["api.*"], "scope": {"own": True}})["key"]
    for key, method, path in ((auditor, "POST", "/v1/audit/checkpoint"), (auditor, "GET", "/v1/events"),
                              (auditor, "POST", "/v1/audit/verify"), (scoped, "GET", "/v1/audit"),
                              (scoped, "GET", "/v1/audit/export"), (scoped, "POST", "/v1/audit/checkpoint")):
        try:
            as_key(a, key, method, path, {} if method == "POST" else None)
        except Problem as p:
            assert p.status in (403, 404), (method, path, p)
        else:
            raise AssertionError(f"{method} {path} was answered")


def exported_again(a, key, before):
    """From the archive the same lines come."""
    v = verifier()
    again = export(a, "--to", before[0]["to"])
    assert [x for x in again if "seq" in x] == [x for x in before if "seq" in x]
    v.verify(iter(again), bytes.fromhex(key), [], {})
    return again, v


def is_found(v, lines, key, others=()):
    try:
        v.verify(iter(lines), key, list(others), {})
    except v.Bad as bad:
        return int(float(str(bad).split()[1].rstrip(":")))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        return -1
    return None


def fault_69_audit_edit_reorder_truncate_fork(a, lines, v, key):
    """Thousands of changes of an export: each is found, and where an event was changed, that one is named."""
    key = bytes.fromhex(key)
    rng = random.Random(69)
    quick, v.signed = v.signed, lambda *_: True  # signatures have a test of their own: here are thousands
    assert is_found(v, lines, key) is None
    events = [i for i, x in enumerate(lines) if "seq" in x]
    for n in range(3000):
        bad = list(lines)
        i = rng.choice(events)
        raw = bytearray(base64.b64decode(lines[i]["bytes"]))
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        bad[i] = dict(lines[i], bytes=base64.b64encode(raw).decode())
        assert is_found(v, bad, key) == lines[i]["seq"], (n, lines[i])
    # What stands behind the window is the head of the commit that holds the last checkpoint: it is not needed.
    needed = [i for i, x in enumerate(lines) if "checkpoint" not in x and x.get("commit", 0) <= lines[0]["to"]]
    for n in range(2000):
        bad = list(lines)
        i, how = rng.choice(needed), rng.randrange(4)
        if how == 0:
            del bad[i]
        elif how == 1:
            j = rng.choice([j for j in needed if j != i])
            bad[i], bad[j] = bad[j], bad[i]
        elif how == 2:
            bad = bad[:rng.randrange(len(lines))]
        else:
            x = rng.choice(events)
            bad[x] = dict(bad[x], seq=bad[x]["seq"] + rng.choice([-1, 1, 7]))
        assert is_found(v, bad, key) is not None, (n, how, i, lines[i])
    # What stands in no proof may not stand there: a reader of the file would see it.
    head, commit, last = lines[0], next(x for x in lines if "commit" in x), lines[events[0]]
    forged = {"event": {"seq": 5, "type": "gate.decided", "by": "operator", "answer": "approve"}}
    for i, x in ((0, head), (lines.index(commit), commit), (events[0], last), (len(lines) - 1, lines[-1])):
        more = [*lines[:i], {**x, **forged, "seq" if "seq" not in x else "more": 5}, *lines[i + 1:]]
        assert is_found(v, more, key) is not None, x
        assert is_found(v, [*lines[:i + 1], forged, *lines[i + 1:]], key) is not None, x
    for x, change in ((commit, {"time": commit["time"] + 2**64}), (last, {"seq": float(last["seq"])}), (commit, {"count": float(commit["count"])})):
        assert is_found(v, [{**y, **change} if y is x else y for y in lines], key) is not None, change
    # Two that were signed for the same place tell of two logs.
    k = dict(next(x for x in lines if "checkpoint" in x), checkpoint=head["to"] + 10**6)
    assert is_found(v, lines, key, [k, {**k, "chain": "00" * 32}]) == k["checkpoint"]
    # A fork that holds together: everything from the middle on is another history, with chains computed anew.
    fork, chain, first = [], bytes(32), next(x["checkpoint"] for x in lines if "checkpoint" in x)
    for x in lines:
        x = dict(x)
        if "commit" in x:
            if x["commit"] > first:
                x["time"] += 1
            chain = v.blake(chain + bytes.fromhex(x["root"]) + x["commit"].to_bytes(8, "little")
                            + x["count"].to_bytes(4, "little") + (x["time"] % 2**64).to_bytes(8, "little"))
            x["chain"] = chain.hex()
        fork.append(x)
    found = is_found(v, fork, key)
    assert found == first + 1, (found, first)
    v.signed = quick


def log_against_places(a, file, key):
    """A log whose end was cut off, and one that went another way, hold together by themselves: what was sent elsewhere
    tells."""
    ok = json.loads(a.cli("audit", "verify", "--json", "--checkpoint", str(file), "--key", key).stdout)
    assert ok["ok"] and ok["checkpoints"] >= 2, ok
    assert json.loads(a.cli("audit", "verify", "--json").stdout)["ok"]
    p = a.cli("audit", "verify", "--checkpoint", str(file), "--key", "11" * 32, check=False)
    assert p.returncode == 1 and "not signed by this key" in p.stderr, p
    a.stop()
    shutil.copytree(a.dir, a.home / "old", ignore=shutil.ignore_patterns("*.sock"))
    a.start()
    for i in range(5):
        a.ask("PUT", f"/v1/memory/facts/later/{i}", {"value": i})
    cut = a.get("/v1/status")["seq"]
    a.cli("audit", "checkpoint")
    until(lambda: len(file.read_text().splitlines()) > ok["checkpoints"], 20)
    newest = json.loads(file.read_text().splitlines()[-1])["checkpoint"]
    assert newest >= cut
    a.stop()
    # The old files are put back: the log holds together and ends too early.
    shutil.rmtree(a.dir)
    shutil.copytree(a.home / "old", a.dir)
    shutil.rmtree(a.home / "state", ignore_errors=True)
    a.start(env={"XDG_STATE_HOME": str(a.home / "state")})
    assert a.verify()["ok"]
    r = json.loads(a.cli("audit", "verify", "--json", "--checkpoint", str(file), "--key", key, check=False).stdout)
    assert not r["ok"] and r["bad"] == r["seq"] + 1 and "end is missing" in r["message"], r
    # It goes on from there, another way, until it is longer than what was signed.
    while a.get("/v1/status")["seq"] <= newest:
        a.ask("PUT", "/v1/memory/facts/other/way", {"value": 1})
    assert a.verify()["ok"]
    r = json.loads(a.cli("audit", "verify", "--json", "--checkpoint", str(file), "--key", key, check=False).stdout)
    assert not r["ok"] and ok["covered"] < r["bad"] <= newest and "fork" in r["message"], (r, ok, newest)


def main():
    with Aios(FILES) as a, Post() as post:
        a.start()
        (a.home / "notary").mkdir()
        a.deploy()
        run = answers(a)
        who_saw(a, run)
        config = a.dir / "aios.yaml"
        config.write_text(config.read_text() + CHECKPOINTS.replace("HOME", str(a.home)).replace("PORT", str(post.port)))
        a.deploy()
        file, key = signed_places(a, post.got)
        locked_vault(a)
        who_may_ask(a)
        lines, v = exported(a, run, key, file)
        fault_69_audit_edit_reorder_truncate_fork(a, lines, v, key)
        a.cli("log", "archive", "--older", "0s")
        lines, v = exported_again(a, key, lines)
        log_against_places(a, file, key)
        print("audit: ok")


if __name__ == "__main__":
    main()
