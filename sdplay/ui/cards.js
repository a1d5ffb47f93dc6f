// The cards of a data set, and the dialog that crops and masks one picture.
// `element`, `props`, `trigger` and `watch` are Gradio's. props.value: {dataset, revision, done, cards: [{key, thumb, full,
// maskUrl, source, caption, width, height, notes, leftOut, mask, crop, seen, alike}]}; crop and seen are [left, top, right, bottom] in px of
// the picture.
const find = selector => element.querySelector(selector);
const grid = find('.sd-grid'), bar = find('.sd-filter'), told = find('.sd-filter-told'), search = find('.sd-search');
const cards = new Map();
let chosen = null, current = null, latest = {}, serial = 0;

const make = (tag, facts = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), facts);
  for (const [name, value] of Object.entries(facts.aria || {})) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
};
const percent = (part, whole) => `${(100 * part / whole).toFixed(3)}%`;
const dataset = () => latest.dataset;

// ---- cards
function build(card) {
  const seen = make('span', {className: 'sd-seen'});
  const image = make('img', {loading: 'lazy', decoding: 'async'});
  const frame = make('span', {className: 'sd-frame'}, image, seen);
  const open = make('button', {type: 'button', className: 'sd-open', onclick: () => edit(card.key)}, frame);
  const out = make('button', {type: 'button', className: 'sd-out', onclick: () => toggle(card.key)});
  const text = make('textarea', {rows: 3, placeholder: 'Describe what is in the picture'});
  text.addEventListener('change', () => {
    const now = cards.get(card.key);
    now.card = {...now.card, caption: text.value};
    now.pending = ++serial;
    trigger('edit', {dataset: dataset(), key: card.key, text: text.value, serial});
  });
  text.addEventListener('keydown', event => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    const shown = [...grid.children].filter(item => !item.hidden);
    const next = shown[shown.indexOf(item) + 1];
    (next ? next.querySelector('textarea') : text).focus();
    if (!next) text.blur();
  });
  const badges = make('span', {className: 'sd-badges'}), facts = make('small');
  const item = make('article', {className: 'sd-item'}, make('div', {className: 'sd-thumb'}, open, out, badges), text, facts);
  return {item, seen, image, frame, open, out, text, badges, facts, card: null, pending: 0};
}

function paint(parts, card) {
  const {item, seen, image, frame, open, out, text, badges, facts} = parts;
  const before = parts.card || {};
  parts.card = card;
  if (before.thumb !== card.thumb) image.src = card.thumb;
  image.alt = card.caption || card.source;
  image.translate = false;
  frame.style.aspectRatio = `${card.width} / ${card.height}`;
  frame.style[card.width >= card.height ? 'width' : 'height'] = '100%';
  const [left, top, right, bottom] = card.seen;
  Object.assign(seen.style, {left: percent(left, card.width), top: percent(top, card.height),
    width: percent(right - left, card.width), height: percent(bottom - top, card.height)});
  seen.hidden = right - left >= card.width && bottom - top >= card.height;
  open.title = 'Crop or mask'; open.setAttribute('aria-label', `Crop or mask ${card.source}`);
  out.textContent = card.leftOut ? '+' : '×';
  out.title = card.leftOut ? 'Take it back' : 'Leave it out';
  out.setAttribute('aria-label', `${out.title.replace(' it', '')}: ${card.source}`);
  if (text.value !== card.caption && before.caption !== card.caption) text.value = card.caption;
  text.setAttribute('aria-label', `Caption of ${card.source}`);
  const signs = [card.leftOut && 'left out', card.crop && 'cropped', card.mask && 'mask', card.alike && 'looks like another'];
  badges.replaceChildren(...signs.filter(Boolean).map(sign => make('i', {textContent: sign})));
  facts.textContent = [`${card.source}, ${card.width} x ${card.height}`, ...card.notes].join(' · ');
  item.classList.toggle('sd-left-out', card.leftOut);
  item.setAttribute('aria-label', card.source);
}

