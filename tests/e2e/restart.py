#!/usr/bin/env python3
"""aiosd stops and dies, and nothing is lost: SIGTERM ends it within 5 s with a snapshot; sleeping runs, gates and facts are there
again; what slept over a restart wakes; SIGKILL in the middle of runs; a replay that tells the same clock, chances and
order as the first time; open runs keep their version over restarts and deploys."""
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
FLOWS = {
    "sleeper": """export default flow({ name: "sleeper", grants: ["memory.*"] }, async (ctx, input) => {
  const began = ctx.now();
  await ctx.sleep(input.ms);
  await ctx.memory.put(`woke/${ctx.run.id}`, { slept: ctx.now() - began });
  return "VERSION";
});""",
    "asker": """export default flow({ name: "asker", grants: ["gate.ask", "memory.*"] }, async (ctx) => {
  const before = await ctx.memory.put("asked", { by: ctx.run.id });
  const { value, reason } = await ctx.approve({ title: "Still there?", show: { text: "as shown" } });
  return { value, reason, before, after: await ctx.memory.get("asked") };
});""",
    "busy": """export default flow({ name: "busy", grants: ["test.*"] }, async (ctx, input) => {
  let sum = 0;
  for (let i = 0; i < input.steps; i++) sum += (await ctx.call("test.echo", { i })).i;
  return sum;
});""",
    "slow": 'export default flow({ name: "slow", grants: ["test.*"] }, (ctx) => ctx.call("test.slow", { ms: 60000 }));',
    # Whatever a flow can look at that is not a step goes into a step's arguments: were it different in a replay, the run
    # would be parked as diverged.
    "probe": """const born = [];
let depth = 0;
const deeper = () => { depth++; deeper(); };
export default flow({ name: "probe", grants: ["test.*"] }, async (ctx, input) => {
  const look = () => {
    depth = 0;
    try { deeper(); } catch { }
    born.push(Math.random());
    const keys = Object.keys({ b: 1, a: 2, 1: 3, [Symbol.iterator]: 4 });
    let stack = "";
    try { null.x; } catch (e) { stack = String(e.stack); }
    return { now: Date.now(), date: String(new Date()), at: ctx.now(), chance: Math.random(), own: ctx.random(), keys, stack,
      born: born.length, depth, zone: new Date(0).getTimezoneOffset(), locale: (12345.678).toLocaleString(),
      perf: typeof performance, order: [..."bca"].sort(() => Math.random() - 0.5).join(""), globals: Object.keys(globalThis),
      sorted: [3, 1, 2].toSorted().join(), run: ctx.run.context };
  };
  for (let i = 0; i < input.rounds; i++) {
    await ctx.call("test.echo", look());
    const first = await Promise.race([ctx.call("test.slow", { ms: 30 }), ctx.call("test.echo", { i }), ctx.sleep(20)]);
    await ctx.call("test.echo", { first, ...look() });
    await Promise.all([1, 2, 3].map((n) => ctx.call("test.echo", { n, chance: Math.random() })));
    await ctx.sleep(150);
  }
  return born.length;
});""",
}
POLICY = 'rules: [{ name: tests, on: "test.*", then: allow }]\n'


def clean_stop(aios):
    for _ in range(3):
        aios.post("/v1/flows/slow/runs", {})
    until(lambda: aios.get("/v1/status")["calls_in_flight"] >= 3, 10, what="calls in flight")
    before = aios.get("/v1/status")["seq"]
    began = time.monotonic()
    code = aios.stop(signal.SIGTERM)
    took = time.monotonic() - began
    assert code == 0 and took < 5.5, f"it ended with {code} after {took:.1f} s"
    snapshots = sorted((aios.dir / ".aios/log").glob("snapshot-*"))
    assert snapshots and int(snapshots[-1].name.split("-")[1]) >= before, snapshots
    aios.start()
    for r in aios.get("/v1/runs?flow=slow&state=active")["items"]:
        aios.post(f"/v1/runs/{r['run']}/cancel", {})
    print(f"stopped within {took:.1f} s")


