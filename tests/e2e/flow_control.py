#!/usr/bin/env python3
"""Flow control through a real aiosd: lanes (fifo, replace, reject), rates, priorities, delayed starts, the cap on runs that
are awake and on runs in memory, 429 with Retry-After at a real HTTP client, a restart with a full queue, runs that wait for
runs."""
import concurrent.futures
import http.client
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import BIN, Aios, Problem, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
HOLD = "async (ctx) => (await ctx.signal(\"go\")).payload"
FLOWS = {
    "plain": f'export default flow({{ name: "plain" }}, {HOLD});\n',
    "quick": 'export default flow({ name: "quick" }, (ctx, input) => input.n);\n',
    "issue": f'export default flow({{ name: "issue", concurrency: {{ key: "input.issue", limit: 1 }} }}, {HOLD});\n',
    "newest": f'export default flow({{ name: "newest", concurrency: {{ limit: 1, policy: "replace" }} }}, {HOLD});\n',
    "once": f'export default flow({{ name: "once", concurrency: {{ key: "input.id", limit: 1, policy: "reject" }} }}, {HOLD});\n',
    "slow": f'export default flow({{ name: "slow", rate: "1/s" }}, {HOLD});\n',
    "outside": 'export default flow({ name: "outside", grants: ["test.*"] }, (ctx, input) => ctx.call("test.slow", input));\n',
    "waits": """export default flow({ name: "waits", grants: ["run.*"] }, async (ctx, input) => {
  const { run } = await ctx.start("issue", { issue: "w" }, { priority: 3 });
  const early = await ctx.wait(run, { timeout: "100ms" });
  const late = await ctx.wait({ run });
  const again = await ctx.wait(run);
  const none = await ctx.wait(99999).catch((e) => e.code);
  const self = await ctx.wait(ctx.run.id).catch((e) => e.code);
  return { early, late, again, none, self };
});
""",
    "work": """export default flow({ name: "work", concurrency: { key: "input.k", limit: 2 }, grants: ["test.*"] }, async (ctx, input) => {
  await ctx.sleep("20ms");
  await ctx.call("test.echo", { n: input.n });
  return input.n;
});
""",
    "barred": """export default flow({ name: "barred" }, (ctx) => ctx.wait(1).catch((e) => e.code));
""",
    "starts": """export default flow({ name: "starts", grants: ["run.*"] }, async (ctx) => {
  await ctx.sleep("1ms");
  return ctx.start("plain").then(() => "started", (e) => e.code);
});
""",
}
YAML = "name: Flow control\nworkers: 2\n"


def started(a, flow, value=None, **more):
    return a.post(f"/v1/flows/{flow}/runs", {"input": value or {}, **more})["run"]


def state(a, run):
    return a.get(f"/v1/runs/{run}")["state"]


def is_(a, run, want):
    until(lambda: state(a, run) == want, 20, what=f"run {run} being {want}")


def go(a, run, value=1):
    a.post(f"/v1/runs/{run}/signals/go", json.dumps(value))


def cancel(a, *runs):
    for run in runs:
        a.post(f"/v1/runs/{run}/cancel")


def aios(a, *args):
    p = subprocess.run([BIN / "aios", *map(str, args)], cwd=a.dir, text=True, capture_output=True, timeout=60)
    assert p.returncode == 0, f"aios {args}: {p.returncode}: {p.stderr}{p.stdout}"
    return p.stdout


