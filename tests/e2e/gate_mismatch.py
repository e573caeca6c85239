#!/usr/bin/env python3
"""What was approved is what is sent: a flow that shows one letter and sends another is stopped, with both shown; so is one
that sends more often than was approved, or with another run's approval, or to a customer whom a rule denies."""
import importlib.machinery
import importlib.util
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("run", str(ROOT / "tools/run"))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)

CONFIG = """
name: Mismatch
mail: { from: "a@example.org", transport: maildir, maildir: files/outbox }
budgets: { month: 1 USD, run: 1 USD }
customers: readers/
"""
POLICY = """
rules:
  - { name: shown first, on: mail.send, then: gate }
  - { name: left, on: mail.send, when: has(customer.unsubscribed) && customer.unsubscribed == true, then: deny }
"""
FLOW = """
import { flow } from "aios";
export default flow({
  name: "sly",
  input: { type: "object", properties: { send: { type: "array" }, approval: { type: "integer" },
    customer: { type: "string" } } },
  grants: ["mail.send", "gate.ask"],
}, async (ctx, input) => {
  const { approval } = await ctx.approve({ title: "A letter", show: { body: "A", subjects: ["one", "two"] },
    allows: { action: "mail.send", count: 2, fixed: { text: "/body", subject: ["/subjects/0", "/subjects/1"] } } });
  for (const [subject, text] of input.send)
    await ctx.call("mail.send", { to: "b@example.org", subject, text }, { approval: input.approval ?? approval,
      customer: input.customer });
  return approval;
});
"""


def need(condition, why):
    if not condition:
        raise run.Failed(why)


def sly(ws, send, **more):
    """The ended run of a flow that sends `send` after its gate was approved."""
    number = ws.aios("run", "sly", "--detach", "--input", json.dumps({"send": send, **more}))["run"]
    gate = run.until(lambda: run.open_gate(ws, number), 30)
    need(gate, "no gate")
    ws.aios("approve", str(gate["gate"]), "--reason", "fine")
    end = run.until(lambda: run.ended(ws, number), 30)
    need(end, "the run did not end")
    return end


def check(ws):
    good = sly(ws, [["two", "A"], ["one", "A"]])
    need(good["state"] == "done" and len(ws.mails()) == 2, f"what was approved must be sent: {good['value']}")
    text = sly(ws, [["one", "B"]])
    problem = text["steps"][-1]["problem"]
    need(text["state"] == "failed" and problem["code"] == "approval_mismatch", f"another text must be stopped: {text['value']}")
    need(problem["sent"] == "B" and "A" in json.dumps(problem["approved"]), f"both must be shown: {problem}")
    subject = sly(ws, [["three", "A"]])
    need(subject["state"] == "failed" and subject["steps"][-1]["problem"]["sent"] == "three", "another subject must be stopped")
    often = sly(ws, [["one", "A"], ["two", "A"], ["one", "A"]])
    need(often["state"] == "failed" and len(ws.mails()) == 4, f"a third mail on an approval of two: {often['value']}")
    stolen = sly(ws, [["one", "A"]], approval=good["value"])
    need(stolen["state"] == "failed", "another run's approval must not count")
    for customer, unsubscribed in (("stays", False), ("leaves", True)):
        ws.aios("memory", "put", f"readers/{customer}", json.dumps({"unsubscribed": unsubscribed}))
    need(sly(ws, [["one", "A"]], customer="stays")["state"] == "done", "a reader who stays must get the mail")
    left = sly(ws, [["one", "A"]], customer="leaves")
    need(left["state"] == "failed" and left["steps"][-1]["problem"]["code"] == "denied" and left["steps"][-1]["rule"] == "left",
         f"deny must win over an approval: {left['steps'][-1]}")
    need(len(ws.mails()) == 5, "something was sent that nobody approved")


def main():
    with tempfile.TemporaryDirectory(prefix="aios-e2e-") as folder:
        ws = run.Workspace(pathlib.Path(folder) / "ws")
        (ws.path / "flows").mkdir(parents=True)
        (ws.path / "files").mkdir()
        (ws.path / "aios.yaml").write_text(CONFIG)
        (ws.path / "policy.yaml").write_text(POLICY)
        (ws.path / "flows/sly.js").write_text(FLOW)
        try:
            run.prepare(ws, headless=True)
            check(ws)
        except run.Failed as e:
            print(f"FAIL: {e}")
            return 1
        finally:
            ws.aios("down", check=False)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
