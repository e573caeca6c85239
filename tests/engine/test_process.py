#!/usr/bin/env python3
"""aiosd as a whole, with the real processes: what an operator relies on. No timing is asserted."""
import fcntl
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import BIN, Aios, Ledger, Problem, until  # noqa: E402

FLOW = """import { flow } from "aios";
import { twice } from "../lib/math.js";
export default flow({ name: "many", grants: ["test.*", "memory.*"] }, async (ctx, input) => {
  if (input.how === "steps") { let x = 0; for (let i = 0; i < 10; i++) x += (await ctx.call("test.echo", { i })).i; return twice(x); }
  if (input.how === "slow") return await ctx.call("test.slow", { ms: input.ms });
  if (input.how === "sleep") { await ctx.sleep(input.ms); return "slept"; }
  if (input.how === "loop") while (true) {}
  if (input.how === "once") for (let i = 0; i < 3000; i++) await ctx.call("test.once", { value: i });
  if (input.how === "ask") return await ctx.approve({ title: "Send?", show: { a: 1 }, edit: true });
  return "?";
});
"""
FILES = {
    "aios.yaml": "name: test\ndoor: { port: 0 }\n",
    "policy.yaml": 'rules:\n  - { name: all, on: "*", then: allow }\n',
    "flows/many.js": FLOW,
    "lib/math.js": "export const twice = (x) => 2 * x;\n",
    "lib/unused.js": "export const nothing = 0;\n",
}


