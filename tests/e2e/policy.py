#!/usr/bin/env python3
"""The policy through the real aiosd: faults with their place, tests that a policy carries, limits that splitting does not evade,
delegation that only narrows, confidence that cannot be claimed, and what aios can, explain and backtest say of it."""
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("run", str(ROOT / "tools/run"))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)

CONFIG = """
name: Policy
mail: { from: "a@example.org", transport: maildir, maildir: files/outbox }
budgets: { month: 1 USD, run: 1 USD }
"""
# A mail stands for a payment: its subject is the amount.
POLICY = """
counters:
  letters: { on: mail.send, per: customer, window: 1d }
rules:
  - name: refunds
    on: mail.send
    when: args.to == "bank@example.org"
    then: allow
    limit: { sum: int(args.subject), max: 500, per: customer, window: 7d, else: deny }
  - name: sure answers go by themselves
    on: mail.send
    when: args.to == "reader@example.org" && confidence >= 0.9
    then: allow
  - name: other answers wait
    on: mail.send
    when: args.to == "reader@example.org" && confidence < 0.9
    then: gate
    expires: 2d
tests:
  - { action: mail.send, args: { to: bank@example.org, subject: "10" }, expect: allow, rule: refunds }
  - { action: mail.send, args: { to: bank@example.org, subject: "10" }, history: { refunds: 495 }, expect: deny }
  - { action: mail.send, args: { to: reader@example.org, subject: "10" }, confidence: 0.95, expect: allow }
  - { action: mail.send, args: { to: other@example.org, subject: "10" }, expect: deny }
"""
FLOWS = {
    "pays": """
import { flow } from "aios";
export default flow({ name: "pays", grants: ["mail.send", "run.call"] }, async (ctx, input) => {
  let sent = 0;
  for (const [amount, customer] of input.pay)
    try {
      await ctx.call("mail.send", { to: "bank@example.org", subject: String(amount), text: "pay" }, { customer });
      sent += amount;
    } catch (e) {
      if (e.code !== "denied")
        throw e;
    }
  for (const pay of input.children ?? [])
    sent += await ctx.run("pays", { pay });
  return sent;
});
""",
    "narrow": """
import { flow } from "aios";
export default flow({ name: "narrow", grants: ["run.call"] }, (ctx) => ctx.run("pays", { pay: [[1, "n"]] }));
""",
    "answers": """
import { flow } from "aios";
export default flow({ name: "answers", grants: ["mail.send", "memory.*"] }, async (ctx, input) => {
  const verdict = await ctx.verify(input.text, { citations: [{ key: "mill", quote: input.quote }] });
  const confidence = input.claim ?? verdict;
  await ctx.call("mail.send", { to: "reader@example.org", subject: "1", text: input.send ?? input.text }, { confidence });
  return verdict.confidence;
});
""",
}


def need(condition, why):
    if not condition:
        raise run.Failed(why)


def text_of(ws, *args):
    """What `aios ARGS` says to a person, and its exit code."""
    p = subprocess.run([run.BIN / "aios", *args], cwd=ws.path, text=True, capture_output=True)
    return p.stdout + p.stderr, p.returncode


def start(ws, flow, **given):
    return ws.aios("run", flow, "--detach", "--input", json.dumps(given))["run"]


def end(ws, number):
    ended = run.until(lambda: run.ended(ws, number), 60)
    need(ended, f"run {number} does not end")
    return ended


def check_faults(ws):
    good = POLICY
    for change, place in (
            (("confidence >= 0.9", "confidence >="), "policy.yaml:12:"),
            (("max: 500,", "max: many,"), "policy.yaml:9:43"),
            (("expect: allow, rule: refunds", "expect: gate, rule: refunds"), "policy.yaml:20:"),
            (("    then: gate\n", "    then: perhaps\n"), "policy.yaml:17:11"),
            (("rules:\n", "rules:\n   - x\n"), "policy.yaml:")):
        need(change[0] in good, f"the policy has no {change[0]}")
        (ws.path / "policy.yaml").write_text(good.replace(change[0], change[1], 1))
        for words in (("policy", "check"), ("deploy",)):
            said, code = text_of(ws, *words)
            need(code == 1 and place in said, f"aios {' '.join(words)} must name {place}: {said}")
    (ws.path / "policy.yaml").write_text(good)
    (ws.path / "policy").mkdir()
    (ws.path / "policy/more.yaml").write_text("rules:\n  - { on: x, then: allow, when: 'args. == 1' }\n")
    for words in (("policy", "check"), ("deploy",)):
        said, code = text_of(ws, *words)
        need(code == 1 and "policy/more.yaml:2:" in said, f"a fault in another file: {said}")
    (ws.path / "policy/more.yaml").write_text("counters: { others: { on: http.get } }\nrules: []\n")
    said, code = text_of(ws, "policy", "check")
    need(code == 0 and "3 rules, 2 counters, 1 limits; 4 tests pass" in said, said)
    said, code = text_of(ws, "policy", "test")
    need(code == 0 and "4 passed, 0 failed" in said, said)
    ws.aios("deploy")


