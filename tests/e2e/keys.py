#!/usr/bin/env python3
"""Keys through a real aiosd: what a key reaches of other people's objects (nothing), what its holder can narrow alone, which
workspace it is for, how it is rotated while aiosd is killed, and when it was last used."""
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import BIN, Aios, Problem, until  # noqa: E402

FLOW = """import { flow } from "aios";
export default flow({ name: "NAME", grants: ["gate.ask", "memory.*"] }, async (ctx, input) => {
  if (input.gate) await ctx.approve({ title: "NAME asks", show: { a: 1 } });
  if (input.wait) await ctx.signal("go");
  return { secret: "of-NAME" };
});
"""
FILES = {"aios.yaml": "name: keys\n", "policy.yaml": "rules:\n  - on: \"*\"\n    then: allow\n",
         **{f"flows/{n}.js": FLOW.replace("NAME", n) for n in ("alpha", "beta")}}


def ask(aios, key, method, path, body=None, headers=None):
    """Status and text of a request at the network door."""
    c = http.client.HTTPConnection("127.0.0.1", aios.port, timeout=30)
    head = {"Authorization": f"Bearer {key}", **(headers or {})}
    if body is not None:
        head["Content-Type"] = "application/json"
    c.request(method, path, None if body is None else json.dumps(body), head)
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, text


def make(aios, name, grants=("api.*",), **more):
    return aios.post("/v1/keys", {"name": name, "grants": list(grants), **more})["key"]


def narrowed(key, *args):
    """Without a workspace and without aiosd."""
    p = subprocess.run([BIN / "aios", "keys", "attenuate", *args], cwd=tempfile.gettempdir(), text=True, capture_output=True,
                       env={**os.environ, "AIOS_KEY": key, "AIOS_WORKSPACE": "/nowhere"}, timeout=30)
    assert p.returncode == 0, p.stderr
    return p.stdout.strip()


def plain(text):
    """A problem without the number that was asked for."""
    return re.sub(r"\d+", "N", text)


# --- 52

def own_and_foreign(aios):
    """Runs with gates: of alpha by the operator, of beta by the operator."""
    out = {}
    for flow in ("alpha", "beta"):
        run = aios.post(f"/v1/flows/{flow}/runs", {"input": {"gate": True}})["run"]
        gate = until(lambda run=run: next((g for g in aios.get("/v1/gates")["items"] if g["run"] == run), None), 20)["gate"]
        ended = aios.run(flow)["run"]
        aios.ask("PUT", f"/v1/memory/facts/{flow}/note", {"value": f"tulips of {flow}"})
        out[flow] = {"run": run, "gate": gate, "ended": ended}
    return out


def routes(run, gate, ended):
    """Every route that names a run or a gate, with what it takes."""
    shown = "0" * 64
    return [("GET", f"/v1/runs/{run}", None), ("GET", f"/v1/runs/{ended}", None), ("GET", f"/v1/runs/{ended}/value", None),
            ("GET", f"/v1/runs/{run}/value", None), ("GET", f"/v1/runs/{run}/why", None), ("GET", f"/v1/runs/{ended}/why", None),
            ("POST", f"/v1/runs/{run}/cancel", {}), ("POST", f"/v1/runs/{run}/cancel", {"undo": True}),
            ("POST", f"/v1/runs/{run}/rollback", {}), ("POST", f"/v1/runs/{run}/fork", {"from": 0}),
            ("POST", f"/v1/runs/{ended}/fork", {"from": 0}), ("POST", f"/v1/runs/{run}/restart", {}),
            ("POST", f"/v1/runs/{run}/signals/go", {}), ("POST", "/v1/outcomes", {"name": "x", "run": run}),
            ("GET", f"/v1/gates/{gate}", None), ("POST", f"/v1/gates/{gate}/approve", {"shown": shown}),
            ("POST", f"/v1/gates/{gate}/deny", {"shown": shown}), ("POST", f"/v1/gates/{gate}/settle", {"shown": shown, "answer": "send"}),
            ("GET", f"/runs/{run}", None), ("GET", f"/gates/{gate}", None)]


NOWHERE = {"run": 999999, "gate": 999999, "ended": 999998}


