#!/usr/bin/env python3
"""Runs, through a real aiosd that stops and dies in between: delayed, paused and resumed, with time limits, forked and restarted
from a step (open, ended, and forgotten by the state), found again, and asked why they wait."""
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Ledger, Problem, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
FLOWS = {
    "waiter": """export default flow({ name: "waiter", grants: ["gate.ask", "memory.*", "test.*", "run.*"] }, async (ctx, input) => {
  const first = await ctx.call("test.once", { value: `first of ${input.name}` });
  const told = await ctx.signal("go");
  await ctx.sleep(input.ms ?? 1);
  const last = await ctx.call("test.once", { value: `last of ${input.name}` });
  return { name: input.name, told: told.payload, run: ctx.run.id, from: ctx.run.forked_from ?? null, V: "VERSION" };
});""",
    "asker": """export default flow({ name: "asker", grants: ["gate.ask", "run.*", "test.*"] }, async (ctx, input) => {
  if (input.depth) return ctx.run("asker", { depth: input.depth - 1, ms: input.ms }, input.limit ? { timeout: input.limit } : {});
  if (input.ms) return ctx.call("test.slow", { ms: input.ms });
  return (await ctx.approve({ title: "Shall it?", show: { text: "it" }, timeout: input.timeout })).value;
});""",
    "slowpoke": """export default flow({ name: "slowpoke", timeout: "6s", grants: ["run.*", "gate.ask", "test.*"] }, (ctx, input) =>
  ctx.run("asker", { depth: 1 }));""",
    "limited": """export default flow({ name: "limited", grants: ["test.*"] }, async (ctx, input) => {
  const out = {};
  for (const action of ["test.slow", "timer.sleep"])
    try { await ctx.call(action, { ms: 60000 }, { timeout: "300ms" }); out[action] = "done"; }
    catch (e) { out[action] = e.code; }
  return out;
});""",
    # The outside takes its time with the answer: it has happened when the limit comes.
    "late": """export default flow({ name: "late", grants: ["test.*"] }, async (ctx, input) => {
  try {
    const r = await ctx.call(`test.${input.how}`, { value: `late ${input.how}`, delay_ms: 6000 }, { timeout: "2s" });
    return { done: r };
  } catch (e) { return { code: e.code }; }
});""",
    "follower": """export default flow({ name: "follower", grants: ["run.*"] }, async (ctx, input) =>
  (await ctx.wait(input.run)).state);""",
    "listener": """export default flow({ name: "listener", grants: ["event.*"] }, async (ctx) =>
  (await ctx.event("order.*")).payload);""",
    "reader": """export default flow({ name: "reader", grants: ["feed.*", "file.*"] }, async (ctx, input) =>
  (await ctx.call("feed.read", { file: "feed.xml" })).items.length);""",
    "many": """export default flow({ name: "many", grants: ["memory.*"] }, async (ctx, input) => {
  let sum = 0;
  for (let i = 0; i < input.steps; i++) { await ctx.memory.get("none"); sum += i; }
  return sum * (input.by ?? 1);
});""",
}
POLICY = 'rules: [{ name: tests, on: "test.*", then: allow }, { name: feeds, on: "feed.*", then: allow }]\n'


def why(aios, run):
    return aios.get(f"/v1/runs/{run}/why")


def waits(aios, run, kind):
    """The wait of this kind that the run stands in, once it does."""
    def found():
        return [w for w in why(aios, run)["waits"] if w["kind"] == kind]
    return until(found, 10, what=f"run {run} to wait for a {kind}")[0]


def state(aios, run):
    return aios.get(f"/v1/runs/{run}")["state"]


def start(aios, flow, value, **kw):
    return aios.post(f"/v1/flows/{flow}/runs", {"input": value}, **kw)["run"]


def refused(status, call, *args, **kw):
    try:
        call(*args, **kw)
    except Problem as p:
        assert p.status == status, p
        return p.body
    raise AssertionError(f"not refused with {status}")


