#!/usr/bin/env python3
"""The newsletter against the outside: mail through an SMTP server that is not ours, with a login from the vault; drafts
from stand-ins for the Anthropic and the OpenAI API, whose keys come from the vault and from the environment."""
import base64
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = ROOT / "build/deps-npm"
STANDINS = ROOT / "tests/standins"
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("run", str(ROOT / "tools/run"))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)


class Process:
    """A stand-in: it says its port on the first line and ends when its stdin does."""

    def __init__(self, *args):
        self.p = subprocess.Popen([*map(str, args), "--while-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.p.stdout.readline())["port"]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.p.stdin.close()
        self.p.wait(10)


class Smtp(run.Workspace):
    """A workspace whose mails are what the server took."""

    def mails(self):
        log = self.path.parent / "smtp.jsonl"
        taken = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        out = []
        for n, entry in enumerate(taken):
            message = run.parse(f"mail {n}", entry["data"].encode("latin-1"))
            if entry["to"] != [run.address(message)] or entry["from"] != "ada@example.org":
                raise run.Failed(f"the envelope is not the letter's: {entry['from']} {entry['to']}")
            out.append(message)
        return out


def smtp_server():
    """The npm package smtp-server; None where it cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    if not (MODULES / "node_modules/smtp-server").exists():
        MODULES.mkdir(parents=True, exist_ok=True)
        p = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", MODULES, "smtp-server@3"],
                           capture_output=True, text=True)
        if p.returncode:
            print(f"skipped: npm cannot install smtp-server: {p.stderr.strip()[:200]}")
            return None
    return STANDINS / "smtp.mjs"


def config(ws, mail, provider, model):
    """The example's configuration with another transport and provider."""
    text = (ROOT / "examples/newsletter/aios.yaml").read_text()
    head, rest = text.split("mail:", 1)
    models = f"""models:
  providers:
    {provider}
  tiers:
    draft: [{model}, local/extract]
    quality: [{model}, local/extract]
  prices:
    {model}: {{ input: 3 USD, output: 15 USD, cache_read: 0.30 USD, cache_write: 3.75 USD }}
"""
    text = head + mail + models + rest[rest.index("budgets:"):]
    shutil.copytree(ROOT / "examples/newsletter", ws.path)
    (ws.path / "aios.yaml").write_text(text)


def secret(ws, name, host, value):
    p = subprocess.run([run.BIN / "aios", "secrets", "set", name, "--host", host], cwd=ws.path, input=value, text=True,
                       capture_output=True)
    if p.returncode:
        raise run.Failed(f"aios secrets set: {p.stderr}")


def need(condition, why):
    if not condition:
        raise run.Failed(why)


def no_secret_on_disk(ws, *values):
    for path in (ws.path / ".aios").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for v in values:
                need(v.encode() not in data and base64.b64encode(v.encode()) not in data, f"a secret stands in {path}")


def issue(ws, prepare=lambda ws: None):
    """One issue from start to end, as tools/run does it; the ended run."""
    ws.aios("up", "--port", "0")
    ws.aios("deploy")
    prepare(ws)
    number = ws.aios("run", "newsletter", "--detach", "--input", json.dumps({"issue": "24", "wait": "2s"}))["run"]
    gate = run.until(lambda: run.open_gate(ws, number), 120)
    need(gate, "no gate")
    ws.aios("approve", str(gate["gate"]), "--reason", "fine")
    end = run.until(lambda: run.ended(ws, number), 300)
    need(end and end["state"] == "done", f"the run did not end well: {json.dumps(end and end['value'])}")
    readers = [{"email": line.split(",")[1]} for line in (ws.path / "files/readers.csv").read_text().splitlines()[1:]]
    mails, duplicates = run.check_mails(ws, readers)
    need((mails, duplicates) == (200, 0), f"{mails} mails, {duplicates} of them twice")
    need(ws.aios("log", "verify", "--replay")["ok"], "the log does not verify")
    return end


def used_tools(ws, end, log, api, key):
    """The agent asked the model, searched the memory, asked again; all of it was paid for."""
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    need(asked and all(a["api"] == api and a["status"] == 200 for a in asked), f"not what {api} was asked: {asked[:2]}")
    agent = ws.aios("show", str(end["children"][0]["run"]))
    actions = [s["action"] for s in agent["steps"]]
    need(actions == ["model.generate", "memory.search", "model.generate"], f"the agent's steps: {actions}")
    costs = ws.aios("costs", "--by", "model")
    need(costs["total"] > 0 and any(api in c["key"] for c in costs["items"]), f"costs: {costs}")
    no_secret_on_disk(ws, *key)


def anthropic_and_smtp(folder):
    server = smtp_server()
    if not server:
        print("anthropic_and_smtp: skipped (needs node and the npm package smtp-server)")
        return
    ws = Smtp(folder / "ws")
    log = folder / "llm.jsonl"
    with Process("node", server, "--modules", MODULES, "--log", folder / "smtp.jsonl", "--auth", "ada:mail-pass-81") as smtp, \
            Process(sys.executable, STANDINS / "llm.py", "--key", "key-anthropic-17", "--log", log) as llm:
        config(ws, f"""mail:
  from: "Ada Veldkamp <ada@example.org>"
  transport: smtp
  smtp: {{ url: "smtp://127.0.0.1:{smtp.port}", user: ada, secret: smtp, tls: none }}
""", f'anthropic: {{ api: anthropic, url: "http://127.0.0.1:{llm.port}", secret: anthropic }}', "anthropic/claude-stand-in")

        def secrets(ws):
            secret(ws, "smtp", "127.0.0.1", "mail-pass-81")
            secret(ws, "anthropic", "127.0.0.1", "key-anthropic-17")
        try:
            used_tools(ws, issue(ws, secrets), log, "anthropic", ["key-anthropic-17", "mail-pass-81"])
        finally:
            ws.aios("down", check=False)
    print("anthropic_and_smtp: ok")


def openai(folder):
    ws = run.Workspace(folder / "ws")
    log = folder / "llm.jsonl"
    with Process(sys.executable, STANDINS / "llm.py", "--key", "key-openai-18", "--log", log) as llm:
        config(ws, """mail:
  from: "Ada Veldkamp <ada@example.org>"
  transport: maildir
  maildir: files/outbox
""", f'openai: {{ api: openai, url: "http://127.0.0.1:{llm.port}/v1", secret: openai }}', "openai/gpt-stand-in")

        def secrets(ws):
            adopted = run.until(lambda: ws.aios("secrets", "list")["items"], 10)
            need(adopted and (adopted[0]["name"], adopted[0]["host"]) == ("openai", "api.openai.com"),
                 f"the key in the environment was not taken into the vault: {adopted}")
            secret(ws, "openai", "127.0.0.1", "key-openai-18")
        os.environ["OPENAI_API_KEY"] = "key-environment-19"
        try:
            used_tools(ws, issue(ws, secrets), log, "openai", ["key-openai-18", "key-environment-19"])
        finally:
            del os.environ["OPENAI_API_KEY"]
            ws.aios("down", check=False)
    print("openai: ok")


def main():
    for part in (anthropic_and_smtp, openai):
        with tempfile.TemporaryDirectory(prefix="aios-e2e-") as folder:
            try:
                part(pathlib.Path(folder))
            except run.Failed as e:
                daemon = pathlib.Path(folder) / "ws/.aios/run/aiosd.log"
                print(f"FAIL: {part.__name__}: {e}\n{daemon.read_text()[-2000:] if daemon.exists() else ''}")
                return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
