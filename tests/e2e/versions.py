#!/usr/bin/env python3
"""Versions of open runs: rehearsed on code that is not deployed, moved, parked or kept; old versions run on through deploys
and restarts; versions that hang, eat memory or do not load harm nobody; a run that crashes its worker is quarantined."""
import json
import os
import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402

HEAD = 'import { flow } from "aios";\nimport { tag } from "../lib/tag.js";\n'


def source(body, more=""):
    return HEAD + more + 'export default flow({ name: "letter", grants: ["test.*", "memory.*", "gate.ask", "signal.wait", "timer.*"] },' \
        " async (ctx, input) => {\n" + body + "\n});\n"


ONE = source("""  const a = await ctx.call("test.echo", { i: 1 });
  const b = await ctx.call("test.echo", { i: a.i + 1 });
  await ctx.signal("go");
  await ctx.call("test.echo", { end: tag });
  return "one " + tag + b.i;""")
# The same up to where its runs wait; then it does something else.
TWO = ONE.replace('"one "', '"two "').replace('{ end: tag }', '{ end: "other" }')
# Differs at step 1.
THREE = ONE.replace("a.i + 1", "a.i + 2").replace('"one "', '"three "')
# Ends before the record does.
SHORT = source("""  return "short";""")
FAILS = ONE.replace('await ctx.signal("go");', 'null.x; await ctx.signal("go");')
LOOP = ONE.replace('await ctx.signal("go");', 'for (;;) {}')
BOMB = ONE.replace('await ctx.signal("go");', 'const all = []; for (;;) all.push(new Array(1000).fill("x"));')
NATIVE = "new Array(200).fill(3n ** 600000n).join('');"  # nothing interrupts it: the watchdog's
FILES = {
    "aios.yaml": "name: versions\ndoor: { port: 0 }\n",
    "policy.yaml": 'rules:\n  - { name: all, on: "*", then: allow }\n',
    "flows/letter.js": ONE,
    "lib/tag.js": 'export const tag = "t";\n',
}


def rehearse(a, text, **more):
    files = {"flows/letter.js": text, "lib/tag.js": more.pop("tag", 'export const tag = "t";\n')}
    return a.post("/v1/rehearsals", {"files": files, "entry": "flows/letter.js", **more}, timeout=120)


def waiting(a, n):
    """n runs that wait for their signal."""
    runs = [a.run("letter", wait=0)["run"] for _ in range(n)]
    for run in runs:
        until(lambda run=run: len(a.get(f"/v1/runs/{run}")["steps"]) == 3, 20, what="the wait")
    return runs


def finish(a, run):
    a.post(f"/v1/runs/{run}/signals/go", None)
    return a.get(f"/v1/runs/{run}?wait=30", timeout=40)


def by_run(r):
    return {i["run"]: i for i in r["items"]}


def outcomes(a):
    """What each kind of version does to a run that waits; nothing of it reaches the log."""
    run, = waiting(a, 1)
    before = a.get("/v1/status")["seq"]
    r = rehearse(a, ONE)
    assert r["deployed"] and r["totals"] == {"same": 1} and r["items"][0]["run"] == run, r
    r = rehearse(a, TWO)
    assert not r["deployed"] and r["totals"] == {"same": 1} and r["items"][0]["steps"] == 3, r
    item, = rehearse(a, THREE)["items"]
    assert item["outcome"] == "diverged" and item["step"] == 1, item
    assert item["recorded"] == {"action": "test.echo", "args": {"i": 2}}, item
    assert item["asked"] == {"action": "test.echo", "args": {"i": 3}}, item
    item, = rehearse(a, SHORT)["items"]
    assert item["outcome"] == "ended" and item["value"] == "short" and item["recorded"]["args"] == {"i": 1}, item
    item, = rehearse(a, FAILS)["items"]
    assert item["outcome"] == "failed" and item["problem"]["file"] == "flows/letter.js", item
    item, = rehearse(a, LOOP)["items"]
    assert item["outcome"] == "hung" and "letter" in item["problem"]["message"], item
    item, = rehearse(a, BOMB)["items"]
    assert item["outcome"] == "failed" and item["problem"]["kind"] == "memory", item
    item, = rehearse(a, ONE, tag='export const tag = "other";\n')["items"]
    assert item["outcome"] == "same", item  # another version, for it imports another module; the difference lies ahead
    for text, place in ((ONE.replace("await ctx.signal", "const = 1; await ctx.signal"), "flows/letter.js:6"),
                        (HEAD + 'import { x } from "../lib/none.js";\n' + ONE.split("\n", 2)[2], "none.js"),
                        (HEAD + "for (;;) {}\n" + ONE.split("\n", 2)[2], "flows/letter.js")):
        try:
            rehearse(a, text)
            raise AssertionError(text)
        except Problem as p:
            assert p.status == 422 and place in p.body["detail"], p.body
    assert a.get("/v1/status")["seq"] == before, "a rehearsal left events"
    assert finish(a, run)["value"] == "one t2"