class Up(unittest.TestCase):
    def setUp(self):
        self.a = Aios(FILES).start()
        self.addCleanup(lambda: self.a.__exit__(None, None, None))
        self.a.deploy()

    def run_many(self, how, wait=30, **kw):
        return self.a.run("many", {"how": how, **kw}, wait=wait)

    def kill(self, name):
        pid = self.a.pids()[name]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.a.pids().get(name) not in (None, pid), 20, what=f"a new {name}")

    def test_steps_and_verify(self):
        self.assertEqual(self.run_many("steps")["result"], 90)
        self.a.verify()

    def test_second_aiosd(self):
        p = subprocess.run([BIN / "aiosd", "--workspace", self.a.dir, "--port", "0"], capture_output=True, text=True, timeout=20)
        self.assertEqual(p.returncode, 1)
        self.assertIn("another aiosd", p.stderr)
        self.assertIn(str(self.a.daemon.pid), p.stderr)
        self.assertEqual(self.run_many("steps")["result"], 90)

    def test_a_lock_that_a_dead_one_left(self):
        """Killed while it started a process, aiosd leaves its lock to that for a moment: the next one waits for it."""
        self.a.kill()
        with open(self.a.dir / ".aios/run/lock", "rb") as lock:
            self.assertEqual(int(lock.read()), self.a.daemon.pid)
            fcntl.flock(lock, fcntl.LOCK_EX)
            let_go = threading.Timer(0.3, fcntl.flock, (lock, fcntl.LOCK_UN))
            let_go.start()
            self.a.start()
            let_go.join()
        self.assertEqual(self.run_many("steps")["result"], 90)

    def test_stop_and_start(self):
        run = self.run_many("ask", wait=0)["run"]
        self.assertEqual(self.a.stop(), 0)
        self.a.start()
        gate = self.a.get("/v1/gates")["items"][0]
        self.a.post(f"/v1/gates/{gate['gate']}/approve", {"shown": gate["shown"]})
        self.assertEqual(self.a.get(f"/v1/runs/{run}?wait=20")["state"], "done")
        self.a.verify()

    def test_every_process_is_restarted(self):
        for name in ("aios-flow 1", "aios-flow 2", "aios-connect", "aios-vault", "aios-views", "aios-door 2"):
            self.kill(name)
            self.assertEqual(self.run_many("steps")["result"], 90, name)
        self.a.verify()

    def test_views_in_the_full_sandbox(self):
        """aios-views gets what the kernel grants to aios-flow, in each of its lives, and still answers."""
        def sandbox(name):
            found = [p["sandbox"] for p in self.a.get("/v1/status")["processes"] if p["process"] == name]
            return set(found[0].split())

        self.a.ask("PUT", "/v1/memory/facts/a/b", {"value": "a needle"})
        for _ in range(3):
            until(lambda: sandbox("aios-views") and sandbox("aios-flow 1"), 20, what="both")
            self.assertLessEqual(sandbox("aios-flow 1"), sandbox("aios-views"))  # as root it may get a namespace more
            until(lambda: self.a.get("/v1/memory/search?q=needle")["hits"], 20, what="the hit")
            self.kill("aios-views")

    def test_kill_aiosd(self):
        run = self.run_many("sleep", wait=0, ms=1500)["run"]
        before = self.a.pids()
        self.a.kill()
        for name, pid in before.items():
            until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), 10, what=f"the end of {name}")
        self.a.start()
        self.assertEqual(self.a.get(f"/v1/runs/{run}?wait=30")["state"], "done")
        self.a.verify()

    def test_lost_connector(self):
        """A read whose connector dies is asked again (tools/crash does the other classes)."""
        slow = {}
        t = threading.Thread(target=lambda: slow.update(self.run_many("slow", ms=1500)))
        t.start()
        until(lambda: self.a.get("/v1/status")["calls_in_flight"] == 1, 10)
        self.kill("aios-connect")
        t.join()
        self.assertEqual(slow["state"], "done")

    def test_freeze_holds_what_waits_for_a_connector(self):
        """A call that was released while its connector was away does not leave once aios is frozen."""
        for _ in range(5):  # each death in a row makes the next start later
            self.kill("aios-connect")
        os.kill(self.a.pids()["aios-connect"], signal.SIGKILL)
        until(lambda: not self.a.pids().get("aios-connect"), 10)
        run = self.run_many("slow", wait=0, ms=1)["run"]
        until(lambda: self.a.get("/v1/status")["calls_in_flight"] == 1, 10)
        self.a.post("/v1/freeze", {})
        until(lambda: self.a.pids().get("aios-connect"), 20)
        until(lambda: self.a.get("/v1/status")["calls_in_flight"] == 0, 10)
        self.assertEqual(self.a.get(f"/v1/runs/{run}")["state"], "active")
        self.a.post("/v1/thaw", {})
        self.assertEqual(self.a.get(f"/v1/runs/{run}?wait=30")["state"], "done")
        self.a.verify()

    def test_cancel_holds_what_waits_for_a_connector(self):
        for _ in range(5):
            self.kill("aios-connect")
        os.kill(self.a.pids()["aios-connect"], signal.SIGKILL)
        until(lambda: not self.a.pids().get("aios-connect"), 10)
        run = self.run_many("slow", wait=0, ms=1)["run"]
        until(lambda: self.a.get("/v1/status")["calls_in_flight"] == 1, 10)
        self.a.post(f"/v1/runs/{run}/cancel", {})
        until(lambda: self.a.pids().get("aios-connect"), 20)
        until(lambda: self.a.get("/v1/status")["calls_in_flight"] == 0, 10)
        self.assertEqual(self.a.get(f"/v1/runs/{run}")["steps"][0]["status"], "failed")
        self.a.verify()

    def test_gates_of_a_cancelled_run_are_closed(self):
        run = self.run_many("ask", wait=0)["run"]
        until(lambda: self.a.get("/v1/gates")["items"], 20)
        gate = self.a.get("/v1/gates")["items"][0]
        self.a.post(f"/v1/runs/{run}/cancel", {})
        self.assertEqual(self.a.get("/v1/gates")["items"], [])
        self.assertEqual(self.a.get(f"/v1/gates/{gate['gate']}")["state"], "closed")
        self.assertEqual([s["status"] for s in self.a.get(f"/v1/runs/{run}")["steps"]], ["cancelled"])

    def test_stop_leaves_nothing_in_doubt(self):
        """SIGTERM in the middle of calls that must not be repeated: what was sent is answered, no more is sent."""
        ledger = Ledger(self.a.dir / "ledger.jsonl")
        self.addCleanup(ledger.stop)
        (self.a.dir / "aios.yaml").write_text(f"name: test\ndoor: {{ port: 0 }}\ntest: {{ ledger: \"127.0.0.1:{ledger.port}\" }}\n")
        self.a.deploy()
        runs = [self.run_many("once", wait=0)["run"] for _ in range(4)]
        until(lambda: self.a.get("/v1/status")["seq"] > 200, 20)
        self.assertEqual(self.a.stop(), 0)
        self.a.start()
        self.assertEqual(self.a.get("/v1/gates")["items"], [])
        for run in runs:
            self.a.post(f"/v1/runs/{run}/cancel", {})
        self.a.verify()

    def test_hostile_neighbour(self):
        self.assertEqual(self.run_many("loop")["state"], "failed")
        self.assertEqual(self.run_many("steps")["state"], "done")

    def test_watchdog(self):
        """A worker that does not come back is ended; the run that it was at is tried again, its neighbours are replayed."""
        neighbours = [self.run_many("sleep", wait=0, ms=3000)["run"] for _ in range(6)]
        until(lambda: all(self.a.get(f"/v1/runs/{run}")["step_count"] == 1 for run in neighbours), 20)
        time.sleep(0.2)  # each has said that it rests: nobody else can be what the worker hangs at
        os.kill(self.a.pids()["aios-flow 1"], signal.SIGSTOP)  # where the next run goes: both have as many
        hung = self.run_many("steps", wait=20)
        self.assertEqual(hung["state"], "done")
        parked = [e for e in self.a.events() if e["type"] == "run.parked"]
        self.assertEqual([(e["run"], e["why"]) for e in parked], [(hung["run"], "crashed")])
        self.assertIn("many", json.dumps(parked[0]["detail"]))
        for run in neighbours:
            self.assertEqual(self.a.get(f"/v1/runs/{run}?wait=30")["state"], "done")
        self.assertEqual(self.run_many("steps")["state"], "done")

    def test_idempotent_start(self):
        key = {"Idempotency-Key": "k1"}
        a = self.a.run("many", {"how": "steps"}, headers=key)
        b = self.a.run("many", {"how": "steps"}, headers=key)
        self.assertEqual((a["run"], a["result"]), (b["run"], b["result"]))
        with self.assertRaises(Problem) as c:
            self.a.run("many", {"how": "sleep", "ms": 1}, headers=key)
        self.assertEqual(c.exception.status, 409)

    def test_idempotency_keys(self):
        a = self.a
        run = self.run_many("ask", wait=0)["run"]

        def signal(key, value):
            return a.post(f"/v1/runs/{run}/signals/ping", {"n": value}, headers={"Idempotency-Key": key})
        self.assertEqual(signal("s1", 1), signal("s1", 1))
        signal("s2", 1)
        with self.assertRaises(Problem) as c:
            signal("s1", 2)
        self.assertEqual(c.exception.status, 409)
        self.assertEqual(len([e for e in a.events() if e["type"] == "signal.sent"]), 2)
        for _ in range(2):
            a.post("/v1/outcomes", {"name": "sale", "value": 3}, headers={"Idempotency-Key": "o1"})
        a.stop()
        a.start()
        a.post("/v1/outcomes", {"name": "sale", "value": 3}, headers={"Idempotency-Key": "o1"})
        self.assertEqual(len([e for e in a.events() if e["type"] == "outcome.recorded"]), 1)

    def test_deploy_versions(self):
        self.assertEqual(self.a.deploy()["changed"], [])
        (self.a.dir / "lib/unused.js").write_text("export const nothing = 1;\n")
        self.assertEqual(self.a.deploy()["changed"], [])
        (self.a.dir / "lib/math.js").write_text("export const twice = (x) => x + x;\n")
        self.assertEqual([c["name"] for c in self.a.deploy()["changed"]], ["many"])

    def test_deploy_faults(self):
        for name, text, line in (("flows/bad.js", "import { flow } from 'aios';\nexport default flow({ name: 'bad' },, 1);\n", 2),
                                 ("aios.yaml", "name: x\ndoor: { port: [ }\n", 2)):
            path = self.a.dir / name
            old = path.read_text() if path.exists() else None
            path.write_text(text)
            with self.assertRaises(Problem) as c:
                self.a.deploy()
            self.assertEqual(c.exception.status, 422)
            self.assertEqual((c.exception.body["file"], c.exception.body["line"]), (name, line))
            path.write_text(old) if old else path.unlink()
        self.assertEqual(self.run_many("steps")["state"], "done")

    def network(self, method, path, token=None, body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.a.port, timeout=20)
        head = {"Content-Type": "application/json", **(headers or {})}
        if token:
            head["Authorization"] = f"Bearer {token}"
        c.request(method, path, json.dumps(body) if body is not None else None, head)
        r = c.getresponse()
        text = r.read()
        c.close()
        return r.status, r.headers, text

    def test_keys(self):
        key = self.a.post("/v1/keys", {"name": "ci", "grants": ["api.run_start", "api.flows"]})["key"]
        self.assertEqual(self.network("GET", "/v1/flows")[0], 401)
        self.assertEqual(self.network("GET", "/v1/flows", "aios_" + "A" * 43)[0], 401)
        self.assertEqual(self.network("GET", "/v1/flows", key)[0], 200)
        self.assertEqual(self.network("POST", "/v1/flows/many/runs?wait=20", key, {"input": {"how": "steps"}})[0], 200)
        self.assertEqual(self.network("POST", "/v1/freeze", key, {})[0], 403)
        self.assertEqual(self.network("GET", "/v1/runs", key)[0], 403)
        denied = [e["action"] for e in self.a.events() if e["type"] == "access.denied"]
        self.assertEqual(denied, ["api.freeze", "api.runs"])
        self.a.post("/v1/keys/ci/revoke", {})
        self.assertEqual(self.network("GET", "/v1/flows", key)[0], 401)

    def test_sign_in_and_decide_on_the_page(self):
        url = self.a.post("/v1/sessions", {})["url"]
        path, token = url.split(f":{self.a.port}", 1)[1].split("?")
        self.assertEqual(self.network("GET", f"{path}?{token}")[0], 200)  # shows a button

        def sign_in():
            c = http.client.HTTPConnection("127.0.0.1", self.a.port, timeout=20)
            c.request("POST", path, token, {"Content-Type": "application/x-www-form-urlencoded"})
            r = c.getresponse()
            r.read()
            c.close()
            return r.status, r.headers
        status, headers = sign_in()
        self.assertEqual(status, 303)
        self.assertEqual(sign_in()[0], 403)  # once
        cookie = {"Cookie": headers["Set-Cookie"].split(";")[0]}
        run = self.run_many("ask", wait=0)["run"]
        page = until(lambda: (lambda t: "Send?" in t and t)(self.network("GET", "/", headers=cookie)[2].decode()), 10)
        csrf = page.split('name="csrf" value="')[1].split('"')[0]
        shown = page.split('name="shown" value="')[1].split('"')[0]
        form = {**cookie, "Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{self.a.port}"}

        def decide(token):
            c = http.client.HTTPConnection("127.0.0.1", self.a.port, timeout=20)
            c.request("POST", "/gates/1", f"csrf={token}&shown={shown}&answer=approve&reason=fine", form)
            status = c.getresponse().status
            c.close()
            return status
        self.assertEqual(decide("0" * 64), 403)
        self.assertEqual(decide(csrf), 303)
        self.assertEqual(self.a.get(f"/v1/runs/{run}?wait=20")["state"], "done")

    def test_events_stream_resumes(self):
        self.run_many("steps")
        last = self.a.get("/v1/status")["durable"]

        def read(after, count):
            p = subprocess.Popen(["curl", "-sN", "--unix-socket", str(self.a.dir / ".aios/run/door.sock"), "-H",
                                  "Accept: text/event-stream", "-H", f"Last-Event-ID: {after}",
                                  "http://localhost/v1/events"], stdout=subprocess.PIPE, text=True)
            ids = []
            for line in p.stdout:
                if line.startswith("id: "):
                    ids.append(int(line[4:]))
                if len(ids) == count:
                    break
            p.kill()
            p.wait()
            p.stdout.close()
            return ids
        self.assertEqual(read(0, last), list(range(1, last + 1)))
        self.assertEqual(read(last - 3, 3), [last - 2, last - 1, last])

    def test_memory(self):
        a = self.a
        self.assertEqual(a.ask("PUT", "/v1/memory/facts/x/1?base=0", {"value": {"n": 1}})["version"], 1)
        with self.assertRaises(Problem) as c:
            a.ask("PUT", "/v1/memory/facts/x/1?base=0", {"value": {"n": 2}})
        self.assertEqual(c.exception.status, 409)
        a.ask("PUT", "/v1/memory/facts/x/2", {"value": "the quick brown fox"})
        self.assertEqual(a.get("/v1/memory/facts/x/1")["value"], {"n": 1})
        page = a.get("/v1/memory/facts?prefix=x/&limit=1")
        self.assertEqual((page["items"][0]["key"], page["next"]), ("x/1", "x/1"))
        self.assertEqual([f["key"] for f in a.get("/v1/memory/facts?prefix=x/&after=x/1")["items"]], ["x/2"])
        self.assertEqual([h["id"] for h in a.get("/v1/memory/search?q=fox")["hits"]], ["x/2"])
        self.assertEqual(len(a.get("/v1/memory/facts/x/1?history=1")["items"]), 1)

    def test_views_rebuilt_are_the_same(self):
        self.run_many("steps")
        before = self.a.get("/v1/views/dump")
        after = self.a.post("/v1/views/rebuild", {}, timeout=60)
        self.assertEqual(before, after)

    def test_secrets(self):
        self.assertEqual(self.a.get("/v1/secrets")["items"], [])
        self.a.stop()
        self.a.start(env={"ANTHROPIC_API_KEY": "sk-not-a-real-one"})
        until(lambda: self.a.get("/v1/secrets")["items"], 10)
        s = self.a.get("/v1/secrets")["items"][0]
        self.assertEqual((s["name"], s["host"]), ("anthropic", "api.anthropic.com"))
        environ = pathlib.Path(f"/proc/{self.a.daemon.pid}/environ").read_bytes()
        self.assertNotIn(b"not-a-real-one", environ)
        for path in (self.a.dir / ".aios").rglob("*"):
            if path.is_file():
                self.assertNotIn(b"not-a-real-one", path.read_bytes(), path)
        self.a.ask("DELETE", "/v1/secrets/anthropic")
        self.assertEqual(self.a.get("/v1/secrets")["items"], [])


