#!/usr/bin/env python3
"""Events between flows with a real aiosd: one flow publishes, another waits for it and a third is started by it, over the API,
the command line and a restart; a key counts once, over a restart too; hundreds of waiting runs all hear; a circle of flows
ends; who has no grant neither hears nor publishes; a signal that comes before its wait."""
import http.client
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402

FLOW = 'import { flow } from "aios";\nexport default flow({ name: "NAME", grants: ["event.*"]MORE }, async (ctx, input) => BODY);\n'
FLOWS = {
    "seller": ("", '({ said: await ctx.publish("order.paid", { n: input.n }, { key: `order-${input.n}` }) })'),
    "waits": ("", "ctx.event(input.topic, { timeout: input.timeout })"),
    "ships": (', on: [{ event: "order.*", input: { from: "shop" } }]', "({ heard: input })"),
    "circle": (', on: [{ event: "round.*" }]', 'ctx.publish("round.trip")'),
    "mute": ("", 'ctx.publish("order.paid")'),
    "signals": ("", '[await ctx.sleep("1s"), await ctx.signal("go"), await ctx.signal("stop", { timeout: "300ms" })]'),
}


def started_by(aios, run):
    return [e for e in aios.events() if e["type"] == "run.started" and e["run"] == run][0]


def end(aios, run):
    return aios.get(f"/v1/runs/{run}?wait=30", timeout=40)


def between_flows(aios):
    waiting = [aios.post("/v1/flows/waits/runs", {"input": {"topic": t}})["run"] for t in ("order.paid", "order.*", "*")]
    other = aios.post("/v1/flows/waits/runs", {"input": {"topic": "order.paid.*"}})["run"]
    until(lambda: len([e for e in aios.events() if e["type"] == "step.called"]) >= 4, 20, what="four waits")
    aios.kill()
    aios.start()
    said = aios.run("seller", {"n": 7})["result"]["said"]
    assert len(said["started"]) == 1, said
    for run in waiting:
        got = end(aios, run)
        assert got["state"] == "done", got
        event = got["value"]
        assert event["topic"] == "order.paid" and event["payload"] == {"n": 7} and event["id"] == said["id"], event
    shipped = end(aios, said["started"][0])
    assert shipped["value"] == {"heard": {"event": event, "from": "shop"}}, shipped["value"]
    start = started_by(aios, said["started"][0])
    assert start["trigger"] == "event/order.paid" and start["by"] == "operator" and start["key"] == f"event/{said['id']}/ships", start
    assert aios.get(f"/v1/runs/{other}")["state"] == "active", "order.paid is not below order.paid"
    again = aios.run("seller", {"n": 7})["result"]["said"]
    assert again == {"existing": True}, again
    aios.post(f"/v1/runs/{other}/cancel")
    assert aios.run("waits", {"topic": "order.paid", "timeout": 50})["result"] == {"timeout": True}


def from_outside(aios):
    run = aios.post("/v1/flows/waits/runs", {"input": {"topic": "door.*"}})["run"]
    until(lambda: aios.get(f"/v1/runs/{run}/why")["waits"], 20, what="a wait")
    why = aios.cli("why", str(run)).stdout
    assert "waits for an event of the topic door.*" in why, why
    out = aios.cli("publish", "door.bell", "--payload", '{"times":2}', "--key", "once").stdout
    assert "published as event" in out, out
    assert end(aios, run)["value"]["payload"] == {"times": 2}
    aios.kill()
    aios.start()
    assert "published before" in aios.cli("publish", "door.bell", "--payload", '{"times":2}', "--key", "once").stdout
    p = aios.cli("publish", "door.bell", "--payload", '{"times":3}', "--key", "once", check=False)
    assert p.returncode == 1 and "something else" in p.stderr, p
    body = json.loads(aios.cli("publish", "order.late", "--json").stdout)
    assert len(body["started"]) == 1, body
    try:
        aios.post("/v1/events/no%20topic", {})
        raise AssertionError("it was taken")
    except Problem as problem:
        assert problem.status == 400 and "such as order.paid" in problem.body["detail"], problem.body


def many(aios):
    runs = [aios.post("/v1/flows/waits/runs", {"input": {"topic": "all.*" if i % 2 else "all.here"}})["run"] for i in range(350)]
    until(lambda: len([e for e in aios.events() if e["type"] == "step.called" and e["run"] >= runs[0]]) >= 350, 60, what="350 waits")
    aios.post("/v1/events/all.here", {"x": 1})
    for run in runs:
        assert end(aios, run)["value"]["payload"] == {"x": 1}
    tail = [e for e in aios.events() if e["type"] in ("event.published", "event.delivered")][-2:]
    assert tail[0]["more"] == 1 and tail[1]["type"] == "event.delivered" and tail[1]["seq"] > tail[0]["seq"], tail


def circle(aios):
    aios.post("/v1/events/round.trip", {})
    failed = until(lambda: aios.get("/v1/runs?flow=circle&state=failed")["items"], 30, what="an end of the circle")
    assert len(failed) == 1, failed
    problem = end(aios, failed[0]["run"])["value"]
    assert "round in circles" in problem["message"], problem
    assert len(aios.get("/v1/runs?flow=circle&limit=100")["items"]) == 32


def grants(aios):
    r = aios.run("mute")
    assert r["state"] == "failed" and "may not do event.publish" in r["problem"]["message"], r
    for name, may, status in (("bell", "api.event_publish", 202), ("none", "api.runs", 403)):
        key = aios.post("/v1/keys", {"name": name, "grants": [may]})["key"]
        c = http.client.HTTPConnection("127.0.0.1", aios.port, timeout=20)
        c.request("POST", "/v1/events/door.bell", "{}", {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        assert c.getresponse().status == status, name
        c.close()


def signals(aios):
    """Signals with payload, buffered if they come before the wait; wait with timeout branch."""
    run = aios.post("/v1/flows/signals/runs", {})["run"]
    aios.post(f"/v1/runs/{run}/signals/go", {"early": True})
    assert end(aios, run)["value"] == [None, {"payload": {"early": True}}, {"timeout": True}]


def main():
    files = {"aios.yaml": 'name: events\ngrants: { mute: ["log.write"] }\n', "policy.yaml": "rules: []\n"}
    for name, (more, body) in FLOWS.items():
        files[f"flows/{name}.js"] = FLOW.replace("NAME", name).replace("MORE", more).replace("BODY", body)
    with Aios(files) as aios:
        aios.start()
        aios.deploy()
        for part in (between_flows, from_outside, many, circle, grants, signals):
            part(aios)
            print(f"{part.__name__}: ok", flush=True)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
