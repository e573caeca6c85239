"""What tests and tools use to drive a real aiosd: a workspace, its API over the unix socket, its processes."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("AIOS_BIN", ROOT / "build"))


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Problem(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


def until(condition, seconds, step=0.05, what="the condition"):
    """What `condition` returns once it is true; an error after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true within {seconds} s")
        time.sleep(step)


class Aios:
    """One workspace and the aiosd that holds it. Use as a context manager."""

    def __init__(self, files, home=None):
        self.home = pathlib.Path(home or tempfile.mkdtemp(prefix="aios-test-"))
        self.dir = self.home / "w"
        self.daemon = None
        self.bin = BIN  # where aiosd and its processes are
        for name, text in files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
        if exc[0] is not None:
            sys.stderr.write(self.log()[-6000:])
        shutil.rmtree(self.home, ignore_errors=True)

    # --- the daemon

    def start(self, env=None, *args):
        self.spawn(env, *args)
        until(self.answers, 20, what="aiosd's first answer")
        return self

    def spawn(self, env=None, *args):
        """Does not wait until it answers."""
        log = open(self.home / "aiosd.log", "ab")
        self.daemon = subprocess.Popen([self.bin / "aiosd", "--workspace", self.dir, "--port", "0", *args], stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL,
                                       env={**os.environ, "XDG_STATE_HOME": str(self.home / "state"), **(env or {})})
        log.close()

    def answers(self):
        if self.daemon.poll() is not None:
            raise RuntimeError(f"aiosd ended with {self.daemon.returncode}: {self.log()[-2000:]}")
        try:
            return self.get("/v1/health")["status"] == "ok"
        except (OSError, Problem, http.client.HTTPException):
            return False

    def stop(self, sig=signal.SIGTERM):
        if self.daemon is None:
            return 0
        if self.daemon.poll() is None:
            self.daemon.send_signal(sig)
        code = self.daemon.wait(20)
        self.daemon = None
        return code

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def log(self):
        path = self.home / "aiosd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def pids(self):
        """{"aios-flow 1": pid, …}"""
        return {p["process"]: p["pid"] for p in self.get("/v1/status")["processes"] if p["pid"]}

    @property
    def port(self):
        return json.loads((self.dir / ".aios/run/door.json").read_text())["port"]

    # --- the API

    def ask(self, method, path, body=None, headers=None, timeout=30):
        c = Unix(str(self.dir / ".aios/run/door.sock"), timeout)
        try:
            head = dict(headers or {})
            data = None
            if body is not None:
                data = body if isinstance(body, (bytes, str)) else json.dumps(body)
                head.setdefault("Content-Type", "application/json")
            c.request(method, path, data, head)
            r = c.getresponse()
            text = r.read().decode()
        finally:
            c.close()
        value = json.loads(text) if text and "json" in r.getheader("Content-Type", "") else text
        if r.status >= 400:
            raise Problem(r.status, value)
        return value

    def get(self, path, **kw):
        return self.ask("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.ask("POST", path, {} if body is None else body, **kw)

    def deploy(self):
        files = {}
        for pattern in ("aios.yaml", "policy.yaml", "flows/*.js", "lib/**/*.js", "agents/*.md"):
            for path in sorted(self.dir.glob(pattern)):
                files[str(path.relative_to(self.dir))] = path.read_text()
        return self.post("/v1/deploy", {"files": files})

    def run(self, flow, value=None, wait=30, **kw):
        return self.post(f"/v1/flows/{flow}/runs?wait={wait}", {"input": {} if value is None else value}, timeout=wait + 10, **kw)

    def events(self):
        out, after = [], 0
        while True:
            page = self.get(f"/v1/events?after={after}&limit=1000")
            out += page["items"]
            if page["last"] >= page["durable"] or not page["items"]:
                return out
            after = page["last"]

    def verify(self):
        r = self.post("/v1/log/verify", {"replay": True}, timeout=120)
        assert r["ok"], r
        return r

    def cli(self, *args, check=True, **kw):
        p = subprocess.run([BIN / "aios", "-C", self.dir, *args], text=True, capture_output=True, **kw)
        if check and p.returncode:
            raise RuntimeError(f"aios {' '.join(map(str, args))}: {p.returncode}: {p.stderr}{p.stdout}")
        return p


class Ledger:
    """The judge: a process of its own that counts what really happened (tests/standins/ledger.py)."""

    def __init__(self, path):
        self.proc = subprocess.Popen([sys.executable, ROOT / "tests/standins/ledger.py", "--file", path, "--while-stdin"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.proc.stdout.readline())["port"]

    def entries(self, key=None):
        """What happened: all of it, or under one key."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        c.request("GET", "/entries" if key is None else f"/entries?key={urllib.parse.quote(key)}")
        out = json.loads(c.getresponse().read())
        c.close()
        return out

    def stop(self):
        self.proc.stdin.close()
        self.proc.wait(10)
