#!/usr/bin/env python3
"""What an attacker reaches who has taken over a process of aios entirely: stand-ins in the place of the network door, of
aios-flow and of aios-connect send every kind of frame as every principal, and nothing is reached, nothing is decided.
The other half, every system call from inside the sandbox, are the tests flow/attack and door/attack (./dev test attack).
A stand-in of aios-flow that does not do the same twice shows that a replay which differs stands still with both shown."""
import fcntl
import json
import os
import pathlib
import secrets
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import BIN, ROOT, Aios, until  # noqa: E402
from frames import RECORDS, Peer  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
FLOWS = {
    "asker": 'export default flow({ name: "asker", grants: ["gate.ask"] }, async (ctx) => (await ctx.approve({ title: "?", '
             'show: 1 })).answer);',
    "victim": 'export default flow({ name: "victim", grants: ["test.*"] }, async (ctx) => (await ctx.signal("go")).payload);',
    "evil": 'export default flow({ name: "evil" }, async () => 1);',
    "probe": 'export default flow({ name: "probe", grants: ["test.*"] }, async (ctx) => { await ctx.call("test.echo", { n: 0 });'
             ' await ctx.sleep(2000); return "done"; });',
}
POLICY = 'rules: [{ name: tests, on: "test.*", then: allow }, { name: mail, on: "mail.*", then: allow }]\n'
CODE = """#!%s
import sys
sys.dont_write_bytecode = True
sys.path[:0] = [%r]
import %s as attack
attack.standin(%r, sys.argv[1:], %r)
"""


# --- in the stand-ins ----------------------------------------------------------------------------------------------------

