// The pure parts of the newsletter example, on its own files.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { pathToFileURL } from "node:url";

const root = process.argv[2];
const load = (name) => import(pathToFileURL(`${root}/lib/${name}.js`));
const read = (name) => readFileSync(`${root}/files/${name}`, "utf8");

const { parseCsv } = await load("csv");
const { assemble, tidy } = await load("draft");
const { choose, chooseNews, outline, parseNote } = await load("notes");
const { evaluate, order, pairwise, train } = await load("subjects");
const { figures, links, sentences, words } = await load("text");

// csv
assert.deepEqual(parseCsv('a,b\n1,"x, ""y"""\r\n,\n'), [{ a: "1", b: 'x, "y"' }, { a: "", b: "" }]);
assert.throws(() => parseCsv('a,b\n1\n'), /line 2/);
assert.throws(() => parseCsv('a\n"x\n'), /does not end/);

// text
assert.deepEqual(sentences("One is 2.1 kg, e.g. this. Two? Three (yes).\n\nFour at -11 °C"),
  ["One is 2.1 kg, e.g. this.", "Two?", "Three (yes).", "Four at -11 °C"]);
assert.deepEqual(figures("1,150 mg and 2.1 kg of 12, see https://x.example/77"), ["1,150", "2.1", "12"]);
assert.deepEqual(links("see https://a.example/b, and <https://c.example/d>."), ["https://a.example/b", "https://c.example/d"]);
assert.deepEqual(words("The crêpes of 2.5 kg"), ["crêpes", "2.5", "kg"]);

// the operator's files
const readers = parseCsv(read("readers.csv"));
assert.equal(readers.length, 200);
assert.equal(new Set(readers.map((r) => r.id)).size, 200);
assert.equal(new Set(readers.map((r) => r.email)).size, 200);
assert.equal(new Set(readers.map((r) => r.segment)).size, 3);
const notes = readdirSync(`${root}/files/notes`).sort().map((f) => parseNote(`notes/${f}`, read(`notes/${f}`)));
assert.ok(notes.length >= 12);
for (const n of notes) {
  assert.ok(n.hooks.length >= 2 && n.links.length >= 1 && n.crop && n.title !== n.id, n.id);
  assert.ok(n.text.split(/\s+/).length >= 240, n.id);
}

// choosing: topical and fresh notes first, none that was used, one a crop
const hit = notes[0].id;
const plan = outline(choose(notes, { [hit]: 5 }, [], 3));
assert.ok(plan.some((s) => s.note === hit));
assert.ok(!choose(notes, { [hit]: 5 }, [hit], 3).some((c) => c.note.id === hit));
assert.equal(new Set(choose(notes, {}, [], 5).map((c) => c.note.crop)).size, 5);
assert.equal(chooseNews([{ title: "x", summary: "garlic", published_ms: 1 }, { title: "y", summary: "", published_ms: 2 }],
  choose(notes.filter((n) => n.crop === "garlic"), {}, [], 1), 1)[0].title, "x");

// subjects: on the issues that it has not seen, the learned order beats a random one
const history = parseCsv(read("history.csv")).map((r) => ({ ...r, sends: Number(r.sends), opens: Number(r.opens) }));
assert.ok(history.length >= 60);
let seed = 1;
const random = () => ((seed = (seed * 16807) % 2147483647) - 1) / 2147483646;
const test = evaluate(history, random);
console.log(`learned ${test.learned.toFixed(3)}, random ${test.random.toFixed(3)} on ${test.held} held-out issues`);
assert.ok(test.learned > 0.65 && test.learned > test.random + 0.1);
assert.equal(pairwise([{ sends: 10, opens: 5 }, { sends: 10, opens: 1 }], (r) => r.opens), 1);
const ranked = order(train(history), ["Notes", "Some thoughts, long ones, on nothing in particular but the passing of time here", "12 kg of beans"]);
assert.equal(ranked[0].subject, "12 kg of beans");
assert.equal(ranked.length, 2);

// the draft: prose of the notes stays as it is, what a model adds around it goes, news are shown with their addresses
const prose = sentences(notes[3].text).slice(0, 6);
const body = tidy(`## Heading\n\n- ${prose.slice(0, 3).join(" ")}\n\n${prose.slice(3).join(" ")}\nMore at https://a.example/\n\n---\nNo end`);
assert.deepEqual(sentences(body), prose);
const letter = assemble("7", [{ heading: "Beans [up]", body, links: notes[3].links }],
  [{ title: "A *star*", link: "https://n.example/1", summary: "First. Second." }]);
assert.match(letter, /^# Forty Square Metres, issue 7\n/);
assert.match(letter, /- \[A \\\*star\\\*\]\(https:\/\/n\.example\/1\): First\.\n/);
assert.deepEqual(links(letter), [...notes[3].links, "https://n.example/1"]);