def fault_52_foreign_objects(aios, story):
    keys = {"part": make(aios, "part", scope={"flows": ["alpha"], "memory": ["alpha/"]}),
            "guest": make(aios, "guest", kind="visitor"),
            "narrow": narrowed(make(aios, "wide"), "--flow", "alph*", "--memory", "alpha/,gamma/", "--grant", "api.*")}
    for name, key in keys.items():
        for (method, path, body), (_, nowhere, none) in zip(routes(**story["beta"]), routes(**NOWHERE)):
            got, text = ask(aios, key, method, path, body)
            same, nothing = ask(aios, key, method, nowhere, none if body is None or "run" not in body else {**body, "run": NOWHERE["run"]})
            assert got == 404 and (same, plain(nothing)) == (404, plain(text)), (name, method, path, got, text, same, nothing)
        for path in ("/v1/runs", "/v1/gates", "/v1/queue", "/v1/schedules", "/v1/costs", "/v1/budgets", "/v1/memory/facts",
                     "/v1/memory/search?q=tulips", "/v1/gates?state=decided", "/v1/costs?by=run", "/", "/v1/runs?flow=beta",
                     '/v1/runs?scope={"flows":[["*"]]}'):
            status, text = ask(aios, key, "GET", path)
            assert status == 200 and "beta" not in text, (name, path, status, text)
        for method, path, body in (("GET", "/v1/memory/facts/beta/note", None), ("GET", "/v1/memory/facts/beta/note?history=1", None),
                                   ("PUT", "/v1/memory/facts/beta/note", {"value": 1}), ("PUT", "/v1/memory/facts/alph", {"value": 1}),
                                   ("PUT", "/v1/memory/documents/beta/doc", {"text": "x"})):
            assert ask(aios, key, method, path, body)[0] == 404, (name, method, path)
        if name != "guest":
            for method, path, body in (("GET", "/v1/flows/beta", None), ("POST", "/v1/flows/beta/runs", {})):
                assert ask(aios, key, method, path, body)[0] == 404, (name, method, path)
            assert "beta" not in ask(aios, key, "GET", "/v1/flows")[1]
    after = {f: aios.get(f"/v1/runs/{story[f]['run']}")["state"] for f in story}
    assert after == {"alpha": "active", "beta": "active"}, after


def fault_52_own_objects(aios, story):
    """What is in the scope is there, for whom it is in."""
    part = make(aios, "part2", scope={"flows": ["alpha"], "memory": ["alpha/"]})
    alpha = story["alpha"]
    for path in (f"/v1/runs/{alpha['run']}", f"/v1/runs/{alpha['ended']}", f"/v1/runs/{alpha['ended']}/value", f"/v1/gates/{alpha['gate']}",
                 f"/v1/runs/{alpha['run']}/why", "/v1/memory/facts/alpha/note", "/v1/flows/alpha"):
        assert ask(aios, part, "GET", path)[0] == 200, (path, ask(aios, part, "GET", path))
    assert "of alpha" in ask(aios, part, "GET", "/v1/memory/facts")[1]
    assert "of alpha" in ask(aios, part, "GET", "/v1/memory/search?q=tulips")[1]
    assert str(alpha["run"]) in ask(aios, part, "GET", "/v1/runs")[1] and "alpha asks" in ask(aios, part, "GET", "/v1/gates")[1]
    # A visitor: what it started, and of the same flow nothing else.
    guest = make(aios, "guest2", kind="visitor")
    status, text = ask(aios, guest, "POST", "/v1/flows/alpha/runs", {"input": {"wait": True}})
    mine = json.loads(text)["run"]
    assert status == 201 and ask(aios, guest, "GET", f"/v1/runs/{mine}")[0] == 200
    assert [r["run"] for r in json.loads(ask(aios, guest, "GET", "/v1/runs")[1])["items"]] == [mine]
    assert ask(aios, guest, "GET", f"/v1/runs/{alpha['run']}")[0] == 404 and ask(aios, guest, "GET", "/v1/memory/facts/alpha/note")[0] == 404
    assert ask(aios, guest, "POST", f"/v1/runs/{mine}/signals/go", {})[0] < 300
    until(lambda: json.loads(ask(aios, guest, "GET", f"/v1/runs/{mine}")[1])["state"] == "done", 20)
    assert json.loads(ask(aios, guest, "GET", f"/v1/runs/{mine}/value")[1])["value"] == {"secret": "of-alpha"}
    # Whoever narrowed a key is not answered with what the key was answered.
    wide = make(aios, "wide2")
    once = {"Idempotency-Key": "k"}
    assert ask(aios, wide, "PUT", "/v1/memory/documents/beta/d", {"text": "x"}, once)[0] < 300
    assert ask(aios, narrowed(wide, "--memory", "alpha/"), "PUT", "/v1/memory/documents/beta/d", {"text": "x"}, once)[0] == 404


