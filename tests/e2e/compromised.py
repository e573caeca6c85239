#!/usr/bin/env python3
"""Processes that are the attacker's, beside attack.py: aios-parse, aios-flow at a deploy, aios-connect and aios-views. What
each of them can do is lie about what it was itself asked. It cannot speak in another's name: not for another flow's grants,
not for the policy, not for another call, and a lie of the views changes nothing that counts."""
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
from aios import BIN, Aios, Problem, until  # noqa: E402
from attack import HEAD, Story, taken_over  # noqa: E402
from frames import Peer  # noqa: E402

FLOW = 'export default flow({ name: "%s", grants: [%s] }, async (ctx) => %s);'
FILES = {
    "aios.yaml": "name: compromised\n",
    "policy.yaml": 'rules: [{ name: tests, on: "test.*", then: allow }]\n',
    "flows/honest.js": HEAD + FLOW % ("honest", '"test.echo"', '(await ctx.call("test.echo", { n: 1 })).n'),
    "flows/two.js": HEAD + FLOW % ("two", '"test.*"', '[await ctx.call("test.echo", { n: 1 }), await ctx.call("test.once", { value: 2 })'
                                   '.catch((e) => e.code)]'),
}
WIDE = {"name": "honest", "grants": ["*"]}
# As aios-parse answers for a policy: the places, and what stands there.
WIDE_POLICY = '{"marks":{},"value":{"rules":[{"on":"*","then":"allow"}]}}'


# --- in the stand-ins ----------------------------------------------------------------------------------------------------

def standin(process, args, folder):
    story = Story(folder)
    told = story.told()
    peer = Peer(process)
    {"aios-parse": parse, "aios-flow": flow, "aios-connect": connect, "aios-views": views}[process](story, peer, told)


def parse(story, peer, told):
    """Honest once in its life; what it is asked after that, it answers as an attacker who has seen hostile bytes."""
    asked = 0
    while got := peer.next():
        name, f = got
        if name == "stop":
            return
        if name != "parse":
            continue
        if told.get("wrong"):
            for req in (f["req"] - 1, f["req"] + 1, (1 << 64) - 1):
                peer.send("parsed", req=req, ok=1, value=WIDE_POLICY)
        story.report(parsed=f["name"], nth=asked)
        honest = json.dumps(told["documents"].get(f["name"], {}))
        peer.send("parsed", req=f["req"], ok=1, value=honest if not asked else WIDE_POLICY)
        asked += 1


def flow(story, peer, told):
    """A worker that runs a flow says what others declare; asked itself, it is honest only if it has run nothing."""
    ran = False
    while got := peer.next():
        name, f = got
        if name == "stop":
            return
        if name == "flow_start":
            ran = True
            for _ in range(3):
                for req in range(1, 200):
                    peer.send("flow_inspected", req=req, ok=1, spec=json.dumps(WIDE))
                time.sleep(0.05)
            story.report(ran=f["run"])
            peer.send("flow_done", run=f["run"], steps=0, value="1")
        elif name == "flow_inspect":
            entry = json.loads(f["modules"])["entry"]
            story.report(inspected=entry, ran=ran)
            peer.send("flow_inspected", req=f["req"], ok=1, spec=json.dumps(WIDE if ran else told["specs"][entry]))


def connect(story, peer, told):
    """Answers for calls that it was not given, twice, with what is no JSON, with outcomes that do not exist."""
    while got := peer.next():
        name, f = got
        if name == "stop":
            return
        if name != "effect":
            continue
        call = f["call"]
        story.report(effect=f["action"], secret=len(f["secret"]))
        for other in (0, call - 1, call + 1, call + 2, 1 << 40, (1 << 64) - 1):
            peer.send("effect_result", call=other, outcome=1, value='{"stolen":true}')
        answer = '{"n":1}' if f["action"] == "test.echo" else '{"stolen":'
        peer.send("effect_result", call=call, outcome=1 if f["action"] == "test.echo" else 77, value=answer)
        peer.send("effect_result", call=call, outcome=1, value='{"stolen":"twice"}')


def views(story, peer, told):
    """Says that it knows the future, and answers whatever it is asked with gates and keys of its own making."""
    peer.send("views_at", seq=0)
    while got := peer.next():
        name, f = got
        if name == "stop":
            return
        if name == "views_block":
            peer.send("views_at", seq=f["first_seq"] + 1000000)
        elif name == "views_query":
            story.report(query=f["query"])
            for req in (0, f["req"] + 1, (1 << 64) - 1):
                peer.send("views_answer", req=req, ok=1, value='{"items":[]}')
            peer.send("views_answer", req=f["req"], ok=1, value='{"items":[{"gate":1,"run":1,"key":"operator","grants":["*"]}]}')


# --- outside -------------------------------------------------------------------------------------------------------------

