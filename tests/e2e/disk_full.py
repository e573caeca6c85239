#!/usr/bin/env python3
"""A quota that is reached, and a disk that is full: new work is refused with 507, nothing acknowledged is lost, and the
operator can still read, cancel, freeze, decide and archive; when there is room, everything goes on.

usage: disk_full.py [--inside DIR]   (the second part runs on a small tmpfs in a mount namespace, where that is granted)"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, Problem, until  # noqa: E402

FLOW = """
import { flow } from "aios";
export default flow({ name: "f", input: { type: "object" }, grants: ["test.*", "timer.*", "signal.*", "gate.*", "memory.*"] },
  async (ctx, input) => {
    if (input.ask) return await ctx.approve({ title: "May I?", show: { x: 1 } });
    if (input.wait) await ctx.signal("go");
    let n = 0;
    for (; input.fill && n < input.fill; n++)
      await ctx.call("test.echo", { value: String(n) + "x".repeat(30000) });
    if (input.sleep) await ctx.sleep(input.sleep);
    return n;
  });
"""


def files(log):
    return {
        "aios.yaml": f"name: Full\nworkers: 1\nlog: {{ {log} }}\n",
        "policy.yaml": 'rules:\n  - { on: "test.*", then: allow }\n',
        "flows/f.js": FLOW,
    }


def usage(a):
    return subprocess.run(["du", "-ak", a.dir / ".aios"], capture_output=True, text=True).stdout


def refused(a, code, fn):
    try:
        fn()
    except Problem as p:
        assert p.status == 507 and p.body["code"] == code, p
        return True
    return False


def still_possible(a, waiting, gate):
    """What an operator needs goes on while new work is refused."""
    assert a.get("/v1/health") and a.get("/v1/runs")["items"]
    shown = a.get(f"/v1/gates/{gate}")["shown"]
    a.post(f"/v1/gates/{gate}/approve", {"shown": shown})
    a.post(f"/v1/runs/{waiting}/cancel", {})
    a.post("/v1/freeze", {})
    a.post("/v1/thaw", {})


def prepare(a):
    a.start()
    a.deploy()
    waiting = a.run("f", {"wait": True}, wait=0)["run"]
    until(lambda: a.get(f"/v1/runs/{waiting}")["step_count"] == 1, 20)
    asks = a.run("f", {"ask": True}, wait=0)["run"]
    gate = until(lambda: [g for g in a.get("/v1/gates")["items"] if g["run"] == asks], 20)[0]["gate"]
    return waiting, asks, gate


def quota():
    with Aios(files("quota: 40 MiB, reserve: 1 MiB")) as a:
        waiting, asks, gate = prepare(a)
        reserve = a.dir / ".aios/reserve"
        until(lambda: reserve.exists() and os.stat(reserve).st_blocks * 512 >= 1 << 20, 40, what="the reserve")
        seen = set()

        def over():
            for _ in range(5):
                if refused(a, "quota", lambda: a.run("f", {"fill": 8})):
                    return True
            seen.add(a.get("/v1/status")["disk"]["state"])
            return False
        until(over, 90, what="the quota")
        until(lambda: "warning" in seen or "within its quota" in a.log() or " of its quota of 40 MiB" in a.log(), 5)
        assert a.get("/v1/status")["disk"]["state"] == "over"
        assert "over its quota" in a.cli("status").stdout
        for work in (lambda: a.run("f", {}), lambda: a.ask("PUT", "/v1/memory/facts/a", {"value": 1}),
                     lambda: a.post("/v1/outcomes", {"name": "x"})):
            assert refused(a, "quota", work)
        still_possible(a, waiting, gate)
        assert a.get(f"/v1/runs/{asks}?wait=20", timeout=30)["state"] == "done"
        assert a.get(f"/v1/runs/{waiting}")["state"] == "cancelled"
        out = json.loads(a.cli("log", "archive", "--older", "0s", "--json").stdout)
        assert out["segments"] >= 1, out
        # What was archived leaves the database, and the workspace is within its quota again.
        try:
            until(lambda: a.get("/v1/status")["disk"]["state"] != "over", 90, what="room by archiving")
        except TimeoutError:
            raise RuntimeError(usage(a))
        assert a.run("f", {"fill": 1})["state"] == "done"
        a.verify()


def full(home):
    """A disk of 40 MiB: filled up by somebody else until nothing can be written."""
    with Aios(files("quota: never, reserve: 4 MiB"), home=home) as a:
        waiting, asks, gate = prepare(a)
        reserve = a.dir / ".aios/reserve"
        until(reserve.exists, 40, what="the reserve")
        sleeper = a.run("f", {"sleep": 500}, wait=0)["run"]
        acknowledged = []
        hog = home / "hog"
        with open(hog, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 65536)
            except OSError:
                pass

        def spent():
            try:
                acknowledged.append(a.run("f", {"fill": 4}, wait=5)["run"])
            except (Problem, OSError, TimeoutError):
                pass
            return not reserve.exists()
        until(spent, 60, what="the full disk")
        until(lambda: a.get("/v1/status")["status"] == "ok", 30, what="writing on the reserve")
        assert a.get("/v1/status")["disk"]["state"] == "full"
        assert refused(a, "disk_full", lambda: a.run("f", {}))
        still_possible(a, waiting, gate)
        assert a.get(f"/v1/runs/{waiting}")["state"] == "cancelled"
        hog.unlink()
        until(lambda: a.get("/v1/status")["disk"]["state"] == "ok", 40, what="room")
        assert reserve.exists()
        for r in (asks, sleeper, *acknowledged):
            assert a.get(f"/v1/runs/{r}?wait=30", timeout=40)["state"] == "done", r
        assert a.run("f", {"fill": 2})["state"] == "done"
        a.verify()
        a.stop()
        a.start()
        a.verify()


def inside(where):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", where], check=True)
    full(pathlib.Path(where) / "home")
    print("disk_full: the full disk: ok")


def main():
    if len(sys.argv) == 3:
        (pathlib.Path(sys.argv[2]) / "home").parent.mkdir(exist_ok=True)
        inside(sys.argv[2])
        return
    quota()
    with tempfile.TemporaryDirectory(prefix="aios-full-") as where:
        for flags in ("-m", "-rm"):
            probe = subprocess.run(["unshare", flags, "mount", "-t", "tmpfs", "tmpfs", where], capture_output=True)
            if probe.returncode == 0:
                subprocess.run(["unshare", flags, sys.executable, __file__, "--inside", where], check=True)
                break
        else:
            print("disk_full: no mount namespace here: the full disk was not tried")
    print("disk_full: ok")


if __name__ == "__main__":
    main()