def fault_52_escalation(aios, story):
    """A key is never the operator, whatever its pattern; and nobody approves what they asked for."""
    every = make(aios, "every", grants=["*", "api.*"])
    for method, path, body in (("POST", "/v1/keys", {"name": "x", "grants": ["api.run"]}), ("GET", "/v1/keys", None), ("POST", "/v1/sessions", {}),
                               ("POST", "/v1/keys/every/rotate", {}), ("POST", "/v1/keys/every/revoke", {}), ("GET", "/v1/secrets", None),
                               ("POST", "/v1/deploy", {"files": {}}), ("GET", "/v1/events", None), ("POST", "/v1/freeze", {}),
                               ("GET", "/v1/vault/key", None), ("PUT", "/v1/secrets/x", {"host": "h", "sealed": "AA"})):
        assert ask(aios, every, method, path, body)[0] == 403, (method, path)
    named = make(aios, "named", grants=["api.key_create", "api.session_open", "api.secrets", "api.freeze", "api.thaw",
                                         "api.password_set", "api.totp_set", "api.passkey_begin", "api.vault_unlock", "api.guard_set"])
    for method, path, body in (("POST", "/v1/keys", {"name": "x", "grants": ["api.freeze"]}), ("POST", "/v1/sessions", {}), ("GET", "/v1/secrets", None),
                               ("PUT", "/v1/sign-in/password", {"sealed": "AA"}), ("PUT", "/v1/sign-in/totp", {"sealed": "AA"}),
                               ("POST", "/v1/sign-in/passkeys/challenge", {}), ("POST", "/v1/vault/unlock", {}),
                               ("POST", "/v1/guards/untrusted-private", {"on": False})):
        assert ask(aios, named, method, path, body)[0] == 403, (method, path)
    assert ask(aios, named, "POST", "/v1/freeze", {})[0] == 200 and ask(aios, named, "POST", "/v1/thaw", {})[0] == 200
    run = json.loads(ask(aios, every, "POST", "/v1/flows/alpha/runs", {"input": {"gate": True}})[1])["run"]
    gate = until(lambda: next((g for g in aios.get("/v1/gates")["items"] if g["run"] == run), None), 20)
    status, text = ask(aios, every, "POST", f"/v1/gates/{gate['gate']}/approve", {"shown": gate["shown"]})
    assert status == 403, (status, text)
    assert aios.get(f"/v1/runs/{run}")["state"] == "active"


def fault_52_events_beyond(aios):
    """An event starts flows and wakes runs wherever they are: no pattern gives that to a key with a scope."""
    for name, more in (("pub-flow", {"scope": {"flows": ["alpha"]}}), ("pub-guest", {"kind": "visitor"}), ("pub-wide", {})):
        key = make(aios, name, **more)
        key = key if more else narrowed(key, "--flow", "alpha")
        assert ask(aios, key, "POST", "/v1/events/order.paid", {})[0] == 403, name
    named = make(aios, "pub-named", grants=["api.event_publish"], scope={"flows": ["alpha"]})
    assert ask(aios, named, "POST", "/v1/events/order.paid", {}) == (202, '{"published":true}')
    assert ask(aios, narrowed(named, "--expires", "1h"), "POST", "/v1/events/order.paid", {})[0] == 202
    assert ask(aios, narrowed(named, "--flow", "alpha", "--grant", "api.*"), "POST", "/v1/events/order.paid", {})[0] == 403
    assert ask(aios, narrowed(named, "--flow", "alpha", "--grant", "api.event_publish"), "POST", "/v1/events/order.paid", {})[0] == 202
    denied = aios.cli("audit", "--kind", "denied", "--who", "key/pub-guest", "--json").stdout
    assert "api.event_publish" in denied, denied


