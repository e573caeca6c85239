// One issue of the letter: from notes and news to 200 mails that the operator has seen.
import { flow } from "aios";
import { parseCsv } from "../lib/csv.js";
import { assemble, tidy } from "../lib/draft.js";
import { choose, chooseNews, outline, parseNote } from "../lib/notes.js";
import { evaluate, order, train } from "../lib/subjects.js";
import { figures } from "../lib/text.js";

const LENGTH = { min: 280, max: 1400 };
const SECTIONS = 3;
const AT_ONCE = 4; // readers in work at a time: so few that a reader is read again right before the mail leaves

/** Notes become documents that search finds; returns them parsed. */
async function readNotes(ctx) {
  const { items } = await ctx.call("file.list", { path: "notes" });
  const notes = [];
  for (const { name } of items.filter((f) => f.name.endsWith(".md"))) {
    const path = `notes/${name}`;
    const { text } = await ctx.call("file.read", { path });
    const note = parseNote(path, text);
    await ctx.memory.document(note.id, `${note.title}\n\n${note.text}`, { title: note.title, date: note.date });
    notes.push(note);
  }
  return notes;
}

async function readNews(ctx) {
  const feed = await ctx.call("feed.read", { file: "feed.xml" });
  for (const item of feed.items)
    await ctx.memory.document(`news/${item.id}`, `${item.title}\n\n${item.summary}`, { title: item.title, link: item.link });
  return feed.items;
}

/** Readers of the file become facts; what is known of a reader already, above all that they unsubscribed, stays. */
async function readReaders(ctx) {
  const rows = parseCsv((await ctx.call("file.read", { path: "readers.csv" })).text);
  const known = new Map((await ctx.memory.entries("readers/")).map((f) => [f.key, f]));
  for (const { id, email, name, segment } of rows) {
    const old = known.get(`readers/${id}`);
    const value = { ...(old ? old.value : { unsubscribed: false }), id, email, name, segment };
    if (!old || JSON.stringify(old.value) !== JSON.stringify({ ...old.value, email, name, segment }))
      await ctx.memory.put(`readers/${id}`, value, { base: old ? old.version : 0, source: "readers.csv" });
  }
  return rows.map((r) => r.id);
}

/** The voice profile: all of it into memory, its first paragraph for the writer. */
async function readVoice(ctx) {
  const { text } = await ctx.call("file.read", { path: "voice.md" });
  const brief = text.split(/\n\s*\n/).find((p) => !p.startsWith("#")).replace(/\s+/g, " ").trim();
  await ctx.memory.put("voice/main", { brief, text }, { source: "voice.md" });
  return brief;
}

/** What the news is about decides which notes are of interest now. */
async function choosePlan(ctx, notes, news, issue) {
  const hits = {};
  for (const item of news.slice(0, 6)) {
    for (const hit of await ctx.memory.search(`${item.title} ${item.summary}`, { prefix: "notes/", limit: 3 }))
      hits[hit.id] = (hits[hit.id] || 0) + hit.score;
  }
  const told = (await ctx.memory.entries("issues/")).filter((f) => f.key !== `issues/${issue}`);
  const used = told.flatMap((f) => f.value.notes || []);
  const chosen = choose(notes, hits, notes.length - used.length >= SECTIONS ? used : [], SECTIONS);
  return { chosen, plan: outline(chosen), about: chooseNews(news, chosen, 3) };
}

/** One section, written by the agent from one note. */
async function draftSection(ctx, section, note, voice) {
  const { text } = await ctx.agent("writer", {
    task: `Write ${section.sentences} sentences for the section "${section.heading}", from the note below.`,
    note: note.text, voice,
  });
  return { heading: section.heading, body: tidy(text), links: note.links };
}

/** Candidates from the notes and from the model, ordered by what past results taught. */
async function proposeSubjects(ctx, chosen, markdown) {
  const history = parseCsv((await ctx.call("file.read", { path: "history.csv" })).text)
    .map((r) => ({ ...r, sends: Number(r.sends), opens: Number(r.opens) }));
  const test = evaluate(history, () => ctx.random());
  const percent = (x) => `${(x * 100).toFixed(1)} %`;
  await ctx.log(`subjects: on ${test.held} held-out issues the learned order is right for ${percent(test.learned)} of pairs, `
    + `a random one for ${percent(test.random)}`);
  const asked = await ctx.model({
    tier: "quality", max_tokens: 200,
    system: "You propose subjects for a mail newsletter: at most 60 characters, concrete, a figure or a crop in each.",
    messages: [{ role: "user", content: `Propose five subjects, one a line, for this letter:\n\n${markdown}` }],
  });
  const known = new Set(chosen.flatMap(({ note }) => figures([note.title, ...note.hooks, note.text].join(" "))));
  const proposed = asked.text.split("\n")
    .map((l) => l.replace(/^\s*(?:[-*]|\d+[.)])\s+/, "").replace(/^["“]|["”]$/g, ""))
    .filter((l) => l && l.length <= 70 && !l.endsWith(".") && figures(l).every((f) => known.has(f)));
  const own = chosen.flatMap(({ note }) => [note.title, ...note.hooks]);
  return { ranked: order(train(history), [...own, ...proposed]), test };
}

