// From sections to one letter in Markdown; and what of it must be found in the sources.
import { countWords, figures, links, sentences, words } from "./text.js";

/** What a model wrote, as paragraphs of prose: no headings, lists, quotes or addresses of its own. */
export function tidy(text) {
  const lines = text.replace(/\r/g, "").split("\n")
    .filter((l) => !/^\s*(#|```|---)/.test(l)).map((l) => l.replace(/^\s*[-*>]\s+/, ""));
  const all = sentences(lines.join("\n")).filter((s) => links(s).length === 0 && /[.!?]["')”’]*$/.test(s));
  const paragraphs = [];
  for (let i = 0; i < all.length; i += 3) paragraphs.push(all.slice(i, i + 3).join(" "));
  return paragraphs.join("\n\n");
}

const escape = (text) => text.replace(/([\\`*_[\]<>])/g, "\\$1");

/** The letter. sections: [{heading, body, links}], news: feed items. */
export function assemble(issue, sections, news) {
  const out = [`# Forty Square Metres, issue ${issue}`, ""];
  out.push(`In this letter: ${sections.map((s) => s.heading.toLowerCase()).join("; ")}.`, "");
  for (const s of sections) {
    out.push(`## ${s.heading}`, "", s.body, "");
    if (s.links.length) out.push(`Read on: ${s.links.map((l) => `<${l}>`).join(" and ")}`, "");
  }
  if (news.length) {
    out.push("## In the news", "");
    for (const item of news) {
      const first = sentences(item.summary)[0] || "";
      out.push(`- [${escape(item.title)}](${item.link})${first ? `: ${escape(first)}` : ""}`);
    }
    out.push("");
  }
  out.push("---", "", "You get this letter because you asked for it. Reply with the word stop and it ends.");
  return out.join("\n") + "\n";
}

/** Sentences of the letter that claim something: not headings, the list of contents, or the closing lines. */
export function claims(markdown) {
  const body = markdown.split(/^---$/m)[0].split("\n")
    .filter((l) => !/^#|^Read on:|^In this letter:/.test(l))
    .map((l) => l.replace(/^- \[(.*?)\]\([^)]*\):?/, "").replace(/\\([\\`*_[\]<>])/g, "$1")).join("\n");
  return sentences(body).filter((s) => words(s).length >= 3);
}

/** Whether a source says it: all its figures stand in one sentence or paragraph, with most of its words. */
export function supported(claim, sources) {
  const wanted = [...new Set(words(claim))];
  const numbers = figures(claim);
  for (const source of sources)
    for (const block of source.split(/\n\s*\n/)) {
      const have = new Set(words(block));
      const seen = new Set(figures(block));
      if (numbers.every((n) => seen.has(n)) && wanted.filter((w) => have.has(w)).length >= 0.7 * wanted.length) return true;
    }
  return false;
}

/** Each check as {name, ok, score (0 to 1), detail}. */
export function check(markdown, { sources, known, min, max }) {
  const n = countWords(markdown);
  const all = claims(markdown);
  const missing = all.filter((c) => !supported(c, sources));
  const strange = links(markdown).filter((l) => !known.includes(l));
  const found = all.length ? (all.length - missing.length) / all.length : 0;
  return [
    { name: "length", ok: n >= min && n <= max, score: n >= min && n <= max ? 1 : Math.min(n / min, max / n, 1),
      detail: `${n} words, ${min} to ${max} wanted` },
    { name: "links", ok: strange.length === 0, score: strange.length ? 0 : 1,
      detail: strange.length ? `unknown: ${strange.join(" ")}` : `${links(markdown).length} links, all from the sources` },
    { name: "claims", ok: missing.length === 0 && all.length > 0, score: found,
      detail: missing.length ? `not found in the notes: ${missing.join(" | ")}` : `${all.length} sentences, all found in the notes` },
  ];
}
