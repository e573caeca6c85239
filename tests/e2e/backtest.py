#!/usr/bin/env python3
"""Past runs on other code, with recorded effects answering: what differs in steps, effects, cost, outcomes and results. Nothing
of it is sent or written."""
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import ROOT, Aios, Ledger, Problem, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
BODY = """  const a = await ctx.call("test.once", { value: input.n });
  const told = (await ctx.model({ tier: "draft", prompt: "Say " + input.n, max_tokens: 50 })).text;
  await ctx.memory.put("last", input.n);
  const both = await Promise.all([ctx.call("test.echo", { a: 1 }), ctx.call("test.echo", { b: 2 })]);
  await ctx.outcome("sold", 1);
  return { n: input.n, told: told.length > 0, both };"""


def source(body):
    return HEAD + 'export default flow({ name: "sell", grants: ["test.*", "memory.*", "model.generate", "outcome.record"] },' \
        " async (ctx, input) => {\n" + body + "\n});\n"


def files(ledger, model):
    return {
        "aios.yaml": f"""name: backtest
door: {{ port: 0 }}
test: {{ ledger: "127.0.0.1:{ledger}" }}
models:
  providers:
    stand: {{ api: openai, url: "http://127.0.0.1:{model}/v1", secret: stand }}
  tiers: {{ draft: [stand/gpt-stand-in] }}
  prices: {{ stand/gpt-stand-in: {{ input: 1 USD, output: 2 USD }} }}
""",
        "policy.yaml": 'rules:\n  - { name: all, on: "*", then: allow }\n',
        "flows/sell.js": source(BODY),
    }


def backtest(a, body, **more):
    return a.post("/v1/flows/sell/backtest", {"files": {"flows/sell.js": source(body)}, "entry": "flows/sell.js", **more},
                  timeout=120)


def kinds(item):
    return [(d["kind"], d.get("asked", d.get("recorded"))["action"]) for d in item["differences"]]


def tests(a):
    for n in range(6):
        r = a.run("sell", {"n": n})
        assert r["state"] == "done", r
    a.run("sell", {"n": 7}, wait=0)
    cancelled = a.run("sell", {"n": 99}, wait=0)["run"]
    a.post(f"/v1/runs/{cancelled}/cancel", {})
    until(lambda: all(r["state"] != "active" for r in a.get("/v1/runs?limit=100")["items"]), 30)
    ended = [r for r in a.get("/v1/runs?limit=100")["items"] if r["state"] == "done"]
    n = len(ended)

    # The same code: nothing differs.
    r = backtest(a, BODY)
    assert r["runs"] == n and r["totals"]["same"] == n and "same way" in r["verdict"], r
    assert r["totals"]["cost_recorded_nusd"] == r["totals"]["cost_kept_nusd"] > 0, r["totals"]
    assert r["totals"]["cost_recorded_nusd"] == sum(x["cost"] for x in ended), r["totals"]
    assert [i["run"] for i in r["items"]] == sorted((x["run"] for x in ended), reverse=True), r
    r = backtest(a, BODY, last=2)
    assert r["runs"] == 2, r

    # Steps in another order are answered by where they stand; nothing is added or dropped.
    moved = BODY.replace('[ctx.call("test.echo", { a: 1 }), ctx.call("test.echo", { b: 2 })]',
                         '[ctx.call("test.echo", { b: 2 }), ctx.call("test.echo", { a: 1 })]')
    r = backtest(a, moved, last=1)
    item, = r["items"]
    assert (item["moved"], item["new"], item["dropped"], item["outcome"]) == (2, 0, 0, "differs"), item
    assert item["result_changed"] and item["result"]["both"] == [{"b": 2}, {"a": 1}], item
    assert r["totals"]["effects"] == [] and "1 other results" in r["verdict"], r

    # An effect and its cost dropped, an outcome with another value.
    dropped = BODY.replace('const told = (await ctx.model({ tier: "draft", prompt: "Say " + input.n, max_tokens: 50 })).text;',
                           'const told = "x";').replace('"sold", 1', '"sold", 2')
    r = backtest(a, dropped)
    assert r["totals"]["cost_kept_nusd"] == 0 < r["totals"]["cost_recorded_nusd"], r["totals"]
    assert r["totals"]["effects"] == [{"action": "model.generate", "added": 0, "dropped": n}], r["totals"]
    assert r["totals"]["outcomes_changed"] == 2 * n and r["totals"]["differ"] == n, r["totals"]
    assert ("dropped", "model.generate") in kinds(r["items"][0]) and not r["items"][0]["result_changed"], r["items"][0]
    assert f"{n} model.generate fewer" in r["verdict"], r["verdict"]

    # A call that has no record stops the run, or is answered as one assumes; nothing is sent.
    more = BODY.replace("  await ctx.memory", '  const m = await ctx.call("test.once", { value: "more" });\n  await ctx.memory')
    r = backtest(a, more, last=3)
    assert r["totals"]["stopped"] == 3 and r["totals"]["steps_dropped"] == 0, r["totals"]
    item = r["items"][0]
    assert item["outcome"] == "stopped" and item["new"] == 1 and item["unreached"] > 0, item
    assert item["differences"][0]["asked"] == {"action": "test.once", "args": {"value": "more"}}, item
    assert item["differences"][0]["recorded"]["action"] == "memory.put", item
    assert r["totals"]["effects"][0] == {"action": "test.once", "added": 3, "dropped": 0}, r["totals"]
    r = backtest(a, more, last=3, assume={"n": 1})
    item = r["items"][0]
    assert item["outcome"] == "differs" and item["unreached"] == 0 and item["dropped"] == 0 and item["new"] == 1, item
    assert not item["result_changed"] and item["moved"] == 4, item

    # Code that fails, hangs, or does not load.
    r = backtest(a, BODY.replace("return {", "null.x; return {"), last=2)
    assert r["totals"]["results_changed"] == 2 and r["items"][0]["problem"]["file"] == "flows/sell.js", r
    r = backtest(a, "for (;;) {}", last=2)
    assert [i["outcome"] for i in r["items"]] == ["hung", "hung"], r
    try:
        backtest(a, "return (")
        raise AssertionError("this was tried")
    except Problem as p:
        assert p.status == 422 and "flows/sell.js:4" in p.body["detail"], p.body