def pause(aios, ledger):
    """Paused: what comes is recorded and survives a crash; the flow goes on at resume, with everything, and once."""
    run = start(aios, "waiter", {"name": "paused", "ms": 300})
    wait = waits(aios, run, "signal")
    assert wait["since"] and "aios signal" in wait["wakes"], wait
    aios.post(f"/v1/runs/{run}/pause", {"reason": "let me look"})
    aios.post(f"/v1/runs/{run}/signals/go", {"n": 7})
    aios.kill()
    aios.start()
    told = why(aios, run)
    assert told["kind"] == "paused" and "let me look" in told["text"] and told["since"], told
    assert f"aios resume {run}" in aios.cli("why", str(run)).stdout
    refused(409, aios.post, f"/v1/runs/{run}/pause")
    time.sleep(0.5)
    assert state(aios, run) == "paused"
    assert not [e for e in ledger.entries() if e["value"] == "last of paused"]
    aios.cli("resume", str(run))
    end = aios.get(f"/v1/runs/{run}?wait=20", timeout=30)
    assert end["value"]["told"] == {"n": 7}, end
    assert len([e for e in ledger.entries() if e["value"] == "last of paused"]) == 1
    told = why(aios, run)
    assert told["kind"] == "ended" and told["state"] == "done", told


def reasons(aios):
    """A run that waits says for what; over a restart too."""
    run = start(aios, "asker", {})
    gate = waits(aios, run, "gate")
    assert "Shall it?" in gate["text"] and "aios approve" in gate["wakes"], gate
    parent = start(aios, "asker", {"depth": 1, "ms": 60000})
    child = waits(aios, parent, "child")["child"]
    sent = waits(aios, child, "sent")
    assert sent["since"] and sent["until"] > sent["since"], sent
    sleeper = start(aios, "waiter", {"name": "sleeper", "ms": 600000})
    waits(aios, sleeper, "signal")
    aios.post(f"/v1/runs/{sleeper}/signals/go", 1)
    timer = waits(aios, sleeper, "timer")
    assert timer["until"] - timer["since"] == 600000, timer
    follower = start(aios, "follower", {"run": sleeper})
    told = waits(aios, follower, "run")
    assert told["child"] == sleeper and f"aios why {sleeper}" in told["text"], told
    listener = start(aios, "listener", {})
    told = waits(aios, listener, "event")
    assert "order.*" in told["text"] and "aios publish" in told["wakes"], told
    aios.post("/v1/freeze")
    held = start(aios, "limited", {})
    assert "thaw" in waits(aios, held, "freeze")["wakes"]
    aios.post("/v1/thaw")
    aios.stop()
    aios.start()
    assert waits(aios, sleeper, "timer") == timer
    assert waits(aios, run, "gate") == gate
    out = aios.cli("why", str(sleeper)).stdout
    assert "sleeps" in out and "since" in out and "until" in out and "the clock" in out, out
    assert json.loads(aios.cli("why", str(run), "--json").stdout)["waits"][0]["gate"] == gate["gate"]
    refused(404, why, aios, 99999)
    aios.post(f"/v1/runs/{parent}/cancel")
    assert state(aios, child) == "cancelled"
    aios.cli("publish", "order.paid", "--payload", '{"n": 5}')
    assert aios.get(f"/v1/runs/{listener}?wait=20", timeout=30)["value"] == {"n": 5}
    for r in (run, sleeper, held):
        if state(aios, r) == "active":
            aios.post(f"/v1/runs/{r}/cancel")
    assert aios.get(f"/v1/runs/{follower}?wait=20", timeout=30)["value"] == "cancelled"


