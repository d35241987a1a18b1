// The text of an answer as it grows. Only what changed is touched: a citation that has the focus
// keeps it, a selection stays, and nothing above the last line moves.

import { appendText, element, markUnsupported, parseAnswer } from "/static/text.js";

const BLOCKS = { p: "p", h: "p", pre: "pre", ul: "li", ol: "li" };
const INLINE = { code: "code", strong: "strong" };
const listed = (kind) => kind === "ul" || kind === "ol";

/** Draws into `root`. `cite(number)` gives the button of a known citation, or null. */
export class Prose {
  constructor(root, cite) {
    this.root = root;
    this.cite = cite;
    this.blocks = []; // {kind, node, tokens: [{key, nodes}]}
  }

  /** Show `text`; `unsupported` holds [from, to] in UTF-16 units. */
  draw(text, unsupported) {
    const wanted = parseAnswer(text);
    let same = 0;
    while (same < wanted.length && this.blocks[same]?.kind === wanted[same].kind) same += 1;
    this.drop(same);
    for (const [index, block] of wanted.entries()) {
      const shown = this.blocks[index] ?? this.addBlock(block);
      this.sync(shown, markUnsupported(block.tokens, unsupported));
    }
  }

  clear() {
    this.drop(0);
  }

  drop(from) {
    for (const { node } of this.blocks.splice(from)) {
      const parent = node.parentElement;
      node.remove();
      if (parent !== this.root && !parent.childElementCount) parent.remove();
    }
  }

  addBlock(block) {
    const node = element(BLOCKS[block.kind], { dir: "auto", class: block.kind === "h" ? "heading" : null });
    this.parentOf(block).append(node);
    const shown = { kind: block.kind, node, tokens: [] };
    this.blocks.push(shown);
    return shown;
  }

  parentOf(block) {
    if (!listed(block.kind)) return this.root;
    if (this.blocks.at(-1)?.kind === block.kind) return this.blocks.at(-1).node.parentElement;
    const list = element(block.kind, { start: block.start > 1 ? block.start : null });
    this.root.append(list);
    return list;
  }

  sync(shown, tokens) {
    const keys = tokens.map((token) => this.key(token));
    let same = 0;
    while (same < keys.length && shown.tokens[same]?.key === keys[same]) same += 1;
    for (const { nodes } of shown.tokens.splice(same)) nodes.forEach((node) => node.remove());
    for (let index = same; index < tokens.length; index += 1) {
      const nodes = this.nodes(tokens[index]);
      shown.node.append(...nodes);
      shown.tokens.push({ key: keys[index], nodes });
    }
  }

  key(token) {
    const known = token.kind === "cite" && this.cite(token.n, { probe: true });
    return [token.kind, token.text, token.unsupported, token.last, known].join("\u0000");
  }

  nodes(token) {
    let node = token.kind === "cite" ? this.cite(token.n, { probe: false }) : null;
    if (!node) {
      node = element(INLINE[token.kind] ?? "span", { class: token.unsupported ? "unsupported" : null });
      appendText(node, token.text);
    }
    if (!token.last) return [node];
    return [node, element("span", { class: "flag", title: "No passage was found that says this" }, "no source")];
  }
}
