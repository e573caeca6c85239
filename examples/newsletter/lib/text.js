// Text: sentences, words, figures, links. Pure functions; no imports.

const ABBREVIATION = /(?:\b(?:e\.g|i\.e|approx|ca|vs|Dr|Mr|Mrs|St|No)\.)$/;

/** Sentences of prose, without the blanks between them. */
export function sentences(text) {
  const found = [];
  for (const block of text.split(/\n\s*\n/)) {
    let rest = block.replace(/\s+/g, " ").trim();
    let start = 0;
    const end = /[.!?][)"'”’]*(?=\s+["'“‘(]?[A-Z0-9])/g;
    for (let m; (m = end.exec(rest)); ) {
      const one = rest.slice(start, m.index + m[0].length).trim();
      if (ABBREVIATION.test(one)) continue;
      found.push(one);
      start = m.index + m[0].length;
    }
    if (rest.slice(start).trim()) found.push(rest.slice(start).trim());
  }
  return found;
}

const COMMON = new Set(("a an and are as at be been but by can could did do does for from had has have he her his how i if in "
  + "into is it its me more most my no nor not of on once one or our out over own same she so than that the their them then "
  + "there these they this those through to too under until up very was we were what when where which while who why will with "
  + "would you your").split(" "));

/** Words that carry meaning, in lower case, figures included. */
export function words(text) {
  const all = text.toLowerCase().normalize("NFC").match(/[\p{L}\p{N}]+(?:[.,][0-9]+)*/gu) || [];
  return all.filter((w) => !COMMON.has(w));
}

/** Figures as they stand: "2.1", "1,150", "60". */
export function figures(text) {
  return text.replace(/https?:\/\/\S+/g, " ").match(/[0-9]+(?:[.,][0-9]+)*/g) || [];
}

/** Addresses in a text, without what ends a sentence. */
export function links(text) {
  return (text.match(/https?:\/\/[^\s)>\]"]+/g) || []).map((l) => l.replace(/[.,;:!?]+$/, ""));
}
