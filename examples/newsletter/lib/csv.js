// CSV with a header line (RFC 4180): a list of objects.

function fields(line, number) {
  const out = [];
  let at = 0;
  while (at <= line.length) {
    let value = "";
    if (line[at] === '"') {
      for (at++; ; at++) {
        if (at >= line.length) throw new Error(`line ${number}: a quote does not end`);
        if (line[at] !== '"') value += line[at];
        else if (line[at + 1] === '"') value += line[at++];
        else break;
      }
      at++;
    } else {
      const end = line.indexOf(",", at);
      value = line.slice(at, end < 0 ? line.length : end);
      at += value.length;
    }
    if (at < line.length && line[at] !== ",") throw new Error(`line ${number}: text behind a quoted value`);
    out.push(value);
    at++;
  }
  return out;
}

export function parseCsv(text) {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  const head = fields(lines[0], 1);
  const rows = [];
  for (let i = 1; i < lines.length; i++) {
    if (lines[i] === "") continue;
    const values = fields(lines[i], i + 1);
    if (values.length !== head.length)
      throw new Error(`line ${i + 1}: ${values.length} values where the header names ${head.length}`);
    rows.push(Object.fromEntries(head.map((name, n) => [name, values[n]])));
  }
  return rows;
}