class Story:
    """What the stand-ins are told and what they report: files, one JSON object a line."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def told(self):
        return json.loads((self.folder / "told.json").read_text())

    def report(self, **values):
        with open(self.folder / "report.jsonl", "a") as f:
            f.write(json.dumps(values) + "\n")

    def reports(self):
        path = self.folder / "report.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def take(self, name):
        """The next number of a count that outlives processes."""
        with open(self.folder / f"count-{name}", "a+") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.seek(0)
            n = int(f.read() or 0)
            f.seek(0)
            f.truncate()
            f.write(str(n + 1))
        return n


def standin(process, args, folder):
    story = Story(folder)
    told = story.told()
    if process == "aios-door" and args == ["local"]:
        os.execv(told["door"], ["aios-door", "local"])
    peer = Peer(process)
    if told["attack"] == "frames":
        forbidden(story, peer, process)
    elif process == "aios-door":
        door(story, peer, told)
    else:
        Worker(story, peer, told).serve()


def forbidden(story, peer, process):
    """One frame after the other that this process may not send; each costs it its life."""
    kind = process.split("-")[1]
    names = [r.name for r in RECORDS.values() if r.way.split(">")[0] not in (kind, "any")]
    name = names[(story.take(process) * 5 + 3 * len(process)) % len(names)]
    peer.next()
    story.report(process=process, frame=name)
    peer.send(name)
    while peer.next():
        pass
    time.sleep(60)


def door(story, peer, told):
    """Every operation as everybody that a door can claim to speak for."""
    claims = [{"credential": c} for c in range(6)]
    claims += [{"credential": 1, "uid": uid} for uid in (0, told["uid"], 65534)]
    for token in ("", "operator", "local", "aios_" + secrets.token_urlsafe(32), "aios_" + "A" * 43, "aiosc_e30",
                  "aiosc_eyJrIjoiIn0", "x" * 100000):
        claims += [{"credential": 2, "token": token}, {"credential": 3, "token": token}, {"credential": 1, "token": token}]
    n = 0
    for op in told["ops"]:
        for claim in claims:
            n += 1
            peer.send("door_request", req=n, op=op["op"], params=json.dumps(op["params"]), body=json.dumps(op["body"]),
                      **{"uid": told["uid"], **claim})
            while True:
                name, f = peer.next()
                if name == "door_reply" and f["req"] == n:
                    break
            story.report(op=op["op"], claim=str(claim)[:80], status=f["status"])
    weak = told["weak"]
    for op in told["ops"]:
        n += 1
        peer.send("door_request", req=n, op=op["op"], params=json.dumps(op["params"]), body=json.dumps(op["body"]), credential=2,
                  token=weak)
        while True:
            name, f = peer.next()
            if name == "door_reply" and f["req"] == n:
                break
        story.report(weak=True, op=op["op"], status=f["status"])
    peer.send("door_request", req=n + 1, op="no_such_operation", credential=1, uid=told["uid"])
    peer.send("door_gone", req=12345)
    story.report(over=True)
    while peer.next():
        pass


class Worker:
    """Speaks for runs that are not its own, ends them, jumps ahead, asks for what was not granted."""

    def __init__(self, story, peer, told):
        self.story, self.peer, self.told, self.entries = story, peer, told, {}

    def serve(self):
        while True:
            got = self.peer.next()
            if not got:
                return
            name, f = got
            if name == "flow_version":
                self.entries[f["version"]] = json.loads(f["modules"])["entry"]
            elif name == "flow_start":
                getattr(self, pathlib.Path(self.entries[f["version"]]).stem)(f)
            elif name == "flow_result":
                self.result(f)
            elif name == "stop":
                sys.exit(0)

    def call(self, run, step, action, args):
        self.peer.send("flow_call", run=run, step=step, action=action, args=json.dumps(args, separators=(",", ":")))

    def victim(self, f):
        self.call(f["run"], 0, "signal.wait", {"name": "go"})
        self.peer.send("flow_idle", run=f["run"], steps=1)

    def probe(self, f):
        self.call(f["run"], 0, "test.echo", {"n": 1 if f["replay"] else 0})
        self.peer.send("flow_idle", run=f["run"], steps=1)
        self.probed = f["run"]

    def result(self, f):
        if f["run"] == getattr(self, "probed", None) and f["step"] == 0:
            self.call(f["run"], 1, "timer.sleep", {"ms": 2000})
        self.peer.send("flow_idle", run=f["run"], steps=2)

    def evil(self, f):
        own, victim = f["run"], self.told["victim"]
        for run in (victim, 0, own + 1000, (1 << 64) - 1):
            self.call(run, 0, "test.echo", {"stolen": run & 0xFFFF})
            self.call(run, 1, "test.echo", {"stolen": run & 0xFFFF})
            self.peer.send("flow_idle", run=run, steps=99)
            self.peer.send("flow_done", run=run, steps=1, value='"stolen"')
            self.peer.send("flow_failed", run=run, steps=1, problem='{"kind":"exception","message":"stolen"}')
        for action, args in (("mail.send", {"subject": "s", "text": "t", "to": "x@example.org"}), ("test.echo", {}),
                             ("api.freeze", {}), ("memory.put", {"key": "k", "value": 1}), ("file.read", {"path": "../aios.yaml"})):
            self.call(own, self.step(), action, args)
        self.peer.send("flow_call", run=own, step=self.step(), action="test.echo", args='{"b":1, "a":2}')
        self.peer.send("flow_call", run=own, step=self.step(), action="test.echo", args='{"a":1,"a":2}')
        self.peer.send("flow_call", run=own, step=self.step(), action="test.echo", args="[" * 100000)
        self.peer.send("flow_call", run=own, step=self.step() + 50, action="test.echo", args="{}")
        self.peer.send("flow_inspected", req=1, ok=1, spec='{"name":"evil","grants":["*"]}')
        self.story.report(evil=own)
        time.sleep(0.3)
        self.peer.send("flow_done", run=own, steps=self.steps - 1, value='"over"')

    steps = 0

    def step(self):
        self.steps += 1
        return self.steps - 1


# --- outside -------------------------------------------------------------------------------------------------------------

def taken_over(aios, story, *processes, module="attack", **told):
    """A folder of executables in which these processes are the attacker's."""
    folder = aios.home / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in BIN.glob("aios*"):
        if path.is_file():
            shutil.copy2(path.resolve(), folder / path.name)
    for p in processes:
        (folder / p).unlink()
        (folder / p).write_text(CODE % (sys.executable, str(pathlib.Path(__file__).resolve().parent), module, p, str(story.folder)))
        (folder / p).chmod(0o755)
    (story.folder / "told.json").write_text(json.dumps({"door": str((BIN / "aios-door").resolve()), "uid": os.geteuid(), **told}))
    for path in story.folder.glob("report.jsonl"):
        path.unlink()
    aios.stop()
    aios.bin = folder
    aios.start()


