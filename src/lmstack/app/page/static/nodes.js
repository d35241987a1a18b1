// Elements from what the server describes: [tag, {attribute: value}, child, ...], and text as text.
//
// Nothing is parsed as HTML, and only tags and attributes that are named here are made. What is on
// the page is changed where it differs and stays otherwise, so that what was opened stays open,
// what was typed stays, and the focus stays where it is.

const TAGS = new Set("a article button code dd details div dl dt figure h1 h2 h3 h4 header img input li meter ol p pre q rect section span strong summary svg text ul".split(" "));
const SVG = new Set(["svg", "rect", "text"]);
const ATTRIBUTES = new Set("alt aria-hidden aria-label autocomplete class data-decide data-end data-key data-reason data-said dir height hidden high href id max maxlength min open placeholder role rx src tabindex title type value width x y".split(" "));
const SAFE = { href: /^\/agents\/[^\/]/, src: /^data:image\/(png|jpeg);base64,/ };
const shapes = new WeakMap(); // node of the page -> what it was made from

/** A node of the page from what `shape` describes. */
export function build(shape) {
  if (typeof shape === "string") return document.createTextNode(shape);
  const [tag, attributes, ...children] = shape;
  if (!TAGS.has(tag)) throw new TypeError(`no element is made of ${tag}`);
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...children.map(build));
  shapes.set(node, shape);
  return node;
}

/** Make `node`, which `build` made, what `shape` describes; the node that is there then. */
export function patch(node, shape) {
  const before = shapes.get(node);
  if (!before || typeof shape === "string" || before[0] !== shape[0]) {
    if (node.nodeType === Node.TEXT_NODE && node.data === shape) return node;
    const made = build(shape);
    node.replaceWith(made);
    return made;
  }
  patchAttributes(node, before[1], shape[1]);
  patchChildren(node, before.slice(2), shape.slice(2));
  shapes.set(node, shape);
  return node;
}

function patchAttributes(node, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) node.removeAttribute(name);
  for (const [name, value] of Object.entries(after)) if (before[name] !== value) set(node, name, value);
}

/** Children with a key are found by it, others by their place among those without. */
function patchChildren(parent, before, after) {
  const old = [...parent.childNodes].slice(0, before.length);
  const keyed = new Map(before.flatMap((shape, at) => (keyOf(shape) ? [[keyOf(shape), old[at]]] : [])));
  const plain = old.filter((_, at) => !keyOf(before[at]));
  let next = parent.firstChild;
  for (const shape of after) {
    const key = keyOf(shape);
    const found = key ? keyed.get(key) : plain.shift();
    if (key) keyed.delete(key);
    if (!found) {
      parent.insertBefore(build(shape), next);
      continue;
    }
    if (found === next) next = next.nextSibling;
    else parent.insertBefore(found, next);
    patch(found, shape);
  }
  for (const left of [...keyed.values(), ...plain]) left.remove();
}

const keyOf = (shape) => (typeof shape === "string" ? undefined : shape[1]["data-key"]);

function set(node, name, value) {
  if (!ATTRIBUTES.has(name)) throw new TypeError(`no attribute is set of ${name}`);
  if (SAFE[name] && !SAFE[name].test(value)) throw new TypeError(`${name} leads elsewhere`);
  node.setAttribute(name, value);
}