def kill(pid):
    """True when there was such a process."""
    try:
        return pid and os.kill(pid, signal.SIGKILL) is None
    except ProcessLookupError:
        return False


def hung_natively(a):
    """The watchdog ends the rehearsals' worker; runs and the next rehearsal do not notice."""
    run, = waiting(a, 1)
    pids = {k: v for k, v in a.pids().items() if k in ("aios-flow 1", "aios-flow 2")}
    item, = rehearse(a, ONE.replace('await ctx.signal("go");', NATIVE + 'await ctx.signal("go");'))["items"]
    assert item["outcome"] == "hung" and "did not come back" in item["why"], item
    try:
        rehearse(a, NATIVE + ONE)
        raise AssertionError("this was inspected")
    except Problem as p:
        assert p.status == 422 and "endless" in p.body["detail"], p.body
    # Killed from outside in the middle of one.
    got = {}
    t = threading.Thread(target=lambda: got.update(rehearse(a, LOOP)))
    t.start()
    until(lambda: kill(a.pids().get("aios-flow trial")), 20, step=0.01, what="the rehearsals' worker")
    t.join()
    assert got["items"][0]["outcome"] in ("hung", "crashed"), got
    assert rehearse(a, TWO)["totals"] == {"same": 1}
    assert {k: v for k, v in a.pids().items() if k in pids} == pids, "a rehearsal cost a worker of runs"
    assert finish(a, run)["value"] == "one t2"


def moves(a):
    """Moved, parked, kept; a run that went on since is not moved; a version that is not deployed takes nobody."""
    one, two, three, four = waiting(a, 4)
    (a.dir / "flows/letter.js").write_text(TWO)
    p = a.cli("flows", "rehearse", "flows/letter.js", cwd=a.dir)
    assert "4 same" in p.stdout and "not deployed" in p.stdout, p.stdout
    p = a.cli("flows", "rehearse", "flows/letter.js", "--move", str(one), cwd=a.dir, check=False)
    assert p.returncode == 1 and "not deployed" in p.stderr, p
    p = a.cli("flows", "rehearse", "flows/letter.js", "--move", str(one), "--park", str(two), "--keep", str(three), "--deploy",
              cwd=a.dir)
    assert "1 moved" in p.stdout and "1 parked" in p.stdout, p.stdout
    assert a.get(f"/v1/runs/{one}")["version"] != a.get(f"/v1/runs/{three}")["version"]
    parked = a.get(f"/v1/runs/{two}")
    assert (parked["state"], parked["why"]) == ("parked", "rehearsed"), parked
    assert finish(a, one)["value"] == "two t2"
    assert finish(a, three)["value"] == "one t2"
    r = rehearse(a, TWO, move="same")
    assert r["moved"] == 2 and {i["decided"] for i in r["items"]} == {"moved"}, r
    assert a.get(f"/v1/runs/{two}")["state"] == "active", "a parked run that moved goes on"
    assert [g for g in a.get("/v1/gates")["items"] if g["run"] == two] == []
    assert finish(a, two)["value"] == finish(a, four)["value"] == "two t2"
    # Only what rehearses the same moves.
    run, = waiting(a, 1)
    (a.dir / "flows/letter.js").write_text(THREE)
    p = a.cli("flows", "rehearse", "flows/letter.js", "--move", str(run), "--deploy", cwd=a.dir, check=False)
    assert p.returncode == 1 and "refused" in p.stdout and "recorded" in p.stdout and "asked" in p.stdout, p
    assert "diverged at step 1" in p.stdout, p.stdout
    assert finish(a, run)["value"] == "two t2"
    p = a.cli("flows", "rehearse", "--json", "--open", cwd=a.dir)
    assert json.loads(p.stdout)["runs"] == 0, p.stdout
    p = a.cli("flows", "rehearse", "flows/letter.js", "--move", "1", cwd=a.dir, check=False)
    assert p.returncode == 1 and "not open" in p.stderr, p
    p = a.cli("flows", "rehearse", cwd=a.dir, check=False)
    assert p.returncode == 2, p


