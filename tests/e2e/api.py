#!/usr/bin/env python3
"""The HTTP API as a client over TCP meets it: the OpenAPI document and every route in it, problems as of RFC 9457,
Idempotency-Key, Host and Origin, streams that go on where they broke off, limits, waiting."""
import http.client
import json
import pathlib
import re
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import ROOT, Aios, Problem, until  # noqa: E402

HEAD = 'import { flow } from "aios";\n'
FLOWS = {
    "echo": 'export default flow({ name: "echo", grants: ["test.*"] }, async (ctx, input) => ctx.call("test.echo", input));\n',
    "other": 'export default flow({ name: "other" }, async (ctx, input) => "other");\n',
    "waits": 'export default flow({ name: "waits" }, async (ctx) => (await ctx.signal("go")).payload);\n',
    "naps": 'export default flow({ name: "naps" }, async (ctx) => { await ctx.sleep("1s"); return "up"; });\n',
    "earns": """export default flow({ name: "earns" }, async (ctx) => {
  await ctx.experiment("subject", ["a", "b"], { mode: "even" });
  await ctx.outcome("sale", 1.005, { money: 5000, experiment: "subject", arm: 1, customer: "c" });
  const refused = await ctx.outcome("sale", 1, { experiment: "subject", arm: 7 }).then(() => null, (e) => e.code);
  return { arms: await ctx.experiment.counts("subject"), refused };
});
""",
}
POLICY = 'rules: [{ name: tests, on: "test.*", then: allow }]\n'


class Client:
    def __init__(self, aios, key):
        self.aios, self.key = aios, key

    def ask(self, method, path, body=None, headers=None, key=True):
        """(status, headers, JSON or text)"""
        c = http.client.HTTPConnection("127.0.0.1", self.aios.port, timeout=30)
        head = {"Authorization": f"Bearer {self.key}"} if key else {}
        data = None
        if body is not None:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            head["Content-Type"] = "application/json"
        head.update(headers or {})
        try:
            c.request(method, path, data, {k: v for k, v in head.items() if v is not None})
            r = c.getresponse()
            text = r.read()
        finally:
            c.close()
        kind = r.getheader("Content-Type", "")
        return r.status, r.headers, json.loads(text) if text and "json" in kind else text.decode()

    def problem(self, status, method, path, body=None, headers=None, key=True):
        got, head, p = self.ask(method, path, body, headers, key)
        assert got == status, f"{method} {path}: {got} instead of {status}: {p}"
        assert head["Content-Type"] == "application/problem+json", head
        assert p["status"] == status and p["type"] and p["title"] and p["detail"] and p["code"], p
        return head, p


def openapi(c):
    status, head, doc = c.ask("GET", "/openapi.json", key=False)
    assert status == 200 and doc["openapi"].startswith("3.1") and doc["info"]["title"], doc
    routes = re.findall(r"^(GET|PUT|POST|DELETE)\s+(\S+)\s+(\w+)\s+(\w+)", (ROOT / "src/wire/routes.def").read_text(), re.M)
    assert len(routes) > 40, len(routes)
    for method, path, op, auth in routes:
        path = path.replace("+}", "}")
        found = doc["paths"].get(path, {}).get(method.lower())
        if found is None and (op.startswith("page_") or op in ("sign_in", "sign_in_page", "security_act", "asset", "openapi")):
            continue
        assert found, f"{method} {path} is not in the document"
        assert found["operationId"] == op and found["summary"] and found["responses"], found
        names = set(re.findall(r"{(\w+)}", path))
        have = {p["name"] for p in found.get("parameters", []) + doc["paths"][path].get("parameters", [])}
        assert names <= have, f"{path}: {have}"
    served = {(m.upper(), p) for p, ms in doc["paths"].items() for m in ms if m in ("get", "put", "post", "delete")}
    known = {(m, p.replace("+}", "}")) for m, p, _, _ in routes}
    assert served <= known, served - known
    # Without a credential nothing but what is public answers.
    for method, path, op, auth in routes:
        if op.startswith("page_") or op == "security_act" or auth == "none":
            continue
        path = re.sub(r"{\w+\+?}", "1", path)
        status, _, _ = c.ask(method, path, {} if method in ("POST", "PUT") else None, key=False)
        assert status == 401, f"{method} {path} answers {status} to nobody"