def operations(gate, run):
    import re
    routes = re.findall(r"^(\w+)\s+(\S+)\s+(\w+)\s+(none|any|operator)\s", (ROOT / "src/wire/routes.def").read_text(), re.M)
    params = {"gate": str(gate["gate"]), "run": str(run), "flow": "victim", "name": "go", "key": "k", "id": "d", "token": "x"}
    body = {"shown": gate["shown"], "answer": "approve", "reason": "", "input": {}, "value": 1, "name": "mine", "grants": ["*"],
            "files": {}, "text": "t", "host": "h", "sealed": "AAAA", "csrf": "0" * 64}
    return [{"op": op, "auth": auth, "params": params, "body": body} for _, _, op, auth in routes if op not in ("openapi", "asset")]


def attack_door(aios, story):
    run = aios.post("/v1/flows/asker/runs", {})["run"]
    gate = until(lambda: aios.get("/v1/gates")["items"], 10, what="a gate")[0]
    weak = aios.post("/v1/keys", {"name": "weak", "grants": ["api.flows"]})["key"]
    ops = operations(gate, run)
    taken_over(aios, story, "aios-door", attack="door", ops=ops, weak=weak)
    until(lambda: any("over" in r for r in story.reports()), 60, what="the end of the attack")
    reports = story.reports()
    auth = {o["op"]: o["auth"] for o in ops}
    tried = [r for r in reports if "claim" in r]
    assert len(tried) == len(ops) * len({r["claim"] for r in tried}) or len(tried) > 1000, len(tried)
    for r in tried:
        if auth[r["op"]] != "none":
            assert r["status"] == 401, f"{r} was let in"
    assert {r["status"] for r in tried if r["op"] == "sign_in"} == {403}, "a guessed link signed somebody in"
    for r in (r for r in reports if r.get("weak")):
        wanted = {200} if r["op"] == "flows" else {200, 403, 404, 429} if auth[r["op"]] == "none" else {403}
        assert r["status"] in wanted, f"{r} with a grant for flows alone"
    events = [e for e in aios.events() if e["type"] not in ("engine.started", "access.denied")]
    bad = [e for e in events if e["type"] in ("gate.decided", "frozen", "run.ended", "fact.put", "document.put", "secret.changed",
                                              "outcome.recorded", "signal.sent")]
    assert not bad, bad
    assert len([e for e in events if e["type"] == "principal.added" and e["kind"] == "service"]) == 1, "a key was made"
    assert aios.get(f"/v1/gates/{gate['gate']}")["state"] == "open"
    aios.stop()
    aios.bin = BIN
    aios.start()
    aios.post(f"/v1/gates/{gate['gate']}/deny", {"shown": gate["shown"]})
    assert aios.get(f"/v1/runs/{run}?wait=20", timeout=30)["state"] == "failed"
    denied = {e["principal"] for e in aios.events() if e["type"] == "access.denied"}
    assert denied == {"key/weak"}, denied
    print(f"door: {len(tried)} requests as nobody, none let in")