def limits(aios, ledger):
    """Of a step, of a wait, of a run with what it waits for; over a crash."""
    assert aios.run("limited")["result"] == {"test.slow": "timeout", "timer.sleep": "timeout"}
    run = start(aios, "asker", {"timeout": 5000})
    gate = waits(aios, run, "gate")
    assert gate["limit"], gate
    aios.kill()
    aios.start()
    end = aios.get(f"/v1/runs/{run}?wait=20", timeout=30)
    assert end["state"] == "failed" and end["value"]["code"] == "timeout", end
    assert aios.get(f"/v1/gates/{gate['gate']}")["state"] != "open"
    # What has happened is not said to have failed: it is asked for, or a person is asked.
    assert aios.run("late", {"how": "idempotent"})["result"] == {"code": "timeout"}
    assert "done" in aios.run("late", {"how": "lookup"})["result"]
    run = start(aios, "late", {"how": "once"})
    doubt = waits(aios, run, "doubt")
    gate = aios.get(f"/v1/gates/{doubt['gate']}")
    aios.kill()
    aios.start()
    assert waits(aios, run, "doubt")["gate"] == gate["gate"]
    aios.post(f"/v1/gates/{gate['gate']}/settle", {"shown": gate["shown"], "answer": "happened", "result": {"n": 1}})
    assert aios.get(f"/v1/runs/{run}?wait=20", timeout=30)["value"] == {"done": {"n": 1}}
    for how in ("idempotent", "lookup", "once"):
        assert len([e for e in ledger.entries() if e["value"] == f"late {how}"]) == 1, how
    run = start(aios, "slowpoke", {})
    child = waits(aios, run, "child")["child"]
    grandchild = waits(aios, child, "child")["child"]
    end = aios.get(f"/v1/runs/{run}?wait=20", timeout=30)
    assert end["state"] == "failed" and end["value"]["code"] == "timeout", end
    for r in (child, grandchild):
        assert state(aios, r) == "failed", r
    ended = [e["run"] for e in aios.events() if e["type"] == "run.ended" and e["run"] in (run, child, grandchild)]
    assert ended == [grandchild, child, run], ended
    run = start(aios, "asker", {"depth": 1, "limit": "1s"})
    end = aios.get(f"/v1/runs/{run}?wait=20", timeout=30)
    assert end["value"]["code"] == "timeout", end


def delayed(aios):
    """Begins when it was told to, over a crash; its key is known from the start; why says until when."""
    head = {"Idempotency-Key": "later"}
    run = aios.post("/v1/flows/many/runs", {"input": {"steps": 3}, "begin": "8s", "timeout": "1h"}, headers=head)["run"]
    again = aios.post("/v1/flows/many/runs", {"input": {"steps": 3}}, headers=head)
    assert again["run"] == run and again["existing"], again
    refused(409, aios.post, "/v1/flows/many/runs", {"input": {"steps": 4}}, headers=head)
    told = why(aios, run)
    assert told["kind"] == "delayed" and 8000 <= told["until"] - told["since"] < 9000 and told["wakes"] == "the clock", told
    assert told["limit"] == told["until"] + 3600000, told
    refused(409, aios.post, f"/v1/runs/{run}/pause")
    assert aios.post("/v1/flows/many/runs?wait=0", {"input": {"steps": 3}, "begin": "2099-01-01T00:00:00+01:00"})["state"] == "queued"
    refused(400, aios.post, "/v1/flows/many/runs", {"begin": "soon"})
    refused(400, aios.post, "/v1/flows/many/runs", {"timeout": "long"})
    aios.kill()
    aios.start()
    assert state(aios, run) == "queued"
    assert aios.post("/v1/flows/many/runs", {"input": {"steps": 3}}, headers=head)["run"] == run
    end = aios.get(f"/v1/runs/{run}?wait=20", timeout=30)
    assert end["state"] == "done" and end["value"] == 3, end
    began = [e["at"] for e in aios.events() if e["type"] == "run.admitted" and e["run"] == run]
    assert began and began[0] >= end["begin_ms"], (began, end["begin_ms"])
    out = aios.cli("run", "many", "--steps", "2", "--in", "1h").stdout
    late = int(out.split()[1])
    assert "begins later" in out and "put off" in aios.cli("why", str(late)).stdout, out
    assert json.loads(aios.cli("runs", "--state", "queued", "--json").stdout)["items"][0]["run"] == late
    aios.cli("run", "many", "--steps", "2", "--at", "2001-01-01")
    assert aios.cli("run", "many", "--at", "then", check=False).returncode == 2
    fork = aios.post(f"/v1/runs/{late}/fork", {"set": {"steps": 5}})["run"]
    assert aios.get(f"/v1/runs/{fork}?wait=20", timeout=30)["value"] == 10
    for r in aios.get("/v1/runs?state=queued")["items"]:
        aios.post(f"/v1/runs/{r['run']}/cancel")
        assert state(aios, r["run"]) == "cancelled"


