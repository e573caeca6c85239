#!/usr/bin/env python3
"""Schedules with a real aiosd: intervals and one-shots start runs; a due time over which aiosd was down is made up for, or
not, as declared; overlap; pause over a deploy and a restart; the next ten firings in the zone's own time; other rules of a
zone count from the next start on; a broken schedule refuses the deploy."""
import json
import pathlib
import sys
import time
from datetime import datetime, timedelta, timezone

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import ROOT, Aios, Problem, until  # noqa: E402

FLOW = """import { flow } from "aios";
export default flow({ name: "NAME", on: ON }, async (ctx, input) => BODY);
"""


def write(aios, name, on, body="({ input, run: ctx.run.id })"):
    (aios.dir / f"flows/{name}.js").write_text(FLOW.replace("NAME", name).replace("ON", json.dumps(on)).replace("BODY", body))


def runs(aios, flow):
    return aios.get(f"/v1/runs?flow={flow}&limit=100")["items"]


def fired(aios, name):
    return [e for e in aios.events() if e["type"] == "schedule.fired" and e["name"] == name]


def one(aios, name):
    return aios.get(f"/v1/schedules/{name.replace('/', '%2F')}")


def intervals(aios):
    write(aios, "tick", [{"every": "1s", "input": {"who": "me"}}])
    changed = aios.deploy()["changed"]
    assert {"what": "schedule", "name": "tick/0"} in changed, changed
    got = until(lambda: len(runs(aios, "tick")) >= 3 and runs(aios, "tick"), 30, what="three firings")
    assert "by operator through schedule/tick/0" in aios.cli("show", str(got[-1]["run"])).stdout
    assert [r["run"] for r in aios.get(f"/v1/runs?key={got[-1]['start_key']}")["items"]] == [got[-1]["run"]]
    dues = []
    for r in sorted(got, key=lambda r: r["run"]):
        end = aios.get(f"/v1/runs/{r['run']}?wait=20", timeout=30)
        assert end["state"] == "done" and end["value"]["input"]["who"] == "me", end
        about = end["value"]["input"]["schedule"]
        assert about["name"] == "tick/0", about
        dues.append(about["due"])
    assert all((b - a) % 1000 == 0 and b > a for a, b in zip(dues, dues[1:])), dues
    assert len(set(dues)) == len(dues)
    s = one(aios, "tick/0")
    assert len(s["firings"]) == 10 and all(b["at_ms"] - a["at_ms"] == 1000 for a, b in zip(s["firings"], s["firings"][1:]))
    write(aios, "tick", [])
    assert {"what": "schedule removed", "name": "tick/0"} in aios.deploy()["changed"]
    try:
        one(aios, "tick/0")
        raise AssertionError("it is still there")
    except Problem as p:
        assert p.status == 404


