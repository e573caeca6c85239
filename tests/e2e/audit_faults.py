#!/usr/bin/env python3
"""Faults of the catalogue that concern the log and the API, with the real processes: an audit that cannot be written, a key
that comes again with another body, hostile files where a database, an archive or a backup should be.

usage: audit_faults.py [--inside DIR]   (the full disk is a small tmpfs in a mount namespace, where that is granted)"""
import json
import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, BIN, Ledger, Problem, until  # noqa: E402

FLOW = """
import { flow } from "aios";
export default flow({ name: "f", input: { type: "object" }, grants: ["test.*", "timer.*", "signal.*"] },
  async (ctx, input) => {
    if (input.wait) await ctx.signal("go");
    if (input.sleep) await ctx.sleep(input.sleep);
    return await ctx.call("test.once", { value: input.value ?? "x" });
  });
"""


def files(ledger=0):
    return {
        "aios.yaml": f'name: Faults\nworkers: 1\nlog: {{ reserve: never }}\ntest: {{ ledger: "127.0.0.1:{ledger}" }}\n',
        "policy.yaml": 'rules:\n  - { on: "test.*", then: allow }\n',
        "flows/f.js": FLOW,
    }


def refused(status, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except Problem as p:
        assert p.status == status, p
        return p.body
    raise AssertionError(f"{args} was not refused")


def fault_40_same_key_other_body():
    """The same key with the same body is answered as before; with another body it is refused, after a restart too."""
    with Aios(files()) as a:
        a.start()
        a.deploy()
        key = {"Idempotency-Key": "k1"}
        first = a.ask("POST", "/v1/flows/f/runs", {"input": {"wait": True}}, headers=key)["run"]
        signal = f"/v1/runs/{first}/signals/other"
        other = {"Idempotency-Key": "s1"}
        a.ask("POST", signal, {"n": 1}, headers=other)
        freeze = {"Idempotency-Key": "f1"}
        a.ask("POST", "/v1/freeze", {"reason": "a"}, headers=freeze)
        a.post("/v1/thaw", {})
        assert refused(409, a.ask, "POST", "/v1/freeze", {"reason": "b"}, headers=freeze)["code"] == "key_reused"
        for _ in range(2):
            assert a.ask("POST", "/v1/flows/f/runs", {"input": {"wait": True}}, headers=key)["run"] == first
            for body in ({"input": {"wait": True, "value": "y"}}, {"input": {}}):
                assert refused(409, a.ask, "POST", "/v1/flows/f/runs", body, headers=key)["code"] == "key_reused"
            assert refused(409, a.ask, "POST", signal, {"n": 2}, headers=other)["code"] == "key_reused"
            a.stop()
            a.start()
        assert len(a.get("/v1/runs")["items"]) == 1


def nothing_leaves(a, ledger, sleeper, before):
    """While nothing can be written: reads are answered, work is refused, and no effect happens."""
    until(lambda: a.get("/v1/health")["status"] == "degraded", 30, what="the refusal")
    for path in ("/v1/runs", f"/v1/runs/{sleeper}", "/v1/gates", "/v1/audit", "/v1/keys", "/v1/audit/export?to=5", "/v1/status"):
        assert a.get(path), path
    for _ in range(3):
        assert refused(507, a.post, "/v1/flows/f/runs", {"input": {}})["code"] == "disk_full"
    until(lambda: a.get(f"/v1/runs/{sleeper}")["state"] == "active", 5)
    assert ledger.entries() == before, ledger.entries()


def goes_on(a, ledger, sleeper, before):
    until(lambda: a.get("/v1/health")["status"] == "ok", 60, what="writing again")
    assert a.get(f"/v1/runs/{sleeper}?wait=30", timeout=40)["state"] == "done"
    assert len(ledger.entries()) == len(before) + 1, ledger.entries()
    # What was read while nothing could be written was not forgotten.
    a.get("/v1/secrets")
    seen = until(lambda: [r for r in a.get("/v1/audit?kind=saw&limit=200")["items"] if r["action"] == "api.gates"], 70)
    assert seen, seen
    assert a.verify()["ok"]


def fault_70_audit_unwritable_full(home, where):
    """Only the log has no room."""
    ledger = Ledger(home / "ledger")
    with Aios(files(ledger.port), home=home) as a:
        (a.dir / ".aios/log").mkdir(parents=True, mode=0o700)
        os.chmod(a.dir / ".aios", 0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", a.dir / ".aios/log"], check=True)
        a.start()
        a.deploy()
        a.run("f", {"value": "first"})
        before = ledger.entries()
        assert len(before) == 1, before
        sleeper = a.run("f", {"sleep": 2500, "value": "later"}, wait=0)["run"]
        hog = a.dir / ".aios/log/hog"
        with open(hog, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        for i in range(200):  # what room its files still have
            try:
                a.ask("PUT", f"/v1/memory/facts/fill/{i}", {"value": "x" * 60000})
            except Problem as p:
                assert p.status in (503, 507), p
                break
        nothing_leaves(a, ledger, sleeper, before)
        hog.unlink()
        goes_on(a, ledger, sleeper, before)
    ledger.stop()


def fault_70_audit_unwritable_broken(lib):
    """The disk answers every sync with an error."""
    with tempfile.TemporaryDirectory(prefix="aios-broken-") as tmp:
        home = pathlib.Path(tmp)
        ledger, fail = Ledger(home / "ledger"), home / "fail"
        with Aios(files(ledger.port), home=home / "home") as a:
            a.start({"LD_PRELOAD": str(lib), "FAILSYNC": str(fail)})
            a.deploy()
            a.run("f", {"value": "first"})
            before = ledger.entries()
            sleeper = a.run("f", {"sleep": 1500, "value": "later"}, wait=0)["run"]
            fail.touch()
            refused(503, a.ask, "PUT", "/v1/memory/facts/x", {"value": 1})
            nothing_leaves(a, ledger, sleeper, before)
            fail.unlink()
            goes_on(a, ledger, sleeper, before)
        ledger.stop()


# --- hostile files ---

def hostile_databases(path, rng):
    """What somebody may put where a database should be: not one, one that is cut or flipped, one with a schema that runs."""
    good = path.read_bytes()
    yield "empty", b""
    yield "text", b"SQLite format 3\0" + b"A" * 4096
    yield "zeros", bytes(65536)
    yield "page size", good[:16] + b"\xff\xff" + good[18:]
    yield "huge", good[:28] + b"\x7f\xff\xff\xff" + good[32:]
    yield "cut", good[:len(good) // 2]
    for n in range(12):
        bad = bytearray(good)
        for _ in range(rng.choice([1, 20, 400])):
            bad[rng.randrange(100, len(bad))] ^= 1 << rng.randrange(8)
        yield f"flipped {n}", bytes(bad)
    for name, sql in (("trigger", "CREATE TRIGGER evil AFTER INSERT ON commits BEGIN DELETE FROM commits; END"),
                      ("view", "ALTER TABLE commits RENAME TO other; CREATE VIEW commits AS SELECT * FROM other"),
                      ("function", "CREATE VIEW evil AS SELECT load_extension('/tmp/evil.so'), writefile('/tmp/evil', 'x')"),
                      ("no table", "DROP TABLE commits")):
        copy = path.with_name("copy.db")
        copy.write_bytes(good)
        db = sqlite3.connect(copy)
        try:
            db.executescript(sql)
        except sqlite3.Error:
            pass
        db.commit()
        db.close()
        yield name, copy.read_bytes()
        for p in path.parent.glob("copy.db*"):
            p.unlink()


def tried(a, what):
    """aiosd refuses the workspace with a sentence, or serves it and its log verifies, or says which event is bad."""
    log = (a.home / "out").open("w+")
    p = subprocess.Popen([BIN / "aiosd", "--workspace", a.dir, "--port", "0"], stderr=log, stdout=log,
                         env={**os.environ, "XDG_STATE_HOME": str(a.home / "state")})

    def settled():
        if p.poll() is not None:
            return True
        a.daemon = p
        try:
            return a.get("/v1/health", timeout=5)["status"]
        except (OSError, Problem, ConnectionError):
            return False
    until(settled, 30, what=what)
    verdict = "refused"
    if p.poll() is None:
        try:
            verdict = "verified" if a.post("/v1/log/verify", {}, timeout=60)["ok"] else "found"
            a.ask("PUT", "/v1/memory/facts/x", {"value": 1})
        except (Problem, OSError, ConnectionError):
            verdict = "refused later" if verdict == "verified" else verdict
        if p.poll() is None:
            p.terminate()
    code = p.wait(20)
    text = (a.home / "out").read_text()
    a.daemon = None
    # It ends by itself, with a sentence: never by a signal, but for a state that the log itself contradicts.
    assert code >= 0, (what, code, text[-2000:])
    assert verdict != "refused" or ("error" in text or ":" in text), (what, text)
    return verdict


def fault_68_hostile_sqlite_file():
    rng = random.Random(68)
    with Aios(files()) as a:
        a.start()
        a.deploy()
        for i in range(8):
            a.ask("PUT", f"/v1/memory/facts/k/{i}", {"value": "v" * 500})
        a.stop()
        base = a.home / "base"
        shutil.copytree(a.dir, base, ignore=shutil.ignore_patterns("*.sock"))
        verdicts = {}

        def again():
            shutil.rmtree(a.dir)
            shutil.copytree(base, a.dir)
            shutil.rmtree(a.home / "state", ignore_errors=True)  # what tells older files: they are put back on purpose

        for where in ("log/log.db", "views/views.db"):
            for what, data in list(hostile_databases(base / ".aios" / where, rng)):
                again()
                path = a.dir / ".aios" / where
                for end in ("-wal", "-shm"):
                    path.with_name(path.name + end).unlink(missing_ok=True)
                path.write_bytes(data)
                verdict = tried(a, f"{where}: {what}")
                verdicts.setdefault((where, verdict), []).append(what)
                # The views are disposable: whatever stands there, the workspace is served and its log is whole.
                assert where.startswith("log") or verdict == "verified", (where, what, verdict)
        assert ("log/log.db", "refused") in verdicts and not os.path.exists("/tmp/evil"), verdicts
        for k, v in verdicts.items():
            print("audit_faults: hostile", *k, len(v))
        again()
        hostile_backups(a, rng)


def hostile_backups(a, rng):
    """A backup that was tampered with is refused, and nothing of it lands outside the new workspace."""
    a.start()
    to = a.home / "backup"
    a.cli("backup", str(to))
    a.stop()
    outside = a.home / "outside"
    outside.mkdir()
    good = {p.relative_to(to): p.read_bytes() for p in to.rglob("*") if p.is_file()}
    manifest = next(p for p in good if "manifest" in p.name)
    text = good[manifest].decode()
    changes = [(p, lambda b: b + b"x") for p in good if p != manifest]
    changes += [(p, lambda b: b[:-1] + bytes([b[-1] ^ 1])) for p in good if p != manifest and good[p]]
    some = next(str(p) for p in good if p.suffix == ".js")
    changes += [(manifest, lambda b: text.replace(some, "../outside/x").encode()),
                (manifest, lambda b: text.replace(some, str(outside / "x")).encode()),
                (manifest, lambda b: text[:len(text) // 2].encode()), (manifest, lambda b: b"{" * 100000),
                (manifest, lambda b: b"")]
    for n, (path, change) in enumerate(changes):
        bad, new = a.home / f"bad{n}", a.home / f"new{n}"
        shutil.copytree(to, bad)
        (bad / path).write_bytes(change(good[path]))
        if n % 2 == 0 and path != manifest:
            (bad / path).unlink()
            (bad / path).symlink_to("/etc/passwd")
        p = subprocess.run([BIN / "aiosd", "--restore", bad, "--workspace", new], capture_output=True, text=True, timeout=60)
        assert p.returncode > 0 and p.stderr.strip(), (path, n, p)
        assert not list(outside.iterdir()), n
        shutil.rmtree(bad)
        shutil.rmtree(new, ignore_errors=True)


def inside(where):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", where], check=True)
    fault_70_audit_unwritable_full(pathlib.Path(where), where)
    print("audit_faults: a log without room: ok")


def main():
    if len(sys.argv) == 3:
        inside(sys.argv[2])
        return
    fault_40_same_key_other_body()
    fault_68_hostile_sqlite_file()
    lib = BIN / "tests/engine/libfailsync.so"
    if lib.exists():
        fault_70_audit_unwritable_broken(lib)
    else:
        print("audit_faults: without the library that fails syncs")
    with tempfile.TemporaryDirectory(prefix="aios-unwritable-") as where:
        for flags in ("-m", "-rm"):
            probe = subprocess.run(["unshare", flags, "mount", "-t", "tmpfs", "tmpfs", where], capture_output=True)
            if probe.returncode == 0:
                subprocess.run(["unshare", flags, sys.executable, __file__, "--inside", where], check=True)
                break
        else:
            print("audit_faults: no mount namespace here: the full disk was not tried")
    print("audit_faults: ok")


if __name__ == "__main__":
    main()