def busy(a):
    """A run that goes on while it is rehearsed: moved at the very position that was rehearsed, or not at all; either way its
    steps are those of one version up to the move and of the other after it."""
    text = source("""  let s = 0;
  for (let i = 0; i < 400; i++) s += (await ctx.call("test.echo", { i, v: "one" })).i;
  return s;""")
    (a.dir / "flows/letter.js").write_text(text)
    a.deploy()
    run = a.run("letter", wait=0)["run"]
    other = text.replace("return s", "return -s")
    (a.dir / "flows/letter.js").write_text(other)
    a.deploy()
    r = rehearse(a, other, move=[run]) if a.get(f"/v1/runs/{run}")["state"] == "active" else {"items": [{}], "moved": 0}
    end = a.get(f"/v1/runs/{run}?wait=60", timeout=70)
    assert end["state"] == "done" and end["value"] == (-79800 if r["moved"] else 79800), (end["value"], r)


def generations(a):
    """Five deploys, one run of each, a restart: every run ends on the version that it began with."""
    runs = []
    for i in range(5):
        (a.dir / "flows/letter.js").write_text(ONE.replace('"one "', f'"g{i} "'))
        a.deploy()
        runs += waiting(a, 1)
    assert len({a.get(f"/v1/runs/{run}")["version"] for run in runs}) == 5
    a.kill()
    a.start()
    r = a.post("/v1/rehearsals", {"open": True})
    assert r["totals"] == {"same": 5} and r["interpreter"].startswith("quickjs-ng "), r
    p = a.cli("flows", "rehearse", "--open", cwd=a.dir)
    assert "5 same" in p.stdout, p.stdout
    for i, run in enumerate(runs):
        assert finish(a, run)["value"] == f"g{i} t2"
    started = [e for e in a.events() if e["type"] == "engine.started"]
    assert all(e["interpreter"].startswith("quickjs-ng ") for e in started), started


def many(a):
    """More versions than a worker keeps: those without runs go, those with runs stay; each run is its own version's."""
    old, = waiting(a, 1)
    for i in range(80):
        (a.dir / "flows/letter.js").write_text(source(f"return {i};"))
        a.deploy()
        got = {a.run("letter")["result"] for _ in range(3)}
        assert got == {i}, (i, got)
    assert finish(a, old)["value"] == "one t2"
    (a.dir / "flows/letter.js").write_text(source("return 0;"))  # forgotten, and wanted again
    a.deploy()
    assert {a.run("letter")["result"] for _ in range(3)} == {0}


def poison(a):
    """A run that hangs its worker is tried again twice, then quarantined with the evidence, through a restart; its neighbours
    go on. A person resumes it: a new chance. Moved to a repaired version it ends."""
    (a.dir / "flows/letter.js").write_text(ONE)
    a.deploy()
    neighbours = waiting(a, 3)
    bad = ONE.replace('await ctx.signal("go");', 'await ctx.signal("go"); ' + NATIVE)
    (a.dir / "flows/letter.js").write_text(bad)
    a.deploy()
    run, = waiting(a, 1)

    def crashes(why="crashed"):
        return [e for e in a.events() if e["type"] == "run.parked" and e["run"] == run and e["why"] == why]

    a.post(f"/v1/runs/{run}/signals/go", None)
    until(crashes, 30, what="the first crash")
    a.kill()  # what was counted is not forgotten
    a.start()
    until(lambda: crashes("quarantined"), 60, what="the quarantine")
    assert len(crashes()) == 2, crashes()
    gate, = [g for g in a.get("/v1/gates")["items"] if g["run"] == run]
    assert "quarantined" in gate["title"] and "3 times" in gate["title"], gate
    shown = a.get(f"/v1/gates/{gate['gate']}")["show"]
    assert shown["crashes"] == 3 and len(shown["evidence"]) == 3, shown
    for e in shown["evidence"]:
        assert e["problem"]["kind"] == "hung" and e["flow"] == "letter" and e["steps"] == 3 and e["at_ms"] > 0, e
        assert [s["action"] for s in e["last"]] == ["test.echo", "test.echo", "signal.wait"], e
        assert len(e["version"]) == 64 and e["interpreter"].startswith("quickjs-ng"), e
    p = a.cli("gates", str(gate["gate"]))
    assert "quarantined" in p.stdout and "hung" in p.stdout, p.stdout
    # Rehearsed on the version that is at fault, it harms nobody either.
    until(lambda: {"aios-flow 1", "aios-flow 2"} <= set(a.pids()), 20, what="both workers")
    pids = a.pids()
    item, = [i for i in rehearse(a, bad, runs=[run])["items"]]
    assert item["outcome"] == "hung", item
    assert {k: v for k, v in a.pids().items() if "trial" not in k} == {k: v for k, v in pids.items() if "trial" not in k}
    # A new chance, which it wastes; then the repaired version.
    a.post(f"/v1/runs/{run}/resume", {})
    until(lambda: len(crashes("quarantined")) == 2, 60, what="the second quarantine")
    assert len(crashes()) == 4
    (a.dir / "flows/letter.js").write_text(ONE.replace('"one "', '"repaired "'))
    p = a.cli("flows", "rehearse", "flows/letter.js", "--deploy", "--move", str(run), cwd=a.dir)
    assert "1 moved" in p.stdout, p.stdout
    end = a.get(f"/v1/runs/{run}?wait=30", timeout=40)
    assert end["value"] == "repaired t2", end
    for n in neighbours:
        assert finish(a, n)["value"] == "one t2"