def fault_52_revoked_while_it_waits(aios):
    """A key that is revoked hears nothing more: not what it waits for, and not the rest of a stream."""
    for name, end in (("waits", lambda n: aios.post(f"/v1/keys/{n}/revoke", {})), ("waits2", lambda n: aios.post(f"/v1/keys/{n}/rotate", {"overlap": "0s"}))):
        key = make(aios, name, grants=["api.events", "api.run", "api.run_start"])
        run = aios.post("/v1/flows/alpha/runs", {"input": {"wait": True}})["run"]
        got = {}

        def wait(key=key, run=run, got=got):
            got["wait"] = ask(aios, key, "GET", f"/v1/runs/{run}?wait=30")
        t = threading.Thread(target=wait)
        t.start()
        c = http.client.HTTPConnection("127.0.0.1", aios.port, timeout=30)
        c.request("GET", "/v1/events", headers={"Authorization": f"Bearer {key}", "Accept": "text/event-stream"})
        stream = c.getresponse()
        assert stream.status == 200
        time.sleep(0.5)
        new = end(name).get("key")
        if new:  # a rotated key ends with the first use of the new one
            assert ask(aios, new, "GET", f"/v1/runs/{run}")[0] == 200
        aios.post(f"/v1/runs/{run}/signals/go", {"after": "revocation"})
        rest = stream.read().decode()  # to its end
        assert "signal.sent" not in rest and "of-alpha" not in rest, rest
        t.join()
        assert got["wait"][0] == 401 and "of-alpha" not in got["wait"][1], got
        c.close()


def no_limit_is_lost(aios):
    """What is not understood of a key that is made is refused: it might have been its limit."""
    for i, more in enumerate(({"expires_ms": "1h"}, {"expires_ms": 1.5}, {"expires_ms": -5}, {"expires": 5}, {"expires": ""}, {"expires": "soon"},
                              {"expires": "1h", "expires_ms": 1}, {"expires": "9223372036854775807ms"}, {"expiry": "1h"}, {"grants": [1]},
                              {"grants": []}, {"grants": [""]}, {"scope": []}, {"scope": {"flow": ["a"]}}, {"kind": "operator"}, {"kind": ["visitor"]})):
        try:
            made = make(aios, f"lost{i}", **more)
        except Problem as p:
            assert p.status == 400 and p.body["detail"], (more, p.body)
        else:
            raise AssertionError(f"{more}: {made[:5]}")
    assert make(aios, "kept", expires="1h")


# --- offline attenuation, audience, revocation

def attenuated(aios):
    key = make(aios, "ci", grants=["api.runs", "api.run", "api.flows"])
    less = narrowed(key, "--grant", "api.runs", "--expires", "1h")
    assert ask(aios, key, "GET", "/v1/flows")[0] == 200
    assert ask(aios, less, "GET", "/v1/runs")[0] == 200 and ask(aios, less, "GET", "/v1/flows")[0] == 403
    # No block gives anything back, and none reaches beyond the key.
    assert ask(aios, narrowed(less, "--grant", "api.*"), "GET", "/v1/flows")[0] == 403
    assert ask(aios, narrowed(key, "--grant", "api.freeze,api.runs"), "POST", "/v1/freeze", {})[0] == 403
    soon = narrowed(key, "--expires", "1s")
    until(lambda: ask(aios, soon, "GET", "/v1/runs")[0] in (401, 403), 20, what="the end of a key of one second")
    wrong = [key[:-1] + ("A" if key[-1] != "A" else "B"), less[:-7] + "A" + less[-6:], less[:40], "aiosc_", "aios_", key + "A", key[5:]]
    answers = {ask(aios, t, "GET", "/v1/runs") for t in wrong}
    assert len(answers) == 1 and answers.pop()[0] == 401
    p = subprocess.run([BIN / "aios", "keys", "attenuate", "--grant", "x"], input=wrong[0] + "\n", text=True, capture_output=True,
                       env={**os.environ, "AIOS_KEY": ""})
    assert p.returncode == 1 and "not copied whole" in p.stderr, p
    aios.post("/v1/keys/ci/revoke", {})
    assert ask(aios, less, "GET", "/v1/runs")[0] == ask(aios, key, "GET", "/v1/runs")[0] == 401


