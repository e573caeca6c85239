// A note: a few lines of front matter, a title, prose. And which notes make an issue.
import { links, words } from "./text.js";

/** "2025-06-01-garlic.md" and its text to {id, title, date, crop, tags, hooks, text, links}. */
export function parseNote(path, source) {
  const name = path.split("/").pop().replace(/\.md$/, "");
  const m = /^---\r?\n([\s\S]*?)\r?\n---\r?\n([\s\S]*)$/.exec(source);
  const head = m ? m[1] : "";
  const body = (m ? m[2] : source).trim();
  const one = (key) => (new RegExp(`^${key}:[ \\t]*(.+)$`, "m").exec(head) || [, ""])[1].trim();
  const title = (/^#\s+(.+)$/m.exec(body) || [, name])[1].trim();
  const text = body.replace(/^#\s+.+$/m, "").trim();
  const hooks = (/^hooks:\s*\n((?:[ \t]+- .+\n?)+)/m.exec(head + "\n") || [, ""])[1]
    .split("\n").map((l) => l.replace(/^\s*-\s*/, "").trim()).filter(Boolean);
  return {
    id: `notes/${name}`, title, text, hooks,
    date: one("date") || name.slice(0, 10),
    crop: one("crop"),
    tags: one("tags").replace(/^\[|\]$/g, "").split(",").map((t) => t.trim()).filter(Boolean),
    links: links(text),
  };
}

const day = (date) => Math.floor(Date.parse(date) / 86400000) || 0;

/**
 * Orders notes for an issue: what readers hear about elsewhere (hits: id to the score of a search with the news),
 * what is fresh, and nothing that an earlier issue used; one note a crop.
 */
export function choose(notes, hits, used, count) {
  const newest = Math.max(...notes.map((n) => day(n.date)));
  const best = Math.max(1e-9, ...Object.values(hits));
  const scored = notes.filter((n) => !used.includes(n.id)).map((note) => {
    const fresh = 1 / (1 + (newest - day(note.date)) / 28);
    const topical = (hits[note.id] || 0) / best;
    return { note, fresh, topical, score: 0.5 * fresh + 0.5 * topical };
  });
  scored.sort((a, b) => b.score - a.score || (a.note.id < b.note.id ? 1 : -1));
  const chosen = [];
  for (const c of scored)
    if (chosen.length < count && !chosen.some((o) => o.note.crop && o.note.crop === c.note.crop)) chosen.push(c);
  for (const c of scored)
    if (chosen.length < count && !chosen.includes(c)) chosen.push(c);
  return chosen;
}

/** The outline: for each chosen note a section, how long, and why it is there. */
export function outline(chosen) {
  return chosen.map(({ note, fresh, topical }, i) => ({
    heading: note.title,
    note: note.id,
    sentences: i === 0 ? 7 : 5,
    why: topical > 0.5 ? "in the news this week" : fresh > 0.6 ? "fresh" : "not told yet",
    focus: [...new Set([note.crop, ...note.tags])].filter(Boolean),
  }));
}

/** News to mention: the items that share most words with the chosen notes, newest first among equals. */
export function chooseNews(items, chosen, count) {
  const about = new Set(chosen.flatMap(({ note }) => words(note.title + " " + note.tags.join(" ") + " " + note.crop)));
  return items.map((item) => ({ item, n: words(item.title + " " + item.summary).filter((w) => about.has(w)).length }))
    .sort((a, b) => b.n - a.n || (b.item.published_ms || 0) - (a.item.published_ms || 0))
    .slice(0, count).map((c) => c.item);
}