def sent(ws):
    return sum(int(m["Subject"]) for m in ws.mails() if run.address(m) == "bank@example.org")


def fault_44_split_below_limit(ws):
    """One amount in many: over calls, parallel runs, child runs, spellings of the customer. Never more than the limit leaves."""
    spelled = ["anna@a.example", "Anna@A.example", " anna@a.example", "ANNA@a.example "]
    runs = [start(ws, "pays", pay=[[45, spelled[k % 4]] for k in range(6)], children=[[[45, spelled[(k + i) % 4]]] for k in range(3)])
            for i in range(6)]
    values = [end(ws, n)["value"] for n in runs]
    need(sum(values) == sent(ws) == 495, f"{values}: {sent(ws)} is sent, of a limit of 500")
    need(end(ws, start(ws, "pays", pay=[[45, "ben"]]))["value"] == 45, "another customer has a limit of their own")


def check_delegation(ws):
    before = sent(ws)
    got = end(ws, start(ws, "narrow"))
    need(got["value"] == 0 and sent(ws) == before, f"a child must not do what its starter may not: {got}")


def check_confidence(ws):
    ws.aios("memory", "put", "mill", json.dumps({"text": "The mill closed in 1931."}))
    known = {"text": "It closed in 1931, they say.", "quote": "closed in 1931"}
    got = end(ws, start(ws, "answers", **known))
    need(got["state"] == "done" and got["value"] == 1, f"a sure answer goes by itself: {got}")
    for more in ({"quote": "closed in 1940"}, {"send": "It closed in 1940, they say."}, {"claim": 1}, {"claim": 99}):
        number = start(ws, "answers", **{**known, **more})
        gate = run.until(lambda: run.open_gate(ws, number), 30)
        need(gate, f"{more}: it must wait for a person")
        need(gate["rule"] == "other answers wait", f"{more}: {gate}")
        ws.aios("cancel", str(number))
    return got


def check_words(ws, sure):
    said, code = text_of(ws, "can", "flow/pays", "mail.send", "--customer", "anna@a.example", "--why", "--args",
                         '{"to":"bank@example.org","subject":"10","text":"x"}')
    need(code == 1 and 'no, by "refunds"' in said and "495.00 used" in said and "at most 500.00" in said, said)
    said, code = text_of(ws, "can", "flow/pays", "mail.send", "--customer", "new", "--args",
                         '{"to":"bank@example.org","subject":"10","text":"x"}')
    need(code == 0 and said.startswith("yes"), said)
    said, code = text_of(ws, "can", "flow/narrow", "mail.send", "--why")
    need(code == 1 and "no grant" in said, said)
    said, code = text_of(ws, "can", "flow/nobody", "mail.send")
    need(code == 1 and "nobody called" in said, said)
    step = next(s for s in sure["steps"] if s["action"] == "mail.send")
    said, code = text_of(ws, "policy", "explain", str(sure["run"]), str(step["step"]))
    need(code == 0 and "sure answers go by themselves" in said and '"confidence":1000' in said, said)
    (ws.path / "strict.yaml").write_text("rules: [{ name: none, on: mail.send, then: gate }]\n")
    told = ws.aios("policy", "backtest", "strict.yaml")
    need(told["calls"] > 50 and told["gates_added"] == told["differ"] and told["examples"], f"{told}")
    told = ws.aios("policy", "backtest")
    need(told["differ"] == 0, f"the same policy judges the same: {told}")
    need(ws.aios("policy", "backtest", "strict.yaml", "--flow", "answers")["calls"] == 5, "by flow")


def main():
    with tempfile.TemporaryDirectory(prefix="aios-e2e-") as folder:
        ws = run.Workspace(pathlib.Path(folder) / "ws")
        (ws.path / "flows").mkdir(parents=True)
        (ws.path / "files").mkdir()
        (ws.path / "aios.yaml").write_text(CONFIG)
        (ws.path / "policy.yaml").write_text(POLICY)
        for name, source in FLOWS.items():
            (ws.path / f"flows/{name}.js").write_text(source)
        try:
            run.prepare(ws, headless=True)
            check_faults(ws)
            fault_44_split_below_limit(ws)
            check_delegation(ws)
            check_words(ws, check_confidence(ws))
        except run.Failed as e:
            print(f"FAIL: {e}")
            return 1
        finally:
            ws.aios("down", check=False)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
