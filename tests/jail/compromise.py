#!/usr/bin/env python3
"""What somebody reaches who has taken over a process of aios: each attempt is made from inside the jail of each real
executable (builds with -Dattack=true carry the routine, src/jail/attack.c), beside a running aiosd with a workspace, and the
answers are the table in docs/security.md, cell by cell. What such a process may say to aiosd is tests/e2e/attack.py.

usage: compromise.py BUILD [--print]      --print: the table as it was found
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.dont_write_bytecode = True
os.environ.setdefault("AIOS_BIN", sys.argv[1])
from aios import Aios  # noqa: E402

# Column of the table: executable, and the folder that aiosd names as its argument.
PROCESSES = {
    "flow": ("aios-flow", None), "parse": ("aios-parse", None), "fold": ("aios-fold", None), "pass": ("aios-pass", None),
    "views": ("aios-views", ".aios/views"), "connect": ("aios-connect", "files"), "vault": ("aios-vault", ".aios/vault"),
    "door": ("aios-door", "network"), "operator's door": ("aios-door", "local"),
}

# What an ordinary user may not do without a jail either, on machines that are set up well.
PRIVILEGED = {"trace aiosd or read its memory", "read aiosd's environment", "mount a file system", "use the kernel's keyring"}


def attempts(aios, tcp, udp):
    """(row of the table, what is tried): the row is yes if one of its attempts gets through."""
    state, pid = aios.dir / ".aios", aios.daemon.pid
    log, views = (min((state / f).glob("*.db"), key=lambda p: len(p.name)) for f in ("log", "views"))
    return [
        ("read the log", f"read {log}"),
        ("change the log", f"write {log}"),
        ("read the vault's key and file", f"read {state}/vault/key"),
        ("read the vault's key and file", f"read {state}/vault/secrets"),
        ("change the vault's file", f"write {state}/vault/secrets"),
        ("read or change the views' tables", f"read {views}"),
        ("read or change the views' tables", f"write {state}/views/new"),
        ("read or change `files/`", f"read {aios.dir}/files/note.txt"),
        ("read or change `files/`", f"write {aios.dir}/files/new.txt"),
        ("read the operator's sources", f"read {aios.dir}/policy.yaml"),
        ("change the operator's sources", f"write {aios.dir}/policy.yaml"),
        ("list the workspace", f"list {aios.dir}"),
        ("read `/etc/passwd`", "read /etc/passwd"),
        ("write a file in `/tmp`", "write /tmp/aios-attack"),
        ("connect by TCP", f"tcp {tcp}"),
        ("send by UDP", f"udp {udp}"),
        ("listen on a port", "listen"),
        ("connect to the operator's socket", f"unix {state}/run/door.sock"),
        ("run a program", "exec /bin/true"),
        ("make a process", "fork"),
        ("signal aiosd", f"signal {pid}"),
        ("trace aiosd or read its memory", f"trace {pid}"),
        ("trace aiosd or read its memory", f"memory {pid}"),
        ("trace aiosd or read its memory", f"read /proc/{pid}/mem"),
        ("read aiosd's environment", f"read /proc/{pid}/environ"),
        ("mount a file system", "mount"),
        ("use the kernel's keyring", "keyring"),
        ("make memory that it writes executable", "code"),
    ]


def attempt(folder, exe, argument, what, listener):
    """What comes of one attempt in one life of the process: True if it was let through."""
    (folder / "attack.conf").write_text(what + "\n")
    ours, theirs = socket.socketpair()

    def descriptors():
        moved, second = os.dup2(theirs.fileno(), 70), os.dup2(listener.fileno(), 71)
        os.dup2(moved, 3)
        os.dup2(second, 4)

    done = subprocess.run([folder / exe, *([argument] if argument else [])], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, preexec_fn=descriptors, close_fds=False, timeout=20, env={"TZ": "UTC"})
    ours.close()
    theirs.close()
    said = done.stderr.decode()
    if "attack: begun" not in said:
        sys.exit(f"{exe}: {what}: was never tried: code {done.returncode}, {said[-300:]}")
    if what.startswith("exec "):
        return done.returncode == 0 and "refused" not in said
    return "attack: reached" in said


def fault_45_sandbox_escape(build, aios):
    """{row: {column: yes or no}} as it is, and the attempts that fail even where there is no jail."""
    table = {}
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp.bind(("127.0.0.1", 0))
    tcp.listen(64)
    udp.bind(("127.0.0.1", 0))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="aios-attack-"))
    plan = attempts(aios, tcp.getsockname()[1], udp.getsockname()[1])
    for column, (exe, argument) in PROCESSES.items():
        if not (build / exe).exists():
            continue
        shutil.copy2(build / exe, folder / exe)
        if argument and argument not in ("network", "local"):
            argument = aios.dir / argument
        for row, what in plan:
            through = attempt(folder, exe, argument, what, tcp)
            cells = table.setdefault(row, {})
            cells[column] = "yes" if through or cells.get(column) == "yes" else "no"
    shutil.copy2(build / "tests/jail/free", folder / "free")
    weak = [what for row, what in plan if row not in PRIVILEGED and not attempt(folder, "free", None, what, tcp)]
    shutil.rmtree(folder)
    return table, weak


def promised():
    """The same from docs/security.md: the table whose first head is "can it"."""
    table, heads = {}, None
    for line in (ROOT / "docs/security.md").read_text().splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if line.startswith("| can it"):
            heads = cells[1:]
        elif heads and not line.startswith("|"):
            break
        elif heads and not re.match(r"\|[ -]*-", line):
            table[cells[0]] = {h: c.strip("*") for h, c in zip(heads, cells[1:])}
    return table


def show(table):
    columns = list(next(iter(table.values())))
    print("| can it | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row, cells in table.items():
        print(f"| {row} | " + " | ".join("**yes**" if cells[c] == "yes" else "no" for c in columns) + " |")


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    files = {"aios.yaml": "name: compromise\n", "policy.yaml": "rules: []\n", "files/note.txt": "a note\n",
             "flows/one.js": 'import { flow } from "aios";\nexport default flow({ name: "one" }, async () => 1);'}
    with Aios(files) as aios:
        aios.start()
        aios.deploy()
        aios.run("one", wait=20)
        table, weak = fault_45_sandbox_escape(build, aios)
        assert aios.get("/v1/health")["status"] == "ok"
        assert aios.stop() == 0
    if "--print" in sys.argv:
        show(table)
        return
    want, wrong = promised(), [f"nothing is shown by: {what}: it fails without a jail too" for what in weak]
    for row in {**table, **want}:
        for column in {**table.get(row, {}), **want.get(row, {})}:
            is_so, said = table.get(row, {}).get(column, "not tried"), want.get(row, {}).get(column, "nothing")
            if is_so != said:
                wrong.append(f"{column}: {row}: docs/security.md says {said}, it is {is_so}")
    for line in wrong:
        print(line)
    cells = sum(len(c) for c in table.values())
    print(f"{cells} cells, {len(wrong)} differ")
    sys.exit(1 if wrong or cells < 200 else 0)


if __name__ == "__main__":
    main()
