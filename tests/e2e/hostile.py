#!/usr/bin/env python3
"""Flows that mean ill, deployed and run beside a neighbour that never stops: each fails alone, in its time, with a problem
that names it; the neighbour's runs all succeed; nothing crosses from one run to another; the log verifies at the end."""
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402

SLACK_MS = 6000  # a run must fail within 2 s; the machine may be loaded by other tests

# Name: what it does, and the kinds of problem that may answer it.
EVIL = {
    "loop": ("for (;;) {}", ["cpu"]),
    "catching": ("for (;;) { try { for (;;) {} } catch {} finally { for (;;) {} } }", ["cpu"]),
    "promises": ("for (;;) await null;", ["cpu"]),
    "microtasks": ("const f = () => { queueMicrotask(f); }; f(); for (;;) await 1;", ["cpu"]),
    "memory": ("const a = []; for (;;) a.push({ a: a.length, b: [1, 2, 3] });", ["memory", "cpu"]),
    "buffers": ("const b = []; for (;;) b.push(new Uint8Array(1 << 20));", ["memory"]),
    "recursion": ("const f = () => f() + 1; return f();", ["stack"]),
    "regex": ("return /^(a+)+$/.test('a'.repeat(40) + 'b');", ["cpu"]),
    "string": ("let s = 'x'; for (;;) { s += s; s.charCodeAt(5); }", ["memory", "exception"]),
    "sparse": ("const a = []; a.length = 2 ** 32 - 2; return a.indexOf(1);", ["cpu"]),
    "native": ("return new Array(200).fill(3n ** 600000n).join('').length;", ["cpu"]),  # nothing interrupts it: the watchdog
    "getter": ("return { get x() { for (;;) {} } };", ["cpu"]),
    "thenable": ("await { then() { for (;;) {} } };", ["cpu"]),
    "flood": ("const s = 'x'.repeat(1 << 20); for (;;) ctx.call('test.echo', { s }).catch(() => {});",
              ["exception", "memory", "cpu"]),
    "poison": ("for (let i = 0; i < 50000; i++) Promise.resolve().then(() => { for (;;) {} }); for (;;) {}", ["cpu"]),
}
QUARANTINED = {"native"}
HEAD = 'import { flow } from "aios";\n'
NEIGHBOUR = HEAD + """export default flow({ name: "neighbour", grants: ["test.*", "memory.*"] }, async (ctx, input) => {
  let sum = 0;
  for (let i = 0; i < 5; i++) sum += (await ctx.call("test.echo", { n: i })).n;
  const both = await Promise.all([ctx.call("test.echo", { a: 1 }), ctx.memory.get("nothing")]);
  return { sum, both, id: input.id };
});
"""
SHARED = "export const seen = []; export const box = {}; export let count = 0; export const more = () => ++count;\n"
MARKER = HEAD + """import { box, more, seen } from "../lib/shared.js";
const own = [];
export default flow({ name: "marker" }, async (ctx) => {
  const left = [];
  const mark = (what, fn) => { try { fn(); left.push(what); } catch (e) { left.push(`${what}: ${e.name}`); } };
  mark("global", () => { globalThis.marked = 1; });
  mark("array", () => { Array.prototype.marked = 1; });
  mark("object", () => { Object.prototype.marked = 1; });
  mark("promise", () => { Promise.prototype.then = () => "stolen"; });
  mark("json", () => { JSON.stringify = () => "stolen"; });
  mark("math", () => { Math.random = () => 4; });
  mark("ctx", () => { ctx.marked = 1; });
  mark("call", () => { ctx.call = () => "stolen"; });
  mark("memory", () => { ctx.memory.get = () => "stolen"; });
  mark("flow", () => { flow.marked = 1; });
  mark("symbol", () => { Symbol.for("marked").constructor.prototype.marked = 1; });
  mark("regexp", () => { RegExp.prototype.test = () => true; });
  seen.push(ctx.run.id); own.push(ctx.run.id); box.marked = 1; more();
  await ctx.sleep(1);
  seen.push(ctx.run.id);
  return left;
});
"""
LOOKER = HEAD + """import { box, more, seen } from "../lib/shared.js";
export default flow({ name: "looker", grants: ["memory.*"] }, async (ctx) => {
  const found = [];
  if ("marked" in globalThis) found.push("global");
  if ("marked" in []) found.push("array");
  if ("marked" in {}) found.push("object");
  if ("marked" in ctx) found.push("ctx");
  if ("marked" in flow) found.push("flow");
  if (Symbol().marked) found.push("symbol");
  if ("marked" in box || seen.length > 0 || more() !== 1) found.push("module");
  if (JSON.stringify(1) !== "1" || /x/.test("y")) found.push("intrinsic");
  if ((await ctx.call("memory.get", { key: "none" })) !== null) found.push("call");
  return found;
});
"""


class Neighbour(threading.Thread):
    """Runs of a well-behaved flow, one after the other."""

    def __init__(self, aios):
        super().__init__(daemon=True)
        self.aios, self.over, self.faults, self.count = aios, False, [], 0

    def run(self):
        while not self.over:
            self.count += 1
            try:
                r = self.aios.run("neighbour", {"id": self.count})
                good = {"sum": 10, "both": [{"a": 1}, None], "id": self.count}
                if r["state"] != "done" or r["result"] != good:
                    self.faults.append(r)
            except Exception as e:  # whatever it is, it is a fault
                self.faults.append(repr(e))
            time.sleep(0.02)


