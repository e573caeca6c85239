#!/usr/bin/env python3
"""fault_52_matrix: every operation of the API × every kind of principal × its own objects and foreign ones. What the verdict of
each must be stands in matrix.txt, which people wrote and no program of ours reads but this one; a route that is missing there
is a failure. `matrix.py --print` prints the table as it was found."""
import http.client
import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import ROOT, Aios, Problem, until  # noqa: E402

TABLE = pathlib.Path(__file__).with_name("matrix.txt")
HEAD = 'import { flow } from "aios";\n'
ASK = HEAD + ('export default flow({ name: "%s", grants: ["gate.ask", "signal.wait"] }, async (ctx) => { '
              'await ctx.approve({ title: "?", show: 1 }); await ctx.signal("go"); });')
FILES = {"aios.yaml": "name: matrix\n", "policy.yaml": "rules: []\n",
         "flows/mine.js": ASK % "mine", "flows/other.js": ASK % "other",
         "flows/timed.js": HEAD + 'export default flow({ name: "timed", on: [{ cron: "0 7 * * MON" }] }, async () => 1);'}
READS = ["flows", "flow", "runs", "run", "run_value", "run_why", "queue", "gates", "gate", "facts", "fact", "search"]
# What the bodies are: whoever gets in is refused for them, or does no harm.
BODIES = {"run_start": {"input": {}}, "fact_put": {"value": 1}, "doc_put": {"text": "t"}, "signal": {}, "outcome": {"name": "o", "value": 1},
          "log_archive": {"dry": True}, "event_publish": {"payload": 1}, "page_decide": "csrf=0&answer=approve",
          "security_act": "csrf=0&act=sign_out", "sign_in": "token=x"}
LAST = ["run_pause", "run_resume", "run_rollback", "run_fork", "run_restart", "run_cancel", "freeze", "thaw"]


def routes():
    """(operation, method, path) of every route, those that end something last."""
    found = re.findall(r"^(\w+)\s+(\S+)\s+(\w+)\s+(?:none|any|operator)\s", (ROOT / "src/wire/routes.def").read_text(), re.M)
    named = [(op, method, path) for method, path, op in found]
    return sorted(named, key=lambda r: LAST.index(r[0]) if r[0] in LAST else -1)