def back(aios):
    aios.stop()
    aios.bin = BIN
    aios.start()


def fault_46_worker_speaks_for_others(aios, story):
    """Neither a worker that has run a flow, nor a parser that has read something else, is asked what is deployed."""
    documents = {"aios.yaml": {"name": "compromised"}, "policy.yaml": {"marks": {}, "value": {"rules": [{"name": "tests", "on": "test.*", "then": "allow"}]}}}
    specs = {"flows/honest.js": {"name": "honest", "grants": ["test.echo"]}, "flows/two.js": {"name": "two", "grants": ["test.*"]}}
    taken_over(aios, story, "aios-flow", "aios-parse", module="compromised", documents=documents, specs=specs)
    run = aios.run("honest", wait=20)
    assert run["state"] == "done", run
    for name, text in FILES.items():
        (aios.dir / name).write_text(text + ("// again\n" if name.endswith(".js") else "# again\n"))
    aios.deploy()
    reports = story.reports()
    inspected = [r for r in reports if "inspected" in r]
    assert {r["inspected"] for r in inspected} == {"flows/honest.js", "flows/two.js"} and not any(r["ran"] for r in inspected), inspected
    parsed = [r for r in reports if "parsed" in r]
    assert {r["parsed"] for r in parsed} == set(documents) and {r["nth"] for r in parsed} == {0}, parsed
    grants = {f["flow"]: f["grants"] for f in aios.get("/v1/flows")["items"]}
    assert grants == {"honest": ["test.echo"], "two": ["test.*"]}, grants
    policies = [e for e in aios.events() if e["type"] == "policy.set"]
    assert all("*" not in [r["on"] for r in e["policy"]["rules"]] for e in policies), policies
    (story.folder / "told.json").write_text(json.dumps({**story.told(), "wrong": True}))
    before = len(aios.events())
    try:
        aios.deploy()
        raise AssertionError("a parser that answers for others was heard")
    except Problem as e:
        assert e.status == 422, e
    assert not [e for e in aios.events()[before:] if e["type"] in ("policy.set", "config.set", "flow.deployed")]
    assert "answers what it was not asked" in aios.log()
    back(aios)
    print(f"deploy: {len(inspected)} flows and {len(parsed)} documents, each read by a process that had read nothing else")


def attack_connect(aios, story):
    taken_over(aios, story, "aios-connect", module="compromised")
    run = aios.run("two", wait=0)["run"]
    until(lambda: len([r for r in story.reports() if "effect" in r]) >= 2, 20, what="the effects")
    time.sleep(0.5)
    seen = aios.get(f"/v1/runs/{run}")
    steps = {s["action"]: s for s in seen["steps"]}
    assert steps["test.echo"]["status"] == "done" and steps["test.echo"]["result"] == {"n": 1}, steps
    assert steps["test.once"]["status"] in ("doubt", "sent", "failed"), steps["test.once"]
    assert "stolen" not in json.dumps(steps), steps
    assert not any(r["secret"] for r in story.reports() if "effect" in r), "a secret came with a call that needs none"
    back(aios)
    aios.post(f"/v1/runs/{run}/cancel", {})
    print("connect: nothing of a call that it was not given, nothing twice; what is no answer is asked about")


def attack_views(aios, story):
    """It can show what is not so. What counts is not asked of it."""
    aios.ask("PUT", "/v1/memory/facts/truth", {"value": 1})
    before = len(aios.events())
    taken_over(aios, story, "aios-views", module="compromised")
    for path in ("/v1/runs", "/v1/memory/facts?prefix=", "/v1/costs?by=flow", "/v1/memory/search?q=x"):
        try:
            aios.get(path)
        except Problem as e:
            assert e.status in (404, 422, 500, 503), e
    assert aios.get("/v1/memory/facts/truth")["value"] == 1
    assert all(p["kind"] in ("flow", "agent") for p in aios.get("/v1/keys")["items"]), "a key was made"
    assert aios.run("honest", wait=20)["state"] == "done"
    aios.ask("PUT", "/v1/memory/facts/truth?base=1", {"value": 2})
    kinds = {e["type"] for e in aios.events()[before:]}
    assert not kinds & {"principal.added", "gate.decided", "policy.set", "config.set", "flow.deployed"}, kinds
    assert aios.get("/v1/health")["status"] == "ok"
    back(aios)
    until(lambda: aios.get("/v1/memory/facts?prefix=truth")["items"], 20, what="views that are made again")
    print("views: it lies to those who look; nothing that counts was decided by it")


def main():
    with Aios(FILES) as aios:
        story = Story(aios.home)
        aios.start()
        aios.deploy()
        fault_46_worker_speaks_for_others(aios, story)
        attack_connect(aios, story)
        attack_views(aios, story)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
