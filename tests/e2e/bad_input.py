#!/usr/bin/env python3
"""Bad input of every kind meets a clear error, costs nobody anything, and loses nothing: sources with faults, unknown actions,
wrong arguments, budgets that do not suffice, gates answered twice and by fifty at once, JSON that is too deep or too large,
a second aiosd, what was not granted. At the end the log verifies."""
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import BIN, ROOT, Aios, Problem, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
GOOD = HEAD + """export default flow({ name: "good", input: { type: "object", properties: { n: { type: "integer" } },
  additionalProperties: false }, grants: ["test.*", "memory.*"] }, async (ctx, input) => {
  const told = [];
  const attempt = async (action, args, options) => {
    try { await ctx.call(action, args, options); told.push("ok"); } catch (e) { told.push({ code: e.code, text: e.message }); }
  };
  await attempt("nothing.here", {});
  await attempt("test.slow", { ms: "soon" });
  await attempt("test.slow", {});
  await attempt("test.fail", { extra: 1 });
  await attempt("memory.put", { key: "", value: 1 });
  await attempt("http.get", { url: "http://127.0.0.1:1/" });
  await attempt("file.read", { path: "a" });
  await attempt("test.echo", { n: input.n ?? 0 });
  return told;
});
"""
GATE = HEAD + """export default flow({ name: "asks", grants: ["gate.ask"] }, async (ctx) =>
  (await ctx.approve({ title: "May I?", show: { a: 1 } })).answer);
"""
MODEL = HEAD + """export default flow({ name: "costly", budget: { run: "0.0001 USD" }, grants: ["model.generate"] }, async (ctx) =>
  (await ctx.model({ tier: "draft", prompt: "Say something about tides", max_tokens: 500 })).text.length > 0);
"""
POLICY = 'rules: [{ name: tests, on: "test.*", then: allow }, { name: models, on: "model.*", then: allow },' \
    ' { name: web, on: "http.*", then: allow }]\n'


def config(port):
    return f"""name: bad input
models:
  providers:
    stand: {{ api: openai, url: "http://127.0.0.1:{port}/v1", secret: stand }}
  tiers: {{ draft: [stand/gpt-stand-in] }}
  prices: {{ stand/gpt-stand-in: {{ input: 1 USD, output: 2 USD }} }}
budgets: {{ month: 5 USD }}
"""


def refused(status, fn, *words):
    """What `fn` raises: a problem of that status whose text has all the words."""
    try:
        got = fn()
    except Problem as p:
        assert p.status == status, f"{p.status} instead of {status}: {p.body}"
        assert isinstance(p.body, dict) and p.body["status"] == status and p.body["title"] and p.body["detail"], p.body
        for w in words:
            assert w in json.dumps(p.body, ensure_ascii=False), f"no {w!r} in {p.body}"
        return p.body
    raise AssertionError(f"this was accepted: {got}")


def fault(aios, path, text, place, *words):
    """A source with a fault: the API says where, the CLI too with exit code 1, and what was deployed stays."""
    before = aios.get("/v1/flows")
    old = (aios.dir / path).read_text() if (aios.dir / path).exists() else None
    (aios.dir / path).parent.mkdir(exist_ok=True)
    (aios.dir / path).write_text(text)
    body = refused(422, aios.deploy, path, *words)
    if place:
        assert (body["file"], body["line"]) == (path, place[0]), body
        assert place[1] is None or body["column"] == place[1], body
    p = aios.cli("deploy", check=False)
    shown = f"{path}:{place[0]}" if place else path
    assert p.returncode != 0 and shown in p.stderr, f"{p.returncode} {p.stderr!r}"
    assert aios.get("/v1/flows") == before, "something was deployed"
    if old is None:
        (aios.dir / path).unlink()
    else:
        (aios.dir / path).write_text(old)


