#!/usr/bin/env python3
"""Undo, checkpoints and rollbacks through the real aiosd, with a ledger outside as the judge: a flow that rolls back to a
checkpoint; a rollback by a person over a tree of runs while aiosd is killed again and again, and each undo happens exactly
once, the last begun first; one that waits for what is in doubt; one that fails, and each of its answers."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Ledger, Problem, until  # noqa: E402

TRIP = """import { flow } from "aios";
const KINDS = ["idempotent", "lookup", "once"];
const does = (ctx, id, i, slow = 0, ledger = "free") => ctx.call(`test.${KINDS[i % 3]}`, { value: `do ${id}:${i}` }, {
  undo: { action: `test.${KINDS[i % 3]}`, args: { value: { undo: { $result: "/value" } }, delay_ms: slow, ledger } } });
export default flow({ name: "trip", input: { type: "object" }, grants: ["test.*", "run.*", "memory.*"] }, async (ctx, input) => {
  let i = 0;
  await does(ctx, input.id, i++);
  await ctx.checkpoint("booked");
  for (; i < (input.steps ?? 3); i++)
    await does(ctx, input.id, i, input.slow ?? 0, i === input.barred ? "barred" : "free");
  if (input.child) await ctx.run("trip", input.child);
  if (input.open) await ctx.run("trip", input.open);
  if (input.fact) await ctx.call("memory.put", { key: input.fact, value: 2 },
    { undo: { action: "memory.put", args: { key: input.fact, value: 1, base: { $result: "/version" } } } });
  if (input.back) return await ctx.rollback(input.to);
  if (input.wait) await ctx.signal("go");
  return i;
});
"""
YEARS = """import { flow } from "aios";
export default flow({ name: "years", input: { type: "object", properties: { n: { type: "integer" }, upto: { type: "integer" } } },
  grants: ["test.*", "run.*"] }, async (ctx, input) => {
  const n = input.n ?? 0;
  const { payload } = await ctx.signal("tick");
  if (n < (input.upto ?? 3)) await ctx.again({ n: n + payload, upto: input.upto ?? 3 });
  return { n, generation: ctx.run.generation ?? 0, previous: ctx.run.previous };
});
"""
DOUBT = """import { flow } from "aios";
export default flow({ name: "doubt", grants: ["test.*"] }, async (ctx, input) => {
  await ctx.call("test.once", { value: "do doubt:0" }, { undo: { action: "test.once", args: { value: { undo: "do doubt:0" } } } });
  await ctx.call("test.once", { value: "do doubt:1", die: "after" },
    { undo: { action: "test.once", args: { value: { undo: { $result: "/value" } } } } });
});
"""
POLICY = """rules:
  - { name: free, on: "test.*", then: allow }
  - { name: barred, on: "test.*", when: "has(args.ledger) && args.ledger == 'barred' && run.flow == 'trip'", then: deny }