/** Two subjects that differ in more than a word: the best, and the best about another note. */
function pickTwo(ranked, chosen) {
  const noteOf = (s) => chosen.findIndex(({ note }) => note.title === s || note.hooks.includes(s));
  const first = ranked[0].subject;
  const other = ranked.find((r) => r.subject !== first && noteOf(r.subject) !== noteOf(first)) || ranked[1];
  return [first, other.subject];
}

/** `share` of each segment, at least two readers of each, drawn by lot. */
async function drawSample(ctx, readers, share) {
  const bySegment = new Map();
  for (const r of readers) bySegment.set(r.segment, [...(bySegment.get(r.segment) || []), r.id]);
  const sample = new Set();
  for (const ids of bySegment.values()) {
    for (let i = ids.length - 1; i > 0; i--) {
      const j = Math.floor(ctx.random() * (i + 1));
      [ids[i], ids[j]] = [ids[j], ids[i]];
    }
    ids.slice(0, Math.min(ids.length, Math.max(2, Math.ceil(share * ids.length)))).forEach((id) => sample.add(id));
  }
  return sample;
}

/** Does `work` for each item, a few at a time, in order. */
async function each(items, work) {
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, async () => {
    while (next < items.length) await work(items[next++]);
  }));
}

/** One mail to one reader, who is read again right before: who unsubscribed a moment ago gets nothing. */
async function sendOne(ctx, letter, id, subjectOf, tally) {
  const reader = await ctx.memory.get(`readers/${id}`);
  if (!reader || reader.unsubscribed) {
    tally.skipped.push(id);
    return;
  }
  try {
    const subject = await subjectOf(id);
    await ctx.call("mail.send", {
      to: reader.email, subject, markdown: letter.markdown,
      unsubscribe: `mailto:ada@example.org?subject=unsubscribe%20${id}`,
    }, { approval: letter.approval, customer: id, key: `issue/${letter.issue}/${id}` });
    await ctx.outcome("sent", 1, { customer: id, key: `sent/${letter.issue}/${id}` });
    tally.sent.push(id);
  } catch (problem) {
    if (problem.code !== "denied") throw problem;
    tally.skipped.push(id);
  }
}

async function sendTest(ctx, letter, subject, to) {
  await ctx.call("mail.send", { to, subject, markdown: letter.markdown }, { approval: letter.approval });
  return { issue: letter.issue, test: to, sent: 1, skipped: 0 };
}

/** Ends the run if another one sends this issue, or has sent it. */
async function refuseTwice(ctx, issue) {
  const entry = await ctx.memory.entry(`issues/${issue}`);
  if (entry?.value && entry.value.run !== ctx.run.id)
    throw new Error(`issue ${issue} went out in run ${entry.value.run}; to send it again, forget the fact issues/${issue}`);
  return entry;
}

/** Only one run may send an issue: the fact is taken by compare-and-set before the first mail. A dry run takes nothing. */
async function claim(ctx, issue, plan) {
  const entry = await refuseTwice(ctx, issue);
  const fact = { run: ctx.run.id, notes: plan.map((s) => s.note), sent: 0 };
  if (!ctx.run.dry) await ctx.memory.put(`issues/${issue}`, fact, { base: entry?.version ?? 0 });
  return fact;
}