def generations(a):
    """A run that went on as another one (ctx.again) ends there on other code too."""
    body = """  await ctx.call("test.echo", { n: input.n });
  if (input.n < 2) return await ctx.again({ n: input.n + 1 });
  return input.n;"""
    text = source(body).replace('"sell"', '"years"')
    (a.dir / "flows/years.js").write_text(text)
    a.deploy()
    assert a.run("years", {"n": 0})["result"] == 2

    def tried(text):
        return a.post("/v1/flows/years/backtest", {"files": {"flows/years.js": text}, "entry": "flows/years.js"})["totals"]

    assert (tried(text)["same"], tried(text)["differ"]) == (3, 0), tried(text)
    assert tried(text.replace("input.n < 2", "input.n < 1"))["differ"] == 1
    assert tried(text.replace("input.n + 1", "input.n + 2"))["differ"] == 2


def liar(a):
    """The views say where the steps of a run stand; what the log has there must be these steps, or the run is not tried."""
    runs = sorted(r["run"] for r in a.get("/v1/runs?flow=sell&state=done")["items"])
    assert a.stop() == 0
    db = sqlite3.connect(a.dir / ".aios/views/views.db")
    db.execute("UPDATE steps SET seq = (SELECT seq FROM steps s WHERE s.run = ?1 AND s.step = 0) WHERE run = ?2 AND step = 0",
               (runs[0], runs[1]))  # another run's
    db.execute("UPDATE steps SET seq_ended = (SELECT seq_ended FROM steps s WHERE s.run = ?1 AND s.step = 3)"
               " WHERE run = ?1 AND step = 4", (runs[2],))  # another step's
    db.execute("UPDATE runs SET seq = 1 WHERE run = ?1", (runs[3],))  # no start of a run at all
    db.execute("UPDATE runs SET seq_ended = seq WHERE run = ?1", (runs[4],))  # not its end
    db.commit()
    db.close()
    a.start()
    r = backtest(a, BODY)
    assert r["totals"]["untried"] == 4 and r["totals"]["same"] == r["runs"] - 4, r["totals"]
    assert {i["run"] for i in r["items"] if i["outcome"] == "untried"} == set(runs[1:5]), r
    a.post("/v1/views/rebuild", {})
    assert backtest(a, BODY)["totals"]["untried"] == 0


def cli(a):
    path = a.home / "sell.js"  # outside of the workspace
    path.write_text(source(BODY))
    p = a.cli("backtest", "sell", "--with", str(path))
    assert p.returncode == 0 and p.stdout.strip().splitlines()[-1].startswith("all "), p.stdout
    path.write_text(source(BODY.replace("a: 1", "a: 2")))
    p = a.cli("backtest", "sell", "--with", str(path), "--last", "1", check=False)
    last = p.stdout.strip().splitlines()[-1]
    assert p.returncode == 1 and last.startswith("1 of 1 runs would have gone another way"), p.stdout
    assert "recorded" in p.stdout and "asked" in p.stdout, p.stdout
    p = a.cli("backtest", "sell", "--with", str(path), "--last", "1", "--assume", '{"a":2}', "--json", check=False)
    assert json.loads(p.stdout)["items"][0]["outcome"] == "differs", p.stdout
    p = a.cli("backtest", "none", "--with", str(path), check=False)
    assert "no run of none has ended" in p.stdout, p
    p = a.cli("backtest", "sell", check=False)
    assert p.returncode == 2, p


def main():
    model = subprocess.Popen([sys.executable, ROOT / "tests/standins/llm.py", "--key", "k-1", "--log", os.devnull],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = json.loads(model.stdout.readline())["port"]
    home = pathlib.Path(tempfile.mkdtemp(prefix="aios-test-"))
    ledger = Ledger(home / "ledger.jsonl")
    try:
        with Aios(files(ledger.port, port), home=home) as a:
            a.start()
            a.deploy()
            a.cli("secrets", "set", "stand", "--host", "127.0.0.1", input="k-1\n")
            tests(a)
            generations(a)
            liar(a)
            before, sent = a.get("/v1/status")["seq"], len(ledger.entries())
            cli(a)
            assert a.get("/v1/status")["seq"] == before and len(ledger.entries()) == sent, "a backtest did something"
            a.verify()
    finally:
        ledger.stop()
        model.kill()
        model.wait()
    print("ok")


main()
