// Shows a comparison: grid, slider, flicker, XYZ and blind test. Made for sdplay's page and for the file it hands on.
// sdplayViewer(root, hooks).update(data)   data: see viewer_data in __init__.py
// hooks: send(event, details), link (address of the comparison), first (URLSearchParams of the page), all optional.
function sdplayViewer(root, hooks) {
  const VIEWS = [['grid', 'Grid'], ['slider', 'Slider'], ['flicker', 'Flicker'], ['xyz', 'XYZ'], ['blind', 'Blind test']];
  const MOST_ZOOM = 8, CELL_PX = [96, 144, 208, 320], CLOSE_PX = 4;
  const state = {view: 'grid', axes: {}, fixed: {}, a: null, b: null, zoom: 1, x: 50, y: 50, cell: 1, wipe: 50, playing: false, pace: 1, shown: 'a'};
  let data = null, shape = '', timer = 0, pending = {}, opened = null, drag = null;
  const id = 'sdv-' + Math.random().toString(36).slice(2, 8);

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? '' : value);
    }
    made.append(...children.filter(child => child !== null && child !== undefined));
    return made;
  }
  const button = (text, act, more) => el('button', {type: 'button', class: 'sdv-button', onclick: act, ...more}, text);
  const views = () => VIEWS.filter(([name]) => name !== 'blind' || hooks.send);
  const dims = () => data.dims;
  const many = () => dims().filter(dim => dim.values.length > 1);
  const at = name => dims().findIndex(dim => dim.name === name);
  const zeros = () => dims().map(() => 0);
  const cellOf = place => data.cells[place.join(',')];
  const full = index => data.labels[index];

  function describe(place) {  // in words, for alt texts and captions
    const parts = dims().map((dim, index) => dim.values[place[index]]);
    const [column, ...rest] = parts;
    return [column, ...rest.filter((text, index) => index === 0 || dims()[index + 1].values.length > 1 || dims()[index + 1].name === 'seed')].join(', ');
  }

  // ---- the frame
  const tabs = el('div', {role: 'tablist', class: 'sdv-tabs', 'aria-label': 'Views', onkeydown: moveTab});
  const tools = el('div', {class: 'sdv-tools'});
  const options = el('div', {class: 'sdv-options'});
  const stage = el('div', {role: 'tabpanel', id, class: 'sdv-stage', 'aria-live': 'off'});
  const foot = el('div', {class: 'sdv-foot'});
  const said = el('span', {role: 'status', class: 'sdv-said'}), saidInside = el('span', {role: 'status', class: 'sdv-said'});
  const dialog = el('dialog', {class: 'sdv-dialog', 'aria-label': 'One picture', onkeydown: moveOpened, onclose: () => { const from = opened; opened = null; focusCell(from); }});
  root.classList.add('sdv');
  root.replaceChildren(el('div', {class: 'sdv-bar'}, tabs, tools), options, stage, foot, dialog);
  root.addEventListener('keydown', zoomKeys);
  root.addEventListener('wheel', event => {
    const picture = event.target.closest('.sdv-pic');
    if (!picture || !event.ctrlKey) return;
    event.preventDefault();
    aim(picture, event);
    zoomTo(state.zoom * (event.deltaY < 0 ? 1.25 : 0.8));
  }, {passive: false});
  root.addEventListener('pointerdown', event => {
    const picture = event.target.closest('.sdv-pic');
    if (picture && event.button === 0) drag = {picture, x: event.clientX, y: event.clientY, moved: false};
  });
  document.addEventListener('pointermove', event => {
    if (!drag || !root.isConnected) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < CLOSE_PX) return;
    drag.moved = true;
    if (state.zoom > 1 && !event.target.closest('.sdv-wipe')) pan(-dx / drag.picture.clientWidth * 100, -dy / drag.picture.clientHeight * 100);
    [drag.x, drag.y] = [event.clientX, event.clientY];
  });
  document.addEventListener('pointerup', () => setTimeout(() => { drag = null; }, 0));
  document.addEventListener('keydown', event => {
    if (!root.isConnected || root.offsetParent === null || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.closest('input, textarea, select, [contenteditable]')) return;
    if (state.view === 'blind') blindKeys(event);
    if (state.view === 'flicker' && event.key === ' ' && !event.target.closest('button') && root.contains(event.target)) { event.preventDefault(); play(!state.playing); }
  });

  function drawTabs() {
    tabs.replaceChildren(...views().map(([name, title]) => el('button', {
      type: 'button', role: 'tab', class: 'sdv-tab', 'data-view': name, 'aria-selected': String(state.view === name), 'aria-controls': id,
      tabindex: state.view === name ? 0 : -1, onclick: () => show(name)}, title)));
    const zoom = el('input', {type: 'range', min: 1, max: MOST_ZOOM, step: 0.25, value: state.zoom, class: 'sdv-zoom', 'aria-label': 'Zoom of all pictures',
      oninput: event => zoomTo(Number(event.target.value))});
    const sizes = el('input', {type: 'range', min: 0, max: CELL_PX.length - 1, step: 1, value: state.cell, class: 'sdv-size', 'aria-label': 'Size of the cells',
      oninput: event => { state.cell = Number(event.target.value); applyZoom(); }});
    tools.replaceChildren(...[
      el('label', {class: 'sdv-tool'}, 'Zoom', zoom, el('output', {class: 'sdv-factor'}, factor())),
      ['grid', 'xyz'].includes(state.view) ? el('label', {class: 'sdv-tool'}, 'Cells', sizes) : null].filter(Boolean));
  }
  const factor = () => `${Number(state.zoom.toFixed(2))}x`;

  function moveTab(event) {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    event.preventDefault();
    const names = views().map(([name]) => name);
    show(names[(names.indexOf(state.view) + step + names.length) % names.length]);
    tabs.querySelector('[aria-selected=true]').focus();
  }

  function show(view) {
    play(false);
    state.view = view;
    render();
  }

  // ---- zoom: one place for all pictures
  function applyZoom() {
    root.style.setProperty('--sdv-zoom', state.zoom);
    root.style.setProperty('--sdv-x', state.x + '%');
    root.style.setProperty('--sdv-y', state.y + '%');
    root.style.setProperty('--sdv-cell', CELL_PX[state.cell] + 'px');
    root.classList.toggle('sdv-zoomed', state.zoom > 1);
    root.classList.toggle('sdv-coarse', state.zoom >= 3);
    const shown = tools.querySelector('.sdv-factor'), slider = tools.querySelector('.sdv-zoom');
    if (shown) shown.textContent = factor();
    if (slider) slider.value = state.zoom;
  }
  function zoomTo(zoom) {
    state.zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
    if (state.zoom < 1.05) [state.zoom, state.x, state.y] = [1, 50, 50];
    applyZoom();
  }
  function pan(dx, dy) {  // in percent of what is seen; a transform's origin moves the picture by (zoom - 1) of itself
    const by = Math.max(0.25, state.zoom - 1);
    state.x = Math.min(100, Math.max(0, state.x + dx / by));
    state.y = Math.min(100, Math.max(0, state.y + dy / by));
    applyZoom();
  }
  function aim(picture, event) {
    if (state.zoom > 1) return;
    const box = picture.getBoundingClientRect();
    [state.x, state.y] = [(event.clientX - box.left) / box.width * 100, (event.clientY - box.top) / box.height * 100];
  }
  function zoomKeys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('select, .sdv-link')) return;
    const moves = {ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20]};
    if (event.key === '+' || event.key === '=') zoomTo(state.zoom * 1.5);
    else if (event.key === '-') zoomTo(state.zoom / 1.5);
    else if (event.shiftKey && moves[event.key] && state.zoom > 1) pan(...moves[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // ---- one picture
  function picture(place, more) {
    return fill(el('div', {class: 'sdv-pic', ...more}), place);
  }
  function fill(box, place) {  // leaves alone what has not changed
    const cell = cellOf(place), mark = place + '|' + (cell ? cell.src || cell.error : data.status);
    if (box.dataset.mark === mark) return box;
    box.dataset.mark = mark;
    const waits = !['finished', 'cancelled', 'failed'].includes(data.status);
    box.classList.toggle('sdv-wait', !cell && waits);
    if (cell && cell.src) box.replaceChildren(el('img', {loading: 'lazy', draggable: 'false', src: cell.src, alt: describe(place)}));
    else if (cell) box.replaceChildren(el('p', {class: 'sdv-error'}, cell.error));
    else box.replaceChildren(el('span', {class: 'sdv-none'}, waits ? 'not drawn yet' : 'not drawn'));
    return box;
  }

  // ---- grid and XYZ: tables
  function product(names) {
    return names.reduce((rows, name) => rows.flatMap(row => dims()[at(name)].values.map((_, index) => ({...row, [name]: index}))), [{}]);
  }
  function placed(...sets) {
    const place = zeros();
    for (const set of sets) for (const [name, index] of Object.entries(set)) place[at(name)] = index;
    return place;
  }
  function head(name, index) {
    if (name === 'column' && full(index) === 'base') return ['base', el('small', {}, 'before training')];
    return [el('span', {translate: 'no', title: name === 'column' ? full(index) : null}, dims()[at(name)].values[index])];
  }
  function table(columns, rows, base, title) {
    const top = el('tr', {}, el('td', {}), ...columns.map(set => el('th', {scope: 'col'}, ...Object.keys(set).flatMap(name => head(name, set[name])))));
    const body = rows.map((row, r) => el('tr', {}, el('th', {scope: 'row'}, ...rowHead(row)), ...columns.map((column, c) => {
      const place = placed(base, row, column);
      return el('td', {class: 'sdv-cell', tabindex: r || c ? -1 : 0, 'data-place': place.join(','), 'data-r': r, 'data-c': c, onkeydown: moveCell,
        onclick: event => { if (!drag || !drag.moved) open(place); }}, picture(place));
    })));
    const made = el('table', {class: 'sdv-table', role: 'grid', 'aria-label': title}, el('thead', {}, top), el('tbody', {}, ...body));
    made.classList.toggle('sdv-pinned', columns.length > 1 && 'column' in (columns[0] || {}) && full(0) === 'base');
    return el('div', {class: 'sdv-scroll', role: 'region', tabindex: 0, 'aria-label': title}, made);
  }
  function rowHead(row) {
    const names = Object.keys(row);
    const main = names.includes('prompt') ? 'prompt' : names[0];
    if (!main) return [];
    const small = names.filter(name => name !== main).map(name => dims()[at(name)].values[row[name]]).join(', ');
    return [...head(main, row[main]), small ? el('small', {}, small) : null];
  }
  function drawGrid() {
    const rest = dims().map(dim => dim.name).filter(name => name === 'prompt' || name === 'seed' || (name !== 'column' && dims()[at(name)].values.length > 1));
    stage.replaceChildren(table(product(['column']), product(rest), {}, 'Comparison grid'));
  }
  function drawXyz() {
    const names = many().map(dim => dim.name), none = '';
    const known = axis => names.includes(state.axes[axis]) || state.axes[axis] === none;
    const used = [];
    for (const axis of ['x', 'y', 'z']) {
      if (!known(axis) || (state.axes[axis] && used.includes(state.axes[axis]))) state.axes[axis] = names.find(name => !used.includes(name)) || none;
      used.push(state.axes[axis]);
    }
    const {x, y, z} = state.axes;
    const others = names.filter(name => ![x, y].includes(name));
    const choose = axis => el('label', {class: 'sdv-tool'}, axis.toUpperCase(), select(
      [[none, 'nothing'], ...names.map(name => [name, dims()[at(name)].title])], state.axes[axis], value => {
        for (const other of ['x', 'y', 'z']) if (other !== axis && value && state.axes[other] === value) state.axes[other] = state.axes[axis];
        state.axes[axis] = value;
        render();
      }, `${axis.toUpperCase()} axis`));
    const fixed = others.map(name => name === z ? stepper(name) : el('label', {class: 'sdv-tool'}, dims()[at(name)].title,
      select(dims()[at(name)].values.map((text, index) => [index, text]), state.fixed[name] || 0, value => { state.fixed[name] = Number(value); render(); }, dims()[at(name)].title)));
    options.replaceChildren(...['x', 'y', 'z'].map(choose), ...fixed);
    const base = Object.fromEntries(others.map(name => [name, Math.min(state.fixed[name] || 0, dims()[at(name)].values.length - 1)]));
    stage.replaceChildren(table(x ? product([x]) : [{}], y ? product([y]) : [{}], base, 'XYZ grid'));
  }
  function stepper(name) {  // Z: one layer at a time, every picture stays in its place
    const dim = dims()[at(name)], now = Math.min(state.fixed[name] || 0, dim.values.length - 1);
    const shown = el('output', {}, dim.values[now]);
    const input = el('input', {type: 'range', min: 0, max: dim.values.length - 1, step: 1, value: now, 'aria-label': `${dim.title} (Z)`, oninput: event => {
      state.fixed[name] = Number(event.target.value);
      shown.textContent = dim.values[state.fixed[name]];
      for (const cell of stage.querySelectorAll('td[data-place]')) {
        const place = cell.dataset.place.split(',').map(Number);
        place[at(name)] = state.fixed[name];
        cell.dataset.place = place.join(',');
        fill(cell.firstChild, place);
      }
      drawLink();
    }});
    return el('label', {class: 'sdv-tool sdv-layer'}, 'Z', input, shown);
  }
  function select(choices, value, act, label) {
    const made = el('select', {'aria-label': label, onchange: event => act(event.target.value)}, ...choices.map(([key, text]) => el('option', {value: key}, String(text))));
    made.value = value;
    return made;
  }
  function moveCell(event) {
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    const {r, c, place} = event.currentTarget.dataset;
    if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(place.split(',').map(Number)); }
    if (!step || event.shiftKey) return;
    const next = stage.querySelector(`td[data-r="${Number(r) + step[0]}"][data-c="${Number(c) + step[1]}"]`);
    event.preventDefault();
    if (!next) return;
    event.currentTarget.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
  function focusCell(place) {
    const cell = place && stage.querySelector(`td[data-place="${place.join(',')}"]`);
    if (cell) cell.focus();
  }

  // ---- slider and flicker: two cells
  function pair() {
    const fits = place => Array.isArray(place) && place.length === dims().length && place.every((index, n) => index >= 0 && index < dims()[n].values.length);
    if (!fits(state.a)) state.a = zeros();
    if (!fits(state.b)) {
      state.b = zeros();
      const dim = many()[0];
      if (dim) state.b[at(dim.name)] = dim.values.length - 1;
    }
  }
  function pickers() {
    const shownDims = many().length ? many() : [dims()[0]];
    options.replaceChildren(...['a', 'b'].map(side => el('fieldset', {class: 'sdv-side'}, el('legend', {}, side.toUpperCase()), ...shownDims.map(dim =>
      select(dim.values.map((text, index) => [index, text]), state[side][at(dim.name)], value => { state[side][at(dim.name)] = Number(value); refresh(); drawLink(); },
        `${dim.title} of ${side.toUpperCase()}`)))),
      button('Swap', () => { [state.a, state.b] = [state.b, state.a]; render(); }));
  }
  function drawSlider() {
    pair();
    pickers();
    const wipe = el('input', {type: 'range', min: 0, max: 100, step: 1, value: state.wipe, class: 'sdv-wipe', 'aria-label': 'How much of A is shown', oninput: event => {
      state.wipe = Number(event.target.value);
      stack.style.setProperty('--sdv-wipe', state.wipe + '%');
    }});
    const stack = el('div', {class: 'sdv-stack', style: `--sdv-wipe: ${state.wipe}%`},
      picture(state.b, {'data-side': 'b'}), picture(state.a, {'data-side': 'a', class: 'sdv-pic sdv-over'}), el('span', {class: 'sdv-line', 'aria-hidden': 'true'}), wipe);
    stage.replaceChildren(el('figure', {class: 'sdv-two'}, stack, captions()));
  }
  function captions() {
    return el('figcaption', {}, el('span', {'data-caption': 'a'}, 'A: ' + describe(state.a)), el('span', {'data-caption': 'b'}, 'B: ' + describe(state.b)));
  }
  function drawFlicker() {
    pair();
    pickers();
    const stack = el('div', {class: 'sdv-stack sdv-flicker', 'data-shown': state.shown}, picture(state.b, {'data-side': 'b'}), picture(state.a, {'data-side': 'a', class: 'sdv-pic sdv-over'}));
    const controls = el('div', {class: 'sdv-row'},
      button(state.playing ? 'Pause' : 'Play', () => play(!state.playing), {class: 'sdv-button sdv-play', 'aria-pressed': String(state.playing)}),
      button('Show the other', () => { play(false); flip(); }),
      el('label', {class: 'sdv-tool'}, 'Seconds each', el('input', {type: 'range', min: 0.4, max: 3, step: 0.1, value: state.pace, 'aria-label': 'Seconds each',
        oninput: event => { state.pace = Number(event.target.value); play(state.playing); }})));
    stage.replaceChildren(el('figure', {class: 'sdv-two'}, controls, stack, captions()));
    mark();
  }
  function flip() {
    state.shown = state.shown === 'a' ? 'b' : 'a';
    mark();
  }
  function mark() {
    const stack = stage.querySelector('.sdv-flicker');
    if (!stack) return;
    stack.dataset.shown = state.shown;
    for (const caption of stage.querySelectorAll('[data-caption]')) caption.classList.toggle('sdv-now', caption.dataset.caption === state.shown);
  }
  function play(on) {  // at most 2.5 changes a second: faster flashing can harm
    clearInterval(timer);
    state.playing = on;
    if (on) timer = setInterval(() => root.isConnected ? flip() : clearInterval(timer), state.pace * 1000);
    const control = stage.querySelector('.sdv-play');
    if (control) { control.textContent = on ? 'Pause' : 'Play'; control.setAttribute('aria-pressed', String(on)); }
  }

  // ---- blind test
  function votes() {
    const all = {...data.blind.votes, ...pending};
    return Object.fromEntries(Object.entries(all).filter(([, choice]) => choice));
  }
  function drawBlind() {
    options.replaceChildren();
    const blind = data.blind;
    if (!blind) return drawBegin('Two pictures at a time, of the same prompt and noise, without names and on random sides. Choose the better one; the names come at the end.');
    if (blind.outcome) return drawOutcome(blind.outcome);
    const chosen = votes(), next = blind.pairs.findIndex((_, number) => !chosen[number]);
    const done = Object.keys(chosen).length;
    const head = el('div', {class: 'sdv-row'}, el('progress', {max: blind.pairs.length, value: done, 'aria-label': 'Pairs done'}),
      el('span', {class: 'sdv-count'}, next < 0 ? `All ${blind.pairs.length} pairs are chosen.` : `Pair ${done + 1} of ${blind.pairs.length}`),
      button('Undo', undo, {disabled: !done}), button('Show the names', () => hooks.send('reveal', {id: data.id}), {disabled: !done, class: next < 0 ? 'sdv-button sdv-main' : 'sdv-button'}));
    if (next < 0) return stage.replaceChildren(head);
    const shown = blind.pairs[next], held = stage.contains(document.activeElement) && document.activeElement.dataset.choice;
    const side = (name, title, key) => el('div', {class: 'sdv-choice'},
      el('div', {class: 'sdv-pic'}, el('img', {src: shown[name], alt: `${title} picture of: ${shown.text}`, draggable: 'false'})),
      button(`${title} is better (${key})`, () => choose(name), {'data-choice': name}));
    stage.replaceChildren(head, el('p', {class: 'sdv-prompt'}, shown.text), el('div', {class: 'sdv-pair'}, side('left', 'Left', 1), side('right', 'Right', 2)),
      el('div', {class: 'sdv-row sdv-center'}, button('No difference (0)', () => choose('tie'), {'data-choice': 'tie'})));
    if (held) stage.querySelector(`[data-choice="${held}"]`).focus();
  }
  function drawBegin(text) {
    const most = Math.max(1, data.pairs || 0);
    const counts = [...new Set([10, 20, 50, most].filter(count => count <= most))].sort((a, b) => a - b);
    const rounds = select(counts.map(count => [count, count === most ? `all ${count}` : count]), counts.includes(20) ? 20 : most, () => {}, 'Number of pairs');
    stage.replaceChildren(el('div', {class: 'sdv-begin'}, el('p', {}, text),
      data.pairs ? el('div', {class: 'sdv-row sdv-center'}, el('label', {class: 'sdv-tool'}, 'Pairs', rounds),
        button('Begin', () => hooks.send('ballot', {id: data.id, rounds: Number(rounds.value)}), {class: 'sdv-button sdv-main'}))
        : el('p', {}, 'It needs at least two columns with pictures.'), el('p', {class: 'sdv-keys'}, 'Keys: 1 left, 2 right, 0 no difference, Backspace undo.')));
  }
  const percent = share => Math.round(share * 100) + ' %';
  function drawOutcome(outcome) {
    const row = (texts, tag) => el('tr', {}, ...texts.map((text, index) => el(index ? 'td' : tag || 'th', tag ? {} : {scope: 'row'}, text)));
    const bar = rate => el('span', {class: 'sdv-rate'}, el('span', {class: 'sdv-range', style: `left:${rate.low * 100}%;right:${100 - rate.high * 100}%`}), el('span', {class: 'sdv-point', style: `left:${rate.rate * 100}%`}));
    const rated = rate => el('span', {}, bar(rate), ` ${percent(rate.rate)} (${percent(rate.low)} to ${percent(rate.high)})`);
    const ranking = el('table', {class: 'sdv-results'}, el('caption', {}, `Ranking from ${outcome.votes} choices`),
      el('thead', {}, el('tr', {}, ...['Column', 'Won', 'Lost', 'Ties', 'Win rate, 95 % interval', 'Strength'].map(text => el('th', {scope: 'col'}, text)))),
      el('tbody', {}, ...outcome.standings.map(one => row([one.label, one.wins, one.losses, one.ties, rated(one.rate), percent(one.strength)]))));
    const duels = outcome.standings.length < 3 ? null : el('table', {class: 'sdv-results'}, el('caption', {}, 'Against each other'),
      el('thead', {}, el('tr', {}, ...['Pair', 'Won', 'Lost', 'Ties', 'Win rate of the first'].map(text => el('th', {scope: 'col'}, text)))),
      el('tbody', {}, ...outcome.duels.map(one => row([`${one.first} against ${one.second}`, one.wins, one.losses, one.ties, rated(one.rate)]))));
    stage.replaceChildren(el('p', {class: 'sdv-verdict'}, outcome.verdict), el('div', {class: 'sdv-scroll', role: 'region', tabindex: 0, 'aria-label': 'Results of the blind test'}, ...[ranking, duels].filter(Boolean)),
      el('p', {class: 'sdv-keys'}, 'A tie is half a win for each. Strength: Bradley-Terry, the columns together are 100 %.'), button('New blind test', () => {
        hooks.send('ballot', {id: data.id, rounds: data.blind.pairs.length});
      }));
  }
  function choose(choice) {
    const chosen = votes(), number = data.blind.pairs.findIndex((_, index) => !chosen[index]);
    if (number < 0) return;
    pending[number] = choice;
    order = [...order.filter(other => other !== number), number];
    hooks.send('vote', {id: data.id, number, choice});
    drawBlind();
  }
  let order = [];
  function undo() {
    const chosen = votes(), last = order.length ? order[order.length - 1] : Math.max(...Object.keys(chosen).map(Number));
    if (!(last >= 0)) return;
    order = order.filter(number => number !== last);
    pending[last] = '';
    hooks.send('vote', {id: data.id, number: last, choice: ''});
    drawBlind();
  }
  function blindKeys(event) {
    if (!data || !data.blind || data.blind.outcome) return;
    const choice = {1: 'left', 2: 'right', 0: 'tie'}[event.key];
    if (choice) choose(choice);
    else if (event.key === 'Backspace') undo();
    else return;
    event.preventDefault();
  }

  // ---- one picture, large
  function open(place) {
    opened = place;
    const cell = cellOf(place) || {}, text = el('pre', {class: 'sdv-text', tabindex: 0, 'aria-label': 'Settings'}, cell.text || cell.error || '');
    const use = side => button(`Use as ${side.toUpperCase()}`, () => { state[side] = [...place]; say(`It is ${side.toUpperCase()} in Slider and Flicker.`); });
    dialog.replaceChildren(el('div', {class: 'sdv-large'}, picture(place)), el('div', {class: 'sdv-about'}, el('strong', {}, describe(place)), text,
      el('div', {class: 'sdv-row'},
        cell.text ? button('Copy settings', () => copy(cell.text)) : null,
        cell.src && hooks.send ? button('Send to form', () => { hooks.send('send', {id: data.id, place: place.join(',')}); dialog.close(); }) : null,
        cell.src ? el('a', {class: 'sdv-button', href: cell.src, download: `${data.id}-${place.join('-')}.png`}, 'Download') : null, use('a'), use('b')),
      el('div', {class: 'sdv-row'}, el('span', {class: 'sdv-keys'}, 'Arrow keys: neighbours. + and -: zoom.'), button('Close', () => dialog.close(), {autofocus: true})), saidInside));
    if (!dialog.open) dialog.showModal();
  }
  function moveOpened(event) {
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (!step || event.shiftKey || !opened) return;
    const from = stage.querySelector(`td[data-place="${opened.join(',')}"]`);
    const next = from && stage.querySelector(`td[data-r="${Number(from.dataset.r) + step[0]}"][data-c="${Number(from.dataset.c) + step[1]}"]`);
    event.preventDefault();
    if (next) open(next.dataset.place.split(',').map(Number));
  }
  function say(text) {
    const place = dialog.open ? saidInside : said;
    place.textContent = text;
    setTimeout(() => { if (place.textContent === text) place.textContent = ''; }, 4000);
  }
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no permission, or a page that is not secure
      const area = el('textarea', {style: 'position:fixed;opacity:0'});
      area.value = text;
      (dialog.open ? dialog : document.body).append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    say('Copied.');
  }

  // ---- link
  function query() {
    const parts = {view: state.view};
    if (['slider', 'flicker'].includes(state.view)) Object.assign(parts, {a: state.a.join('.'), b: state.b.join('.')});
    if (state.view === 'xyz') Object.assign(parts, state.axes, Object.fromEntries(Object.entries(state.fixed).map(([name, index]) => ['at_' + name, index])));
    return new URLSearchParams(parts).toString();
  }
  function drawLink() {
    if (!hooks.link || !data) return foot.replaceChildren();
    const address = `${hooks.link}?compare=${data.id}&${query()}`;
    let input = foot.querySelector('input');
    if (!input) {
      input = el('input', {readonly: true, class: 'sdv-link', 'aria-label': 'Link to this view', onfocus: event => event.target.select()});
      foot.replaceChildren(el('label', {class: 'sdv-tool sdv-address'}, 'Link', input), button('Copy link', () => copy(foot.querySelector('input').value)), said);
    }
    input.value = address;
  }
  function takeFirst() {  // what the page's address asks for
    const first = hooks.first;
    if (!first || first.get('compare') !== data.id) return;
    hooks.first = null;
    setTimeout(() => root.scrollIntoView({block: 'start'}), 300);  // who follows a link came for this
    if (views().some(([name]) => name === first.get('view'))) state.view = first.get('view');
    for (const side of ['a', 'b']) if (first.get(side)) state[side] = first.get(side).split('.').map(Number);
    for (const axis of ['x', 'y', 'z']) if (first.get(axis) !== null) state.axes[axis] = first.get(axis);
    for (const [name, index] of first) if (name.startsWith('at_')) state.fixed[name.slice(3)] = Number(index);
  }

  function render() {
    drawTabs();
    options.replaceChildren();
    ({grid: drawGrid, slider: drawSlider, flicker: drawFlicker, xyz: drawXyz, blind: drawBlind})[state.view]();
    applyZoom();
    drawLink();
  }
  function refresh() {
    for (const cell of stage.querySelectorAll('td[data-place]')) fill(cell.firstChild, cell.dataset.place.split(',').map(Number));
    for (const side of ['a', 'b']) {
      const box = stage.querySelector(`[data-side="${side}"]`), caption = stage.querySelector(`[data-caption="${side}"]`);
      if (box) fill(box, state[side]);
      if (caption) caption.textContent = `${side.toUpperCase()}: ${describe(state[side])}`;
    }
    if (state.view === 'blind') drawBlind();
  }
  function update(given) {
    const before = data;
    data = given && given.id ? given : null;
    root.hidden = !data;
    if (!data) { shape = ''; return; }
    const now = JSON.stringify([data.id, data.dims]);
    if (before && before.id === data.id && (before.blind || {}).id === (data.blind || {}).id) {
      for (const [number, choice] of Object.entries(pending)) if (data.blind && (data.blind.votes[number] || '') === choice) delete pending[number];
    } else [pending, order] = [{}, []];
    if (now === shape) return refresh();
    if (!before || before.id !== data.id) Object.assign(state, {axes: {}, fixed: {}, a: null, b: null});
    shape = now;
    takeFirst();
    render();
  }
  return {update, state};
}
