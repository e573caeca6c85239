#!/usr/bin/env python3
"""Size: a run of 100,000 steps, killed in the middle and replayed; step payloads up to 16 MiB through the whole path, and a
clear error above; tens of thousands of sleeping runs in few bytes each, of which a start loads none, and each of which
wakes when it is called."""
import concurrent.futures
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402

STEPS, SLEEPERS, MIB = 100000, 40000, 1 << 20
HEAD = 'import { flow } from "aios";\n'
FLOWS = {
    "long": """export default flow({ name: "long", grants: ["test.*"] }, async (ctx, input) => {
  let sum = 0;
  for (let i = 0; i < input.steps; i += 50) {
    const calls = Array.from({ length: Math.min(50, input.steps - i) }, (_, k) => ctx.call("test.echo", { i: i + k }));
    for (const got of await Promise.all(calls)) sum += got.i;
  }
  return sum;
});""",
    "big": """export default flow({ name: "big", grants: ["test.*", "memory.*"] }, async (ctx, input) => {
  const text = input.text ?? "x".repeat(input.bytes);
  const got = await ctx.call("test.echo", { text });
  await ctx.signal("go");
  return got.text === text ? text : "another";
});""",
    "once": """export default flow({ name: "once" }, async (ctx, input) => {
  await ctx.signal("go");
  return "x".repeat(input.bytes);
});""",
    "hears": """export default flow({ name: "hears", grants: ["run.wait"] }, async (ctx, input) =>
  (await ctx.wait(input.run)).value.length);""",
    "sends": """export default flow({ name: "sends", grants: ["test.*"] }, async (ctx, input) =>
  (await ctx.call("test.echo", { text: "x".repeat(input.bytes) })).text.length);""",
    "nap": """export default flow({ name: "nap" }, async (ctx, input) => {
  const { payload } = await ctx.signal("wake", { timeout: "30d" });
  return { ...input, payload };
});""",
    "nurse": """export default flow({ name: "nurse", grants: ["run.start"] }, async (ctx, input) => {
  for (let i = 0; i < input.count; i += 100)
    await Promise.all(Array.from({ length: 100 }, (_, k) => ctx.start("nap", { customer: `c-${i + k}`, plan: "standard" })));
  return input.count;
});""",
}
POLICY = 'rules: [{ name: tests, on: "test.*", then: allow }]\n'


def long_run(aios):
    run = aios.post("/v1/flows/long/runs", {"input": {"steps": STEPS}})["run"]
    until(lambda: aios.get("/v1/status")["seq"] > STEPS / 2, 60, what="some of the steps")
    aios.kill()
    aios.start()
    got = aios.get(f"/v1/runs/{run}?wait=120", timeout=130)
    assert got["state"] == "done" and got["value"] == STEPS * (STEPS - 1) // 2, (got["state"], got["value"])
    over = aios.run("long", {"steps": STEPS + 1}, wait=120)
    assert over["state"] == "failed" and "100000" in str(over["problem"]), over
    print(f"{STEPS:,} steps, killed in the middle; one more: {over['problem']['message']}")