class Evicted(unittest.TestCase):
    def test_idle_run_leaves_its_worker_and_comes_back(self):
        with Aios(FILES).start(None, "--evict-after", "100") as a:
            a.deploy()
            runs = [a.run("many", {"how": "sleep", "ms": 2500}, wait=0)["run"] for _ in range(3)]
            ask = a.run("many", {"how": "ask"}, wait=0)["run"]
            until(lambda: a.get("/v1/status")["loaded_runs"] == 0, 10, what="an empty worker")
            gate = a.get("/v1/gates")["items"][0]
            a.post(f"/v1/gates/{gate['gate']}/approve", {"shown": gate["shown"]})
            for run in runs + [ask]:
                self.assertEqual(a.get(f"/v1/runs/{run}?wait=30")["state"], "done")
            a.verify()


class Fold(unittest.TestCase):
    def test_snapshot_while_running(self):
        with Aios(FILES).start(None, "--fold-after", "60") as a:
            a.deploy()
            folder = a.dir / ".aios/log"

            def snapshots():
                a.run("many", {"how": "steps"})
                return sorted(folder.glob("snapshot-*"))
            until(snapshots, 30, what="a snapshot")
            a.kill()
            a.start()
            self.assertEqual(a.run("many", {"how": "steps"})["result"], 90)
            a.verify()
            # A snapshot that is damaged is passed over.
            a.kill()
            for path in folder.glob("snapshot-*"):
                data = bytearray(path.read_bytes())
                data[-1] ^= 1
                path.write_bytes(data)
            a.start()
            a.verify()