def idempotency(c):
    key = {"Idempotency-Key": "first"}
    s1, h1, a = c.ask("POST", "/v1/flows/echo/runs", {"input": {"a": 1}}, key)
    s2, _, b = c.ask("POST", "/v1/flows/echo/runs", {"input": {"a": 1}}, key)
    assert (s1, s2) == (201, 200) and a["run"] == b["run"] and h1["Location"] == f"/v1/runs/{a['run']}", (s1, s2, a, b)
    c.problem(409, "POST", "/v1/flows/echo/runs", {"input": {"a": 2}}, key)
    _, _, r = c.ask("POST", "/v1/flows/echo/runs?wait=10", {"input": {"a": 1}}, key)
    assert r["run"] == a["run"] and r["state"] == "done" and r["result"] == {"a": 1}, r
    # The same key on another flow is never an answer with the first one's run.
    status, _, o = c.ask("POST", "/v1/flows/other/runs", {"input": {"a": 1}}, key)
    assert status == 409 or o["run"] != a["run"], o
    # Another principal's key is another key.
    assert c.aios.run("echo", {"a": 1}, headers=key)["run"] != a["run"]
    # Fifty at once: one run.
    runs, start = [], threading.Barrier(50)

    def one():
        start.wait()
        runs.append(c.ask("POST", "/v1/flows/echo/runs", {"input": {}}, {"Idempotency-Key": "fifty"})[2]["run"])
    threads = [threading.Thread(target=one) for _ in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(runs) == 50 and len(set(runs)) == 1, runs
    # Outcomes count once.
    for n, counted in ((1, True), (2, False)):
        _, _, r = c.ask("POST", "/v1/outcomes", {"name": "open", "key": "k1"})
        assert r["counted"] is counted, r
    c.problem(400, "POST", "/v1/flows/echo/runs", {}, {"Idempotency-Key": "k" * 300})


def origins(c):
    port = c.aios.port
    assert c.ask("GET", "/v1/flows", headers={"Host": f"localhost:{port}"})[0] == 200
    c.problem(421, "GET", "/v1/flows", headers={"Host": "evil.example"})
    c.problem(421, "GET", "/v1/health", headers={"Host": "evil.example:80"}, key=False)
    assert c.ask("GET", "/v1/flows", headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200
    c.problem(403, "GET", "/v1/flows", headers={"Origin": "http://evil.example"})
    c.problem(403, "POST", "/v1/flows/echo/runs", {}, {"Origin": "null"})
    c.problem(403, "POST", "/v1/flows/echo/runs", {}, {"Sec-Fetch-Site": "cross-site"})
    assert not c.ask("GET", "/v1/flows")[1].get("Access-Control-Allow-Origin")


def limits(c):
    c.problem(404, "GET", "/nothing/here")
    head, _ = c.problem(405, "DELETE", "/v1/runs")
    assert "GET" in head["Allow"], head
    c.problem(415, "POST", "/v1/flows/echo/runs", b"a=1", {"Content-Type": "text/plain"})
    c.problem(413, "POST", "/v1/freeze", b'{"reason":"' + b"x" * (300 << 10) + b'"}')
    c.problem(400, "GET", "/v1/flows", b"{}")
    c.problem(400, "GET", "/v1/runs/%zz")
    c.problem(431, "GET", "/v1/flows", headers={f"X-H{i}": "x" for i in range(150)})
    head, p = c.problem(400, "POST", "/v1/flows/echo/runs", '{"input":\n {]}')
    assert p["line"] == 2, p
    status = raw(c, b"GET /v1/flows HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 65536 + b"\r\n\r\n")
    assert status in (400, 413, 431), status
    status = raw(c, b"GET /v1/health HTTP/1.1\r\n\r\n")
    assert status == 400, status
    status = raw(c, b"POST /v1/freeze HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"0\r\n\r\n")
    assert status == 400, status


def raw(c, data):
    s = socket.create_connection(("127.0.0.1", c.aios.port), 10)
    s.sendall(data)
    r = http.client.HTTPResponse(s)
    r.begin()
    s.close()
    return r.status


class Stream:
    """Server-sent events, parsed as they come."""

    def __init__(self, c, path="/v1/events", last=None):
        self.conn = http.client.HTTPConnection("127.0.0.1", c.aios.port, timeout=20)
        head = {"Authorization": f"Bearer {c.key}", "Accept": "text/event-stream"}
        if last is not None:
            head["Last-Event-ID"] = str(last)
        self.conn.request("GET", path, headers=head)
        self.r = self.conn.getresponse()
        assert self.r.status == 200 and self.r.getheader("Content-Type").startswith("text/event-stream"), self.r.headers

    def next(self):
        event = {}
        while True:
            line = self.r.readline().decode()
            assert line, "the stream has ended"
            line = line.rstrip("\n")
            if not line and "data" in event:
                event["data"] = json.loads(event["data"])
                assert event["data"]["seq"] == int(event["id"]) and event["data"]["type"] == event["event"], event
                return event["data"]
            if ": " in line and not line.startswith(":"):
                name, value = line.split(": ", 1)
                event[name] = event.get(name, "") + value

    def close(self):
        self.conn.close()


def streams(c):
    s = Stream(c, "/v1/events?after=0")
    first = [s.next() for _ in range(5)]
    assert [e["seq"] for e in first] == [1, 2, 3, 4, 5], first
    s.close()
    s = Stream(c, last=first[-1]["seq"])  # goes on where it broke off
    assert s.next()["seq"] == 6
    live = Stream(c)  # from now on
    run = c.ask("POST", "/v1/flows/echo/runs", {"input": {"live": 1}})[2]["run"]
    seen = []
    while not seen or seen[-1]["type"] != "run.ended":
        seen.append(live.next())
    assert all(e["run"] == run for e in seen if "run" in e) and seen[0]["type"] == "run.started", seen
    assert [e["seq"] for e in seen] == list(range(seen[0]["seq"], seen[0]["seq"] + len(seen))), "a gap"
    last = seen[-1]["seq"]
    got = 6
    while got < last:  # the one that was resumed has them all, in order
        e = s.next()
        assert e["seq"] == got + 1, (e, got)
        got = e["seq"]
    listed = c.aios.events()
    assert [e["seq"] for e in listed] == list(range(1, len(listed) + 1))
    assert [e for e in listed if e["seq"] in {x["seq"] for x in seen}] == seen, "streamed and listed events differ"
    s.close()
    live.close()


def waiting(c):
    status, head, r = c.ask("POST", "/v1/flows/waits/runs?wait=1", {})
    assert status == 202 and r["state"] == "active" and head["Location"] == f"/v1/runs/{r['run']}", (status, r)
    run = r["run"]
    got = []
    t = threading.Thread(target=lambda: got.append(c.ask("GET", f"/v1/runs/{run}?wait=20")))
    t.start()
    time.sleep(0.3)
    assert not got, "it did not wait"
    status, _, _ = c.ask("POST", f"/v1/runs/{run}/signals/go", {"x": [1, 2]})
    assert status == 202, status
    t.join(20)
    assert got and got[0][2]["state"] == "done" and got[0][2]["value"] == {"x": [1, 2]}, got
    assert c.ask("POST", "/v1/flows/naps/runs?wait=10", {})[2]["result"] == "up"
    status, _, r = c.ask("POST", "/v1/flows/waits/runs", {})
    assert status == 201
    c.ask("POST", f"/v1/runs/{r['run']}/cancel", {"reason": "no more"})
    _, _, r = c.ask("GET", f"/v1/runs/{r['run']}?wait=10")
    assert r["state"] == "cancelled", r
    # Who waits and leaves takes nothing along.
    r = c.ask("POST", "/v1/flows/waits/runs", {})[2]
    s = socket.create_connection(("127.0.0.1", c.aios.port), 10)
    s.sendall(f"GET /v1/runs/{r['run']}?wait=20 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {c.key}\r\n\r\n".encode())
    time.sleep(0.2)
    s.close()
    c.ask("POST", f"/v1/runs/{r['run']}/signals/go", 7)
    until(lambda: c.ask("GET", f"/v1/runs/{r['run']}")[2]["value"] == 7, 10, what="the end of the run")


def memory(c):
    s, _, r = c.ask("PUT", "/v1/memory/facts/a/b", {"value": {"x": 1}, "source": "test"})
    assert r["version"] == 1 and s in (200, 201), (s, r)
    c.problem(409, "PUT", "/v1/memory/facts/a/b?base=5", {"value": 2})
    assert c.ask("PUT", "/v1/memory/facts/a/b?base=1", {"value": 2})[2]["version"] == 2
    assert c.ask("GET", "/v1/memory/facts/a/b")[2]["value"] == 2
    items = c.ask("GET", "/v1/memory/facts/a/b?history=1")[2]["items"]
    assert [i["version"] for i in items] == [2, 1] and items[1]["value"] == {"x": 1}, items
    assert c.ask("PUT", "/v1/memory/documents/d1", {"text": "the moon pulls the sea", "meta": {"title": "Tides"}})[0] in (200, 201)
    hits = c.ask("GET", "/v1/memory/search?q=moon")[2]["hits"]
    assert [h["id"] for h in hits] == ["d1"], hits


def outcomes(c):
    r = c.ask("POST", "/v1/flows/earns/runs?wait=10", {})[2]
    assert r["state"] == "done" and r["result"]["refused"] == "invalid", r
    assert [a["wins"] for a in r["result"]["arms"]] == [0, 1], r
    assert c.ask("POST", "/v1/outcomes", {"name": "sale", "value": 0.57, "money": 7})[0] == 201
    for bad in ({"value": "much"}, {"value": 1e300}, {"money": 1.5}, {"arm": 1}, {"experiment": "none", "arm": 0}):
        c.problem(422, "POST", "/v1/outcomes", {"name": "sale", **bad})
    c.problem(422, "POST", "/v1/outcomes", {"value": 1})
    # With an Idempotency-Key every call that changes something happens once and is answered as the first time.
    same = {"Idempotency-Key": "o1"}
    first = c.ask("POST", "/v1/outcomes", {"name": "seen"}, same)[2]
    assert first == {"counted": True} and c.ask("POST", "/v1/outcomes", {"name": "seen"}, same)[2] == first
    c.problem(409, "POST", "/v1/outcomes", {"name": "seen twice"}, same)
    known = [(e["name"], e["value"], e["money"]) for e in c.aios.events() if e["type"] == "outcome.recorded" and e["name"] != "open"]
    assert known == [("sale", 1005, 5000), ("sale", 570, 7), ("seen", 1000, 0)], known


def main():
    files = {"aios.yaml": "name: api\n", "policy.yaml": POLICY, **{f"flows/{n}.js": HEAD + t for n, t in FLOWS.items()}}
    with Aios(files) as aios:
        aios.start()
        aios.deploy()
        c = Client(aios, aios.post("/v1/keys", {"name": "client", "grants": ["api.*", "api.events", "api.deploy", "api.freeze", "api.thaw"]})["key"])
        for part in (openapi, idempotency, origins, limits, streams, waiting, memory, outcomes):
            part(c)
            print(f"{part.__name__}: ok", flush=True)
        try:
            aios.post("/v1/keys", {"name": "client", "grants": ["api.*", "api.events", "api.deploy", "api.freeze", "api.thaw"]})
            raise AssertionError("two keys of one name")
        except Problem as p:
            assert p.status == 409, p
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
