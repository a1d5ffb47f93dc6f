// Says the page in another language: OFFERED is {code: name}. English is what the server says; nothing happens then.
// A catalogue has whole texts as keys, with {} where something is put in. What users wrote stays: inputs, code, translate="no".
(() => {
  const KEY = 'sdplay:language', SPOKEN = ['placeholder', 'title', 'aria-label', 'alt'], MOST = 5000, LEAST = 6;  // letters a text must have that begins with what is put in
  const kept = (() => { try { return localStorage.getItem(KEY); } catch { return null; } })();
  const wanted = new URLSearchParams(location.search).get('lang') ?? kept ?? navigator.language.slice(0, 2);
  let language = Object.hasOwn(OFFERED, wanted) ? wanted : 'en';

  const mark = () => {
    if (document.documentElement.lang !== language) document.documentElement.lang = language;
    for (const button of document.querySelectorAll('[data-language]')) {
      const pressed = String(button.dataset.language === language);
      if (button.getAttribute('aria-pressed') !== pressed) button.setAttribute('aria-pressed', pressed);
    }
  };
  document.addEventListener('click', event => {
    const button = event.target.closest?.('[data-language]');
    if (!button || button.dataset.language === language) return;
    try { localStorage.setItem(KEY, button.dataset.language); } catch { /* then only the address says it */ }
    const there = new URL(location.href);
    there.searchParams.set('lang', button.dataset.language);
    location.replace(there);
  });

  const texts = new Map(), byWord = new Map(), loose = [], known = new Map();
  const things = new Map();  // what is counted in a word too short to be looked for by itself: `{} text`

  function learn(catalogue) {
    const meant = new Set(Object.keys(catalogue.more));
    for (const [english, other] of Object.entries({...catalogue.texts, ...catalogue.more})) {
      if (!english.includes('{}')) { texts.set(english, other); continue; }
      if (!meant.has(english) && !/[A-Za-z]/.test(english[0]) && english.replace(/\{\}|[^A-Za-z]/g, '').length < LEAST) {
        const thing = /^\{\} ([a-z]+)$/.exec(english)?.[1];
        if (thing) things.set(thing, other);
        continue;
      }
      const pattern = {pieces: english.split('{}'), other, length: english.replaceAll('{}', '').length};
      const word = /^[A-Za-z]+(?=[ ,.:])/.exec(english)?.[0];
      const group = word ? byWord.get(word) ?? byWord.set(word, []).get(word) : loose;
      group.push(pattern);
    }
    for (const group of [loose, ...byWord.values()]) group.sort((a, b) => b.length - a.length);
  }

  // What stands in the places of {}: each as short as can be, found in one pass.
  function slots(pieces, text) {
    const [first, ...others] = pieces, last = others.pop(), end = text.length - last.length, found = [];
    if (!text.startsWith(first) || !text.endsWith(last)) return undefined;
    let from = first.length;
    for (const piece of others) {
      const at = text.indexOf(piece, from + 1);
      if (at < 0) return undefined;
      found.push(text.slice(from, at));
      from = at + piece.length;
    }
    return from < end ? [...found, text.slice(from, end)] : undefined;
  }

  // `adapter 291 KB, the same for A1111 291 KB`: only when every part is known.
  const listed = text => {
    const parts = text.split(', ').map(part => texts.get(part) ?? (/\d/.test(part) ? whole(part) : undefined));
    return parts.length > 1 && parts.every(Boolean) ? parts.join(', ') : text;
  };
  // `2 columns x 6 prompts`
  const counted = text => text.split(' x ').map(part => part.replace(/^(\d+) (.+)$/, (all, number, thing) => whole(all) ?? things.get(thing)?.replace('{}', number) ?? all)).join(' x ');

  // What was put in: a text of its own, a count, a sentence, a list, or a name.
  const put = part => texts.get(part) ?? beforeSign(part) ?? (/^\d+ /.test(part) ? counted(part) : /^[A-Z].*[.!?]$/.test(part) ? translated(part) ?? part : listed(part));

  const beforeSign = part => /[.;:,]$/.test(part) ? joined(texts.get(part.slice(0, -1)), part.at(-1)) : undefined;

  function filled({pieces, other}, text, isWide) {
    const found = slots(pieces, text), parts = found?.map(put);
    if (!isWide && found?.some((part, place) => parts[place] === part && /[.!?] [A-Z]/.test(part))) return undefined;
    let next = 0;
    return parts && other.replace(/\{(\d*)\}/g, (_, number) => parts[number ? number - 1 : next++] ?? '');
  }

  // The sign at its end may be another one: `no GPU needed;`, `no GPU needed.`
  function whole(text, isWide = false) {
    if (!/[A-Za-z]{2}/.test(text)) return text;
    const sign = /[.;:,]$/.exec(text)?.[0], bare = sign && text.slice(0, -1);
    return exactly(text, isWide) ?? (sign && joined(exactly(bare, isWide), sign)) ?? (sign && joined(exactly(`${bare}.`, isWide)?.replace(/\.$/, ''), sign));
  }
  const joined = (text, sign) => text === undefined ? undefined : text + sign;

  // isWide: also where whole sentences would be taken for what is put in.
  function exactly(text, isWide) {
    const exact = texts.get(text);
    if (exact !== undefined) return exact;
    for (const pattern of [...(byWord.get(/^[A-Za-z]+/.exec(text)?.[0]) ?? []), ...loose]) {
      const found = filled(pattern, text, isWide);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  function translated(text) {
    if (known.has(text)) return known.get(text);
    if (known.size > MOST) known.clear();
    const found = whole(text) ?? inParts(text) ?? whole(text, true);
    known.set(text, found);
    return found;
  }

  // The longest run of whole sentences, and then the rest.
  function inParts(text) {
    const parts = text.split(/((?<=[.!?:;,])\s+|\s+[·(]\s?)/);
    if (parts.length < 3 || parts.length > 40) return undefined;
    for (let end = parts.length - 2; end > 0; end -= 2) {
      const first = whole(parts.slice(0, end).join(''));
      const rest = parts.slice(end + 1).join('');
      if (first !== undefined) return first + parts[end] + (translated(rest) ?? rest);
    }
    const rest = translated(parts.slice(2).join(''));
    return rest && parts[0] + parts[1] + rest;
  }

  // A node that somebody sets back at once, again and again, is left to them: two scripts must not keep each other busy.
  const own = new WeakMap(), fights = new WeakMap();
  function isFoughtFor(node) {
    const now = performance.now(), [since, times] = fights.get(node) ?? [now, 0];
    fights.set(node, now - since < 1000 ? [since, times + 1] : [now, 0]);
    return now - since < 1000 && times > 30;
  }
  const isTheirs = element => element.closest('[translate]')?.translate === false;
  const isLeft = element => !element || element.closest('textarea, script, style, code, pre') || isTheirs(element);

  function say(node) {
    const text = node.nodeValue.trim();
    if (!text || own.get(node) === node.nodeValue || isLeft(node.parentElement)) return;
    const found = translated(text.replace(/\s+/g, ' '));
    if (found !== undefined && found !== text && !isFoughtFor(node)) node.nodeValue = node.nodeValue.replace(text, () => found);
    own.set(node, node.nodeValue);
  }

  function sayAttributes(element) {
    if (isTheirs(element)) return;
    for (const name of SPOKEN) {
      const text = element.getAttribute(name);
      const found = text && translated(text.replace(/\s+/g, ' ').trim());
      if (found && found !== text && own.get(element)?.[name] !== text) {
        element.setAttribute(name, found);
        own.set(element, {...own.get(element), [name]: found});
      }
    }
  }

  function sayAll(root) {
    if (root.nodeType === Node.TEXT_NODE) return say(root);
    if (root.nodeType !== Node.ELEMENT_NODE) return;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) say(walker.currentNode);
    for (const element of [root, ...root.querySelectorAll(SPOKEN.map(name => `[${name}]`).join())]) sayAttributes(element);
  }

  async function start() {
    if (language !== 'en') {
      const answer = await fetch(`sdplay/languages/${language}.json`).catch(() => null);
      if (answer?.ok) {
        learn(await answer.json());
        sayAll(document.body);
      } else {
        language = 'en';  // nobody has logged in yet, or the server is away: it says English
      }
    }
    mark();
    new MutationObserver(changes => {
      if (language !== 'en') {
        for (const {type, target, addedNodes} of changes) {
          if (type === 'characterData') say(target);
          else if (type === 'attributes') sayAttributes(target);
          else addedNodes.forEach(sayAll);
        }
      }
      if (changes.some(({type}) => type === 'childList')) mark();
    }).observe(document.body, {subtree: true, childList: true, ...(language === 'en' ? {} : {characterData: true, attributes: true, attributeFilter: SPOKEN})});
  }

  if (document.body) start(); else document.addEventListener('DOMContentLoaded', start);
})();