def http_start(a, flow, key, body=None):
    """(status, Retry-After, JSON) as a client over TCP gets them."""
    c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=30)
    c.request("POST", f"/v1/flows/{flow}/runs", json.dumps(body or {}),
              {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    r = c.getresponse()
    out = r.status, r.getheader("Retry-After"), json.loads(r.read())
    c.close()
    return out


def limits(a, **which):
    (a.dir / "aios.yaml").write_text(YAML + f"limits: {json.dumps(which)}\n")
    a.deploy()


def bad_specs(a):
    for spec, word in (("concurrency: { key: \"input.\", limit: 1 }", "concurrency.key"),
                       ("concurrency: { key: \"inputs.x\", limit: 1 }", "there is no variable inputs"),
                       ("concurrency: { limit: 1, policy: \"lifo\" }", "concurrency.policy"),
                       ("rate: \"often\"", "rate.limit"), ("rate: { limit: \"1/s\", by: \"x\" }", "rate has no member by"),
                       ("priority: 11", "priority")):
        text = HEAD + f'export default flow({{ name: "bad", {spec} }}, () => 1);\n'
        try:
            a.post("/v1/deploy", {"files": {"flows/bad.js": text}})
            raise AssertionError(f"{spec} was deployed")
        except Problem as p:
            assert p.status == 422 and word in p.body["detail"] and "flows/bad.js" in p.body["detail"], p.body
    try:
        a.post("/v1/deploy", {"files": {"aios.yaml": YAML + "limits: { active: 0 }\n"}})
        raise AssertionError("a cap of 0 was deployed")
    except Problem as p:
        assert p.status == 422 and "limits" in str(p.body), p.body


def lanes(a):
    first, second, third = (started(a, "issue", {"issue": "7"}) for _ in range(3))
    other = started(a, "issue", {"issue": "8"})
    is_(a, other, "active")
    is_(a, third, "queued")
    why = a.get(f"/v1/runs/{third}/why")
    assert why["kind"] == "queued" and "lane 7" in why["text"] and "1 of its lane goes before it" in why["text"], why
    lane = next(x for x in a.get("/v1/queue?flow=issue")["lanes"] if x["lane"] == "7")
    assert (lane["active"], lane["limit"], lane["waiting"], lane["next"]) == (1, 1, 2, second), lane
    out = aios(a, "queue", "issue")
    assert "2 of at most" in out and "issue" in out, out
    go(a, third, "early")  # what comes before it begins is kept
    go(a, first)
    is_(a, second, "active")
    cancel(a, second)
    is_(a, third, "done")
    cancel(a, other)
    runs = [started(a, "newest") for _ in range(4)]
    is_(a, runs[-1], "active")
    assert [state(a, r) for r in runs[:-1]] == ["cancelled"] * 3
    cancel(a, runs[-1])
    run = started(a, "once", {"id": 1})
    try:
        started(a, "once", {"id": 1})
        raise AssertionError("a second run was let in")
    except Problem as p:
        assert p.status == 429 and p.body["code"] == "lane_full", p.body
    cancel(a, run, started(a, "once", {"id": 2}))
    try:
        started(a, "issue", {})
        raise AssertionError("a run without a key was let in")
    except Problem as p:
        assert p.status == 422 and "concurrency.key" in str(p.body), p.body


def waiting_for_time(a):
    runs = [started(a, "slow") for _ in range(3)]
    is_(a, runs[0], "active")
    is_(a, runs[2], "active")
    at = [e["at"] for e in a.events() if e["type"] == "run.admitted" and e["run"] in runs]
    begun = next(e["at"] for e in a.events() if e["type"] == "run.started" and e["run"] == runs[0])
    assert at[0] >= begun + 1000 and at[1] >= begun + 2000, (begun, at)
    cancel(a, *runs)
    later = started(a, "plain", delay_ms=3600000)
    is_(a, later, "queued")
    assert a.get(f"/v1/runs/{later}/why")["until"] > time.time() * 1000 + 3000000
    soon = started(a, "quick", {"n": 5}, delay_ms=300)
    is_(a, soon, "done")
    cancel(a, later)
    is_(a, later, "cancelled")
    later = json.loads(aios(a, "run", "quick", "--input", '{"n":6}', "--in", "100ms", "--priority", "5", "--json"))["run"]
    is_(a, later, "done")


def queue_full(a, key):
    limits(a, active=2, queue=3)
    # Those that sleep take no slot: they would all fit.
    asleep = [started(a, "plain") for _ in range(5)]
    for run in asleep:
        is_(a, run, "active")
    cancel(a, *asleep)
    slow = [started(a, "outside", {"ms": 600000}) for _ in range(2)]
    for run in slow:
        until(lambda: a.get("/v1/queue")["awake"] == 2, 20, what="two runs awake")
    low = started(a, "quick", {"n": 1}, priority=-2)
    high = started(a, "quick", {"n": 2}, priority=9)
    mid = started(a, "quick", {"n": 3})
    status, after, body = http_start(a, "quick", key)
    assert status == 429 and int(after) > 0 and body["code"] == "queue_full", (status, after, body)
    assert "limits.queue" in body.get("detail", body.get("message", "")), body
    why = a.get(f"/v1/runs/{mid}/why")
    assert "limits.active" in why["text"], why
    assert len(a.get("/v1/runs?state=queued")["items"]) == 3
    # A restart with a full queue: nobody is lost, nobody is let in twice, and it is still full.
    a.kill()
    a.start()
    assert a.get("/v1/queue")["queued"] == 3
    status, after, body = http_start(a, "quick", key)
    assert status == 429 and int(after) > 0, (status, after, body)
    cancel(a, slow[0])
    for run in (low, high, mid):
        is_(a, run, "done")
    order = [e["run"] for e in a.events() if e["type"] == "run.admitted" and e["run"] in (low, high, mid)]
    assert order == [high, mid, low], order
    cancel(a, slow[1])
    limits(a, active=1, queue=0)
    run = started(a, "outside", {"ms": 600000})
    until(lambda: a.get("/v1/queue")["awake"] == 1, 20, what="a run awake")
    status, after, body = http_start(a, "quick", key)
    assert status == 429 and body["code"] == "queue_full", body
    cancel(a, run)
    assert a.run("starts")["result"] == "queue_full"


def waiting_for_runs(a):
    limits(a, active=1, queue=100)  # even so a run that waits lets the other go
    run = started(a, "waits")
    child = until(lambda: next((r["run"] for r in a.get("/v1/runs?flow=issue&state=active")["items"]), None), 20)
    until(lambda: any(e["type"] == "step.done" and e["run"] == run for e in a.events()), 20, what="a wait that timed out")
    go(a, child, "said")
    is_(a, run, "done")
    value = a.run("quick", {"n": 1}) and a.get(f"/v1/runs/{run}")["value"]
    done = {"state": "done", "value": "said"}
    assert value == {"early": {"timeout": True}, "late": done, "again": done, "none": "unknown_run", "self": "deadlock"}, value
    assert a.run("barred")["result"] == "denied"


def loaded(a):
    """Many more runs than limits.loaded: each is loaded when it is needed, and none is lost."""
    limits(a, loaded=3)
    runs = [started(a, "plain") for _ in range(20)]
    for run in runs:
        is_(a, run, "active")
    until(lambda: a.get("/v1/status")["loaded_runs"] <= 3, 20, what="idle runs being evicted")
    for run in runs:
        go(a, run, run)
    for run in runs:
        is_(a, run, "done")
        assert a.get(f"/v1/runs/{run}")["value"] == run


def killed(a):
    """aiosd is killed again and again while a full queue is worked off: each run ends once, no lane ever had too many."""
    limits(a, active=3, queue=1000)
    runs = {started(a, "work", {"k": n % 5, "n": n}): n for n in range(60)}
    for _ in range(3):
        time.sleep(0.15)
        a.kill()
        a.start()
    for run, n in runs.items():
        is_(a, run, "done")
        assert a.get(f"/v1/runs/{run}")["value"] == n
    lane, go_, ended, most = {}, {}, set(), 0
    for e in a.events():
        run = e.get("run")
        if run not in runs:
            continue
        if e["type"] == "run.started":
            lane[run] = e["lane"]
        if (e["type"] == "run.started" and not e["queued"]) or e["type"] == "run.admitted":
            go_.setdefault(lane[run], set()).add(run)
            most = max(most, len(go_[lane[run]]))
        if e["type"] == "run.ended":
            assert run not in ended
            ended.add(run)
            go_[lane[run]].remove(run)
    assert ended == set(runs) and most == 2, most


def busy(files):
    """More than a slow disk keeps up with: some are told to come back, at once; what was acknowledged is there."""
    text = "x" * (2 << 20)
    with Aios(files) as a:
        slow = a.home / "slow"
        a.start({"LD_PRELOAD": str(BIN / "tests/engine/libfailsync.so"), "SLOWSYNC": str(slow)})
        key = a.post("/v1/keys", {"name": "ci", "grants": ["api.doc_put"]})["key"]

        def put(i):
            c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=60)
            c.request("PUT", f"/v1/memory/documents/d{i}", json.dumps({"text": text + str(i)}),
                      {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
            r = c.getresponse()
            out = r.status, r.getheader("Retry-After"), r.read()
            c.close()
            return out

        slow.touch()
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(put, range(48)))
        slow.unlink()
        for status, after, body in answers:
            assert status in (200, 201, 429, 503), (status, body)  # 503: from the door, which has no room for it either
            assert status < 400 or (int(after) > 0 and json.loads(body)["code"] == "busy"), (after, body)
        kept = [i for i, (status, _, _) in enumerate(answers) if status < 400]
        # Where aiosd reads no faster than it writes, the socket holds them back, and nobody has to be refused.
        assert kept, answers
        print(f"busy: {len(kept)} of {len(answers)} were taken, the others were told to come back")
        put = {e["id"] for e in a.events() if e["type"] == "document.put"}
        assert put == {f"d{i}" for i in kept}, (put, kept)


def main():
    files = {f"flows/{name}.js": HEAD + text for name, text in FLOWS.items()}
    files["aios.yaml"] = YAML
    files["policy.yaml"] = 'rules: [{ name: tests, on: "test.*", then: allow }]\n'
    with Aios(files) as a:
        a.start()
        a.deploy()
        a.key = a.post("/v1/keys", {"name": "ci", "grants": ["api.run_start"]})["key"]
        for step in (bad_specs, lanes, waiting_for_time):
            step(a)
            print(f"flow control: {step.__name__}", flush=True)
        queue_full(a, a.key)
        for step in (waiting_for_runs, loaded, killed):
            step(a)
            print(f"flow control: {step.__name__}", flush=True)
        a.verify()  # folded from zero it is the same state
    busy(files)
    print("flow control: all as they should be")


main()