def files():
    out = {"aios.yaml": "name: hostile\n", "policy.yaml": 'rules: [{ name: tests, on: "test.*", then: allow }]\n',
           "flows/neighbour.js": NEIGHBOUR, "flows/marker.js": MARKER, "flows/looker.js": LOOKER, "lib/shared.js": SHARED}
    for name, (body, _) in EVIL.items():
        out[f"flows/evil_{name}.js"] = HEAD + 'export default flow({ name: "evil_%s", grants: ["test.*"] }, ' \
            'async (ctx, input) => {\n%s\n});\n' % (name, body)
    return out


def quarantined(aios, run):
    """What costs its worker is tried again, and then stands still with the evidence; neither failed nor tried for ever."""
    until(lambda: aios.get(f"/v1/runs/{run}")["state"] == "parked", 60, what="the quarantine")
    r = aios.get(f"/v1/runs/{run}")
    gate, = [g for g in aios.get("/v1/gates")["items"] if g["run"] == run]
    evidence = aios.get(f"/v1/gates/{gate['gate']}")["show"]["evidence"]
    assert r["why"] == "quarantined" and len(evidence) == 3, (r, evidence)
    aios.post(f"/v1/runs/{run}/cancel", {})
    return run, evidence[-1]["problem"]


def attack(aios, name):
    """Starts the flow, looks at how and when it failed; its problem."""
    flow, kinds = f"evil_{name}", EVIL[name][1]
    if name in QUARANTINED:
        return quarantined(aios, aios.run(flow, wait=0)["run"])
    r = aios.run(flow, wait=20)
    assert r["state"] == "failed", f"{flow}: {r}"
    problem = r["problem"]
    assert problem["kind"] in kinds, f"{flow}: {problem}"
    assert flow in str(problem), f"the problem does not name {flow}: {problem}"
    return r["run"], problem


def isolation(aios):
    """Marks and looks, turn by turn and side by side."""
    left = None
    for _ in range(6):
        r = aios.run("marker")
        assert r["state"] == "done", r
        left = r["result"]
        r = aios.run("looker")
        assert r["state"] == "done" and r["result"] == [], f"something crossed: {r}; marked: {left}"
    runs = [aios.post(f"/v1/flows/{f}/runs", {})["run"] for _ in range(20) for f in ("marker", "looker")]
    for n in runs:
        r = aios.get(f"/v1/runs/{n}?wait=30", timeout=40)
        assert r["state"] == "done" and (r["flow"] == "marker" or r["value"] == []), f"something crossed: {r}"
    stolen = [x for x in left if ":" not in x]
    assert not stolen, f"these are not frozen: {stolen}"


def hostile_deploy(aios):
    """A source that never comes back when it is loaded is refused; who runs beside it is not blamed."""
    for name, text in (("loop", "for (;;) {}"), ("native", "new Array(200).fill(3n ** 600000n).join('');")):
        path = aios.dir / f"flows/hang_{name}.js"
        path.write_text(f"{HEAD}{text}\nexport default flow({{ name: 'hang' }}, () => 1);\n")
        try:
            aios.deploy()
            raise AssertionError("this was deployed")
        except Problem as p:
            assert p.status == 422 and p.body["file"] == f"flows/hang_{name}.js", p.body
        path.unlink()


def main():
    with Aios(files()) as aios:
        aios.start()
        aios.deploy()
        isolation(aios)
        neighbour = Neighbour(aios)
        neighbour.start()
        ended = {}
        for name in EVIL:
            before = neighbour.count
            ended[name] = attack(aios, name)
            assert neighbour.count > before or not neighbour.faults, "the neighbour stands still"
        # All at once: more than there are workers.
        runs = {aios.post(f"/v1/flows/evil_{name}/runs", {})["run"]: name for name in EVIL}
        for n, name in runs.items():
            if name in QUARANTINED:
                quarantined(aios, n)
                continue
            r = aios.get(f"/v1/runs/{n}?wait=60", timeout=70)
            assert r["state"] == "failed" and r["flow"] in str(r["value"]), r
        isolation(aios)
        hostile_deploy(aios)
        neighbour.over = True
        neighbour.join(40)
        assert not neighbour.is_alive() and not neighbour.faults, f"the neighbour was hurt: {neighbour.faults[:3]}"
        assert neighbour.count > len(EVIL), neighbour.count
        times = {}
        for e in aios.events():
            if e["type"] == "run.started":
                times[e["run"]] = e["at"]
            elif e["type"] == "run.ended":
                times[e["run"]] = e["at"] - times[e["run"]]
        slow = {name: times[n] for name, (n, _) in ended.items() if times[n] > SLACK_MS and name not in QUARANTINED}
        assert not slow, f"these took too long: {slow}"
        for name, (n, problem) in ended.items():
            print(f"{name:<12}{times[n]:>6} ms  {problem['kind']:<10}{problem['message'][:90]}")
        print(f"neighbour: {neighbour.count} runs, none failed")
        aios.verify()
        code = aios.stop()
        assert code == 0, f"aiosd ended with {code}"
    print("ok")


if __name__ == "__main__":
    main()
