// Columns as chips: the value is a JSON list of columns as a user writes them; the base is always first and cannot be taken away.
const list = element.querySelector('.sd-columns');
const short = text => text.replace(/\b\d{8}-\d{6}-/g, '').replace(/^.*[\\/]/, '');
const parts = text => { const found = text.includes('+') ? null : text.match(/^(.+?):(-?[0-9.]+)$/); return found ? [found[1], found[2]] : [text, '1']; };
const read = () => { try { return JSON.parse(props.value || '[]'); } catch { return []; } };
function write(columns) { props.value = JSON.stringify(columns); draw(); trigger('edit', {}); }
function node(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}
function chip(text, index) {
  const [what, strength] = parts(text);
  const number = node('input', {type: 'number', step: '0.1', min: '-4', max: '4', value: strength, title: 'Strength'});
  number.setAttribute('aria-label', 'Strength of ' + short(what));
  number.addEventListener('change', () => {
    const columns = read(), value = number.value === '' ? '1' : number.value;
    columns[index] = Number(value) === 1 ? what : `${what}:${value}`;
    write(columns);
  });
  const gone = node('button', {type: 'button', textContent: '×'});
  gone.setAttribute('aria-label', 'Take away ' + short(text));
  gone.addEventListener('click', () => { write(read().filter((_, other) => other !== index)); (list.querySelector('button') || list).focus(); });
  const name = node('span', {textContent: short(what).replace('@', ' at step '), title: what});
  return node('li', {className: 'sd-column'}, name, ...(text.includes('+') ? [] : [node('span', {className: 'sd-times', textContent: 'x', ariaHidden: 'true'}), number]), gone);
}
function draw() {
  const base = node('li', {className: 'sd-column sd-base', title: 'Always the first column'}, node('span', {textContent: 'base'}), node('small', {textContent: 'always first'}));
  list.replaceChildren(base, ...read().map(chip));
}
watch('value', draw);
draw();