def sources(aios):
    fault(aios, "flows/broken.js", HEAD + "\nexport default flow({ name: 'x' }, async (ctx) => {\n  return ];\n});\n", (4, 10))
    fault(aios, "flows/broken.js", HEAD + "const = 1;\n", (2, 7))
    fault(aios, "flows/broken.js", HEAD + "import { x } from '../lib/none.js';\nexport default flow({ name: 'x' }, () => x);\n",
          None, "none.js")
    fault(aios, "flows/broken.js", "export default 1;\n", None, "export")
    fault(aios, "flows/broken.js", HEAD + "export default flow({ name: 'x' }, () => 1);\nnull.x;\n", (3, None))
    fault(aios, "flows/broken.js", HEAD + "for (;;) {}\nexport default flow({ name: 'x' }, () => 1);\n", None)
    fault(aios, "aios.yaml", "name: a\nbudgets: { month: 5 USD\ndoor: 1\n", (3, None))
    fault(aios, "aios.yaml", "name: a\nname: b\n", (2, None), "twice")
    fault(aios, "aios.yaml", "name: a\n\tbudgets: 1\n", (2, None))
    fault(aios, "aios.yaml", "name: a\nbudgets: { month: a lot }\n", None, "budgets", "month")
    fault(aios, "aios.yaml", "name: a\nbudgetz: { month: 1 USD }\n", None, "budgetz")
    fault(aios, "policy.yaml", "rules:\n  - { name: a, on: \"test.*\", then: perhaps }\n", None, "then")
    fault(aios, "policy.yaml", "rules:\n  - name: a\n   on: x\n", (3, None))
    fault(aios, "policy.yaml", "rules:\n  - { name: a, on: \"test.*\", when: \"args.x ==\", then: allow }\n", None, "when")
    fault(aios, "agents/bad.md", "---\nname: [\n---\nhello\n", (3, None))


def steps(aios):
    r = aios.run("good", {"n": 3})
    assert r["state"] == "done", r
    told = r["result"]
    wanted = [("unknown_action", "nothing.here"), ("invalid", "ms"), ("invalid", "ms"), ("invalid", "extra"), ("invalid", "key"),
              ("denied", "http.get"), ("denied", "file.read")]
    for got, (code, word) in zip(told, wanted):
        assert got["code"] == code and word in got["text"], f"{got}, not {code} with {word}"
    assert told[-1] == "ok", told
    steps = aios.get(f"/v1/runs/{r['run']}")["steps"]
    denied = [s for s in steps if s["action"] in ("http.get", "file.read")]
    assert len(denied) == 2 and all(s["status"] in ("failed", "denied") and s["rule"] for s in denied), denied
    refused(422, lambda: aios.run("good", {"n": "three"}), "n")
    refused(422, lambda: aios.run("good", {"other": 1}), "other")
    refused(404, lambda: aios.run("none"), "none", "aios deploy")
    p = aios.cli("run", "none", check=False)
    assert p.returncode == 1 and "aios deploy" in p.stderr, p
    for path in ("/v1/runs/999", "/v1/gates/999", "/v1/flows/none", "/v1/memory/facts/none"):
        refused(404, lambda path=path: aios.get(path))


def duplicates(aios):
    seq = aios.get("/v1/status")["seq"]
    for path, body in (("/v1/flows/good/runs", '{"input":{"n":1,"n":2}}'), ("/v1/flows/good/runs", '{"input":{},"input":{}}')):
        refused(400, lambda path=path, body=body: aios.post(path, body), "n")
    refused(400, lambda: aios.ask("PUT", "/v1/memory/facts/a", '{"value":{"x":{"y":1,"y":1}}}'), "y")
    refused(400, lambda: aios.post("/v1/flows/good/runs", '{"input":{"n":1}'))
    refused(400, lambda: aios.post("/v1/flows/good/runs", b'{"input":"\xff"}'))
    refused(400, lambda: aios.post("/v1/flows/good/runs", '[]'))
    assert aios.get("/v1/status")["seq"] == seq, "what was refused left events"