/** Tries both subjects on the sample, waits for opens, sends the better one to the rest. */
async function sendAll(ctx, letter, subjects, readers, input) {
  const tally = { sent: [], skipped: [] };
  const sample = await drawSample(ctx, readers, input.share ?? 0.1);
  const name = `subject/${letter.issue}`;
  const ids = readers.map((r) => r.id);
  await each(ids.filter((id) => sample.has(id)), (id) => sendOne(ctx, letter, id,
    async () => (await ctx.call("experiment.choose", { name, arms: subjects, mode: "even" }, { customer: id })).value,
    tally));
  await ctx.log(`sample: ${tally.sent.length} mails with two subjects; waiting ${input.wait || "2h"} for opens`);
  await ctx.sleep(input.wait || "2h");
  const arms = await ctx.experiment.counts(name);
  const rate = (a) => (a ? (a.wins + 1) / (a.n + 2) : 0.5);
  const better = rate(arms[1]) > rate(arms[0]) ? 1 : 0;
  const told = subjects.map((s, i) => `"${s}" ${arms[i]?.wins ?? 0} of ${arms[i]?.n ?? 0}`);
  await ctx.log(`opens: ${told.join(", ")}; the rest gets "${subjects[better]}"`);
  const rest = ids.filter((id) => !sample.has(id));
  await each(rest, (id) => sendOne(ctx, letter, id, async () => subjects[better], tally));
  const results = subjects.map((subject, i) => ({ subject, sent: arms[i]?.n ?? 0, opens: arms[i]?.wins ?? 0 }));
  return { tally, arms: results, better };
}

export default flow({
  name: "newsletter",
  description: "Drafts an issue from the notes, shows it, and sends it to every reader who still wants it",
  input: {
    type: "object",
    properties: {
      issue: { type: "string", minLength: 1, maxLength: 40, description: "Number or name of the issue" },
      to: { type: "string", format: "email", description: "A test: send to this address only" },
      wait: { type: "string", description: "How long to wait for opens of the two subjects, such as 2h" },
      share: { type: "number", minimum: 0, maximum: 1, description: "Share of each segment that tries the two subjects" },
    },
    required: ["issue"],
    additionalProperties: false,
  },
  budget: { run: "0.50 USD", month: "20 USD" },
  concurrency: { key: "input.issue", limit: 1 },
  grants: ["file.list", "file.read", "feed.read", "memory.*", "model.generate", "agent.run", "mail.send", "gate.ask",
    "timer.sleep", "experiment.*", "outcome.record", "log.write"],
}, async (ctx, input) => {
  if (!input.to) await refuseTwice(ctx, input.issue);

  const notes = await readNotes(ctx);
  const news = await readNews(ctx);
  const ids = await readReaders(ctx);
  const voice = await readVoice(ctx);

  const { chosen, plan, about } = await choosePlan(ctx, notes, news, input.issue);
  const sections = [];
  for (let i = 0; i < plan.length; i++) sections.push(await draftSection(ctx, plan[i], chosen[i].note, voice));
  const markdown = assemble(input.issue, sections, about);

  // Paragraph by paragraph: a sentence must find all its figures in one of them, not here and there.
  const sources = [
    ...notes.flatMap((n) => n.text.split(/\n\s*\n/).map((p) => `${n.title}\n${p}`)),
    ...news.map((n) => `${n.title}\n${n.summary}\n${n.link}`),
  ];
  const verdict = await ctx.verify(markdown, { length: LENGTH, links: true, claims: { threshold: 0.7 }, sources });

  const { ranked, test } = await proposeSubjects(ctx, chosen, markdown);
  const everyone = (await ctx.memory.list("readers/")).filter((r) => ids.includes(r.id) && !r.unsubscribed);
  const { value, approval } = await ctx.approve({
    title: input.to ? `Issue ${input.issue}: a test to ${input.to}` : `Issue ${input.issue} to ${everyone.length} readers`,
    show: {
      subjects: pickTwo(ranked, chosen), markdown, confidence: verdict.confidence,
      problems: verdict.problems.map((p) => p.message), ranked: ranked.slice(0, 6), outline: plan,
      readers: input.to ? 1 : everyone.length,
    },
    edit: true,
    expires: "2d",
    allows: { action: "mail.send", count: input.to ? 1 : everyone.length,
      fixed: { markdown: "/markdown", subject: ["/subjects/0", "/subjects/1"] } },
  });
  const letter = { issue: input.issue, markdown: value.markdown, approval };
  if (input.to) return sendTest(ctx, letter, value.subjects[0], input.to);

  const fact = await claim(ctx, input.issue, plan);
  const { tally, arms, better } = await sendAll(ctx, letter, value.subjects, everyone, input);
  if (!ctx.run.dry)
    await ctx.memory.put(`issues/${input.issue}`, { ...fact, sent: tally.sent.length, subject: value.subjects[better] });
  await ctx.outcome("issue.sent", 1, { key: `issue/${input.issue}` });
  return {
    issue: input.issue, sent: tally.sent.length, skipped: tally.skipped.length, arms, subject: value.subjects[better],
    learned_auc: test.learned, random_auc: test.random, confidence: verdict.confidence,
    sections: plan.map((s) => s.heading), edited: value.markdown !== markdown,
  };
});
