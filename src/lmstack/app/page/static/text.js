// Text from models and documents to DOM nodes: never parsed as HTML, offsets kept.
//
// Covers the little Markdown that answers use (paragraphs, lists, code), citation marks and
// unsupported sentences. Of a link its words are shown; tables stay as they were written.

const REORDERING = /[\u202A-\u202E\u2066-\u2069]/;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\[(\d{1,3})\](?!\()|!?\[([^\[\]\n]+)\]\([^()\s]*\)/g;

/** An element with attributes, text and children. */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Where code point `count` of `text` starts, in the UTF-16 units that JavaScript counts. */
export function unitOffset(text, count) {
  let units = 0;
  for (let point = 0; point < count && units < text.length; point += 1) {
    units += text.codePointAt(units) > 0xffff ? 2 : 1;
  }
  return units;
}

/** Append `text`; characters that would reorder the text around them are shown by number. */
export function appendText(parent, text) {
  let rest = text;
  for (let at = rest.search(REORDERING); at >= 0; at = rest.search(REORDERING)) {
    if (at > 0) parent.append(rest.slice(0, at));
    const code = `U+${rest.charCodeAt(at).toString(16).toUpperCase()}`;
    parent.append(element("span", { class: "control", title: "hidden direction control" }, code));
    rest = rest.slice(at + 1);
  }
  if (rest) parent.append(rest);
}

/** A message of the server as a sentence: plain first words get their capital, names stay. */
export function sentence(text) {
  return /^[a-z]+[ ,]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}

/** ", about 3 min left", or nothing where it is not known or over at once. */
export function timeLeft(seconds) {
  if (!(seconds > 1)) return "";
  return seconds < 90 ? `, about ${Math.ceil(seconds)} s left` : `, about ${Math.ceil(seconds / 60)} min left`;
}

/** White space closed up. */
export function squeezed(text) {
  return text.replace(/\s+/g, " ").trim();
}

/** The words of a source that bear most on the question; all of its quote where none do more. */
export function pointOf({ start, quote, focus }) {
  const [from, to] = focus ? focus.map((point) => unitOffset(quote, point - start)) : [0, quote.length];
  return quote.slice(from, to) || quote;
}

/** The point of a source for a preview or a list, on one line; the panel has its quote verbatim. */
export function glimpse(source) {
  const { path } = source;
  const quote = pointOf(source);
  if (!/\.(md|markdown)$/i.test(path)) return squeezed(quote);
  const unmarked = quote
    .replace(/^\s*(?:(?:#{1,6}|[-*+]|>)\s+|```\w*)/gm, "")
    .replace(/!?\[([^\[\]\n]+)\]\([^()\s]*\)/g, "$1")
    .replace(/\*\*|`/g, "");
  return squeezed(unmarked) || squeezed(quote);
}

/** Blocks of inline tokens. A token is {kind, text, from, to, n?}; offsets are UTF-16 units. */
export function parseAnswer(text) {
  const blocks = [];
  let fence = null;
  let from = 0;
  for (const line of text.split("\n")) {
    const to = from + line.length;
    if (fence) {
      if (/^\s*```/.test(line)) fence = null;
      else fence.tokens.push({ kind: "raw", text: line + "\n", from, to });
    } else if (/^\s*```/.test(line)) {
      fence = { kind: "pre", tokens: [] };
      blocks.push(fence);
    } else {
      addLine(blocks, line, from);
    }
    from = to + 1;
  }
  return blocks.filter((block) => block.kind !== "gap");
}

function addLine(blocks, line, from) {
  const last = blocks.at(-1);
  const item = /^\s*(?:([-*•])|\d{1,3}[.)])\s+(?=\S)/.exec(line);
  if (!line.trim()) {
    if (last && last.kind !== "gap") blocks.push({ kind: "gap", tokens: [] });
  } else if (item) {
    const kind = item[1] ? "ul" : "ol";
    const start = item[1] ? undefined : parseInt(line, 10);
    blocks.push({ kind, start, tokens: inline(line.slice(item[0].length), from + item[0].length) });
  } else if (last && last.kind === "p") {
    last.tokens.push({ kind: "text", text: "\n", from: from - 1, to: from }, ...inline(line, from));
  } else {
    const heading = /^#{1,6}\s+/.exec(line);
    const skip = heading ? heading[0].length : 0;
    blocks.push({ kind: heading ? "h" : "p", tokens: inline(line.slice(skip), from + skip) });
  }
}

function inline(text, base) {
  const tokens = [];
  let end = 0;
  const plain = (to) => {
    if (to > end) tokens.push({ kind: "text", text: text.slice(end, to), from: base + end, to: base + to });
  };
  for (const match of text.matchAll(INLINE)) {
    plain(match.index);
    end = match.index + match[0].length;
    const span = { from: base + match.index, to: base + end };
    if (match[1]) tokens.push({ kind: "code", text: match[1], ...span });
    else if (match[2]) tokens.push({ kind: "strong", text: match[2], ...span });
    else if (match[4]) tokens.push({ kind: "label", text: match[4], ...span });
    else tokens.push({ kind: "cite", text: match[0], n: Number(match[3]), ...span });
  }
  plain(text.length);
  return tokens;
}

/** Cut tokens where an unsupported sentence starts or ends, and mark those inside. */
export function markUnsupported(tokens, ranges) {
  if (!ranges.length) return tokens;
  return tokens.flatMap((token) => {
    if (token.kind !== "text") return [{ ...token, ...marks(token, ranges) }];
    const cuts = ranges.flat().filter((at) => at > token.from && at < token.to);
    const edges = [token.from, ...cuts.sort((a, b) => a - b), token.to];
    return edges.slice(1).map((to, index) => {
      const from = edges[index];
      const piece = { ...token, text: token.text.slice(from - token.from, to - token.from), from, to };
      return { ...piece, ...marks(piece, ranges) };
    });
  });
}

function marks(token, ranges) {
  const inside = ranges.find(([from, to]) => token.from >= from && token.to <= to);
  if (!inside) return {};
  return { unsupported: true, last: token.to === inside[1] };
}