def payloads(aios):
    most = 16 * MIB - 64  # of JSON, quotes and names included
    runs = [aios.post("/v1/flows/big/runs", {"input": {"bytes": n}})["run"] for n in (64 << 10, MIB, most)]
    whole = "".join(chr(97 + i % 26) for i in range(1000)) * (most // 1000)
    runs.append(aios.post("/v1/flows/big/runs", {"input": {"text": whole}}, timeout=60)["run"])
    for r in runs:
        until(lambda: aios.get(f"/v1/runs/{r}")["step_count"] == 2, 60, what="the echo")
    aios.kill()
    aios.start()
    for r, want in zip(runs, (64 << 10, MIB, most, len(whole))):
        aios.post(f"/v1/runs/{r}/signals/go", {})
        assert aios.get(f"/v1/runs/{r}?wait=60", timeout=70)["state"] == "done"
        got = aios.get(f"/v1/runs/{r}/value", timeout=70)["value"]
        assert len(got) == want and (want != len(whole) or got == whole), (len(got), want)
    over = aios.run("big", {"bytes": 17 * MIB}, wait=60)
    assert over["state"] == "failed" and "larger than 16 MiB" in over["problem"]["message"], over
    try:
        aios.post("/v1/flows/big/runs", {"input": {"text": "x" * (24 * MIB)}}, timeout=60)
        raise AssertionError("24 MiB were taken")
    except Problem as p:
        assert p.status == 413, p
    print(f"payloads up to {most:,} bytes, over a kill; above: {over['problem']['message']}")


def many_hear(aios):
    """One value of 14 MiB for ten runs at once: more than a connection holds, to the workers and to the views."""
    big = aios.post("/v1/flows/once/runs", {"input": {"bytes": 14 * MIB}})["run"]
    runs = [aios.post("/v1/flows/hears/runs", {"input": {"run": big}})["run"] for _ in range(10)]
    until(lambda: aios.get("/v1/status")["views_seq"] == aios.get("/v1/status")["seq"], 30, what="the views")
    aios.post(f"/v1/runs/{big}/signals/go", {})
    for r in runs:
        got = aios.get(f"/v1/runs/{r}?wait=60", timeout=70)
        assert got["state"] == "done" and got["value"] == 14 * MIB, got
    until(lambda: aios.get("/v1/status")["views_seq"] == aios.get("/v1/status")["seq"], 30, what="the views, behind them")
    assert "does not read what is sent to it" not in aios.log(), aios.log()[-2000:]
    print("ten runs heard a value of 14 MiB at once")


def many_leave(aios):
    """Twelve effects of 14 MiB, let go at once: more than the connector's connection holds. None is lost, so none is in doubt."""
    aios.post("/v1/freeze", {})
    runs = [aios.post("/v1/flows/sends/runs", {"input": {"bytes": 14 * MIB}})["run"] for _ in range(12)]
    until(lambda: all(aios.get(f"/v1/runs/{r}")["step_count"] == 1 for r in runs), 60, what="the steps")
    aios.post("/v1/thaw", {})
    for r in runs:
        got = aios.get(f"/v1/runs/{r}?wait=60", timeout=70)
        assert got["state"] == "done" and got["value"] == 14 * MIB, (got["state"], got["value"])
    assert "aios-connect: does not read what is sent to it" not in aios.log(), aios.log()[-2000:]
    print("twelve effects of 14 MiB left at once")


def many_ask(aios):
    """Sixteen clients read a value of 15 MiB at once: who gets no place is told to come again, nobody is cut off."""
    run = aios.run("once", {"bytes": 15 * MIB}, wait=0)["run"]
    aios.post(f"/v1/runs/{run}/signals/go", {})
    aios.get(f"/v1/runs/{run}?wait=60", timeout=70)

    def ask(_):
        try:
            return len(aios.get(f"/v1/runs/{run}/value", timeout=70)["value"])
        except Problem as p:
            return p.body["code"]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = set(pool.map(ask, range(16)))
    assert 15 * MIB in got and got <= {15 * MIB, "busy"}, got
    print("sixteen clients read a value of 15 MiB at once")


def anonymous(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Anonymous:")) * 1024


def log_bytes(aios):
    with open(aios.dir / ".aios/log/log.db", "rb") as f:
        head = f.read(100)
    return int.from_bytes(head[28:32], "big") * int.from_bytes(head[16:18], "big")


def settled(aios):
    s = aios.get("/v1/status")
    return s["loaded_runs"] == 0 and s["views_seq"] == s["durable"] == s["seq"]


def wakeups(aios):
    total = 0
    for pid in [aios.daemon.pid, *aios.pids().values()]:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt"))
    return total


def sleepers(aios):
    aios.stop()
    aios.start(None, "--evict-after", "500")
    empty, disk = anonymous(aios.daemon.pid), log_bytes(aios)
    got = aios.run("nurse", {"count": SLEEPERS}, wait=120)
    assert got["state"] == "done", got
    until(lambda: settled(aios), 60, what="the runs to be taken out of memory")
    for how in (signal.SIGKILL, signal.SIGTERM):  # from the log; from a snapshot
        aios.stop(how)
        aios.start(None, "--evict-after", "500")
        loaded = aios.get("/v1/status")["loaded_runs"]
        assert loaded == 0, f"{loaded} sleeping runs were loaded"
    memory = (anonymous(aios.daemon.pid) - empty) / SLEEPERS
    disk = (log_bytes(aios) - disk) / SLEEPERS
    # Another run started them: each has the list of what that one may in the log; in memory they share it.
    assert memory <= 400, f"{memory:.0f} bytes of memory for a sleeping run"
    assert disk <= 1024, f"{disk:.0f} bytes of disk for a sleeping run"
    until(lambda: settled(aios), 60, what="the views")
    time.sleep(1)
    before = wakeups(aios)
    time.sleep(3)
    woken = wakeups(aios) - before
    assert woken <= 60, f"{woken} wake-ups in 3 s of sleep"  # asking for the status is most of them
    items = aios.get("/v1/runs?flow=nap&state=active&limit=200")["items"]
    for r in items[::20]:
        aios.post(f"/v1/runs/{r['run']}/signals/wake", {"n": r["run"]})
        end = aios.get(f"/v1/runs/{r['run']}?wait=30", timeout=40)
        assert end["state"] == "done" and end["value"]["payload"] == {"n": r["run"]}, end
    print(f"{SLEEPERS:,} sleeping runs: {memory:.0f} bytes of memory, {disk:.0f} of disk each")


def main():
    files = {"aios.yaml": "name: size\n", "policy.yaml": POLICY}
    files.update({f"flows/{name}.js": HEAD + text for name, text in FLOWS.items()})
    for test in (long_run, payloads, many_hear, many_leave, many_ask, sleepers):
        with Aios(files) as aios:
            aios.start()
            aios.deploy()
            test(aios)
        print(f"{test.__name__}: ok")
    print("ok")


if __name__ == "__main__":
    main()