def forks(aios, ledger):
    run = start(aios, "waiter", {"name": "one"})
    waits(aios, run, "signal")
    aios.post(f"/v1/runs/{run}/signals/go", {"said": "once"})
    end = aios.get(f"/v1/runs/{run}?wait=20", timeout=30)
    assert end["value"]["V"] == "VERSION", end
    firsts = [e for e in ledger.entries() if e["value"] == "first of one"]
    aios.stop()
    aios.start()
    # Of a run that has ended, with a part of its input replaced: the first step and the signal are not asked for again.
    two = json.loads(aios.cli("fork", str(run), "--from", "3", "--set", "name=two", "--detach", "--json").stdout)
    assert two["forked_from"] == run and two["from"] == 3, two
    end = aios.get(f"/v1/runs/{two['run']}?wait=20", timeout=30)
    assert end["value"] == {"name": "two", "told": {"said": "once"}, "run": two["run"], "from": run, "V": "VERSION"}, end
    assert end["forked_from"] == run and [s["status"] for s in end["steps"]] == ["done"] * 4, end
    assert [e for e in ledger.entries() if e["value"] == "first of one"] == firsts
    assert len([e for e in ledger.entries() if e["value"] == "last of two"]) == 1
    # Another version, of a fork, with a key.
    (aios.dir / "flows/waiter.js").write_text(HEAD + FLOWS["waiter"].replace("VERSION", "second"))
    aios.deploy()
    body = {"from": 3, "version": "current"}
    three = aios.post(f"/v1/runs/{two['run']}/fork", body, headers={"Idempotency-Key": "k3"})["run"]
    assert aios.get(f"/v1/runs/{three}?wait=20", timeout=30)["value"]["V"] == "second"
    aios.kill()
    aios.start()
    again = aios.post(f"/v1/runs/{two['run']}/fork", body, headers={"Idempotency-Key": "k3"})
    assert again["run"] == three and again["existing"], again
    refused(409, aios.post, f"/v1/runs/{two['run']}/fork", {"from": 2}, headers={"Idempotency-Key": "k3"})
    # What cannot be.
    refused(404, aios.post, "/v1/runs/99999/fork")
    refused(409, aios.post, f"/v1/runs/{run}/fork", {"from": 50})
    refused(422, aios.post, f"/v1/runs/{run}/fork", {"version": "none"})
    # An open run: the other goes on; a restart ends it.
    four = start(aios, "waiter", {"name": "four"})
    waits(aios, four, "signal")
    refused(409, aios.post, f"/v1/runs/{four}/fork", {"from": 2})
    five = aios.post(f"/v1/runs/{four}/fork", {"from": 1, "input": {"name": "five"}})["run"]
    waits(aios, five, "signal")
    aios.post(f"/v1/runs/{five}/pause")
    six = aios.post(f"/v1/runs/{five}/restart", {"from": 1, "reason": "once more"})["run"]
    assert state(aios, five) == "cancelled" and state(aios, four) == "active"
    aios.kill()
    aios.start()
    for r in (four, six):
        waits(aios, r, "signal")
        aios.post(f"/v1/runs/{r}/signals/go", r)
    assert aios.get(f"/v1/runs/{four}?wait=20", timeout=30)["value"]["name"] == "four"
    end = aios.get(f"/v1/runs/{six}?wait=20", timeout=30)
    assert end["value"]["name"] == "five" and end["value"]["told"] == six, end
    assert len([e for e in ledger.entries() if e["value"] == "first of four"]) == 1
    assert not [e for e in ledger.entries() if e["value"] == "first of five"]