def budget(aios):
    r = aios.run("costly", wait=1)
    gates = [g for g in aios.get("/v1/gates")["items"] if g["run"] == r["run"]]
    assert len(gates) == 1 and gates[0]["kind"] == "budget", gates
    g = aios.get(f"/v1/gates/{gates[0]['gate']}")
    assert "budget" in g["title"] and "0.0001" in g["title"] and g.get('cost_nusd', g.get('cost', 0)) > 0, g
    aios.post(f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"], "reason": "worth it"})
    end = aios.get(f"/v1/runs/{r['run']}?wait=20", timeout=30)
    assert end["state"] == "done" and end["value"] is True and end["cost"] > 0, end
    # Denied: the step fails with a word of its own, and nothing is spent.
    r = aios.run("costly", wait=1)
    g = aios.get("/v1/gates")["items"][0]
    aios.post(f"/v1/gates/{g['gate']}/deny", {"shown": g["shown"], "reason": "too dear"})
    end = aios.get(f"/v1/runs/{r['run']}?wait=20", timeout=30)
    assert end["state"] == "failed" and "too dear" in str(end["value"]) and end["cost"] == 0, end


def open_gate(aios):
    run = aios.post("/v1/flows/asks/runs", {})["run"]
    g = until(lambda: [g for g in aios.get("/v1/gates")["items"] if g["run"] == run], 10, what="a gate")[0]
    return run, aios.get(f"/v1/gates/{g['gate']}")


def gates(aios):
    run, g = open_gate(aios)
    path = f"/v1/gates/{g['gate']}"
    refused(400, lambda: aios.post(f"{path}/approve", {}), "shown")
    refused(409, lambda: aios.post(f"{path}/approve", {"shown": "0" * 64}), "another content")
    refused(422, lambda: aios.post(f"{path}/approve", {"shown": g["shown"], "value": 2}), "edit")
    refused(422, lambda: aios.post(f"{path}/settle", {"shown": g["shown"], "answer": "perhaps"}))
    aios.post(f"{path}/approve", {"shown": g["shown"]})
    refused(409, lambda: aios.post(f"{path}/approve", {"shown": g["shown"]}), "decided already")
    refused(409, lambda: aios.post(f"{path}/deny", {"shown": g["shown"]}), "decided already")
    assert aios.get(f"/v1/runs/{run}?wait=10")["value"] == "approve"
    p = aios.cli("deny", str(g["gate"]), check=False)
    assert p.returncode == 1 and "decided already" in p.stderr, p
    # Fifty at once: one wins, and the run sees that one.
    run, g = open_gate(aios)
    start, answers = threading.Barrier(50), []

    def answer(i):
        what = "approve" if i % 2 else "deny"
        start.wait()
        try:
            aios.post(f"/v1/gates/{g['gate']}/{what}", {"shown": g["shown"]})
            answers.append(what)
        except Problem as p:
            answers.append(p.status)
    threads = [threading.Thread(target=answer, args=(i,)) for i in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    won = [a for a in answers if isinstance(a, str)]
    assert len(answers) == 50 and len(won) == 1 and all(a == 409 for a in answers if a not in won), answers
    end = aios.get(f"/v1/runs/{run}?wait=10")
    assert (end["state"] == "done") == (won[0] == "approve"), (won, end)
    decided = [e for e in aios.events() if e["type"] == "gate.decided" and e["gate"] == g["gate"]]
    assert len(decided) == 1, decided


def peak(pid):
    """Highest resident memory in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def raw(aios, headers, pieces):
    """Sends a request piece by piece; the status of the answer, however early it comes."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(str(aios.dir / ".aios/run/door.sock"))
    try:
        s.sendall(b"POST /v1/flows/good/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers + b"\r\n")
        for p in pieces:
            s.sendall(p)
    except (BrokenPipeError, ConnectionResetError):
        pass
    r = http.client.HTTPResponse(s)
    r.begin()
    s.close()
    return r.status


def large(aios):
    pids = aios.pids()
    doors = [pid for name, pid in pids.items() if name.startswith("aios-door")]
    assert doors, pids
    watched = [aios.daemon.pid, *doors]
    before = [peak(p) for p in watched]
    over, faults, served = threading.Event(), [], []

    def others():
        while not over.is_set():
            try:
                assert aios.run("good", {}, wait=20)["state"] == "done"
                served.append(1)
            except Exception as e:
                faults.append(repr(e))
            over.wait(0.02)
    t = threading.Thread(target=others)
    t.start()
    for left, right in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = b'{"input":' + left * 100000 + b"1" + right * 100000 + b"}"
        refused(400, lambda deep=deep: aios.post("/v1/flows/good/runs", deep), "deep")
        refused(400, lambda deep=deep: aios.ask("PUT", "/v1/memory/facts/a", deep), "deep")
    size = 100 << 20
    mib = b"x" * (1 << 20)
    body = [b'{"input":"'] + [mib] * 100 + [b'"}']
    status = raw(aios, b"Content-Length: %d\r\n" % sum(map(len, body)), body)
    assert status == 413, status
    chunked = [b"%x\r\n%s\r\n" % (len(p), p) for p in body] + [b"0\r\n\r\n"]
    status = raw(aios, b"Transfer-Encoding: chunked\r\n", chunked)
    assert status == 411, status  # a body says how long it is
    until(lambda: len(served) > 3 or faults, 30, what="what others are served meanwhile")  # they are refused quickly
    over.set()
    t.join(40)
    grown = [a - b for a, b in zip([peak(p) for p in watched], before)]
    assert max(grown) < 48, f"memory grew by {grown} MiB while {size >> 20} MiB were sent"
    assert len(served) > 3 and not faults, (len(served), faults[:3])
    assert aios.pids() == pids, "a process was started anew"


def second(aios):
    p = subprocess.run([BIN / "aiosd", "--workspace", aios.dir, "--port", "0"], capture_output=True, text=True, timeout=20)
    assert p.returncode != 0 and str(aios.daemon.pid) in p.stderr and "workspace" in p.stderr, (p.returncode, p.stderr)
    assert aios.get("/v1/health")["status"] == "ok"


def grants(aios):
    key = aios.post("/v1/keys", {"name": "weak", "grants": ["api.run", "api.flows"]})["key"]

    def ask(method, path, body=None, token=key):
        c = http.client.HTTPConnection("127.0.0.1", aios.port, timeout=10)
        c.request(method, path, None if body is None else json.dumps(body), {"Authorization": f"Bearer {token}",
                                                            "Content-Type": "application/json"} if token else {})
        r = c.getresponse()
        return r.status, json.loads(r.read() or b"null")
    assert ask("GET", "/v1/flows")[0] == 200
    status, body = ask("POST", "/v1/flows/good/runs", {"input": {}})
    assert status == 403 and body["code"] == "denied" and "api.run_start" in body["detail"], body
    status, body = ask("POST", "/v1/freeze", {"reason": "none"})
    assert status == 403, body
    assert ask("GET", "/v1/flows", token="aios_" + "A" * 43)[0] == 401
    assert ask("GET", "/v1/flows", token=None)[0] == 401
    denied = [e for e in aios.events() if e["type"] == "access.denied"]
    assert [(e["principal"], e["action"]) for e in denied] == [("key/weak", "api.run_start"), ("key/weak", "api.freeze")], denied


def main():
    llm = subprocess.Popen([sys.executable, ROOT / "tests/standins/llm.py", "--key", "k-1", "--log", os.devnull],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = json.loads(llm.stdout.readline())["port"]
        files = {"aios.yaml": config(port), "policy.yaml": POLICY, "flows/good.js": GOOD, "flows/asks.js": GATE,
                 "flows/costly.js": MODEL}
        with Aios(files) as aios:
            aios.start()
            aios.deploy()
            aios.cli("secrets", "set", "stand", "--host", "127.0.0.1", input="k-1\n")
            for part in (sources, steps, duplicates, budget, gates, large, second, grants):
                part(aios)
                print(f"{part.__name__}: ok", flush=True)
            aios.verify()
            assert aios.stop() == 0
    finally:
        llm.kill()
        llm.wait()
    print("ok")


if __name__ == "__main__":
    main()