// Answers may cross: an older one is passed over, and what was done here stays until its own answer (`done`) is there.
// Gradio has put the bare template in place again before this is called, so everything is set anew.
function refresh() {
  const given = props.value || {}, same = given.dataset === latest.dataset;
  if (!same) for (const parts of cards.values()) parts.pending = 0;
  for (const parts of cards.values()) if (parts.pending === given.done) parts.pending = 0;
  if (!same || given.revision >= latest.revision) latest = given;
  const wanted = latest.cards || [], edited = edits();
  const keys = new Set(wanted.map(card => card.key));
  for (const [key, parts] of cards) if (!keys.has(key)) { parts.item.remove(); cards.delete(key); }
  wanted.forEach((card, place) => {
    if (!cards.has(card.key)) cards.set(card.key, build(card));
    const parts = cards.get(card.key);
    if (parts.pending) card = {...card, leftOut: parts.card.leftOut, caption: parts.card.caption};
    if (JSON.stringify(parts.card) !== JSON.stringify(card)) paint(parts, card);
    if (grid.children[place] !== parts.item) grid.insertBefore(parts.item, grid.children[place] || null);
  });
  bar.hidden = wanted.length === 0;
  if (chosen && chosen.dataset !== dataset()) chosen = null;
  filter();
  if (current && dialog.open && cards.has(current) && edits() !== edited) load(cards.get(current).card);
}
const edits = () => {
  const {card} = cards.get(current) || {};
  return card ? JSON.stringify([card.full, card.crop, card.mask, card.maskUrl]) : '';
};

function toggle(key) {
  const parts = cards.get(key);
  paint(parts, {...parts.card, leftOut: !parts.card.leftOut});
  parts.pending = ++serial;
  trigger('leave', {dataset: dataset(), key, out: parts.card.leftOut, serial});
}

