#!/usr/bin/env python3
"""A restore drill: back up while runs go on, let effects go on after the backup, lose the workspace, restore, and look at
the outside: nothing was done twice. And old files that were put back by hand are recognised.

usage: backup.py"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import BIN, Aios, Ledger, Problem, until  # noqa: E402

FLOW = """
import { flow } from "aios";
export default flow({ name: "drill", input: { type: "object" }, grants: ["test.*", "timer.*", "signal.*", "gate.*"] },
  async (ctx, input) => {
    const done = [];
    for (let i = 0; i < input.steps; i++) {
      if (input.pause === i) await ctx.signal("go");
      done.push(await ctx.call(input.kinds[i % input.kinds.length],
        { ledger: "drill", value: { n: input.n, i } }));
      if (input.sleep) await ctx.sleep(input.sleep);
    }
    return done.length;
  });
"""
KINDS = ["test.idempotent", "test.lookup", "test.once"]


def workspace(ledger):
    return {
        "aios.yaml": f'name: Drill\nworkers: 1\ntest: {{ ledger: "127.0.0.1:{ledger.port}" }}\n',
        "policy.yaml": 'rules:\n  - { on: "test.*", then: allow }\n',
        "flows/drill.js": FLOW,
        "files/notes.txt": "not part of a backup\n",
    }


def offline(*args):
    return subprocess.run([BIN / "aiosd", *map(str, args)], capture_output=True, text=True)


def load(a, stop, count):
    """Runs that come and go while the backup is made."""
    while not stop.is_set():
        a.run("drill", {"n": 1000 + count[0], "steps": 2, "kinds": ["test.idempotent"]}, wait=0)
        count[0] += 1


def made(a, to, *more):
    out = json.loads(a.cli("backup", str(to), "--json", *more).stdout)
    assert out["state"] == "done", out
    return out


def settle(b, *but):
    """What a person does who looks at the outside: here everything in doubt has happened, as the ledger shows."""
    seen, end = 0, time.monotonic() + 60
    while time.monotonic() < end:
        gates = [g for g in b.get("/v1/gates")["items"] if g["kind"] == "doubt"]
        for g in gates:
            shown = b.get(f"/v1/gates/{g['gate']}")["shown"]
            b.post(f"/v1/gates/{g['gate']}/settle", {"shown": shown, "answer": "happened", "result": {"by": "hand"}})
            seen += 1
        if not gates and not [r for r in b.get("/v1/runs?state=active")["items"] if r["run"] not in but]:
            return seen
        if not gates:
            time.sleep(0.1)
    raise TimeoutError("runs are still open: " + json.dumps(b.get("/v1/runs?state=active")))


def drill(a, ledger, home):
    a.start()
    a.deploy()
    # Open at the backup: each stands in the middle, waiting for a signal.
    runs = [a.run("drill", {"n": n, "steps": 6, "kinds": KINDS, "pause": 3}, wait=0)["run"] for n in range(8)]
    for r in runs:
        until(lambda: a.get(f"/v1/runs/{r}")["step_count"] == 4, 20, what="the runs' pause")
    sleeper = a.run("drill", {"n": 99, "steps": 1, "kinds": KINDS, "sleep": 3600000}, wait=0)["run"]
    until(lambda: a.get(f"/v1/runs/{sleeper}")["step_count"] == 2, 20)
    stop, count = threading.Event(), [0]
    t = threading.Thread(target=load, args=(a, stop, count))
    t.start()
    to = home / "backup"
    out = made(a, to)
    stop.set()
    t.join()
    assert out["seq"] > 50 and out["files"] >= 4, out
    assert not (to / "vault/key").exists() and not (to / "sources/files").exists()
    assert (to / "sources/flows/drill.js").read_text() == FLOW
    again = a.cli("backup", str(to), check=False)
    assert again.returncode == 1 and "overwrites nothing" in again.stderr, again
    assert a.cli("backup", str(to), "--verify").returncode == 0

    # The lost time: everything goes on and ends.
    for r in runs:
        a.post(f"/v1/runs/{r}/signals/go", {})
    for r in runs:
        assert a.get(f"/v1/runs/{r}?wait=30", timeout=40)["state"] == "done"
    until(lambda: not [r for r in a.get("/v1/runs?state=active&limit=100")["items"] if r["run"] != sleeper], 40)
    before = ledger.entries()
    a.stop()
    return to, runs, sleeper, before


def restored(to, home, ledger, runs, sleeper, before):
    r = offline("--restore", to, "--workspace", home / "w")
    assert r.returncode == 1 and "not empty" in r.stderr, r
    (home / "second").mkdir()
    b = Aios({}, home=home / "second")
    r = subprocess.run([BIN / "aios", "restore", str(to), str(b.dir)], capture_output=True, text=True)
    assert r.returncode == 0 and "held" in r.stdout, r
    with b:
        b.start()
        status = b.get("/v1/status")
        held = status["held_by_restore"]
        assert held >= len(runs), status
        started = [e for e in b.events() if e["type"] == "engine.started"][-1]
        assert started["restored"] == 1, started
        gates = b.get("/v1/gates?limit=1000")["items"]
        assert sum(g["rule"] == "restored" for g in gates) == held, gates
        assert b.get(f"/v1/runs/{sleeper}")["state"] == "active"  # cannot have gone on: not held
        for r in runs:
            assert b.get(f"/v1/runs/{r}")["state"] == "parked"
        assert b.get("/v1/log/search?q=engine.started")["items"]
        assert ledger.entries() == before
        # A restart does not let anything go.
        b.stop()
        b.start()
        assert b.get("/v1/status")["held_by_restore"] == held and ledger.entries() == before
        out = json.loads(b.cli("resume", "--restored", "--json").stdout)
        assert out == {"resumed": held, "left": 0}, out
        for r in runs:
            b.post(f"/v1/runs/{r}/signals/go", {})
        asked = settle(b, sleeper)
        assert asked >= len(runs), asked  # each had a `once` behind the pause
        for r in runs:
            assert b.get(f"/v1/runs/{r}")["state"] == "done"
        after = ledger.entries()
        assert len(after) == len(before), (len(before), len(after))
        b.verify()
        # From here all is as ever.
        assert b.run("drill", {"n": 5000, "steps": 3, "kinds": KINDS})["state"] == "done"
        assert len(ledger.entries()) == len(before) + 3


def damaged(to, home):
    """Any flipped bit, a missing or an added file is found, and nothing is restored from it."""
    bad = home / "bad"
    for victim in ("log/log.db", "sources/flows/drill.js", "manifest.json"):
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(to, bad)
        path = bad / victim
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert offline("--verify-backup", bad).returncode == 1, victim
        assert offline("--restore", bad, "--workspace", home / "third").returncode == 1
        assert not (home / "third/.aios").exists()
    shutil.rmtree(bad)
    shutil.copytree(to, bad)
    (bad / "log/stray").write_text("x")
    assert offline("--verify-backup", bad).returncode == 1
    (bad / "log/stray").unlink()
    (bad / "manifest.json").unlink()
    r = offline("--verify-backup", bad)
    assert r.returncode == 1 and "not finished" in r.stderr, r


def rolled_back(ledger):
    """Old files put back by hand: refused, with a way out; taken as a restore when that is said."""
    with Aios(workspace(ledger)) as a:
        a.start()
        a.deploy()
        run = a.run("drill", {"n": 1, "steps": 4, "kinds": ["test.once"], "pause": 1}, wait=0)["run"]
        until(lambda: a.get(f"/v1/runs/{run}")["step_count"] == 2, 20)
        a.stop()
        shutil.copytree(a.dir / ".aios/log", a.home / "old")
        a.start()
        a.post(f"/v1/runs/{run}/signals/go", {})
        assert a.get(f"/v1/runs/{run}?wait=30", timeout=40)["state"] == "done"
        a.stop()
        before = ledger.entries()
        shutil.rmtree(a.dir / ".aios/log")
        shutil.copytree(a.home / "old", a.dir / ".aios/log")
        p = offline_up(a)
        assert p.returncode == 1 and "--restored" in p.stderr and "older files" in p.stderr, p
        a.start(None, "--restored")
        assert a.get("/v1/status")["held_by_restore"] == 1
        a.cli("resume", str(run))
        a.post(f"/v1/runs/{run}/signals/go", {})
        assert settle(a) == 3
        assert ledger.entries() == before
        a.stop()
        a.start()  # the anchor follows again
        # Without a home there is no anchor, and nobody is kept from starting.
        a.stop()
        shutil.rmtree(a.dir / ".aios/log")
        shutil.copytree(a.home / "old", a.dir / ".aios/log")
        a.start({"XDG_STATE_HOME": "", "HOME": ""})


def offline_up(a):
    return subprocess.run([BIN / "aiosd", "--workspace", a.dir, "--port", "0"], capture_output=True, text=True,
                          env={**os.environ, "XDG_STATE_HOME": str(a.home / "state")}, timeout=60)


def with_key(ledger):
    with Aios(workspace(ledger)) as a:
        a.start()
        a.deploy()
        a.cli("secrets", "set", "token", "--host", "api.example.org", "--action", "model.*", input="s3cret\n")
        made(a, a.home / "plain")
        made(a, a.home / "keyed", "--with-key")
        assert not (a.home / "plain/vault/key").exists() and (a.home / "keyed/vault/key").exists()
        try:
            a.post("/v1/backup", {"dir": "relative"})
            raise AssertionError("a relative path was taken")
        except Problem as p:
            assert p.status == 400
        # A backup in the workspace would hold itself.
        (a.home / "link").symlink_to(a.dir)
        for to in (a.dir / "backups/today", a.home / "link/backup", a.dir):
            try:
                a.post("/v1/backup", {"dir": str(to)})
                raise AssertionError(f"{to} was taken")
            except Problem as p:
                assert p.status == 422 and "outside" in p.body["detail"], p.body
        assert not (a.dir / "backups").exists()


def main():
    home = pathlib.Path(tempfile.mkdtemp(prefix="aios-backup-"))
    ledger = Ledger(home / "ledger.jsonl")
    try:
        with Aios(workspace(ledger), home=home) as a:
            to, runs, sleeper, before = drill(a, ledger, home)
            restored(to, home, ledger, runs, sleeper, before)
            damaged(to, home)
        rolled_back(ledger)
        with_key(ledger)
    finally:
        ledger.stop()
        shutil.rmtree(home, ignore_errors=True)
    print("backup: ok")


if __name__ == "__main__":
    main()