def fault_51_wrong_audience(aios):
    key = make(aios, "here")
    with Aios(FILES) as other:
        other.start()
        other.deploy()
        make(other, "here")
        assert ask(aios, key, "GET", "/v1/runs")[0] == 200
        for token in (key, narrowed(key, "--grant", "api.*")):
            status, text = ask(other, token, "GET", "/v1/runs")
            assert (status, text) == ask(other, "aios_nonsense", "GET", "/v1/runs") and status == 401, (status, text)
        other.stop()


def last_use(aios):
    key = make(aios, "used")
    of = lambda: next(k for k in aios.get("/v1/keys")["items"] if k["id"] == "key/used")  # noqa: E731
    assert "used_ms" not in of()
    before = time.time() * 1000 - 2000
    ask(aios, key, "GET", "/v1/runs")
    first = of()["used_ms"]
    assert before < first < time.time() * 1000 + 2000
    for _ in range(20):
        ask(aios, key, "GET", "/v1/runs")
    assert sum(e["type"] == "keys.used" and "key/used" in json.dumps(e) for e in aios.events()) == 1  # not one for each
    last = of()["used_ms"]
    aios.stop()
    aios.start()
    assert of()["used_ms"] == last >= first


# --- 71

def fault_71_rotation_killed(aios):
    """Killed at any moment of a rotation: whoever holds the old key, or got the new one, is let in; never nobody."""
    key = make(aios, "spin")
    rotated = 0
    for i in range(10):
        got = []

        def rotate():
            try:
                got.append(aios.post("/v1/keys/spin/rotate", {"overlap": "0s"}, timeout=10)["key"])
            except Exception:  # noqa: BLE001: it was killed
                pass
        t = threading.Thread(target=rotate)
        t.start()
        time.sleep(i * 0.004)
        aios.kill()
        t.join()
        aios.start()
        assert ask(aios, key, "GET", "/v1/runs")[0] == 200, f"round {i}: the old key is good until the new one was used"
        if got:
            rotated += 1
            assert ask(aios, got[0], "GET", "/v1/runs")[0] == 200, f"round {i}: a key that was shown is good"
            assert ask(aios, key, "GET", "/v1/runs")[0] == 401, f"round {i}: its use ends the old one"
            # Also when aiosd is killed at once after.
            aios.kill()
            aios.start()
            assert [ask(aios, k, "GET", "/v1/runs")[0] for k in (key, got[0])] == [401, 200]
            key = got[0]
    assert rotated > 0, "no rotation was answered before the kill"
    new = json.loads(aios.cli("keys", "rotate", "spin", "--overlap", "1d", "--json").stdout)["key"]
    assert [ask(aios, k, "GET", "/v1/runs")[0] for k in (new, key)] == [200, 200]
    aios.post("/v1/keys/spin/revoke", {})
    assert [ask(aios, k, "GET", "/v1/runs")[0] for k in (new, key)] == [401, 401]


def rates(aios):
    (aios.dir / "aios.yaml").write_text("name: keys\ndoor:\n  rates: { key: { per_second: 1, burst: 5 } }\n")
    aios.deploy()
    one, two = make(aios, "one"), make(aios, "two")
    got = [ask(aios, one, "GET", "/v1/flows")[0] for _ in range(12)]
    assert got[:5] == [200] * 5 and 429 in got, got
    assert ask(aios, narrowed(one, "--grant", "api.*"), "GET", "/v1/flows")[0] in (200, 429)  # the same bucket
    assert ask(aios, two, "GET", "/v1/flows")[0] == 200


def main():
    with Aios(FILES) as aios:
        aios.start()
        aios.deploy()
        story = own_and_foreign(aios)
        for part in (fault_52_foreign_objects, fault_52_own_objects, fault_52_escalation):
            part(aios, story)
            print(f"{part.__name__}: ok", flush=True)
        for part in (no_limit_is_lost, fault_52_events_beyond, fault_52_revoked_while_it_waits, attenuated, fault_51_wrong_audience, last_use, fault_71_rotation_killed, rates):
            part(aios)
            print(f"{part.__name__}: ok", flush=True)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