def long_fork(aios):
    run = start(aios, "many", {"steps": 10000})
    assert aios.get(f"/v1/runs/{run}?wait=60&limit=1", timeout=70)["state"] == "done"
    began = time.monotonic()
    fork = aios.post(f"/v1/runs/{run}/fork", {"from": 9000, "set": {"by": 2}})["run"]
    took = time.monotonic() - began
    end = aios.get(f"/v1/runs/{fork}?wait=60&limit=1", timeout=70)
    assert end["state"] == "done" and end["value"] == 2 * sum(range(10000)), end["value"]
    print(f"9,000 of 10,000 steps taken over in {took * 1000:.0f} ms")


def search(aios):
    def found(**kw):
        return [r["run"] for r in aios.get("/v1/runs?" + "&".join(f"{k}={v}" for k, v in kw.items()))["items"]]
    before = int(time.time() * 1000)
    time.sleep(0.01)
    run = aios.post("/v1/flows/waiter/runs", {"input": {"name": "Needle in hay"}, "customer": "c-1"},
                    headers={"Idempotency-Key": "order 17"})["run"]
    again = aios.post("/v1/flows/waiter/runs", {"input": {"name": "Needle in hay"}, "customer": "c-1"},
                      headers={"Idempotency-Key": "order 17"})
    assert again["run"] == run and again["existing"], again
    refused(409, aios.post, "/v1/flows/waiter/runs", {"input": {"name": "other"}}, headers={"Idempotency-Key": "order 17"})
    waits(aios, run, "signal")
    assert found(key="order%2017") == [run] == found(customer="c-1") == found(text="needle"), found(text="needle")
    assert run in found(since=before) and run not in found(until=before)
    assert run in found(flow="waiter", state="active", since=before) and run not in found(state="paused")
    assert found(flow="waiter", limit=1, since=before, before=run + 1) == [run]
    refused(422, aios.get, "/v1/runs?label=green")
    assert run not in found(label="untrusted")
    (aios.dir / "files").mkdir(exist_ok=True)
    (aios.dir / "files/feed.xml").write_text('<rss version="2.0"><channel><title>t</title><item><title>i</title></item></channel></rss>')
    read = aios.run("reader")
    assert read["result"] == 1 and found(label="untrusted") == [read["run"]], read
    assert found(label="private") == []
    out = aios.cli("runs", "--key", "order 17", "--since", "10m", "--text", "NEEDLE", "--json").stdout
    assert [r["run"] for r in json.loads(out)["items"]] == [run], out
    assert aios.cli("runs", "--since", "yesterday", check=False).returncode == 2
    aios.post(f"/v1/runs/{run}/cancel")


def main():
    with Aios({}) as aios:
        ledger = Ledger(aios.home / "ledger")
        try:
            aios.dir.mkdir(parents=True, exist_ok=True)
            (aios.dir / "aios.yaml").write_text(f'test: {{ ledger: "127.0.0.1:{ledger.port}" }}\n')
            (aios.dir / "policy.yaml").write_text(POLICY)
            (aios.dir / "flows").mkdir()
            for name, text in FLOWS.items():
                (aios.dir / f"flows/{name}.js").write_text(HEAD + text)
            aios.start()
            aios.deploy()
            pause(aios, ledger)
            reasons(aios)
            limits(aios, ledger)
            delayed(aios)
            forks(aios, ledger)
            long_fork(aios)
            search(aios)
            aios.verify()
            dump = aios.get("/v1/views/dump")["hash"]
            aios.post("/v1/views/rebuild")
            assert aios.get("/v1/views/dump")["hash"] == dump
        finally:
            ledger.stop()


main()