class Role:
    """A principal, how it shows who it is, and the objects that are its own."""

    def __init__(self, aios, name, headers=None, local=False):
        self.aios, self.name, self.headers, self.local, self.own, self.foreign = aios, name, headers or {}, local, {}, {}

    def ask(self, method, path, body=None):
        """(status, answer)"""
        head = dict(self.headers)
        data = None
        if body is not None:
            form = isinstance(body, str)
            data = body if form else json.dumps(body)
            head["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
        if self.local:
            try:
                return 200, self.aios.ask(method, path, data, head)
            except Problem as e:
                return e.status, e.body
        c = http.client.HTTPConnection("127.0.0.1", self.aios.port, timeout=60)
        c.request(method, path, data, {**head, "Host": f"localhost:{self.aios.port}"})
        r = c.getresponse()
        text = r.read().decode(errors="replace")
        c.close()
        return r.status, json.loads(text) if "json" in r.getheader("Content-Type", "") else text


def bearer(aios, name, key):
    return Role(aios, name, {"Authorization": "Bearer " + key})


def key(aios, name, kind, grants, scope=None, **more):
    body = {"name": name, "kind": kind, "grants": grants, **({"scope": scope} if scope else {}), **more}
    return aios.post("/v1/keys", body)["key"]


def narrowed(aios, text, *options):
    return aios.cli("keys", "attenuate", *options, input=text + "\n").stdout.strip()


def session(aios):
    """A browser that followed the one-time link of `aios open`."""
    url = aios.post("/v1/sessions", {})["url"]
    path = url[url.index("/", 8):]
    c = http.client.HTTPConnection("127.0.0.1", aios.port, timeout=20)
    origin = f"http://localhost:{aios.port}"
    c.request("GET", path, headers={"Host": f"localhost:{aios.port}"})
    r = c.getresponse()
    text = r.read().decode()
    if r.status == 200:  # its button
        fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', text))
        c.request("POST", re.search(r'action="([^"]+)"', text).group(1),
                  "&".join(f"{k}={v}" for k, v in fields.items()),
                  {"Host": f"localhost:{aios.port}", "Origin": origin, "Content-Type": "application/x-www-form-urlencoded"})
        r = c.getresponse()
        r.read()
    cookie = r.getheader("Set-Cookie").partition(";")[0]
    c.close()
    return Role(aios, "session", {"Cookie": cookie, "Origin": origin, "Sec-Fetch-Site": "same-origin"})


def roles(aios, elsewhere):
    everything = ["api.*"]
    mine = {"flows": ["mine"], "memory": ["mine/"]}
    wide = key(aios, "wide", "service", everything)
    out = [Role(aios, "nobody"), Role(aios, "operator", local=True), session(aios), bearer(aios, "wide", wide),
           bearer(aios, "reader", key(aios, "reader", "service", ["api." + op for op in READS])),
           bearer(aios, "scoped", key(aios, "scoped", "service", everything, mine)),
           bearer(aios, "visitor", key(aios, "visitor", "visitor", everything)),
           bearer(aios, "edge", key(aios, "edge", "edge", everything, {"memory": ["mine/"]})),
           bearer(aios, "agent", key(aios, "agent", "agent", ["mail.send"])),
           bearer(aios, "narrowed", narrowed(aios, wide, "--grant", "api.run")),
           bearer(aios, "narrow-scope", narrowed(aios, wide, "--flow", "mine", "--memory", "mine/"))]
    gone = key(aios, "gone", "service", everything)
    aios.post("/v1/keys/gone/revoke", {})
    late = key(aios, "late", "service", everything, expires_ms=int(time.time() * 1000) + 1000)
    time.sleep(1.1)
    out += [bearer(aios, "revoked", gone), bearer(aios, "expired", late), bearer(aios, "elsewhere", key(elsewhere, "wide", "service", everything))]
    return out


def give(aios, role):
    """Objects of its own, which it made itself where it may, and others that the operator made."""
    def run(flow, ask):
        status, made = ask("POST", f"/v1/flows/{flow}/runs", {"input": {}})
        if status >= 300:
            made = aios.post(f"/v1/flows/{flow}/runs", {"input": {}})
        gate = until(lambda: [g for g in aios.get("/v1/gates")["items"] if g["run"] == made["run"]], 20, what="a gate")[0]
        return {"run": made["run"], "gate": gate["gate"], "shown": gate["shown"], "flow": flow, "key+": ("mine/" if flow == "mine" else "other/") + "x"}
    role.own = run("mine", role.ask)
    role.foreign = run("other", lambda *_: (403, None))


def fill(path, objects):
    names = {"schedule": "timed%2F0", "name": "go", "key": "nobody-has-this", "topic": "t", "token": "x", "id+": objects["key+"], "nth": "0"}
    return re.sub(r"\{([^}]+)\}", lambda m: str({**names, **objects}.get(m.group(1), "1")), path)


def verdict(role, op, method, path, objects):
    """- who are you, x may not, h there is no such thing (here: a known object is hidden), . let in"""
    body = BODIES.get(op, {}) if method in ("POST", "PUT") else None
    if op in ("gate_approve", "gate_deny"):
        body = {"shown": objects["shown"], "reason": "matrix"}
    status, answer = role.ask(method, fill(path, objects), body)
    if status == 401:
        return "-"
    if status == 403:
        return "x"
    hidden = status == 404 and (not isinstance(answer, dict) or answer.get("code", "").startswith("unknown_"))
    return "h" if hidden and re.search(r"\{(run|gate|flow|key\+|id\+|schedule)\}", path) else "."


def observe(aios, elsewhere):
    found = {}
    for role in roles(aios, elsewhere):
        give(aios, role)
        for op, method, path in routes():
            for which, objects in (("own", role.own), ("foreign", role.foreign)):
                if "{" not in path and which == "foreign":
                    continue
                found.setdefault((op, which), {})[role.name] = verdict(role, op, method, path, objects)
                if op == "freeze":
                    aios.post("/v1/thaw", {})
    return found


def written():
    lines = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    heads = lines[0].split()
    return {(c[0], c[1]): dict(zip(heads[2:], c[2:])) for c in map(str.split, lines[1:])}


def show(table):
    heads = list(next(iter(table.values())))
    print(f"{'operation':<18} {'object':<8} " + " ".join(heads))
    for (op, which), cells in sorted(table.items()):
        print(f"{op:<18} {which:<8} " + " ".join(cells[h].ljust(len(h)) for h in heads).rstrip())


def main():
    with Aios(FILES) as aios, Aios({"aios.yaml": "name: elsewhere\n", "policy.yaml": "rules: []\n"}) as elsewhere:
        for a in (aios, elsewhere):
            a.start()
            a.deploy()
        for name in ("mine/x", "other/x"):
            aios.ask("PUT", f"/v1/memory/facts/{name}", {"value": 1})
        found = observe(aios, elsewhere)
        aios.verify()
        assert aios.stop() == 0 and elsewhere.stop() == 0
    if "--print" in sys.argv:
        show(found)
        return
    want, wrong = written(), []
    for at in sorted({*found, *want}):
        for name in {**found.get(at, {}), **want.get(at, {})}:
            is_so, said = found.get(at, {}).get(name, "nothing"), want.get(at, {}).get(name, "nothing")
            if is_so != said:
                wrong.append(f"{name}: {at[0]} of {at[1]}: must be {said}, is {is_so}")
    print("\n".join(wrong))
    cells = sum(map(len, found.values()))
    assert not wrong and cells > 1000, f"{len(wrong)} of {cells} cells differ"
    print(f"fault_52_matrix: {cells} cells agree")


if __name__ == "__main__":
    main()