"""


class Trip:
    def __init__(self, aios, ledger):
        self.aios, self.ledger = aios, ledger

    def start(self, **value):
        return self.aios.post("/v1/flows/trip/runs", {"input": value})["run"]

    def undone(self, ids):
        """What was undone of these trips, in the order in which it happened outside."""
        values = [e["value"] for e in self.ledger.entries() if isinstance(e["value"], dict)]
        return [v["undo"] for v in values if v["undo"].split()[1].split(":")[0] in ids]

    def settle(self):
        """Answers what is in doubt as a truthful operator: the ledger knows."""
        for g in self.aios.get("/v1/gates")["items"]:
            if g["kind"] != "doubt":
                continue
            gate = self.aios.get(f"/v1/gates/{g['gate']}")
            entry = next((e for e in self.ledger.entries() if e["key"] == gate["show"]["key"]), None)
            answer = {"shown": gate["shown"], "answer": "happened" if entry else "send"}
            self.aios.post(f"/v1/gates/{g['gate']}/settle", {**answer, **({"result": entry} if entry else {})})

    def ends(self, run, seconds=60):
        def ended():
            self.settle()
            r = self.aios.get(f"/v1/runs/{run}")
            return r if r["state"] in ("done", "failed", "cancelled") else None
        return until(ended, seconds, step=0.2, what=f"the end of run {run}")

    def waits(self, run):
        """Until it waits for its signal."""
        until(lambda: [s for s in self.aios.get(f"/v1/runs/{run}")["steps"] if s["action"] == "signal.wait"], 30,
              what=f"run {run} at its signal")


def by_the_flow(t):
    t.aios.ask("PUT", "/v1/memory/facts/trips/a", {"value": 1})
    r = t.aios.run("trip", {"id": "a", "steps": 5, "fact": "trips/a", "back": True, "to": "booked"})
    assert r["state"] == "done", r
    assert [(u["step"], u["action"], u["outcome"]) for u in r["result"]] == [
        (6, "memory.put", "undone"), (5, "test.lookup", "undone"), (4, "test.idempotent", "undone"),
        (3, "test.once", "undone"), (2, "test.lookup", "undone")], r["result"]
    assert t.undone(["a"]) == ["do a:4", "do a:3", "do a:2", "do a:1"], t.undone(["a"])
    assert t.aios.get("/v1/memory/facts/trips/a")["value"] == 1
    r = t.aios.run("trip", {"id": "b", "back": True, "to": "nowhere"})
    assert r["state"] == "failed" and "nowhere" in json.dumps(r), r
    shown = t.aios.cli("show", str(r["run"] - 2)).stdout
    assert shown.count("undone by step") == 5 and "rolled back to booked by flow/trip" in shown, shown


def by_the_flow_with_kills(t):
    """The flow waits for its rollback over the deaths of aiosd, and hears once what was undone."""
    run = t.start(id="k", steps=9, slow=150, back=True)
    for n in (2, 5):
        until(lambda: t.settle() or len(t.undone("k")) >= n, 60, what=f"{n} undos")
        t.aios.kill()
        t.aios.start()
    end = t.ends(run)
    assert end["state"] == "done" and [u["outcome"] for u in end["value"]] == ["undone"] * 9, end["value"]
    assert t.undone("k") == [f"do k:{i}" for i in range(8, -1, -1)], t.undone("k")


def by_a_person_with_kills(t):
    """The tree: a child that has ended, one that waits. aiosd is killed in the middle, three times."""
    run = t.start(id="p", steps=4, slow=200, child={"id": "c", "steps": 4, "slow": 200},
                  open={"id": "o", "steps": 4, "slow": 200, "wait": True})
    children = f"/v1/runs?parent={run}"
    until(lambda: len(t.aios.get(children)["items"]) == 2, 30, what="the second child")
    child = t.aios.get(children)["items"][0]["run"]
    t.waits(child)
    said = json.loads(t.aios.cli("rollback", str(run), "--detach", "--reason", "the customer cancelled", "--json").stdout)
    assert t.aios.get(f"/v1/runs/{run}")["state"] == "undoing"
    for n in (2, 5, 8):
        until(lambda: t.settle() or len(t.undone("pco")) >= n, 60, what=f"{n} undos")
        t.aios.kill()
        t.aios.start()
    end = t.ends(run)
    assert end["state"] == "cancelled" and end["value"]["code"] == "rolled_back" and end["value"]["undone"] == 12, end["value"]
    want = [f"do {x}:{i}" for x in "ocp" for i in (3, 2, 1, 0)]
    assert t.undone("pco") == want, t.undone("pco")
    undo = t.aios.get(f"/v1/runs/{said['undo']}")
    assert undo["flow"] == "aios:undo" and undo["state"] == "done" and len(undo["value"]) == 12, undo
    shown = t.aios.cli("show", str(run)).stdout
    assert shown.count("undo: undone") == 4 and "the customer cancelled" in shown, shown
    again = t.aios.cli("rollback", str(run), check=False)
    assert again.returncode == 1 and "ended already" in again.stderr, again
    return want


def what_is_in_doubt_holds(t):
    run = t.aios.post("/v1/flows/doubt/runs", {"input": {}})["run"]
    gate = until(lambda: t.aios.get("/v1/gates")["items"], 30)[0]["gate"]
    out = t.aios.cli("rollback", str(run), "--detach").stdout
    assert f"aios settle {gate}" in out, out
    undo = t.aios.get(f"/v1/runs?parent={run}")["items"][0]["run"]
    why = t.aios.cli("why", str(undo)).stdout
    assert "must be settled first" in why, why
    assert t.undone(["doubt"]) == []
    end = t.ends(run)
    assert end["state"] == "cancelled" and t.undone(["doubt"]) == ["do doubt:1", "do doubt:0"], t.undone(["doubt"])


def one_that_fails(t):
    """Denied by policy: the rollback waits with what is left; skip, and try again under another policy, and give up."""
    for answer in ("skip", "again", "give-up"):
        run = t.start(id=answer, steps=3, barred=2, wait=True)
        t.waits(run)
        out = t.aios.cli("cancel", str(run), "--undo").stdout
        assert "is being undone by run" in out, out
        gate = until(lambda: [g for g in t.aios.get("/v1/gates")["items"] if g["kind"] == "undo"], 30)[0]["gate"]
        show = t.aios.get(f"/v1/gates/{gate}")["show"]
        assert [x["step"] for x in show["left"]] == [3, 2, 0] and show["failed"]["problem"]["code"] == "denied", show
        if answer == "again":
            (t.aios.dir / "policy.yaml").write_text(POLICY.split("  - { name: barred")[0])
            t.aios.deploy()
        t.aios.cli("settle", str(gate), f"--{answer}")
        value = t.ends(run)["value"]
        want = {"skip": (2, 1, 0), "again": (3, 0, 0), "give-up": (0, 0, 3)}[answer]
        assert (value["undone"], value["given_up"], value["left"]) == want, value
        (t.aios.dir / "policy.yaml").write_text(POLICY)
        t.aios.deploy()
    assert t.undone(["skip"]) == ["do skip:1", "do skip:0"] and t.undone(["give-up"]) == []


def restarts_from_a_checkpoint(t):
    run = t.start(id="s", steps=3, wait=True)
    t.waits(run)
    said = json.loads(t.aios.cli("rollback", str(run), "--to", "booked", "--restart", "--wait", "--json").stdout)
    assert said["state"] == "done" and t.undone(["s"]) == ["do s:2", "do s:1"], said
    end = t.ends(run)
    new = end["value"]["restarted_as"]
    t.waits(new)
    did = [e["value"] for e in t.ledger.entries() if isinstance(e["value"], str) and e["value"].startswith("do s:")]
    assert did == ["do s:0", "do s:1", "do s:2", "do s:1", "do s:2"], did
    assert t.aios.get(f"/v1/runs/{new}")["forked_from"] == run
    t.aios.cli("rollback", str(new), "--wait")
    assert t.undone(["s"]) == ["do s:2", "do s:1", "do s:2", "do s:1", "do s:0"], t.undone(["s"])


def generations(t):
    """A run that begins again: under its key, for who waits, with the signals that came early, over a restart."""
    key = {"Idempotency-Key": "forever"}
    first = t.aios.post("/v1/flows/years/runs", {"input": {}}, headers=key)["run"]
    for _ in range(3):
        t.aios.post(f"/v1/runs/{first}/signals/tick", 1)  # all three before the first wait is over, or for a later generation
        first = t.aios.post("/v1/flows/years/runs", {"input": {}}, headers=key)["run"]
    def newest():
        return t.aios.post("/v1/flows/years/runs", {"input": {}}, headers=key)["run"]
    until(lambda: t.aios.get(f"/v1/runs/{newest()}").get("generation") == 3, 30, what="the third generation")
    t.aios.kill()
    t.aios.start()
    last = newest()
    t.aios.post(f"/v1/runs/{last}/signals/tick", 1)
    end = t.ends(last)
    assert end["state"] == "done" and end["value"]["n"] == 3 and end["value"]["generation"] == 3, end
    before = t.aios.get(f"/v1/runs/{end['previous']}")
    assert before["state"] == "done" and before["next_run"] == last and before["generation"] == 2, before
    assert f"after run {end['previous']}" in t.aios.cli("show", str(last)).stdout
    assert f"goes on as run {last}" in t.aios.cli("show", str(before["run"])).stdout
    assert t.aios.get("/v1/status")["seq"] and not t.aios.get("/v1/runs?flow=years&state=active")["items"]


def refusals(t):
    for body, status in (({"to": "nowhere"}, 404), ({}, 404)):
        run = t.start(id="r", wait=True) if body else 999999
        try:
            t.aios.post(f"/v1/runs/{run}/rollback", body)
            raise AssertionError("it must be refused")
        except Problem as e:
            assert e.status == status, e


def main():
    with Aios({"flows/trip.js": TRIP, "flows/doubt.js": DOUBT, "flows/years.js": YEARS, "policy.yaml": POLICY}) as aios:
        ledger = Ledger(aios.home / "ledger.jsonl")
        try:
            (aios.dir / "aios.yaml").write_text(
                f"name: undo\ndoor: {{ port: 0 }}\ntest: {{ ledger: \"127.0.0.1:{ledger.port}\" }}\n")
            aios.start()
            aios.deploy()
            t = Trip(aios, ledger)
            by_the_flow(t)
            by_the_flow_with_kills(t)
            by_a_person_with_kills(t)
            what_is_in_doubt_holds(t)
            one_that_fails(t)
            restarts_from_a_checkpoint(t)
            generations(t)
            refusals(t)
            aios.verify()
            print(f"undo: {len([e for e in ledger.entries() if isinstance(e['value'], dict)])} undos, each once and in order")
        finally:
            ledger.stop()


main()