def missed(aios):
    """Down over several due times of each."""
    every = {"every": "2s", "overlap": "allow"}
    at = (datetime.now(timezone.utc) + timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, more in (("last", {"catchUp": "last"}), ("all", {"catchUp": "all", "catchUpMax": 3}), ("once", None)):
        write(aios, name, [{"at": at} if more is None else {**every, **more}])
    aios.deploy()
    first = one(aios, "last/0")["next_ms"]
    until(lambda: runs(aios, "last"), 20, what="a firing")
    aios.kill()
    before = time.time()
    time.sleep(11)
    aios.start()
    until(lambda: any(f["missed"] >= 4 for f in fired(aios, "last/0")), 20, what="the last due time")
    caught = until(lambda: [f for f in fired(aios, "all/0") if f["missed"]], 20, what="a firing that tells of missed ones")
    assert caught[0]["missed"] >= 1, caught
    after = [f for f in fired(aios, "all/0") if f["due_ms"] >= caught[0]["due_ms"]]
    assert len(after) >= 3 and after[1]["due_ms"] - after[0]["due_ms"] == 2000, after
    for name in ("last/0", "all/0"):
        dues = [f["due_ms"] for f in fired(aios, name)]
        assert len(set(dues)) == len(dues) and all((d - dues[0]) % 2000 == 0 for d in dues), dues
        counted = sum(f["missed"] for f in fired(aios, name)) + len(dues)
        assert counted == (dues[-1] - dues[0]) // 2000 + 1, (name, counted, dues)
    assert len(runs(aios, "once")) == 1 and before < time.time()
    assert one(aios, "once/0")["state"] == "over"
    assert first < before * 1000 + 20000
    for name in ("last", "all", "once"):
        write(aios, name, [])
    aios.deploy()


def overlap(aios):
    write(aios, "slow", [{"every": "1s", "overlap": "skip"}], 'await ctx.signal("go")')
    aios.deploy()
    until(lambda: len(fired(aios, "slow/0")) >= 3, 30, what="three firings")
    got = fired(aios, "slow/0")
    assert got[0]["run"] and not got[1]["run"] and got[1]["why"].startswith("overlap: run "), got
    assert one(aios, "slow/0")["last_outcome"] == "open"
    aios.post(f"/v1/runs/{got[0]['run']}/signals/go", None)
    until(lambda: len([f for f in fired(aios, "slow/0") if f["run"]]) >= 2, 20, what="the next run")
    paused = aios.cli("schedules", "pause", "slow/0").stdout
    assert "paused" in paused
    n = len(fired(aios, "slow/0"))
    write(aios, "slow", [{"every": "1s", "overlap": "allow"}], 'await ctx.signal("go")')
    aios.deploy()
    aios.stop()
    aios.start()
    assert one(aios, "slow/0")["state"] == "paused", "a deploy and a restart keep the pause"
    time.sleep(2.5)
    assert len(fired(aios, "slow/0")) == n
    aios.cli("schedules", "resume", "slow/0")
    until(lambda: len(fired(aios, "slow/0")) >= n + 2, 20, what="firings after the pause")
    assert all(f["missed"] == 0 for f in fired(aios, "slow/0")[n:])
    write(aios, "slow", [])
    aios.deploy()
    for r in runs(aios, "slow"):
        if r["state"] not in ("done", "failed", "cancelled"):
            aios.post(f"/v1/runs/{r['run']}/cancel")


def zones(aios):
    write(aios, "weekly", [{"cron": "30 2 * * *", "tz": "Europe/Amsterdam", "quiet": "22:00-07:00"}, {"cron": "0 9 L * *"},
                           {"cron": "0 7 * * MON", "tz": "America/New_York"}])
    aios.deploy()
    local = [f["local"] for f in one(aios, "weekly/0")["firings"]]
    assert all(t[11:19] == "07:00:00" and t[19:] in ("+01:00", "+02:00") for t in local), local
    listed = json.loads(aios.cli("schedules", "--json").stdout)["items"]
    assert [s["name"] for s in listed] == ["weekly/0", "weekly/1", "weekly/2"], listed
    shown = aios.cli("schedules").stdout
    assert "30 2 * * *, Europe/Amsterdam" in shown and "weekly/2" in shown, shown
    shown = aios.cli("schedules", "weekly/2").stdout
    assert shown.count("T07:00:00-0") == 10, shown
    for on, why in (({"cron": "0 25 * * *"}, "the hour"), ({"cron": "0 7 * * *", "tz": "Europe/Atlantis"}, "knows no time zone"),
                    ({"cron": "0 0 30 2 *"}, "ever comes"), ({"every": "1h", "tz": "../../../etc/passwd"}, "name of a time zone")):
        write(aios, "weekly", [on])
        try:
            aios.deploy()
            raise AssertionError(f"{on} was taken")
        except Problem as p:
            assert p.status == 422 and why in p.body["detail"], p.body
    assert len(aios.get("/v1/schedules")["items"]) == 3, "nothing was deployed"
    (aios.dir / "flows/gone.js").write_text(FLOW.replace("NAME", "gone").replace("ON", '[{ every: "1h" }, { event: "a.*" }]').replace("BODY", "1"))
    write(aios, "weekly", [{"cron": "30 2 * * *", "tz": "Europe/Amsterdam", "quiet": "22:00-07:00"}, {"cron": "0 9 L * *"},
                           {"cron": "0 7 * * MON", "tz": "America/New_York"}])
    aios.cli("deploy")
    assert [s["when"] for s in aios.get("/v1/schedules")["items"] if s["flow"] == "gone"] == ["every 1h", "event a.*"]
    aios.cli("schedules", "pause", "gone/1")
    assert aios.post("/v1/events/a.b", {})["started"] == []
    aios.cli("schedules", "resume", "gone/1")
    assert len(aios.post("/v1/events/a.b", {})["started"]) == 1
    (aios.dir / "flows/gone.js").unlink()
    assert "schedule removed" in aios.cli("deploy").stdout
    assert aios.post("/v1/events/a.b", {})["started"] == []
    assert len(aios.get("/v1/schedules")["items"]) == 3
    next_ms = one(aios, "weekly/0")["next_ms"]
    other = aios.home / "zones"
    (other / "Europe").mkdir(parents=True)
    (other / "Europe/Amsterdam").write_bytes((ROOT / "tests/core/zones/Pacific/Apia").read_bytes())
    aios.stop()
    aios.start({"TZDIR": str(other)})
    assert one(aios, "weekly/0")["next_ms"] != next_ms, "other rules: another time"
    assert one(aios, "weekly/0")["next"].endswith("+13:00"), one(aios, "weekly/0")
    assert one(aios, "weekly/2")["next"][19:] in ("-05:00", "-04:00"), "what this machine no longer has, the log still has"


def main():
    with Aios({"aios.yaml": "name: schedules\n", "policy.yaml": "rules: []\n"}) as aios:
        (aios.dir / "flows").mkdir()
        aios.start()
        for part in (intervals, missed, overlap, zones):
            part(aios)
            print(f"{part.__name__}: ok", flush=True)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


if __name__ == "__main__":
    main()