def recovery(aios):
    """What stands open over two kinds of end; one of the sleepers is due while nobody is there."""
    short = aios.post("/v1/flows/sleeper/runs", {"input": {"ms": 1500}})["run"]
    long = aios.post("/v1/flows/sleeper/runs", {"input": {"ms": 6000}})["run"]
    ask = aios.post("/v1/flows/asker/runs", {})["run"]
    gate = until(lambda: aios.get("/v1/gates")["items"], 10, what="a gate")[0]
    aios.ask("PUT", "/v1/memory/facts/kept", {"value": {"n": 1}})
    facts = aios.get("/v1/memory/facts?prefix=")["items"]
    events = aios.events()
    aios.kill()
    time.sleep(2)
    (aios.dir / "flows/sleeper.js").write_text(HEAD + FLOWS["sleeper"].replace("VERSION", "two"))
    aios.start()
    assert aios.events()[:len(events)] == events, "what was told is not what is there"
    assert [c["name"] for c in aios.deploy()["changed"]] == ["sleeper"]
    end = aios.get(f"/v1/runs/{short}?wait=20", timeout=30)
    assert end["state"] == "done" and end["value"] == "VERSION", end
    assert aios.get(f"/v1/memory/facts/woke/{short}")["value"]["slept"] >= 1500
    known = {f["key"]: f for f in aios.get("/v1/memory/facts?prefix=")["items"]}
    assert all(known[f["key"]] == f for f in facts), (facts, known)
    again = aios.get(f"/v1/gates/{gate['gate']}")
    assert again["shown"] == gate["shown"] and again["show"] == {"text": "as shown"}, again
    assert aios.get(f"/v1/runs/{long}")["state"] == "active"
    assert aios.stop() == 0
    aios.start()
    aios.post(f"/v1/gates/{gate['gate']}/approve", {"shown": gate["shown"], "reason": "yes"})
    end = aios.get(f"/v1/runs/{ask}?wait=20", timeout=30)
    assert end["value"]["value"] == {"text": "as shown"} and end["value"]["reason"] == "yes", end
    assert end["value"]["after"] == {"by": ask}, end
    end = aios.get(f"/v1/runs/{long}?wait=20", timeout=30)
    assert end["state"] == "done" and end["value"] == "VERSION", end
    assert aios.run("sleeper", {"ms": 1})["result"] == "two"


def killed(aios):
    runs = [aios.post("/v1/flows/busy/runs", {"input": {"steps": 400}})["run"] for _ in range(8)]
    for _ in range(4):
        time.sleep(0.15)
        aios.kill()
        aios.start()
    for n in runs:
        end = aios.get(f"/v1/runs/{n}?wait=60", timeout=70)
        assert end["state"] == "done" and end["value"] == 400 * 399 // 2 and end["step_count"] == 400, (n, end["state"], end["value"])


def replays(aios):
    """Evicted again and again, its workers and aiosd killed: the probes see nothing that differs."""
    runs = [aios.post("/v1/flows/probe/runs", {"input": {"rounds": 12}})["run"] for _ in range(6)]
    for i in range(4):
        time.sleep(0.4)
        if i % 2:
            aios.kill()
            aios.start(None, "--evict-after", "40")
        else:
            for name, pid in aios.pids().items():
                if name.startswith("aios-flow"):
                    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    for n in runs:
        end = aios.get(f"/v1/runs/{n}?wait=60", timeout=70)
        assert end["state"] == "done", (n, end["state"], end["why"], end["detail"])
        assert end["value"] == 24, end["value"]


def main():
    files = {"aios.yaml": "name: restart\n", "policy.yaml": POLICY, **{f"flows/{n}.js": HEAD + t for n, t in FLOWS.items()}}
    with Aios(files) as aios:
        aios.start(None, "--evict-after", "40")
        aios.deploy()
        for part in (clean_stop, recovery, killed, replays):
            part(aios)
            print(f"{part.__name__}: ok", flush=True)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