def fault_46_interpreter_exploited(aios, story):
    """The victim is in one worker, the attacker's run in the other."""
    taken_over(aios, story, "aios-flow", attack="flow", victim=0)
    victim = aios.post("/v1/flows/victim/runs", {})["run"]
    (story.folder / "told.json").write_text(json.dumps({**story.told(), "victim": victim}))
    for pid in [p for n, p in aios.pids().items() if n.startswith("aios-flow")]:
        os.kill(pid, 9)  # so that they read what they are told
    until(lambda: aios.get(f"/v1/runs/{victim}")["step_count"] == 1, 20, what="the victim")
    until(lambda: [p["state"] for p in aios.get("/v1/status")["processes"] if p["process"] in ("aios-flow 1", "aios-flow 2")] == ["up"] * 2, 20)
    evil = aios.run("evil", wait=20)
    assert evil["state"] in ("done", "failed"), evil
    seen = aios.get(f"/v1/runs/{victim}")
    assert seen["state"] == "active" and [s["action"] for s in seen["steps"]] == ["signal.wait"], seen
    steps = aios.get(f"/v1/runs/{evil['run']}")["steps"]
    codes = {(s["action"], (s["problem"] or {}).get("code")) for s in steps}
    assert all(s["status"] == "failed" for s in steps) and {c for _, c in codes} <= {"denied", "unknown_action", "invalid"}, codes
    assert ("mail.send", "denied") in codes and ("file.read", "denied") in codes and ("memory.put", "denied") in codes, codes
    assert ("test.echo", "invalid") in codes, codes
    assert not (aios.dir / "files/outbox").exists() and "k" not in str(aios.get("/v1/memory/facts?prefix=")["items"])
    assert [e for e in aios.events() if e["type"] == "flow.deployed" and e["flow"] == "evil"][0]["grants"] == []
    # A worker that does not do the same twice: the run stands still, with both shown.
    probe = aios.post("/v1/flows/probe/runs", {})["run"]
    until(lambda: aios.get(f"/v1/runs/{probe}")["step_count"] == 2, 20, what="the second step")
    for pid in [p for n, p in aios.pids().items() if n.startswith("aios-flow")]:
        os.kill(pid, 9)
    parked = until(lambda: (r := aios.get(f"/v1/runs/{probe}"))["state"] == "parked" and r, 20, what="a parked run")
    detail = parked["detail"]
    assert parked["why"] == "diverged" and detail["step"] == 0, parked
    assert detail["recorded"] == {"action": "test.echo", "args": {"n": 0}}, detail
    assert detail["asked"] == {"action": "test.echo", "args": {"n": 1}}, detail
    gate = [g for g in aios.get("/v1/gates")["items"] if g["run"] == probe]
    assert len(gate) == 1 and gate[0]["kind"] == "parked", gate
    # With the real one again all goes on from where it stood.
    aios.stop()
    aios.bin = BIN
    aios.start()
    aios.post(f"/v1/runs/{probe}/resume", {"reason": "mended"})
    assert aios.get(f"/v1/runs/{probe}?wait=20", timeout=30)["value"] == "done"
    aios.post(f"/v1/runs/{victim}/signals/go", {"free": True})
    assert aios.get(f"/v1/runs/{victim}?wait=20", timeout=30)["value"] == {"free": True}
    print("flow: nothing of another run's, nothing without a grant; a replay that differs stands still")


def attack_frames(aios, story):
    """What a process may not send at all ends it."""
    processes = ["aios-door", "aios-flow", "aios-connect", "aios-views", "aios-vault"]
    taken_over(aios, story, *processes, attack="frames")
    before = aios.log()
    until(lambda: len(story.reports()) >= 25, 60, what="the attempts")
    time.sleep(1)
    reports = story.reports()
    ended = aios.log()[len(before):].count("sent a frame that it may not send")
    assert {r["process"] for r in reports} == set(processes), reports
    assert ended >= len(reports) - len(processes) - 2, f"{ended} ended after {len(reports)} frames"
    assert aios.get("/v1/health")["status"] == "ok"
    print(f"frames: {len(reports)} that may not be sent ({len({r['frame'] for r in reports})} kinds), each ended its process")
    aios.stop()
    aios.bin = BIN
    aios.start()


def main():
    files = {"aios.yaml": "name: attack\n", "policy.yaml": POLICY, **{f"flows/{n}.js": HEAD + t for n, t in FLOWS.items()}}
    with Aios(files) as aios:
        story = Story(aios.home)
        aios.start()
        aios.deploy()
        attack_door(aios, story)
        fault_46_interpreter_exploited(aios, story)
        attack_frames(aios, story)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
