// Asks the server now and then for a short text that changes when something happened, and tells the parts of the page that are in view.
// PARTS: event -> id of the tab it is for, "" for what is always in view. The times: see TIMES in pulse.py.
const seen = {}, told = {}, echo = {};
let news = '';

const isShown = id => !id || document.getElementById(id)?.offsetParent != null;

function tell() {
  if (document.hidden || !news) return;
  const now = performance.now();
  for (const [part, id] of Object.entries(PARTS)) {
    if (!isShown(id) || now < (told[part] ?? -GAP_MS) + GAP_MS) continue;
    const isNew = seen[part] !== news;
    if (!isNew && now < Math.min(echo[part] ?? Infinity, told[part] + REST_MS)) continue;
    seen[part] = news;
    told[part] = now;
    echo[part] = isNew ? now + ECHO_MS : undefined;
    trigger(part);
  }
}

async function ask() {
  if (!document.hidden) {
    try {
      const answer = await fetch('sdplay/pulse', {cache: 'no-store'});
      // Where something between here and the server does not let the question through, ask everything every few seconds.
      news = answer.ok ? await answer.text() : `${Math.floor(Date.now() / BLIND_MS)}`;
    } catch { /* the server is away; the next question may find it */ }
  }
  if (element.isConnected) setTimeout(ask, ASK_MS);
}

const clock = setInterval(() => element.isConnected ? tell() : clearInterval(clock), 200);
ask();
