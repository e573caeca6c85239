// From sections to one letter in Markdown.
import { links, sentences } from "./text.js";

/** What a model wrote, as paragraphs of prose: no headings, lists, quotes or addresses of its own. */
export function tidy(text) {
  const lines = text.replace(/\r/g, "").split("\n")
    .filter((l) => !/^\s*(#|```|---)/.test(l)).map((l) => l.replace(/^\s*[-*>]\s+/, ""));
  const all = sentences(lines.join("\n")).filter((s) => links(s).length === 0 && /[.!?]["')”’]*$/.test(s));
  const paragraphs = [];
  for (let i = 0, n; i < all.length; i += n) {
    n = all.length - i === 4 ? 4 : 3; // no paragraph of one sentence at the end
    paragraphs.push(all.slice(i, i + n).join(" "));
  }
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
