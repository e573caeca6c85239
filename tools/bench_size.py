#!/usr/bin/env python3
"""Measure what size costs: a million sleeping runs, a start with them, a long replay, a storm of timers, a long log.

usage: tools/bench_size.py [--runs N] [--events N] [--skip-growth]

Part of ./dev bench. The runs are decided by the core and appended to a log by bench/size_bench.c, as aiosd would have done;
then the real aiosd is started on it. One JSON object at the end.
"""
import argparse
import json
import os
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests/lib"))
sys.dont_write_bytecode = True
from aios import BIN, Aios, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
POLICY = """rules:
  - { name: echo, on: "test.*", then: allow }
  - { name: too large, on: "test.*", when: "has(args.value) && args.value > 1000", then: deny }
"""
NAP = """export default flow({ name: "nap" }, async (ctx, input) => {
  await ctx.sleep(DUE);
  return input.customer;
});"""
STEPS = """export default flow({ name: "steps", grants: ["test.echo"] }, async (ctx, input) => {
  for (let i = 0; i < (input.count ?? 10); i++) await ctx.call("test.echo", { value: i % 100 });
  if (input.wait) await ctx.signal("go");
  return "done";
});"""
MONTH = 30 * 86400 * 1000
STEP_DONE, RUN_ENDED = 32, 21


def workspace(**flows):
    files = {f"flows/{name}.js": HEAD + text for name, text in flows.items()}
    return Aios({"aios.yaml": "name: bench\ndoor: { rates: { key: { per_second: 0 } } }\n", "policy.yaml": POLICY, **files})