def killed(a):
    """A worker that is killed from outside is nobody's fault, until it meets the same run again and again (out of memory)."""
    (a.dir / "flows/letter.js").write_text(ONE.replace('await ctx.signal("go");', 'await ctx.signal("go"); ' + NATIVE))
    a.deploy()
    run, = waiting(a, 1)
    a.post(f"/v1/runs/{run}/signals/go", None)

    def again():
        for name in ("aios-flow 1", "aios-flow 2"):
            kill(a.pids().get(name))
        return a.get(f"/v1/runs/{run}")["state"] == "parked"

    until(again, 60, step=0.7, what="the quarantine")
    gate, = a.get("/v1/gates")["items"]
    problem = a.get(f"/v1/gates/{gate['gate']}")["show"]["evidence"][-1]["problem"]
    assert problem["kind"] == "killed" and problem["signal"] == 9, problem


def forked(a):
    """A fork's first steps are another run's: they rehearse the same, and it moves as any other."""
    run, = waiting(a, 1)
    fork = a.post(f"/v1/runs/{run}/fork", {"from": 2})["run"]
    until(lambda: len(a.get(f"/v1/runs/{fork}")["steps"]) == 3, 20, what="the wait")
    r = rehearse(a, TWO)
    assert r["totals"] == {"same": 2}, r
    item = by_run(rehearse(a, THREE))
    assert item[run]["outcome"] == "diverged" and item[fork]["outcome"] == "same", item  # taken steps answer any arguments
    (a.dir / "flows/letter.js").write_text(TWO)
    a.deploy()
    assert rehearse(a, TWO, move="same")["moved"] == 2
    for r in (run, fork):
        assert finish(a, r)["value"] == "two t2"
    files = {"flows/letter.js": TWO, "lib/tag.js": FILES["lib/tag.js"]}
    r = a.post("/v1/flows/letter/backtest", {"files": files, "entry": "flows/letter.js"}, timeout=60)
    assert r["totals"]["same"] == r["runs"] == 2, r


def undoing(a):
    """A run that is being taken back has no code to try: it is passed over, and harms nobody."""
    undo = 'ctx.call("test.echo", { i: 1 }, { undo: { action: "test.echo", args: { i: { $result: "/none" } } } })'
    (a.dir / "flows/letter.js").write_text(ONE.replace('ctx.call("test.echo", { i: 1 })', undo))
    a.deploy()
    run, other = waiting(a, 2)
    a.post(f"/v1/runs/{run}/rollback", {})
    until(lambda: [g for g in a.get("/v1/gates")["items"] if g["kind"] == "undo"], 20, what="the undo that fails")
    assert a.get(f"/v1/runs/{run}")["state"] == "undoing"
    r = a.post("/v1/rehearsals", {"open": True}, timeout=60)
    assert [i["run"] for i in r["items"]] == [other] and r["items"][0]["outcome"] == "same", r
    a.post(f"/v1/runs/{run}/cancel", {})


def main():
    for test in (outcomes, hung_natively, undoing, moves, busy, generations, many, poison, killed, forked):
        if len(sys.argv) > 1 and test.__name__ not in sys.argv[1:]:
            continue
        with Aios(FILES) as a:
            a.start()
            a.deploy()
            test(a)
            a.verify()
        print(f"{test.__name__}: ok", flush=True)


main()
