#!/usr/bin/env python3
"""The audit, with the real processes: who did, was allowed, approved and saw what; the export and its verifier.

usage: audit.py"""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, Problem, until, ROOT  # noqa: E402

FLOW = """
import { flow } from "aios";
export default flow({ name: "pay", input: { type: "object" }, grants: ["test.*", "gate.*", "memory.*"] },
  async (ctx, input) => {
    await ctx.memory.put("payee/last", { name: input.who });
    await ctx.call("test.echo", { value: input.who });
    try { await ctx.call("mail.send", { to: "x@example.org", subject: "s", text: "t" }); } catch (e) { /* it has no grant */ }
    const ok = await ctx.approve({ title: "Pay?", show: { who: input.who } });
    return { ok };
  });
"""
FILES = {
    "aios.yaml": "name: Audit\nworkers: 1\n",
    "policy.yaml": 'rules:\n  - { name: trials, on: "test.*", then: allow }\n',
    "flows/pay.js": FLOW,
}


def audit(a, *args):
    return json.loads(a.cli("audit", "--json", *map(str, args)).stdout)["items"]


def key_of(a, name, *grants):
    return a.post("/v1/keys", {"name": name, "grants": list(grants)})["key"]


def as_key(a, key, method, path, body=None):
    return a.ask(method, path, body, headers={"Authorization": f"Bearer {key}"})


def work(a):
    """A run that is allowed one thing, denied another, and approved by a person."""
    run = a.post("/v1/flows/pay/runs", {"input": {"who": "Ann"}, "customer": "ann"})["run"]
    gate = until(lambda: [g for g in a.get("/v1/gates")["items"] if g["run"] == run], 20)[0]
    shown = a.get(f"/v1/gates/{gate['gate']}")
    a.post(f"/v1/gates/{gate['gate']}/approve", {"shown": shown["shown"], "reason": "we owe it"})
    a.get(f"/v1/runs/{run}?wait=20")
    return run, gate["gate"]


def answers(a):
    run, gate = work(a)
    did = audit(a, "--run", run, "--kind", "did")
    assert {"test.echo", "memory.put"} <= {r["action"] for r in did}, did
    echo = next(r for r in did if r["action"] == "test.echo")
    assert echo["by"] == "flow/pay" and echo["rule"] and echo["customer"] == "ann" and "cost" in echo, echo
    denied = audit(a, "--run", run, "--kind", "denied")
    assert [r["action"] for r in denied] == ["mail.send"], denied
    approved = audit(a, "--gate", gate, "--kind", "approved")
    assert len(approved) == 1 and approved[0]["by"] == "operator", approved
    assert approved[0]["text"] == "approve: we owe it" and approved[0]["run"] == run, approved
    assert [r for r in audit(a, "--kind", "configured") if r["type"] == "flow.deployed" and r["object"] == "pay"]
    assert audit(a, "--who", "nobody") == [] and audit(a, "--since", "2099-01-01") == []
    text = a.cli("audit", "--run", str(run)).stdout
    assert "mail.send" in text and "operator" in text, text
    return run


def who_saw(a, run):
    """Reads are noted with who made them, together; a refused one is denied. A stop loses none."""
    anna = key_of(a, "anna", "api.run", "api.gates", "api.fact")
    for _ in range(5):
        as_key(a, anna, "GET", f"/v1/runs/{run}")
    as_key(a, anna, "GET", "/v1/memory/facts/payee/last")
    try:
        as_key(a, anna, "GET", "/v1/secrets")
        raise AssertionError("a key without the grant saw the secrets")
    except Problem as p:
        assert p.status == 403, p
    a.get("/v1/secrets")
    # What shows everything is in the log before the answer; the rest came along with it.
    saw = until(lambda: audit(a, "--kind", "saw", "--who", "key/anna"), 10)
    assert {(r["action"], r["object"]) for r in saw} == {("api.run", str(run)), ("api.fact", "payee/last")}, saw
    assert next(r for r in saw if r["action"] == "api.run")["text"] == "5 times", saw
    assert [r for r in audit(a, "--kind", "saw", "--who", "operator") if r["action"] == "api.audit"]
    assert [r["action"] for r in audit(a, "--kind", "denied", "--who", "key/anna")] == ["api.secrets"]
    as_key(a, anna, "GET", "/v1/gates")
    a.stop()
    a.start()
    assert [r for r in audit(a, "--kind", "saw", "--who", "key/anna") if r["action"] == "api.gates"]
    # Repeated reads grow the log no further: they are counted.
    before = a.get("/v1/status")["seq"]
    for _ in range(50):
        a.get(f"/v1/runs/{run}")
        a.get("/v1/audit?limit=1")
    assert a.get("/v1/status")["seq"] - before <= 2


def main():
    with Aios(FILES) as a:
        a.start()
        a.deploy()
        run = answers(a)
        who_saw(a, run)
        a.verify()
        print("audit: ok")


if __name__ == "__main__":
    main()