class FailedSync(unittest.TestCase):
    @unittest.skipUnless("FAILSYNC_LIB" in os.environ, "needs the library that meson builds for it")
    def test_failed_sync(self):
        """What was decided since is discarded, the log is opened again; what was acknowledged is there, and no more."""
        with Aios(FILES) as a:
            fail = a.home / "fail"
            a.start({"LD_PRELOAD": os.environ["FAILSYNC_LIB"], "FAILSYNC": str(fail)})
            a.deploy()
            ask = a.run("many", {"how": "ask"}, wait=0)["run"]
            slow = a.run("many", {"how": "slow", "ms": 1000}, wait=0)["run"]
            until(lambda: a.get("/v1/gates")["items"], 10)
            a.ask("PUT", "/v1/memory/facts/x/1", {"value": 1})
            fail.touch()
            for status in (503, 507, 507):
                with self.assertRaises(Problem) as c:
                    a.ask("PUT", f"/v1/memory/facts/x/{status}", {"value": 1})
                self.assertEqual(c.exception.status, status)
            self.assertEqual(a.get("/v1/memory/facts/x/1")["value"], 1)
            self.assertEqual(a.get("/v1/health")["status"], "degraded")
            fail.unlink()
            until(lambda: a.get("/v1/health")["status"] == "ok", 30)
            self.assertEqual(a.get(f"/v1/runs/{slow}?wait=20")["state"], "done")
            gate = a.get("/v1/gates")["items"][0]
            a.post(f"/v1/gates/{gate['gate']}/approve", {"shown": gate["shown"]})
            self.assertEqual(a.get(f"/v1/runs/{ask}?wait=20")["state"], "done")
            keys = [f["key"] for f in a.get("/v1/memory/facts?prefix=x/")["items"]]
            self.assertIn("x/1", keys)
            self.assertNotIn("x/507", keys)
            a.verify()


