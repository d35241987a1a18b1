// The conversation of this tab, kept over a reload and forgotten when the tab closes.

const TURNS = "lmstack-turns";
const KEPT = 20;

/** Remember the finished answers of `turns`. */
export function remember(turns) {
  const kept = turns.filter((turn) => turn.final).slice(-KEPT);
  try {
    sessionStorage.setItem(TURNS, JSON.stringify(kept.map(({ question, within, final }) => ({ question, within, final }))));
  } catch {
    // Without storage, or past its limit, a reload starts anew.
  }
}

/** What was remembered: a list of {question, within, final}. */
export function remembered() {
  try {
    const turns = JSON.parse(sessionStorage.getItem(TURNS)) ?? [];
    return turns.filter(({ final }) => final.outcome); // An older lmstack wrote others.
  } catch {
    return [];
  }
}
