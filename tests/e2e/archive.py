#!/usr/bin/env python3
"""The archive and retention, with the real processes: old events move into segments while runs go on; everything is read,
searched, verified and replayed as before; runs behind their retention are forgotten and stay findable.

usage: archive.py"""
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, Problem, until  # noqa: E402

FLOW = """
import { flow } from "aios";
export default flow({ name: "NAME", RETENTION input: { type: "object" }, grants: ["test.*", "timer.*", "signal.*"] },
  async (ctx, input) => {
    const a = await ctx.call("test.echo", { value: input.text });
    ctx.log(`noted ${input.text}`);
    if (input.wait) await ctx.signal("go");
    const big = input.big ? await ctx.call("test.echo", { value: "x".repeat(input.big) + input.text }) : null;
    return { text: input.text, size: big ? big.value?.length ?? JSON.stringify(big).length : 0, a };
  });
"""
FILES = {
    "aios.yaml": "name: Archive\nworkers: 1\n",
    "policy.yaml": 'rules:\n  - { on: "test.*", then: allow }\n',
    "flows/keep.js": FLOW.replace("NAME", "keep").replace("RETENTION", ""),
    "flows/short.js": FLOW.replace("NAME", "short").replace("RETENTION", 'retention: "1s",'),
}


def archive(a, *more):
    return json.loads(a.cli("log", "archive", "--json", "--older", "0s", *more).stdout)


def search(a, *args):
    return json.loads(a.cli("log", "search", "--json", *map(str, args)).stdout)["items"]


def grow(a):
    for i in range(60):
        a.run("keep", {"text": f"needle-{i}"})
    a.run("keep", {"text": "large", "big": 300000})


def moved(a):
    """Into the archive, with a run open across the border."""
    open_run = a.run("keep", {"text": "across", "wait": True, "big": 200000}, wait=0)["run"]
    until(lambda: a.get(f"/v1/runs/{open_run}")["step_count"] >= 2, 20)
    events = a.events()
    dry = archive(a, "--dry")
    assert dry["events"] > 100 and dry["archived"] == 0, dry
    out = archive(a)
    assert out["segments"] >= 1 and out["events"] >= dry["events"] and out["bytes"] < out["raw_bytes"], out
    assert a.get("/v1/status")["archived"] == out["archived"]
    assert list((a.dir / ".aios/log/archive").glob("seg-*"))
    told = [e for e in a.events() if e["type"] == "log.archived"]
    assert told and told[-1]["last_seq"] == out["archived"], told
    assert a.events()[:len(events)] == events  # nothing is missing and nothing changed
    a.verify()
    return open_run, events, out["archived"]


def dropped(a, archived):
    """The rows leave the database bit by bit, and the file shrinks."""
    import sqlite3

    def first():
        db = sqlite3.connect(f"file:{a.dir}/.aios/log/log.db?mode=ro", uri=True, timeout=5)
        try:
            return db.execute("SELECT min(first_seq) FROM commits").fetchone()[0] > archived
        finally:
            db.close()
    until(first, 30, what="the rows' leaving")


def findable(a, events):
    hits = search(a, "needle-7", "--archived")
    assert any("needle-7" in json.dumps(e) for e in hits) and all(e["seq"] <= events[-1]["seq"] for e in hits), hits
    assert {e["type"] for e in search(a, "--run", 3)} >= {"run.started", "step.called", "run.ended"}
    assert all(e["run"] == 3 for e in search(a, "--run", 3))
    assert a.cli("log", "search", check=False).returncode == 2
    try:
        a.get("/v1/log/search")
        raise AssertionError("a search for nothing was taken")
    except Problem as p:
        assert p.status == 400


def goes_on(a, open_run):
    a.post(f"/v1/runs/{open_run}/signals/go", {})
    done = a.get(f"/v1/runs/{open_run}?wait=30", timeout=40)
    assert done["state"] == "done", done
    assert a.run("keep", {"text": "after"})["state"] == "done"


def restarted(a, events, how):
    """From a snapshot and from zero: both read over the border."""
    if how == "kill":
        a.kill()
    else:
        a.stop()
    if how == "zero":
        for p in (a.dir / ".aios/log").glob("snapshot-*"):
            p.unlink()
    shutil.rmtree(a.dir / ".aios/views")
    a.start()
    assert a.events()[:len(events)] == events
    a.verify()
    assert until(lambda: a.get("/v1/runs/3")["state"] == "done", 20)


def retired(a):
    runs = [a.run("short", {"text": f"secret-{i}"})["run"] for i in range(5)]
    until(lambda: [e for e in a.events() if e["type"] == "run.forgotten"], 120, what="retention")

    def gone():
        try:
            a.get(f"/v1/runs/{runs[0]}")
            return False
        except Problem as p:
            return p.status == 404
    until(gone, 30)
    until(lambda: len([e for e in a.events() if e["type"] == "run.forgotten"]) == len(runs), 30)
    assert not a.get("/v1/runs?flow=short")["items"]
    assert a.get("/v1/runs?flow=keep")["items"]  # the other flow has no retention
    assert any(e["type"] == "run.ended" for e in search(a, "--run", runs[0]))
    archive(a)
    assert search(a, "secret-0", "--archived")
    a.verify()


def main():
    with Aios(FILES) as a:
        a.start()
        a.deploy()
        grow(a)
        open_run, events, archived = moved(a)
        dropped(a, archived)
        findable(a, events)
        goes_on(a, open_run)
        archive(a)
        a.verify()
        for how in ("stop", "zero", "kill"):
            restarted(a, events, how)
        retired(a)
        (a.dir / "flows/short.js").write_text(FILES["flows/short.js"].replace('"1s"', '"soon"'))
        try:
            a.deploy()
            raise AssertionError("a retention that is no duration was taken")
        except Problem as p:
            assert p.status == 422, p
    print("archive: ok")


if __name__ == "__main__":
    main()