class FullDisk(unittest.TestCase):
    """The workspace on a small file system of its own, in a mount namespace of its own."""

    def test_full_disk(self):
        if os.environ.get("AIOS_TEST_INSIDE") != "1":
            env = {**os.environ, "AIOS_TEST_INSIDE": "1"}
            probe = subprocess.run(["unshare", "-Urm", "true"], capture_output=True)
            if probe.returncode:
                self.skipTest("no user namespaces here")
            p = subprocess.run(["unshare", "-Urm", sys.executable, __file__, "FullDisk"], env=env)
            self.assertEqual(p.returncode, 0)
            return
        home = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"aios-full-{os.getpid()}"
        home.mkdir()
        try:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", home], check=True)
            self.inside(home)
        finally:
            subprocess.run(["umount", "-l", home])
            home.rmdir()

    def inside(self, home):
        a = Aios(FILES, home).start()
        try:
            a.deploy()
            run = a.run("many", {"how": "ask"}, wait=0)["run"]
            until(lambda: a.get("/v1/gates")["items"], 10)
            ballast = home / "ballast"
            ballast.write_bytes(b"x" * (os.statvfs(home).f_bavail * os.statvfs(home).f_bsize - 300000))
            written, refused = 0, None
            while refused is None and written < 2000:
                try:
                    a.ask("PUT", f"/v1/memory/facts/n/{written}", {"value": "y" * 20000})
                    written += 1
                except Problem as p:
                    refused = p
            self.assertIsNotNone(refused)
            self.assertEqual(refused.status, 507, refused.body)
            # Reads go on, and what was acknowledged is there.
            facts = a.get("/v1/memory/facts?prefix=n/&limit=1000")["items"]
            self.assertEqual(len(facts), written)
            self.assertEqual(a.ask("GET", "/v1/health")["status"], "degraded")
            ballast.unlink()
            until(lambda: a.ask("GET", "/v1/health")["status"] == "ok", 20)
            a.ask("PUT", "/v1/memory/facts/n/after", {"value": 1})
            gate = a.get("/v1/gates")["items"][0]
            a.post(f"/v1/gates/{gate['gate']}/approve", {"shown": gate["shown"]})
            self.assertEqual(a.get(f"/v1/runs/{run}?wait=20")["state"], "done")
            a.verify()
        finally:
            a.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