def size_bench(*args):
    out = subprocess.run([str(BIN / "bench/size_bench"), *map(str, args)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(out.stdout)


def log_of(a):
    return a.dir / ".aios/log"


def anonymous(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Anonymous:")) * 1024


def wakeups(pids):
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt"))
    return total


def cpu(pid):
    """Seconds that a process's first thread had a processor."""
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


def ready(a):
    """Seconds from the start of aiosd to its first answer."""
    at = time.monotonic()
    a.start()
    return time.monotonic() - at


def settle(a, seconds=900):
    def still():
        s = a.get("/v1/status")
        return s["views_seq"] == s["durable"] == s["seq"]
    until(still, seconds, 0.2, "the views")


def sleeping(runs):
    """A million sleeping runs: memory, disk, a start from a snapshot, wake-ups."""
    r = {}
    with workspace(nap=NAP.replace("DUE", str(MONTH))) as a:
        a.start()
        a.deploy()
        a.stop()
        a.start()
        empty = anonymous(a.daemon.pid)
        a.stop()
        size_bench("fill", log_of(a), "nap", runs, MONTH)
        r["disk_bytes"] = sum(f.stat().st_size for f in log_of(a).glob("log.db*")) / runs
        r["fold"] = size_bench("fold", log_of(a))
        r["ready_from_log_s"] = ready(a)
        settle(a)
        a.stop()
        took, busy = [], []
        for _ in range(3):
            took.append(ready(a))
            busy.append(cpu(a.daemon.pid))
            a.kill()
        r["ready_s"], r["ready_cpu_s"] = statistics.median(took), statistics.median(busy)
        a.start()
        r["loaded"] = a.get("/v1/status")["loaded_runs"]
        r["memory_bytes"] = (anonymous(a.daemon.pid) - empty) / runs
        r["memory_mib"] = anonymous(a.daemon.pid) / 2**20
        settle(a)
        pids = [a.daemon.pid, *a.pids().values()]
        time.sleep(5)
        before = wakeups(pids)
        time.sleep(20)
        r["wakeups_per_s"] = (wakeups(pids) - before) / 20
    return r


def replay(steps):
    """From the signal that wakes a run of so many steps, which no worker holds, to its answer; less the same of a short one."""
    took = {}
    with workspace(steps=STEPS) as a:
        a.start(None, "--evict-after", "200")
        a.deploy()
        for count in (steps, 1):
            took[count] = []
            for _ in range(3):
                run = a.post("/v1/flows/steps/runs", {"input": {"count": count, "wait": True}})["run"]
                until(lambda: a.get(f"/v1/runs/{run}")["step_count"] == count + 1, 120, 0.2, "the steps")
                until(lambda: a.get("/v1/status")["loaded_runs"] == 0, 30, 0.1, "the run to leave the worker")
                at = time.monotonic()
                a.post(f"/v1/runs/{run}/signals/go", {})
                a.get(f"/v1/runs/{run}?wait=30")
                took[count].append((time.monotonic() - at) * 1000)
    return statistics.median(took[steps]) - statistics.median(took[1])


def varint(block, at):
    v = shift = 0
    while True:
        c = block[at]
        at += 1
        v |= (c & 127) << shift
        shift += 7
        if c < 128:
            return v, at


def event_times(a):
    """(type, time) of each event in the log."""
    db = sqlite3.connect(f"file:{log_of(a) / 'log.db'}?mode=ro", uri=True)
    for count, block in db.execute("SELECT count, block FROM commits ORDER BY first_seq"):
        at = 0
        for _ in range(count):
            length, at = varint(block, at)
            kind, p = varint(block, at)
            z, p = varint(block, p)
            yield kind, z >> 1
            at += length
    db.close()


def timers(count, due_ms=20000):
    """So many timers due at the same moment: how long after it the last has fired, and the last run has ended."""
    with workspace(nap=NAP.replace("DUE", str(due_ms))) as a:
        a.start()
        a.deploy()
        a.stop()
        due = time.time() * 1000 + due_ms
        size_bench("fill", log_of(a), "nap", count, due_ms)
        a.start()
        time.sleep(max(0, due / 1000 - time.time()) + 1)
        until(lambda: a.get("/v1/status")["seq"] >= 4 * count, 300, 0.5, "the runs to end")
        until(lambda: not a.get("/v1/runs?state=active&limit=1")["items"], 300, 0.5, "the runs to end")
        a.stop()
        times = list(event_times(a))
        begun = min(t for kind, t in times if kind == 30)
        fired, ended = [t for k, t in times if k == STEP_DONE], [t for k, t in times if k == RUN_ENDED]
        assert len(fired) == count, len(fired)
        return {"fired_ms": max(fired) - begun - due_ms, "first_ms": min(fired) - begun - due_ms,
                "ended_ms": max(ended) - begun - due_ms}


def growth(events, rounds=5):
    """Steps a second, 256 runs at a time, with so many events in the log, against a log that has just begun."""
    rates = [[], []]
    with workspace(steps=STEPS) as a, workspace(steps=STEPS) as b:
        keys = []
        for w in (a, b):
            w.start()
            w.deploy()
            keys.append(w.post("/v1/keys", {"name": "bench", "grants": ["*"]})["key"])
        b.stop()
        size_bench("fill", log_of(b), "steps", events // 12, 0, 10)
        b.start()
        settle(b)
        b.stop()
        b.start()
        for _ in range(rounds):
            for rate, w, key in zip(rates, (a, b), keys):
                out = subprocess.run([str(BIN / "bench/load"), str(w.port), "256", "4", "1", "/v1/flows/steps/runs?wait=60",
                                      key], check=True, stdout=subprocess.PIPE, text=True)
                rate.append(json.loads(out.stdout)["runs_per_s"] * 10)
                settle(w)
    short, full = (statistics.median(r) for r in rates)
    return {"steps_per_s_short": short, "steps_per_s_long": full, "ratio": full / short}


def verdict(met):
    return "met" if met else "MISSED"


def say_sleeping(s, runs):
    f = s["fold"]
    rate = f["events"] / f["fold_s"]
    print(f"a sleeping run, of {runs:,}   {s['memory_bytes']:.0f} bytes of memory   target 400: {verdict(s['memory_bytes'] <= 400)}"
          f"; {s['disk_bytes']:.0f} of disk   target 1,024: {verdict(s['disk_bytes'] <= 1024)}")
    print(f"all of aiosd with them       {s['memory_mib']:.0f} MiB   target 500: {verdict(s['memory_mib'] < 500)}")
    print(f"fold                         {rate:,.0f} events/s = {f['fold_s'] / f['hash_s']:.1f}x the time to hash the same bytes"
          f"   target 1,000,000: {verdict(rate >= 1e6)}; longest pause {f['longest_pause_ms']:.1f} ms")
    print(f"ready from a snapshot        {s['ready_s']:.2f} s, {s['ready_cpu_s']:.2f} of it on a processor "
          f"({f['restore_s']:.2f} to restore it, {f['snapshot_hash_s']:.2f} to hash its {f['snapshot_bytes'] / runs:.0f} bytes a "
          f"run)   target under 1: {verdict(s['ready_s'] < 1)}; from the log alone {s['ready_from_log_s']:.1f} s")
    print(f"loaded by that start         {s['loaded']} runs; wake-ups when idle {s['wakeups_per_s']:.2f} a second   target under 1: "
          f"{verdict(s['wakeups_per_s'] < 1)}", flush=True)


def say_timers(t):
    print(f"100,000 timers at once       the last fired {t['fired_ms']:,} ms after its time   target 1,000: "
          f"{verdict(t['fired_ms'] <= 1000)}; the last run ended {t['ended_ms']:,} ms after it", flush=True)


def say_growth(g, events):
    print(f"steps/s at {events:,} events  {g['steps_per_s_long']:,.0f} = {g['ratio']:.2f} of those in a new log "
          f"({g['steps_per_s_short']:,.0f})   target 0.90: {verdict(g['ratio'] >= 0.9)}", flush=True)


def measure(runs, events, with_growth=True):
    """All of it; each part is printed when it is known."""
    r = {"sleeping": sleeping(runs)}
    say_sleeping(r["sleeping"], runs)
    r["replay_ms"] = replay(10000)
    print(f"replay of 10,000 steps       {r['replay_ms']:.0f} ms   target 150: {verdict(r['replay_ms'] < 150)}", flush=True)
    r["timers"] = timers(100000)
    say_timers(r["timers"])
    if with_growth:
        r["growth"] = growth(events)
        say_growth(r["growth"], events)
    return r


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--runs", type=int, default=1000000)
    ap.add_argument("--events", type=int, default=10000000)
    ap.add_argument("--skip-growth", action="store_true")
    args = ap.parse_args()
    print(json.dumps(measure(args.runs, args.events, not args.skip_growth)))


if __name__ == "__main__":
    main()