// ---- which cards are shown
function filter() {
  const words = search.value.trim().toLowerCase();
  let shown = 0;
  for (const [key, parts] of cards) {
    const named = !words || `${parts.text.value} ${parts.card.source}`.toLowerCase().includes(words);
    const hidden = !named || (chosen && !chosen.keys.has(key));
    if (parts.item.hidden !== Boolean(hidden)) parts.item.hidden = Boolean(hidden);
    parts.item.classList.toggle('sd-chosen', Boolean(chosen && chosen.keys.has(key)));
    shown += hidden ? 0 : 1;
  }
  const narrowed = Boolean(words || chosen);
  told.textContent = narrowed ? `${shown} of ${cards.size} pictures shown` : `${cards.size} pictures`;
  find('.sd-all').hidden = !narrowed;
}
search.addEventListener('input', filter);
find('.sd-all').addEventListener('click', () => { chosen = null; search.value = ''; filter(); search.focus(); });
document.addEventListener('sd-show', event => {
  chosen = {dataset: dataset(), keys: new Set(event.detail)};
  search.value = '';
  filter();
  const first = [...grid.children].find(item => !item.hidden);
  if (!first) return;
  first.scrollIntoView({block: 'center', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
  first.querySelector('.sd-open').focus({preventScroll: true});
});

// ---- the dialog: crop by dragging and by numbers, paint a mask
const dialog = find('dialog'), stage = find('.sd-stage'), photo = find('.sd-stage img'), canvas = find('.sd-stage canvas');
const rectangle = find('.sd-crop'), brushes = canvas.getContext('2d', {willReadFrequently: true});
const numbers = Object.fromEntries(['x', 'y', 'w', 'h'].map(name => [name, find(`[data-number=${name}]`)]));
const mode = () => find('input[name=sd-mode]:checked').value;
let box = [0, 0, 1, 1], touched = false;

function edit(key) {
  current = key;
  load(cards.get(key).card);
  find('input[name=sd-mode][value=crop]').checked = true;
  switchMode();
  dialog.showModal();
}
function load(card) {
  find('.sd-dialog-title').textContent = `${card.source}, ${card.width} x ${card.height}`;
  if (photo.getAttribute('src') !== card.full) photo.src = card.full;
  photo.alt = card.caption || card.source;
  photo.translate = false;
  stage.style.aspectRatio = `${card.width} / ${card.height}`;
  stage.style.setProperty('--sd-aspect', card.width / card.height);
  box = [...(card.crop || [0, 0, card.width, card.height])];
  find('[data-do=whole]').disabled = !card.crop;
  find('[data-do=unmask]').disabled = !card.mask;
  showBox();
  loadMask(card);
}
function showBox() {
  const {width, height} = cards.get(current).card;
  Object.assign(rectangle.style, {left: percent(box[0], width), top: percent(box[1], height),
    width: percent(box[2] - box[0], width), height: percent(box[3] - box[1], height)});
  const values = {x: box[0], y: box[1], w: box[2] - box[0], h: box[3] - box[1]};
  for (const [name, input] of Object.entries(numbers)) if (document.activeElement !== input) input.value = Math.round(values[name]);
}
function setBox(left, top, right, bottom) {
  const {width, height} = cards.get(current).card;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const x = clamp(left, 0, width - 16), y = clamp(top, 0, height - 16);
  box = [x, y, clamp(right, x + 16, width), clamp(bottom, y + 16, height)].map(Math.round);
  showBox();
}
const point = event => {
  const {left, top, width, height} = stage.getBoundingClientRect(), {card} = cards.get(current);
  return [(event.clientX - left) / width * card.width, (event.clientY - top) / height * card.height];
};
stage.addEventListener('pointerdown', event => {
  if (event.button) return;
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  const move = mode() === 'crop' ? dragBox(event) : dragBrush(event);
  stage.addEventListener('pointermove', move);
  const end = () => stage.removeEventListener('pointermove', move);
  stage.addEventListener('pointerup', end, {once: true});
  stage.addEventListener('pointercancel', end, {once: true});
});
function dragBox(event) {
  const [x, y] = point(event), start = [...box], {card} = cards.get(current);
  const handle = event.target.dataset.handle;
  const whole = box[0] <= 0 && box[1] <= 0 && box[2] >= card.width && box[3] >= card.height;
  const inside = x > box[0] && x < box[2] && y > box[1] && y < box[3];
  const squared = (dx, dy) => find('[data-square]').checked ? Math.max(Math.abs(dx), Math.abs(dy)) : null;
  return moved => {
    const [nx, ny] = point(moved), dx = nx - x, dy = ny - y;
    if (handle) {
      const edges = [...start], [horizontal, vertical] = [handle.includes('w') ? 0 : 2, handle.includes('n') ? 1 : 3];
      edges[horizontal] = nx;
      edges[vertical] = ny;
      const side = squared(edges[2] - edges[0], edges[3] - edges[1]);
      if (side !== null) {
        edges[horizontal] = horizontal ? edges[0] + side : edges[2] - side;
        edges[vertical] = vertical === 3 ? edges[1] + side : edges[3] - side;
      }
      setBox(...edges);
    } else if (inside && !whole) {
      const [width, height] = [start[2] - start[0], start[3] - start[1]];
      const left = Math.min(Math.max(start[0] + dx, 0), card.width - width), top = Math.min(Math.max(start[1] + dy, 0), card.height - height);
      setBox(left, top, left + width, top + height);
    } else {
      const side = squared(dx, dy);
      const [ex, ey] = side === null ? [nx, ny] : [x + Math.sign(dx) * side, y + Math.sign(dy) * side];
      setBox(Math.min(x, ex), Math.min(y, ey), Math.max(x, ex), Math.max(y, ey));
    }
  };
}
for (const input of Object.values(numbers)) input.addEventListener('input', () => {
  const [x, y, w, h] = ['x', 'y', 'w', 'h'].map(name => Number(numbers[name].value));
  if ([x, y, w, h].every(Number.isFinite)) setBox(x, y, x + w, y + h);
});

// The canvas is opaque red where nothing is learned, and clear where something is.
const RED = 'rgb(220 30 60)';
function loadMask(card) {
  const scale = Math.min(1, 640 / Math.max(card.width, card.height));
  canvas.width = Math.max(1, Math.round(card.width * scale));
  canvas.height = Math.max(1, Math.round(card.height * scale));
  touched = false;
  cover(Boolean(card.mask));
  if (!card.mask) return;
  const mask = new Image();
  mask.onload = () => {
    if (current !== card.key || touched) return;
    brushes.globalCompositeOperation = 'copy';
    brushes.drawImage(mask, 0, 0, canvas.width, canvas.height);
    const pixels = brushes.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      const learned = pixels.data[at];
      pixels.data.set([220, 30, 60, 255 - learned], at);
    }
    brushes.putImageData(pixels, 0, 0);
  };
  mask.src = card.maskUrl;
}
function cover(red) {
  brushes.globalCompositeOperation = 'copy';
  brushes.fillStyle = red ? RED : 'transparent';
  brushes.fillRect(0, 0, canvas.width, canvas.height);
}
function dragBrush(event) {
  touched = true;
  let last = point(event);
  const {card} = cards.get(current), scale = canvas.width / card.width;
  const stroke = to => {
    brushes.globalCompositeOperation = find('input[name=sd-brush]:checked').value === 'learn' ? 'destination-out' : 'source-over';
    brushes.strokeStyle = RED;
    brushes.lineCap = brushes.lineJoin = 'round';
    brushes.lineWidth = Number(find('[data-size]').value) / 100 * Math.min(canvas.width, canvas.height);
    brushes.beginPath();
    brushes.moveTo(last[0] * scale, last[1] * scale);
    brushes.lineTo(to[0] * scale + 0.01, to[1] * scale);
    brushes.stroke();
    last = to;
  };
  stroke(last);
  return moved => stroke(point(moved));
}
function maskPng() {
  const pixels = brushes.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const learned = 255 - pixels.data[at + 3];
    pixels.data.set([learned, learned, learned, 255], at);
  }
  const written = make('canvas', {width: canvas.width, height: canvas.height});
  written.getContext('2d').putImageData(pixels, 0, 0);
  return written.toDataURL('image/png');
}
const actions = {
  close: () => dialog.close(),
  crop: () => { trigger('crop', {dataset: dataset(), key: current, box: [...box]}); dialog.close(); },
  whole: () => { trigger('crop', {dataset: dataset(), key: current, box: null}); dialog.close(); },
  square: () => {
    const [width, height] = [box[2] - box[0], box[3] - box[1]], side = Math.min(width, height);
    const left = box[0] + (width - side) / 2, top = box[1] + (height - side) / 2;
    setBox(left, top, left + side, top + side);
  },
  all: () => { touched = true; cover(false); },
  none: () => { touched = true; cover(true); },
  boxed: () => {
    touched = true;
    const {card} = cards.get(current), scale = canvas.width / card.width;
    cover(true);
    brushes.clearRect(box[0] * scale, box[1] * scale, (box[2] - box[0]) * scale, (box[3] - box[1]) * scale);
  },
  mask: () => { trigger('mask', {dataset: dataset(), key: current, png: maskPng()}); dialog.close(); },
  unmask: () => { trigger('mask', {dataset: dataset(), key: current, png: ''}); dialog.close(); },
};
dialog.addEventListener('click', event => {
  const pressed = event.target.closest('[data-do]');
  if (pressed) actions[pressed.dataset.do]();
});
dialog.addEventListener('close', () => { if (cards.has(current)) cards.get(current).open.focus({preventScroll: true}); });
function switchMode() {
  dialog.dataset.mode = mode();
  find('.sd-crop-tools').hidden = mode() !== 'crop';
  find('.sd-mask-tools').hidden = mode() !== 'mask';
}
dialog.addEventListener('change', event => { if (event.target.name === 'sd-mode') switchMode(); });

// ---- pictures from the clipboard go where dropped files go
document.addEventListener('paste', event => {
  const files = [...(event.clipboardData?.files || [])].filter(file => file.type.startsWith('image/'));
  const input = document.querySelector('#dataset-files input[type=file]');
  if (!files.length || !input || !element.offsetParent || dialog.open) return;
  event.preventDefault();
  const transfer = new DataTransfer();
  for (const [index, file] of files.entries())
    transfer.items.add(new File([file], `pasted-${Date.now()}-${index + 1}.${file.type.split('/')[1]}`, {type: file.type}));
  input.files = transfer.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
});
document.addEventListener('keydown', event => {
  const typing = event.target.closest?.('input, textarea, [contenteditable]');
  if (typing || dialog.open || !element.offsetParent || !(event.ctrlKey || event.metaKey)) return;
  const again = event.key.toLowerCase() === 'y' || (event.shiftKey && event.key.toLowerCase() === 'z');
  if (again || event.key.toLowerCase() === 'z') {
    event.preventDefault();
    document.querySelector(again ? '#dataset-redo' : '#dataset-undo')?.click();
  }
});

watch('value', refresh);
refresh();
